"""The benchmark table in both protocols, its picture, and the study of what they differ in."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr.cli import main
from xdemsr.errors import InputError
from xdemsr.io import write
from xdemsr.protocols import isolated

STUDY = Path(__file__).parent.parent / "examples" / "protocols.py"
CLASSICAL = ["nearest", "bilinear", "bicubic", "spline", "histospline"]


def terrain(ny: int, nx: int, seed: int = 0) -> xr.DataArray:
    return xdemsr.synthetic.terrain((ny, nx), gsd=2.0, seed=seed)


def by_hand(dem: xr.DataArray, scale: int, tile: int, model: str) -> list[np.ndarray]:
    """Errors of every tile without a void, cut out and restored as if it were all there is."""
    size, errors = tile * scale, []
    coarse = dem.demsr.degrade(scale)
    for i in range(coarse.shape[0] // tile):
        for j in range(coarse.shape[1] // tile):
            alone = coarse[i * tile : (i + 1) * tile, j * tile : (j + 1) * tile]
            truth = dem[i * size : (i + 1) * size, j * size : (j + 1) * size]
            if truth.notnull().all():
                restored = alone.copy().demsr.upscale(scale, model)
                errors.append(restored.values.astype(float) - truth.values)
    return errors


@settings(deadline=None, max_examples=6)
@given(
    st.integers(5, 9), st.sampled_from([2, 3, 4]), st.sampled_from(CLASSICAL), st.integers(0, 99)
)
def test_isolated_tiles_are_restored_alone_and_scored_whole(
    tile: int, scale: int, model: str, seed: int
) -> None:
    dem = terrain(2 * tile * scale + 5, 3 * tile * scale + 3, seed)
    dem[tile * scale + 1, 2] = np.nan
    table = dem.demsr.benchmark(scale, [model], protocol="isolated", tile=tile)
    error = np.stack(by_hand(dem, scale, tile, model))
    assert len(error) == 5
    assert table.loc[model, "n"] == error.size
    assert table.loc[model, "mse"] == pytest.approx(np.mean(error**2), rel=1e-6)
    assert table.loc[model, "mae"] == pytest.approx(np.mean(np.abs(error)), rel=1e-6)
    assert table.loc[model, "bias"] == pytest.approx(np.mean(error), abs=1e-6)


def test_slopes_and_structures_do_not_look_across_tiles() -> None:
    dem = terrain(80, 120)
    table = dem.demsr.benchmark(4, ["bicubic"], protocol="isolated", tile=10)
    squared, count = 0.0, 0
    coarse = dem.demsr.degrade(4)
    for i in range(2):
        for j in range(3):
            alone = coarse[10 * i : 10 * i + 10, 10 * j : 10 * j + 10]
            truth = dem[40 * i : 40 * i + 40, 40 * j : 40 * j + 40]
            restored = alone.demsr.upscale(4, "bicubic")
            apart = (restored.demsr.slope() - truth.demsr.slope()).values[1:-1, 1:-1]
            squared, count = squared + np.sum(apart.astype(float) ** 2), count + apart.size
    assert table.loc["bicubic", "slope_rmse"] == pytest.approx(np.sqrt(squared / count), rel=1e-5)


@pytest.mark.parametrize("protocol", ["continuous", "isolated"])
def test_a_lazy_raster_scores_the_same(protocol: str) -> None:
    dem = terrain(150, 210)
    dem[70:75, 20] = np.nan
    given = {"protocol": protocol, "tile": 11, "step": 0.5, "noise": 0.1, "stripes": 0.1}
    eager = dem.demsr.benchmark(4, ["bilinear"], **given)
    lazy = dem.chunk(y=37, x=64).demsr.benchmark(4, ["bilinear"], **given)
    pd.testing.assert_frame_equal(lazy, eager, rtol=1e-9)


def test_rows_and_ratios() -> None:
    table = terrain(170, 200).demsr.benchmark(8, protocol="isolated", tile=10)
    assert list(table.index[:5]) == CLASSICAL
    spline, histospline = table.loc["spline", "mse"], table.loc["histospline", "mse"]
    np.testing.assert_allclose(table["of_spline"], table["mse"] / spline)
    np.testing.assert_allclose(table["of_best_classical"], table["mse"] / min(spline, histospline))


def test_isolated_tiles_cost_the_spline_more_than_the_histospline() -> None:
    dem = xdemsr.synthetic.terrain((240, 320), gsd=2.0, roughness=2.5)
    whole = dem.demsr.benchmark(8, ["spline"])
    alone = dem.demsr.benchmark(8, ["spline"], protocol="isolated", tile=10)
    assert alone.loc["histospline", "of_spline"] < 0.9 * whole.loc["histospline", "of_spline"]


@pytest.mark.parametrize("sampling", ["bilinear", "nearest", "mean", "gaussian"])
def test_models_are_told_the_error_of_their_input(sampling: str, terrain_model: Path) -> None:
    dem = terrain(176, 210)
    given = {"sampling": sampling, "noise": 0.3, "stripes": 0.4, "step": 1.0}
    coarse = dem.demsr.degrade(16, **given)
    told = np.hypot(np.hypot(0.3, 0.4), 1 / np.sqrt(12))
    if sampling in ("bilinear", "nearest"):
        told = float(np.sqrt(((coarse - dem.demsr.degrade(16)).astype(float) ** 2).mean()))
    restored = coarse.demsr.upscale(16, terrain_model, vertical_error=told)
    expected = restored[64:-64, 64:-64].demsr.evaluate(dem[:176, :208][64:-64, 64:-64])
    table = dem.demsr.benchmark(16, [terrain_model], **given)
    assert table.iloc[0]["mse"] == pytest.approx(expected["mse"], rel=1e-6)


def test_tiles_keep_the_grid_whatever_its_names() -> None:
    dem = terrain(60, 90).rename(y="lat", x="lon").rename("height")
    dem.lat.attrs["axis"], dem.lon.attrs["axis"] = "Y", "X"
    coarse = dem.demsr.degrade(3)
    trial = isolated(dem, coarse, 3, 10)
    assert trial.given.sizes == {"tile_row": 2, "tile_column": 3, "lat": 10, "lon": 10}
    np.testing.assert_array_equal(trial.given[1, 2], coarse[10:20, 20:30])
    answer = trial.placed(trial.given.demsr.upscale(3, "nearest"))
    xr.testing.assert_equal(answer.drop_attrs(), coarse.demsr.upscale(3, "nearest").drop_attrs())


def test_what_cannot_be_scored() -> None:
    dem = terrain(80, 120)
    with pytest.raises(InputError, match="no tile of 25 x 25 fits"):
        dem.demsr.benchmark(4, protocol="isolated")
    holed = dem.where((dem.x - dem.x[0]) % 40 != 0)
    with pytest.raises(InputError, match=r"without a void \(6 fit\)"):
        holed.demsr.benchmark(4, protocol="isolated", tile=10)
    with pytest.raises(InputError, match="not one of continuous, isolated"):
        dem.demsr.benchmark(4, protocol="tiled")
    with pytest.raises(InputError, match="tile=0 must be"):
        dem.demsr.benchmark(4, protocol="isolated", tile=0)


def test_the_command_line_prints_it(tmp_path: Path) -> None:
    dem = terrain(100, 130)
    path = write(dem, tmp_path / "fine.tif")
    asked = ["--scale", "4", "--model", "bicubic", "--protocol", "isolated", "--tile", "12"]
    said = CliRunner().invoke(main, ["benchmark", str(path), *asked, "--sampling", "gaussian"])
    assert said.exit_code == 0, said.output
    expected = dem.demsr.benchmark(
        4, ["bicubic"], protocol="isolated", tile=12, sampling="gaussian"
    )
    assert said.output == expected.round(3).to_string() + "\n"


def test_the_command_line_reads_a_standard_error(tmp_path: Path) -> None:
    dem = terrain(40, 60)
    paths = [write(da, tmp_path / f"{k}.tif") for k, da in enumerate((dem + 1, dem, dem * 0 + 0.6))]
    found = CliRunner().invoke(
        main, ["evaluate", *map(str, paths[:2]), "--standard-error", str(paths[2])]
    )
    said = dict(line.split() for line in found.output.splitlines())
    assert (said["rmse"], said["within_1se"], said["within_2se"]) == ("1.0000", "0.0000", "1.0000")


def test_the_picture_puts_the_best_on_top() -> None:
    table = terrain(96, 140).demsr.benchmark(4)
    for measure, better in (("of_best_classical", min), ("ssim", max)):
        ax = xdemsr.plotting.benchmark(table, measure=measure)
        names = [label.get_text() for label in ax.get_yticklabels()]
        assert sorted(names) == sorted(table.index)
        assert table.loc[names[-1], measure] == better(table[measure])
        plt.close(ax.figure)
    with pytest.raises(InputError, match="no column 'mess'"):
        xdemsr.plotting.benchmark(table, measure="mess")


def test_the_study_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(terrain(140, 260), tmp_path / "dem.tif")
    asked = ["--scales", "4", "--tiles", "25", "--models", "bicubic", "--folder", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in (STUDY, path, *asked)])
    monkeypatch.setenv("MPLBACKEND", "agg")
    runpy.run_path(str(STUDY), run_name="__main__")
    assert "alone over whole" in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "out" / "protocols.csv")
    assert set(found["model"]) == {"bicubic", "spline", "histospline"}
    assert set(found["tile"]) == {"whole", "25"}
    assert (tmp_path / "out" / "protocols.png").exists()


@pytest.mark.parametrize("scale", [2, 4])
def test_by_default_models_of_elevation_alone_are_compared(scale: int) -> None:
    table = xdemsr.benchmark(xdemsr.synthetic.terrain((60, 72), gsd=30.0), scale)
    assert f"terrain-x{scale}" in table.index
    assert "s2-x2" not in table.index
