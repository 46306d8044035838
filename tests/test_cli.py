"""The command line, as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import xdemsr
from xdemsr.cli import main
from xdemsr.io import write


def run(*words: object, fails: bool = False) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return result.output


@pytest.fixture
def source(tmp_path: Path, dem: xr.DataArray) -> Path:
    return write(dem, tmp_path / "dem.tif")


def test_upscale(source: Path, tmp_path: Path, dem: xr.DataArray, terrain_model: Path) -> None:
    for name in ("fine.zarr", "fine.tif"):
        said = run(
            "upscale", source, tmp_path / name, "--model", terrain_model,
            "--vertical-error", "0.3", "--chunks", "200",
        )  # fmt: skip
        assert name in said
        found = xdemsr.open(tmp_path / name)
        expected = dem.demsr.upscale(16, terrain_model, vertical_error=0.3)
        np.testing.assert_array_equal(found.values, expected.values)
    said = run(
        "upscale", source, tmp_path / "fine.tif", "--scale", 2, "--model", "nearest", fails=True
    )
    assert "overwrite" in said


def test_apply(source: Path, tmp_path: Path, dem: xr.DataArray, terrain_model: Path) -> None:
    run("apply", source, tmp_path / "a.zarr", "--model", terrain_model, "--precision", "fp32")
    found = xdemsr.open(tmp_path / "a.zarr")
    expected = dem.demsr.apply(terrain_model, precision="fp32")
    np.testing.assert_array_equal(found.values, expected.values)


def test_degrade_evaluate_hillshade(source: Path, tmp_path: Path, dem: xr.DataArray) -> None:
    run("degrade", source, tmp_path / "coarse.tif", "--scale", 4, "--step", 1)
    coarse = xdemsr.open(tmp_path / "coarse.tif")
    np.testing.assert_array_equal(coarse.values, dem.demsr.degrade(4, step=1).values)
    said = run("evaluate", source, source)
    assert "rmse" in said
    run("hillshade", source, tmp_path / "shade.tif", "--azimuth", 300)
    shade = xdemsr.open(tmp_path / "shade.tif")
    np.testing.assert_array_equal(shade.values, dem.demsr.hillshade(azimuth=300).values)


def test_plan_and_models(source: Path) -> None:
    said = run("plan", source, "--scale", 4, "--model", "histospline")
    assert "172 x 244" in said
    assert "bicubic" in run("models")


def test_benchmark(tmp_path: Path) -> None:
    path = write(xdemsr.synthetic.terrain((120, 150)), tmp_path / "large.tif")
    said = run("benchmark", path, "--scale", 8, "--model", "bicubic", "--noise", "0.2")
    assert [line.split()[0] for line in said.splitlines()[2:]] == [
        "bicubic",
        "spline",
        "histospline",
    ]


def test_errors_are_messages(source: Path, tmp_path: Path) -> None:
    said = run(
        "upscale", source, tmp_path / "b.tif", "--scale", 4, "--model", "bicubik", fails=True
    )
    assert "Error: no model is called 'bicubik'. Nearest: bicubic" in said
    said = run(
        "upscale", source, tmp_path / "b.png", "--scale", 4, "--model", "bicubic", fails=True
    )
    assert "must end in" in said
    said = run(
        "upscale", source, tmp_path / "c.tif", "--scale", 4, "--model", "bicubic",
        "--precision", "int8", fails=True,
    )  # fmt: skip
    assert "int8" in said


def test_version() -> None:
    assert xdemsr.__version__ in run("--version")


def test_a_models_own_scale_is_the_default(
    source: Path, tmp_path: Path, edsr_model: Path, dem: xr.DataArray
) -> None:
    assert "96" in run("plan", source, "--model", edsr_model, "--chunks", "64,96")
    run("upscale", source, tmp_path / "f.zarr", "--model", edsr_model, "--chunks", "64,96")
    found = xdemsr.open(tmp_path / "f.zarr")
    assert found.data.chunksize == (64, 96)
    assert found.shape == (4 * dem.shape[0], 4 * dem.shape[1])


def test_variables_are_chosen(tmp_path: Path, dem: xr.DataArray) -> None:
    xr.Dataset({"a": dem, "b": dem + 1}).to_zarr(tmp_path / "s.zarr", zarr_format=2)
    said = run("hillshade", tmp_path / "s.zarr", tmp_path / "h.tif", fails=True)
    assert "--variable" in said
    run("hillshade", tmp_path / "s.zarr", tmp_path / "h.tif", "--variable", "a")
    run("degrade", tmp_path / "s.zarr", tmp_path / "d.tif", "--variable", "a", "--scale", "4")
    said = run("evaluate", tmp_path / "s.zarr", tmp_path / "s.zarr", "--variable", "b")
    assert "rmse" in said


def test_refine(tmp_path: Path, dem: xr.DataArray) -> None:
    from xdemsr.models.resdepth import ResDepth

    bands = ["dsm", "red", "green", "blue"]
    options = {"bands": bands, "depth": 1, "features": 4, "centre_radius": 2}
    network = ResDepth(**options)
    spec = xdemsr.ModelSpec(
        name="small", architecture="resdepth", scale=1, options=options, border="odd",
        context=xdemsr.Local(network.radius, network.stride), task="refinement",
        inputs=tuple(xdemsr.Band(name) for name in bands), outputs=(xdemsr.Band("dtm"),),
    )  # fmt: skip
    model = tmp_path / "small.safetensors"
    xdemsr.save_model(network, model, spec)
    rgb = xr.concat([dem * 0 + k for k in (30, 60, 90)], "band").fillna(0).astype("uint8")
    dsm, colour = write(dem, tmp_path / "dsm.tif"), write(rgb, tmp_path / "rgb.tif")
    said = run("refine", dsm, tmp_path / "dtm.zarr", "--model", model, "--guide", f"rgb={colour}")
    assert "dtm.zarr" in said
    expected = xdemsr.refine(dem, model, guides={"rgb": rgb.assign_coords(band=bands[1:])})
    np.testing.assert_array_equal(xdemsr.open(tmp_path / "dtm.zarr").values, expected.values)
    said = run("refine", dsm, tmp_path / "no.zarr", "--model", model, "--guide", "rgb", fails=True)
    assert "'rgb' is not NAME=VALUE" in said


def test_elevation_and_imagery(tmp_path: Path, dem: xr.DataArray) -> None:
    from xdemsr.models.pix2pix import Pix2Pix

    colours = ["red", "green", "blue"]
    models = {}
    for task, bands, outputs in (
        ("elevation", colours, ["elevation"]),
        ("imagery", ["elevation"], colours),
    ):
        options = {"bands": bands, "outputs": outputs, "features": 4, "depth": 3}
        spec = xdemsr.ModelSpec(
            name=task, architecture="pix2pix", scale=1, options=options, task=task,
            context=xdemsr.Windowed(16, 8), relative=task == "elevation",
            inputs=tuple(map(xdemsr.Band, bands)), outputs=tuple(map(xdemsr.Band, outputs)),
        )  # fmt: skip
        models[task] = tmp_path / f"{task}.safetensors"
        xdemsr.save_model(Pix2Pix(**options).eval(), models[task], spec)
    source = write(dem.fillna(0), tmp_path / "dem.tif")
    run("imagery", source, tmp_path / "image.tif", "--model", models["imagery"])
    assert xdemsr.open(tmp_path / "image.tif").shape == (3, *dem.shape)
    run("elevation", tmp_path / "image.tif", tmp_path / "e.zarr", "--model", models["elevation"])
    assert xdemsr.open(tmp_path / "e.zarr").attrs["xdemsr_heights"] == "relative"
    coarse = write(dem.fillna(0).demsr.degrade(4), tmp_path / "coarse.tif")
    run("elevation", tmp_path / "image.tif", tmp_path / "a.zarr", "--model", models["elevation"],
        "--anchor", coarse)  # fmt: skip
    assert xdemsr.open(tmp_path / "a.zarr").attrs["xdemsr_heights"] == "anchored"


def test_convert(tmp_path: Path) -> None:
    import torch
    from checkpoints import AuthorsEDSR

    torch.save(AuthorsEDSR(scale=2, blocks=1).state_dict(), tmp_path / "net.pt")
    said = run("convert", tmp_path / "net.pt", tmp_path / "net.safetensors", "--name", "theirs")
    assert "theirs, x2, Local(halo=" in said
    image = xr.DataArray(np.zeros((3, 12, 17), "float32"), dims=("band", "y", "x"))
    assert image.demsr.upscale(2, tmp_path / "net.safetensors").shape == (3, 24, 34)


def test_resume(source: Path, tmp_path: Path) -> None:
    command = ("upscale", source, tmp_path / "a.zarr", "--scale", 4, "--model", "bicubic")
    run(*command, "--chunks", 100)
    array = tmp_path / "a.zarr" / "elevation"
    run(*command, "--chunks", 100, "--resume")
    said = run(*command, "--chunks", 80, "--resume", fails=True)
    assert "other chunks" in said
    # As if it had been killed.
    broken = (tmp_path / "a.zarr" / "zarr.json").read_text()
    (tmp_path / "a.zarr" / "zarr.json").write_text(
        broken.replace('"attributes": {', '"attributes": {"xdemsr_complete": false,', 1)
    )
    (array / "c" / "1" / "2").unlink()
    said = run("missing", tmp_path / "a.zarr")
    assert "6 regions are missing" in said
    assert "elevation 100:172, 200:244" in said
    assert "--resume" in run(*command, "--chunks", 100, fails=True)
    run(*command, "--chunks", 100, "--resume")
    assert "0 regions" in run("missing", tmp_path / "a.zarr", "--verify")
    (array / "c" / "1" / "2").write_bytes(b"torn")
    assert "1 regions" in run("missing", tmp_path / "a.zarr", "--verify")
    assert "GeoTIFF" in run("upscale", source, tmp_path / "a.tif", "--resume", fails=True)


def test_a_stac(tmp_path: Path, dem: xr.DataArray) -> None:
    pystac = pytest.importorskip("pystac")
    from catalog import make_item

    item = make_item(str(write(dem, tmp_path / "dem.tif")), tmp_path / "dem.tif")
    listed = tmp_path / "items.json"
    pystac.ItemCollection([item]).save_object(str(listed))
    west, south, east, north = item.bbox
    bbox = (west, south, (west + east) / 2, north)
    place = ("--collection", "terrain", "--bbox", *bbox)
    command = ("upscale", listed, tmp_path / "a.zarr", "--scale", 2, "--model", "bicubic")
    run(*command, *place, "--variable", "data", "--resume")
    expected = xdemsr.open_stac(listed, "terrain", bbox=bbox).demsr.upscale(2, "bicubic")
    np.testing.assert_array_equal(xdemsr.open(tmp_path / "a.zarr").values, expected.values)
    assert f"{expected.shape[0]:,}" in run("plan", listed, "--scale", 2, *place)
    said = run("plan", listed, "--bbox", *bbox, fails=True)
    assert "say --collection too" in said


def test_scheduler(source: Path, tmp_path: Path, dem: xr.DataArray) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, processes=False, dashboard_address=":0", silence_logs=50
    ) as cluster:
        before = cluster.scheduler.transition_counter
        command = ("upscale", source, tmp_path / "a.zarr", "--scale", 2, "--model", "bicubic")
        run(*command, "--overviews", "--scheduler", cluster.scheduler_address)
        assert cluster.scheduler.transition_counter > before
    np.testing.assert_array_equal(
        xdemsr.open(tmp_path / "a.zarr").values, dem.demsr.upscale(2, "bicubic").values
    )
