"""Pictures: what is drawn where, with which units."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dask.array
import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt

import xdemsr
from xdemsr import GridError, InputError
from xdemsr.plotting import (
    calibration,
    compare,
    error_histogram,
    error_map,
    profile,
    shaded_relief,
    standard_error_map,
    training_curves,
)
from xdemsr.synthetic import terrain

mpl.use("agg")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def texts(ax: plt.Axes) -> list[str]:
    return [text.get_text() for text in ax.findobj(mpl.text.Text)]


@pytest.mark.parametrize(
    ("gsd", "unit", "bar"), [(2.0, "m", "50 m"), (100.0, "km", "2 km"), (300.0, "km", "5 km")]
)
def test_maps_have_units_and_a_scale_bar(gsd: float, unit: str, bar: str) -> None:
    ax = shaded_relief(terrain((60, 90), gsd=gsd), colorbar=True)
    assert ax.get_xlabel() == ax.get_ylabel() == unit
    assert ax.get_aspect() == 1
    assert bar in texts(ax)
    ax.figure.canvas.draw()
    _, colours = ax.figure.axes
    assert colours.get_ylabel() == "elevation (m)"


def test_a_degree_of_longitude_is_drawn_shorter_in_the_north() -> None:
    dem = terrain((50, 50))
    north = xr.DataArray(
        dem.values, {"y": 60 - np.arange(50) / 100, "x": 7 + np.arange(50) / 100}, ("y", "x")
    ).rio.write_crs("EPSG:4326")
    ax = shaded_relief(north)
    width, height = ax.get_xlim()[1], ax.get_ylim()[0]
    assert width / height == pytest.approx(np.cos(np.radians(59.755)), abs=1e-3)


def test_large_rasters_are_thinned_and_stay_lazy_elsewhere() -> None:
    dem = xdemsr.synthetic.perlin((600, 900), chunks=300)
    ax = shaded_relief(dem, size=300)
    assert ax.images[0].get_array().shape[:2] == (200, 300)
    small = shaded_relief(dem[:200, :300], size=300)
    assert small.images[0].get_array().shape[:2] == (200, 300)


def test_flat_ground_has_the_colour_of_the_bar() -> None:
    flat = terrain((20, 30)) * 0 + 7
    ax = shaded_relief(flat, limits=(0, 10), colorbar=True)
    drawn = ax.images[0].get_array()[5, 5, :3]
    bar = next(iter(ax.figure.axes[1].findobj(mpl.collections.QuadMesh)))
    np.testing.assert_allclose(drawn, bar.cmap(bar.norm(7.0))[:3], atol=0.01)


def test_comparing_is_in_rows_of_one_light() -> None:
    dem = terrain((40, 60))
    axes = compare(dict.fromkeys("abcde", dem), columns=3, title="all")
    assert [ax.get_title() for ax in axes] == list("abcde")
    pictures = [ax.images[0].get_array() for ax in axes]
    assert all(np.array_equal(pictures[0], picture) for picture in pictures)
    axes[0].figure.canvas.draw()
    assert len({round(ax.get_position().y0, 3) for ax in axes}) == 2
    for nothing in ({}, {"void": dem * np.nan}):
        with pytest.raises(InputError):
            compare(nothing)


def test_a_profile_holds_the_pixels_that_the_line_crosses() -> None:
    dem = terrain((30, 40), gsd=10.0)
    ax = profile({"dem": dem})
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_ydata()[::2], dem[15])
    np.testing.assert_allclose(line.get_xdata()[::2], np.arange(40) * 10)
    assert ax.get_xlabel() == "along the line (m)"


def test_a_profile_knows_slanted_lines_gaps_and_what_lies_outside() -> None:
    dem = xr.DataArray(
        np.arange(12.0).reshape(3, 4), {"y": [2.5, 1.5, 0.5], "x": [0.5, 1.5, 2.5, 3.5]}, ("y", "x")
    )
    dem[1, 1] = np.nan
    lazy = dem.chunk(y=2, x=1)
    ends = (0.0, 3.0), (6.0, 0.0)
    whole, again, truth = (
        ax.lines
        for ax in (
            profile({"a": dem}, line=ends),
            profile({"a": lazy}, line=ends),
            profile({"a": lazy}, dem, line=ends),
        )
    )
    heights = whole[0].get_ydata()[::2]
    # Rows change at x = 2 and 4, and the raster ends there.
    np.testing.assert_array_equal(heights, [0, 1, 6, 7, np.nan, np.nan][: heights.size])
    np.testing.assert_array_equal(whole[0].get_ydata(), again[0].get_ydata())
    assert [line.get_label() for line in truth] == ["reference", "a"]
    assert whole[0].get_xdata()[-1] == pytest.approx(np.hypot(6, 3))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (((1.0, 1.0), (1.0, 1.0)), "has no length"),
        (((-50.0, 9.0), (-10.0, 9.0)), "meets no valid pixel"),
    ],
)
def test_a_profile_refuses_lines_without_pixels(
    line: tuple[tuple[float, float], tuple[float, float]], said: str
) -> None:
    dem = xr.DataArray(
        np.ones((3, 4)), {"y": [2.5, 1.5, 0.5], "x": [0.5, 1.5, 2.5, 3.5]}, ("y", "x")
    )
    with pytest.raises(InputError, match=said):
        profile({"a": dem}, line=line)
    with pytest.raises(InputError, match="a raster at least"):
        profile({})


def test_errors_are_drawn_with_their_sign() -> None:
    truth = terrain((40, 50)).assign_attrs(_FillValue=-9999.0)
    answer = truth + 2
    answer[:, :25] -= 5
    truth[3, 4] = -9999
    ax = error_map(answer, truth, limit=4)
    drawn = ax.images[0].get_array()
    assert np.ma.is_masked(drawn[3, 4])
    np.testing.assert_allclose(drawn[10], [*[-3] * 25, *[2] * 25], atol=1e-3)
    low, high = ax.images[0].get_clim()
    assert (low, high) == (-4, 4)
    red = ax.images[0].cmap(1.0)
    assert red[0] > red[2]
    with pytest.raises(GridError):
        error_map(answer[1:], truth)
    with pytest.raises(InputError, match="no pixel is known"):
        error_map(answer * np.nan, truth)


def test_the_histogram_counts_every_error() -> None:
    truth = terrain((40, 50))
    noise = np.random.default_rng(0).normal(0, 3, truth.shape).astype(np.float32)
    ax = error_histogram({"noisy": truth + noise, "exact": truth}, truth, limit=30)
    assert ax.get_xlabel() == "error (m)"
    for steps in ax.patches:
        counts, edges, _ = steps.get_data()
        assert (counts * np.diff(edges)).sum() == pytest.approx(1.0)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0] == "noisy: RMSE 3 m"
    assert labels[1] == "exact: RMSE 0 m"
    with pytest.raises(InputError, match="an answer at least"):
        error_histogram({}, truth)


def test_true_standard_errors_lie_on_the_line() -> None:
    truth = terrain((200, 300)) * 0
    rng = np.random.default_rng(1)
    stated = truth + rng.uniform(1, 5, truth.shape).astype(np.float32)
    answer = truth + (rng.normal(size=truth.shape) * stated).astype(np.float32)
    ax = calibration(answer, stated, truth, bins=6)
    line, points = ax.lines
    np.testing.assert_allclose(points.get_xdata(), points.get_ydata(), rtol=0.05)
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    assert ax.get_title() == "68% within one, 95% within two"
    with pytest.raises(InputError, match="does not fill"):
        calibration(answer * np.nan, stated, truth)


def test_standard_errors_have_a_map() -> None:
    spread = abs(terrain((40, 50)) - 1200)
    ax = standard_error_map(spread, limit=100)
    assert ax.images[0].get_clim() == (0, 100)
    assert ax.figure.axes[1].get_ylabel() == "standard error (m)"
    with pytest.raises(InputError, match="no pixel is valid"):
        standard_error_map(spread * np.nan)


def test_curves_of_a_run_that_went_on_are_one(tmp_path: Path) -> None:
    for version, rows in {
        "0": "49,1.5,\n99,1.2,\n99,,0.9\n",
        # Went on from step 50.
        "2": "99,1.3,\n99,,0.8\n149,1.1,\n149,,0.85\n",
        "10": "199,1.0,\n199,,0.83\n",
    }.items():
        folder = tmp_path / "log" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(f"step,loss,score\n{rows}")
    ax = training_curves(tmp_path)
    loss, score = ax.lines
    assert loss.get_xdata().tolist() == [50, 100, 150, 200]
    assert loss.get_ydata().tolist() == [1.5, 1.3, 1.1, 1.0]
    assert score.get_ydata().tolist() == [0.8, 0.85, 0.83]
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), [[100, 0.8]])
    with pytest.raises(InputError, match="no 'l1'; they have loss, score"):
        training_curves(tmp_path, measures=["l1"])
    with pytest.raises(InputError, match="holds no logs"):
        training_curves(tmp_path / "log")


def test_everything_draws_on_the_axes_it_is_given() -> None:
    dem = terrain((24, 36))
    for draw in (
        lambda ax: shaded_relief(dem, ax),
        lambda ax: profile({"a": dem}, ax=ax),
        lambda ax: error_map(dem, dem, ax),
        lambda ax: error_histogram({"a": dem}, dem, ax),
        lambda ax: standard_error_map(dem, ax),
        lambda ax: calibration(dem, dem, dem, ax),
    ):
        _, ax = plt.subplots()
        assert draw(ax) is ax


def test_only_what_is_drawn_is_computed() -> None:
    seen = []

    def note(block: np.ndarray, block_info: dict | None = None) -> np.ndarray:
        seen.append(block.shape)
        return block

    data = dask.array.zeros((400, 600), chunks=100).map_blocks(note, dtype=float, meta=np.zeros(0))
    dem = xr.DataArray(
        data, {"y": np.arange(400.0)[::-1], "x": np.arange(600.0)}, ("y", "x"), name="elevation"
    )
    shaded_relief(dem[:90, :80])
    assert len(seen) <= 2
