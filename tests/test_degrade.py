"""Degradation, relief, benchmark: functions over windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr.errors import InputError, ModelError


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scale=st.integers(1, 12),
    noise=st.sampled_from([0.0, 0.3]),
    step=st.sampled_from([0.0, 0.25, 1.0]),
    chunks=st.tuples(st.integers(1, 50), st.integers(1, 70)),
)
def test_degrading_does_not_know_chunks(
    dem: xr.DataArray, scale: int, noise: float, step: float, chunks: tuple[int, int]
) -> None:
    expected = dem.demsr.degrade(scale, noise=noise, step=step)
    lazy = dem.chunk(y=chunks[0], x=chunks[1]).demsr.degrade(scale, noise=noise, step=step)
    assert lazy.chunks is not None
    assert lazy.dtype == lazy.values.dtype == np.float32
    np.testing.assert_array_equal(lazy.values, expected.values)


def test_block_means_and_voids(dem: xr.DataArray) -> None:
    coarse = dem.demsr.degrade(5)
    expected = dem.astype("float64").coarsen(y=5, x=5, boundary="trim").reduce(np.mean)
    np.testing.assert_allclose(coarse.values, expected.values, atol=1e-3)
    assert coarse.rio.resolution() == (150.0, -150.0)
    left, bottom, right, top = dem.rio.bounds()
    assert coarse.rio.bounds() == (left, bottom + 3 * 30, right - 1 * 30, top)


def test_noise_and_rounding_are_what_was_asked() -> None:
    flat = xr.DataArray(np.zeros((600, 700)), dims=("y", "x"))
    noisy = flat.demsr.degrade(2, noise=0.3)
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.02)
    assert float(noisy.mean()) == pytest.approx(0.0, abs=0.01)
    assert not np.array_equal(noisy, flat.demsr.degrade(2, noise=0.3, seed=1))
    stepped = flat.demsr.degrade(2, noise=3.0, step=0.5)
    np.testing.assert_array_equal(stepped % 0.5, 0.0)
    # Where a pixel lies decides its noise, not what lies beside it.
    np.testing.assert_array_equal(flat[:400].demsr.degrade(2, noise=0.3), noisy[:200])


@pytest.mark.parametrize(
    "arguments", [{"scale": 0}, {"scale": 2, "noise": -1}, {"scale": 2, "step": -1}, {"scale": 99}]
)
def test_impossible_degradations(dem: xr.DataArray, arguments: dict[str, float]) -> None:
    with pytest.raises(InputError):
        dem.demsr.degrade(**arguments)


def plane(dy: float, dx: float, *, flip_y: bool = False, flip_x: bool = False) -> xr.DataArray:
    """A tilted plane, dy metres up a metre north and dx a metre east."""
    y, x = 30.0 * np.arange(12)[::-1], 10.0 * np.arange(15)
    y, x = y[::-1] if flip_y else y, x[::-1] if flip_x else x
    heights = dy * y[:, None] + dx * x[None, :]
    return xr.DataArray(heights, dims=("y", "x"), coords={"y": y, "x": x})


@pytest.mark.parametrize("flip_y", [False, True])
@pytest.mark.parametrize("flip_x", [False, True])
def test_slope_and_light_know_north_and_east(flip_y: bool, flip_x: bool) -> None:
    tilted = plane(0.3, 0.4, flip_y=flip_y, flip_x=flip_x)
    np.testing.assert_allclose(tilted.demsr.slope(), np.degrees(np.arctan(0.5)), rtol=1e-5)
    # A face that rises to the north-east looks to the south-west.
    facing = np.degrees(np.arctan2(-0.4, -0.3)) % 360
    full = tilted.demsr.hillshade(azimuth=facing, altitude=90 - np.degrees(np.arctan(0.5)))
    np.testing.assert_allclose(full, 1.0, atol=1e-6)
    behind = tilted.demsr.hillshade(azimuth=facing + 180, altitude=20)
    np.testing.assert_allclose(behind, 0.0, atol=1e-6)


def test_a_flat_raster_is_as_bright_as_the_light_is_high() -> None:
    flat = xr.DataArray(np.full((4, 5), 3.0), dims=("y", "x"))
    np.testing.assert_allclose(flat.demsr.hillshade(altitude=30), 0.5, atol=1e-6)
    np.testing.assert_allclose(flat.demsr.slope(), 0.0)


def test_relief_does_not_know_chunks_and_keeps_voids(dem: xr.DataArray) -> None:
    for method in ("hillshade", "slope"):
        expected = getattr(dem.demsr, method)()
        found = getattr(dem.chunk(y=5, x=8).demsr, method)()
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(np.isnan(expected.values), np.isnan(dem.values))


def test_the_benchmark_scores_what_its_protocol_says(terrain_model: Path) -> None:
    dem = xdemsr.synthetic.terrain((20 * 16 + 5, 22 * 16 + 3), gsd=2.0)
    dem[100:110, 150:160] = np.nan
    table = dem.demsr.benchmark(16, ["bicubic", terrain_model], noise=0.2)
    assert list(table.index) == ["bicubic", "small-terrain", "spline", "histospline"]
    # Four coarse pixels at the border are not scored, nor the void's own and three around it.
    scored = np.zeros((20, 22), bool)
    scored[4:-4, 4:-4] = True
    scored[100 // 16 - 3 : 109 // 16 + 4, 150 // 16 - 3 : 159 // 16 + 4] = False
    assert (table["n"] == scored.sum() * 256).all()
    best = table.loc[["spline", "histospline"], "mse"].min()
    np.testing.assert_allclose(table["of_best_classical"], table["mse"] / best)
    coarse = dem.demsr.degrade(16, noise=0.2)
    truth = dem[: 20 * 16, : 22 * 16].where(scored.repeat(16, 0).repeat(16, 1))
    restored = coarse.demsr.upscale(16, terrain_model, vertical_error=0.2)
    expected = restored.demsr.evaluate(truth)
    assert table.loc["small-terrain", "rmse"] == pytest.approx(expected["rmse"])


def test_the_benchmark_is_the_same_on_lazy_rasters() -> None:
    dem = xdemsr.synthetic.terrain((200, 170))
    eager = dem.demsr.benchmark(8, ["bilinear"], step=1.0)
    lazy = dem.chunk(33).demsr.benchmark(8, ["bilinear"], step=1.0)
    np.testing.assert_allclose(lazy, eager, rtol=1e-9)


def test_by_default_every_interpolation_and_shipped_model_is_compared() -> None:
    dem = xdemsr.synthetic.terrain((170, 200))
    assert {"nearest", "bicubic", "spline", "histospline"} <= set(dem.demsr.benchmark(8).index)


def test_benchmarks_that_cannot_be(terrain_model: Path) -> None:
    small = xdemsr.synthetic.terrain((100, 130))
    with pytest.raises(InputError, match="nothing is left"):
        small.demsr.benchmark(16, ["bicubic"])
    with pytest.raises(ModelError, match="made for scale 16"):
        small.demsr.benchmark(8, [terrain_model])
