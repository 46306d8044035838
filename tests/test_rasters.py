"""Places with several rasters each: read, learnt from, scored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rioxarray  # noqa: F401
import torch
import xarray as xr

import xdemsr
from xdemsr import folders
from xdemsr.errors import GridError, InputError, ModelError
from xdemsr.folders import read_pairs
from xdemsr.learning.rasters import Rasters
from xdemsr.training import Recipe
from xdemsr.training.tiles import Tiles, above_mean

REFINE: dict[str, Any] = {
    "name": "bare",
    "model": {
        "architecture": "resdepth",
        "scale": 1,
        "task": "refinement",
        "options": {
            "bands": ["dsm", "red", "green"],
            "depth": 2,
            "features": 8,
            "centre_radius": 4,
            "openings": [5, 9],
        },
        "inputs": {"dsm": "m", "red": "", "green": ""},
        "outputs": {"dtm": "m"},
        "tile": 32,
    },
    "data": {"target": "dtm", "inputs": ["dsm", "rgb"]},
    "patches": {"size": 32, "stride": 16},
    "loss": {"l1": 1.0},
    "optimiser": {"learning_rate": 5e-3},
    "run": {"steps": 80, "batch": 8, "validate_every": 40},
}


def write(da: xr.DataArray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    da.rio.write_crs(32616).rio.to_raster(path)


def place(shape: tuple[int, int], seed: int) -> dict[str, xr.DataArray]:
    """Ground with boxes on it, which are of another colour."""
    dtm = xdemsr.synthetic.terrain(shape, gsd=1.0, relief=30.0, seed=seed).drop_attrs()
    rng = np.random.default_rng(seed)
    dsm, colour = dtm.values.copy(), rng.uniform(60, 90, (2, *shape))
    for _ in range(shape[0] * shape[1] // 150):
        y, x = (int(rng.integers(0, n - 6)) for n in shape)
        dsm[y : y + 5, x : x + 4] += 10
        colour[:, y : y + 5, x : x + 4] += 100
    rgb = xr.DataArray(
        colour.astype("uint8"), dims=("band", "y", "x"), coords={"y": dtm.y, "x": dtm.x}
    )
    return {"dtm": dtm, "dsm": dtm.copy(data=dsm), "rgb": rgb}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("places")
    for part, name, shape, seed in (
        ("train", "east", (90, 120), 1),
        ("train", "west", (100, 70), 2),
        ("validation", "north", (70, 96), 3),
    ):
        for raster, da in place(shape, seed).items():
            write(da, folder / part / name / f"{raster}.tif")
    return {part: str(folder / part) for part in ("train", "validation")}


def test_places_are_read_from_folders_and_from_file_names(tmp_path: Path) -> None:
    rasters = place((20, 30), 0)
    for name, da in rasters.items():
        write(da, tmp_path / "a" / f"{name}.tif")
        write(da, tmp_path / f"b_{name}.tif")
    write(rasters["dtm"], tmp_path / "c_dtm.tif")  # has no colour
    pairs = read_pairs(tmp_path, "dtm", ["dsm", "rgb"])
    assert list(pairs) == ["a", "b"]
    for pair in pairs.values():
        assert pair.inputs is not None
        assert pair.target.shape == (1, 20, 30)
        assert pair.inputs.shape == (3, 20, 30)
        assert pair.inputs.dtype == np.float32
        np.testing.assert_array_equal(pair.inputs[0], rasters["dsm"])
        np.testing.assert_array_equal(pair.inputs[1:], rasters["rgb"])
    assert list(read_pairs(tmp_path, "dtm")) == ["a", "b", "c"]


def test_voids_are_nan_and_pixels_can_be_made_larger(tmp_path: Path) -> None:
    whole = xr.DataArray(
        np.arange(48, dtype="int16").reshape(6, 8),
        dims=("y", "x"),
        coords={"y": np.arange(6)[::-1] + 0.5, "x": np.arange(8) + 0.5},
    )
    whole[0, 0] = -9999
    write(whole.rio.write_nodata(-9999), tmp_path / "p_height.tif")
    (pair,) = read_pairs(tmp_path, "height").values()
    assert bool(pair.target[0, 0, 0].isnull())
    assert float(pair.target[0, 0, 1]) == 1
    (pair,) = read_pairs(tmp_path, "height", coarsen=2).values()
    assert pair.target.shape == (1, 3, 4)
    assert bool(pair.target[0, 0, 0].isnull())
    assert float(pair.target[0, 0, 1]) == np.mean([2, 3, 10, 11])


def test_places_too_large_for_memory_are_read_when_needed(
    data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (data["train"], "dtm", ["ground", "dsm", "rgb"])
    held = read_pairs(*asked, coarsen=2)
    monkeypatch.setattr(folders, "_IN_MEMORY", 0)
    for name, pair in read_pairs(*asked, coarsen=2).items():
        assert pair.target.chunks is not None
        assert pair.inputs is not None
        assert pair.inputs.chunks is not None
        assert pair.names == ("ground", "dsm", "rgb", "rgb")
        np.testing.assert_array_equal(pair.target, held[name].target)
        np.testing.assert_array_equal(pair.inputs, held[name].inputs)
        assert float(pair.inputs[0].mean()) < float(pair.inputs[1].mean())


def test_rasters_of_a_place_lie_on_one_grid(tmp_path: Path) -> None:
    rasters = place((20, 30), 0)
    rasters["rgb"] = rasters["rgb"].assign_coords(x=rasters["rgb"].x + 7.0)
    for name, da in rasters.items():
        write(da, tmp_path / "a" / f"{name}.tif")
    with pytest.raises(GridError, match="'rgb' of the place 'a' is not on the grid of 'dsm'"):
        read_pairs(tmp_path, "dtm", ["dsm", "rgb"])


def test_two_places_of_one_name_are_refused(tmp_path: Path) -> None:
    dtm = place((20, 30), 0)["dtm"]
    write(dtm, tmp_path / "a" / "dtm.tif")
    write(dtm, tmp_path / "a_dtm.tif")
    with pytest.raises(InputError, match="both of the place 'a'"):
        read_pairs(tmp_path, "dtm")


def test_a_folder_without_such_places_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has dtm.tif, dsm.tif: expected PLACE/dtm.tif"):
        read_pairs(tmp_path, "dtm", ["dsm"])


@pytest.mark.train
def test_refinement_is_learnt_and_scored(data: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "bare.safetensors"
    spec = xdemsr.train(Recipe.from_dict(REFINE).replaced(data=data), out, progress=False)
    scores = spec.training["scores"]
    assert scores["north/mae"] < 0.6 * scores["north/mae_of_baseline"]
    assert spec.task == "refinement"
    assert [band.name for band in spec.inputs] == ["dsm", "red", "green"]
    assert [band.units for band in spec.outputs] == ["m"]
    assert spec.context == xdemsr.Local(halo=24, multiple_of=4, tile=32)
    assert spec.training["train"] == ["east", "west"]
    assert str(tmp_path.parent) not in spec.to_json()
    rasters = place((50, 61), 9)
    colours = {name: rasters["rgb"][k] for k, name in enumerate(("red", "green"))}
    ds = xr.Dataset({**colours, "dsm": rasters["dsm"]})
    found = ds.demsr.apply(out)
    error = float(np.abs(found - rasters["dtm"]).mean())
    assert error < 0.8 * float(np.abs(rasters["dsm"] - rasters["dtm"]).mean())


@pytest.mark.train
def test_images_are_learnt_from_what_coarser_sensors_see(tmp_path: Path) -> None:
    for part, seed in (("train", 1), ("validation", 2)):
        bands = [np.abs(xdemsr.synthetic.terrain((73, 91), seed=10 * seed + k)) for k in range(2)]
        # An odd row and column at the end, which no input pixel answers for.
        image = xr.concat(bands, "band")
        write(image.drop_attrs(), tmp_path / part / f"{part}_10m.tif")
    recipe = Recipe.from_dict(
        {
            "name": "two",
            "model": {
                "architecture": "edsr",
                "scale": 2,
                "options": {"scale": 2, "bands": 2, "blocks": 1, "features": 8, "std": 100.0,
                            "skip": "bicubic", "bias": False, "centre_radius": 2},
                "inputs": {"red": "", "nir": ""},
                "outputs": {"red": "", "nir": ""},
                "tile": 32,
            },
            "data": {"target": "10m", "train": str(tmp_path / "train"),
                     "validation": str(tmp_path / "validation")},
            "patches": {"size": 12, "sensors": 3},
            "loss": {"l1": 1.0},
            "run": {"steps": 60, "batch": 8, "validate_every": 30},
        }
    )  # fmt: skip
    spec = xdemsr.train(recipe, tmp_path / "two.safetensors", progress=False)
    scores = spec.training["scores"]
    assert scores["validation/psnr"] > scores["validation/psnr_of_baseline"]
    image = xr.open_dataarray(tmp_path / "validation" / "validation_10m.tif", engine="rasterio")
    fine = image.astype("float32").demsr.upscale(2, tmp_path / "two.safetensors")
    assert fine.shape == (2, 146, 182)
    # Without biases the unit does not matter: shares of one or digital numbers.
    small = (image.astype("float32") / 1024).demsr.upscale(
        2, tmp_path / "two.safetensors", precision="fp32"
    )
    whole = image.astype("float32").demsr.upscale(2, tmp_path / "two.safetensors", precision="fp32")
    np.testing.assert_allclose(small * 1024, whole, rtol=1e-4, atol=0.05)


@pytest.mark.train
@pytest.mark.parametrize("adversarial", [False, True])
def test_relative_heights_are_learnt_above_each_patchs_mean(
    data: dict[str, str], tmp_path: Path, adversarial: bool
) -> None:
    loss = {"l1": 100.0, **({"adversarial": 1.0} if adversarial else {})}
    recipe = Recipe.from_dict(REFINE).replaced(
        data=data,
        model={"architecture": "networks:Level", "options": {}, "window": 32},
        patches={"centred": True},
        optimiser={"name": "adam", "learning_rate": 0.05},
    )
    recipe = Recipe.from_dict({**recipe.to_dict(), "loss": loss})
    recipe = recipe.replaced(model={"task": "elevation"})
    spec = xdemsr.train(recipe, tmp_path / "level.safetensors", progress=False)
    network = xdemsr.load_model(tmp_path / "level.safetensors").module
    assert float(network.factor) > 0.3
    # Of the mean absolute height above the mean: hardly less where nothing is learnt.
    assert 0.1 < spec.training["scores"]["ratio"] < 0.9
    assert spec.relative
    assert spec.context == xdemsr.Windowed(32, 16)


def test_targets_above_their_mean_count_known_pixels_only() -> None:
    target = torch.arange(24.0).reshape(1, 1, 4, 6)
    weight = (target > 5).float()
    target[weight == 0] = -9999
    centred = above_mean(target, weight)
    assert float(centred[weight > 0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(centred[0, 0, -1, -1]) == pytest.approx(23 - 14.5)


def test_inputs_that_are_alike_change_places_in_half_of_the_patches(data: dict[str, str]) -> None:
    pairs = read_pairs(data["train"], "dtm", ["dsm", "rgb"])
    patches = xdemsr.patches(
        {name: pair.target for name, pair in pairs.items()},
        16,
        coarse={name: pair.inputs for name, pair in pairs.items()},
    )
    plain, swapped = (
        next(Tiles(patches, flips=False, seed=0, swap=swap).batches(0, 64))
        for swap in (None, (1, 2))
    )
    np.testing.assert_array_equal(plain["inputs"][:, 0], swapped["inputs"][:, 0])
    same = (plain["inputs"] == swapped["inputs"]).flatten(1).all(dim=1)
    assert 15 < int(same.sum()) < 49
    other = plain["inputs"][~same][:, [0, 2, 1]]
    torch.testing.assert_close(other, swapped["inputs"][~same])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"inputs": {"dsm": "m"}}}, "has 3 bands for the network's inputs"),
        ({"model": {"outputs": {"a": "", "b": ""}}}, "has 1 bands for the network's outputs"),
        ({"data": {"inputs": ["dsm", "nir"]}}, "no place in"),
        ({"patches": {"swap": ["red", "blue"]}}, "patches.swap names blue"),
        ({"data": {"inputs": ["rgb", "dsm"]}}, "calls 'rgb' 'dsm'"),
        (
            {"model": {"inputs": {"dsm": "m", "green": "", "red": ""}}},
            "names the inputs dsm, green, red, and its network takes dsm, red, green",
        ),
        ({"patches": {"sensors": 2}}, "says patches.sensors, which means nothing with data.inputs"),
        ({"data": {"variants": 2}}, "says data.variants, which means nothing with a data.target"),
        (
            {"data": {"target": "", "inputs": [], "coarsen": 2}, "patches": {"centred": True}},
            "says data.coarsen, patches.centred, which means nothing without a data.target",
        ),
        ({"patches": {"size": 500}}, "no place holds a tile of 500"),
        ({"patches": {"kind": "spacings"}}, 'Say .patches. kind = "tiles"'),
    ],
)
@pytest.mark.train
def test_recipes_that_do_not_fit_their_places_say_why(
    data: dict[str, str], tmp_path: Path, changes: Any, said: str
) -> None:
    changes = {**changes, "data": {**data, **changes.get("data", {})}}
    recipe = Recipe.from_dict(REFINE).replaced(**changes)
    with pytest.raises(InputError, match=said):
        xdemsr.train(recipe, tmp_path / "bare.safetensors", progress=False)


def test_a_place_is_learnt_from_or_validated_on(data: dict[str, str]) -> None:
    recipe = Recipe.from_dict(REFINE).replaced(
        data={"train": data["train"], "validation": data["train"]}
    )
    with pytest.raises(InputError, match="east, west are learnt from and validated on"):
        Rasters.read(recipe)


def test_a_copy_under_another_name_is_no_validation(tmp_path: Path) -> None:
    for part, name in (("train", "east"), ("validation", "west")):
        for raster, da in place((40, 60), 1).items():
            write(da, tmp_path / part / name / f"{raster}.tif")
    folders = {part: str(tmp_path / part) for part in ("train", "validation")}
    with pytest.raises(InputError, match=r"east \(west\) are learnt from and validated on"):
        Rasters.read(Recipe.from_dict(REFINE).replaced(data=folders))


@pytest.mark.train
def test_a_network_that_does_not_answer_the_target_is_refused_at_once(
    data: dict[str, str], tmp_path: Path
) -> None:
    recipe = Recipe.from_dict(REFINE).replaced(
        data={**data, "target": "rgb", "inputs": ["dsm"]},
        model={
            "options": {**REFINE["model"]["options"], "bands": ["dsm"]},
            "inputs": {"dsm": "m"},
            "outputs": {"red": "", "green": ""},
        },
    )
    with pytest.raises(ModelError, match=r"with \(8, 1, 32, 32\); what is to be learnt is"):
        xdemsr.train(recipe, tmp_path / "two.safetensors", progress=False)


@pytest.mark.train
def test_network_and_baseline_are_judged_on_the_same_pixels(
    data: dict[str, str], tmp_path: Path
) -> None:
    for part in ("train", "validation"):
        rasters = place((70, 96), 4 if part == "train" else 5)
        # Where colour is void nothing is answered; there the surface is wrong by a mile.
        rasters["dsm"][:20] += 1609.0
        rgb = rasters["rgb"].astype("float32")
        rgb[:, :20] = np.nan
        for name, da in {**rasters, "rgb": rgb}.items():
            write(da, tmp_path / part / f"{part}_place" / f"{name}.tif")
    recipe = Recipe.from_dict(REFINE).replaced(
        data={part: str(tmp_path / part) for part in ("train", "validation")},
        run={"steps": 1, "batch": 1},
    )
    spec = xdemsr.train(recipe, tmp_path / "m.safetensors", progress=False)
    assert spec.training["scores"]["validation_place/mae_of_baseline"] < 10


@pytest.mark.train
@pytest.mark.parametrize("kind", ["averaged", "dropout"])
def test_a_run_that_goes_on_ends_with_the_same_weights(
    data: dict[str, str], tmp_path: Path, kind: str
) -> None:
    recipe = Recipe.from_dict(REFINE).replaced(
        data=data, run={"steps": 6, "batch": 2, "validate_every": 2, "average": 0.9}
    )
    if kind == "dropout":
        options = {"bands": ["dsm", "red", "green"], "outputs": ["dtm"], "features": 2, "depth": 3}
        model = {"architecture": "pix2pix", "options": {**options, "norm": "group"}, "window": 32}
        recipe = recipe.replaced(model=model, loss={"adversarial": 1.0}, run={"average": 0.0})
    xdemsr.train(recipe, tmp_path / "whole.safetensors", progress=False)
    for steps in (4, 6):
        part = recipe.replaced(run={"steps": steps})
        xdemsr.train(
            part, tmp_path / f"{steps}.safetensors", folder=tmp_path / "parts", progress=False
        )
    folders = ("whole", "parts")
    whole, parts = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
        for name in folders
    )
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0)


@pytest.mark.train
def test_two_processes_train_against_a_discriminator(data: dict[str, str], tmp_path: Path) -> None:
    options = {"bands": ["dsm", "red", "green"], "outputs": ["dtm"], "features": 2, "depth": 2}
    recipe = Recipe.from_dict(REFINE).replaced(
        data=data,
        model={"architecture": "pix2pix", "options": options, "window": 32},
        loss={"adversarial": 1.0},
        run={"steps": 2, "batch": 2, "validate_every": 1, "devices": 2},
    )
    # A file, which is what the second process is started from.
    script = tmp_path / "run.py"
    script.write_text(
        "import json, pathlib, sys, xdemsr\n"
        "from xdemsr.training import Recipe\n"
        "recipe = Recipe.from_dict(json.loads(pathlib.Path(sys.argv[1]).read_text()))\n"
        "xdemsr.train(recipe, sys.argv[2], progress=False)\n"
    )
    values, out = tmp_path / "recipe.json", tmp_path / "two.safetensors"
    values.write_text(json.dumps(recipe.to_dict()))
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(values), str(out)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert run.returncode == 0, run.stderr
    assert xdemsr.load_model(out).spec.training["scores"]["north/mae"] > 0


@pytest.mark.train
def test_what_training_starts_from_is_not_asked_of_the_file(
    data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Begun(torch.nn.Module):
        training_options = ("pretrained",)

        def __init__(self, pretrained: bool = False) -> None:
            super().__init__()
            self.mix = torch.nn.Conv2d(3, 1, 3, padding=1)
            if pretrained:
                torch.nn.init.ones_(self.mix.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.mix(x)
            return answer

    module = ModuleType("begun")
    monkeypatch.setitem(sys.modules, "begun", module)
    monkeypatch.setattr(module, "Begun", Begun, raising=False)
    recipe = Recipe.from_dict(REFINE).replaced(
        data=data,
        model={"architecture": "begun:Begun", "options": {"pretrained": True}},
        run={"steps": 1, "batch": 1},
        optimiser={"learning_rate": 1e-6},
    )
    spec = xdemsr.train(recipe, tmp_path / "begun.safetensors", progress=False)
    assert spec.options == {}
    network = xdemsr.load_model(tmp_path / "begun.safetensors").module
    assert float(network.mix.weight.mean()) == pytest.approx(1, abs=1e-3)


def test_an_input_needs_a_target() -> None:
    with pytest.raises(InputError, match=r"Say data\.target"):
        Recipe.from_dict({**REFINE, "data": {"inputs": ["dsm"]}})


def test_where_the_first_input_is_void_nothing_is_learnt(
    data: dict[str, str], tmp_path: Path
) -> None:
    for part in ("train", "validation"):
        rasters = place((70, 96), 4 if part == "train" else 5)
        rasters["dsm"][10:30, 20:50] = np.nan
        for name, da in rasters.items():
            write(da, tmp_path / part / f"{part}_place" / f"{name}.tif")
    recipe = Recipe.from_dict(REFINE).replaced(
        data={part: str(tmp_path / part) for part in ("train", "validation")},
        patches={"min_valid": 0.0},
    )
    read = Rasters.read(recipe)
    patches = read._patches(read.train, [recipe.sensor])
    assert not any(
        patch.valid[0, y, x]
        for patch in patches
        for y, x in [(15 - patch.y, 30 - patch.x)]
        if 0 <= y < 32 and 0 <= x < 32
    )
    assert any(patch.valid.any() for patch in patches)
