"""Degradation, relief, benchmark: functions over windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr import mapping
from xdemsr.cli import main
from xdemsr.errors import InputError, ModelError
from xdemsr.io import write

SAMPLINGS = [
    {},
    {"sampling": "gaussian"},
    {"sampling": "gaussian", "fwhm": 2.2},
    {"sampling": "gaussian", "mtf": 0.9},
    {"sampling": "bilinear"},
    {"sampling": "nearest"},
]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    scale=st.integers(1, 12),
    options=st.sampled_from(SAMPLINGS),
    noise=st.sampled_from([0.0, 0.3]),
    stripes=st.sampled_from([0.0, 0.2]),
    step=st.sampled_from([0.0, 0.25, 1.0]),
    chunks=st.tuples(st.integers(1, 50), st.integers(1, 70)),
)
def test_degrading_does_not_know_chunks(
    dem: xr.DataArray,
    scale: int,
    options: dict[str, Any],
    noise: float,
    stripes: float,
    step: float,
    chunks: tuple[int, int],
) -> None:
    options = {**options, "noise": noise, "stripes": stripes, "step": step}
    expected = dem.demsr.degrade(scale, **options)
    lazy = dem.chunk(y=chunks[0], x=chunks[1]).demsr.degrade(scale, **options)
    assert lazy.chunks is not None
    assert lazy.dtype == lazy.values.dtype == np.float32
    np.testing.assert_array_equal(lazy.values, expected.values)
    # What is void depends on the blocks alone.
    voids = np.isnan(dem.demsr.degrade(scale).values)
    np.testing.assert_array_equal(np.isnan(expected.values), voids)


@pytest.mark.parametrize("scale", [1, 2, 7])
@pytest.mark.parametrize("options", SAMPLINGS[1:])
def test_windows_of_the_answer_do_not_show(
    monkeypatch: pytest.MonkeyPatch, dem: xr.DataArray, options: dict[str, Any], scale: int
) -> None:
    expected = dem.demsr.degrade(scale, stripes=0.3, **options)
    monkeypatch.setattr(mapping, "_CHUNK", 3)
    monkeypatch.setattr(mapping, "_SMALLEST", 3)
    found = dem.demsr.degrade(scale, stripes=0.3, **options)
    np.testing.assert_allclose(found, expected, rtol=3e-7)


@given(
    scale=st.integers(1, 9),
    options=st.sampled_from(SAMPLINGS),
    height=st.floats(-1e4, 1e4, width=32),
)
@settings(deadline=None)
def test_flat_terrain_stays_flat(scale: int, options: dict[str, Any], height: float) -> None:
    flat = xr.DataArray(np.full((29, 41), height), dims=("y", "x"))
    flat[12:17, 3:30] = np.nan
    coarse = flat.demsr.degrade(scale, **options).values
    np.testing.assert_allclose(coarse[np.isfinite(coarse)], height, rtol=1e-6)


@given(
    scale=st.integers(1, 9),
    options=st.sampled_from(SAMPLINGS),
    slopes=st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
    void=st.tuples(st.integers(0, 28), st.integers(0, 40), st.integers(0, 12)),
)
@settings(deadline=None)
def test_a_ramp_stays_the_ramp_beside_voids_too(
    scale: int,
    options: dict[str, Any],
    slopes: tuple[float, float],
    void: tuple[int, int, int],
) -> None:
    y, x = np.mgrid[:29, :41]
    ramp = xr.DataArray(slopes[0] * y + slopes[1] * x, dims=("y", "x"))
    means = ramp.demsr.degrade(scale)
    if options.get("sampling") == "nearest" and scale % 2 == 0:
        means = means + np.float32(sum(slopes) / 2)
    ramp[void[0] : void[0] + void[2], void[1] : void[1] + void[2]] = np.nan
    coarse = ramp.demsr.degrade(scale, **options)
    np.testing.assert_allclose(coarse.where(coarse.notnull(), means), means, atol=2e-3)


@pytest.mark.parametrize(("scale", "inner"), [(4, [1, 2]), (5, [2]), (1, [0]), (2, [0, 1])])
def test_what_is_sampled_without_averaging(scale: int, inner: list[int]) -> None:
    dem = xdemsr.synthetic.terrain((7 * scale - 1, 8 * scale))[: 6 * scale]
    blocks = dem.values.reshape(6, scale, 8, scale).astype(float)
    around = blocks[:, inner][..., inner].mean(axis=(1, 3))
    np.testing.assert_allclose(dem.demsr.degrade(scale, sampling="bilinear"), around, rtol=1e-6)
    one = blocks[:, scale // 2, :, scale // 2]
    np.testing.assert_array_equal(dem.demsr.degrade(scale, sampling="nearest"), one)


@pytest.mark.parametrize("mtf", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("scale", [6, 15])
def test_the_contrast_at_nyquist_is_what_was_asked(mtf: float, scale: int) -> None:
    place = (np.arange(24 * scale) + 0.5) / scale - 0.5
    waves = xr.DataArray(np.tile(np.cos(np.pi * place), (7 * scale, 1)), dims=("y", "x"))
    coarse = waves.demsr.degrade(scale, sampling="gaussian", mtf=mtf)
    contrast = coarse.values[:, 6:-6] * np.cos(np.pi * np.arange(24))[6:-6]
    np.testing.assert_allclose(contrast, mtf, atol=0.003)


def test_a_wider_point_spread_function_is_smoother() -> None:
    dem = xdemsr.synthetic.terrain((160, 200), roughness=1.8)
    spread = [
        float(dem.demsr.degrade(8, sampling="gaussian", fwhm=fwhm).diff("x").std())
        for fwhm in (0.5, 1.0, 2.0)
    ]
    assert spread[0] > spread[1] > spread[2]


def test_stripes_are_one_number_a_row() -> None:
    flat = xr.DataArray(np.zeros((900, 40)), dims=("y", "x"))
    striped = flat.demsr.degrade(2, stripes=0.3)
    np.testing.assert_array_equal(striped, np.tile(striped[:, :1], 20))
    assert float(striped[:, 0].std()) == pytest.approx(0.3, rel=0.1)
    # Where a row lies decides, not how wide or how long the raster is.
    np.testing.assert_array_equal(flat[:620, :11].demsr.degrade(2, stripes=0.3), striped[:310, :5])
    assert not np.array_equal(striped, flat.demsr.degrade(2, stripes=0.3, seed=1))
    # Noise of the same seed has nothing in common with them.
    noise = flat.demsr.degrade(2, noise=0.3)[:, 0]
    assert abs(np.corrcoef(noise, striped[:, 0])[0, 1]) < 0.2


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
    ("arguments", "said"),
    [
        ({"scale": 0}, "scale"),
        ({"scale": 99}, "no block of 99 x 99"),
        ({"scale": 2, "noise": -1}, "noise=-1"),
        ({"scale": 2, "stripes": np.nan}, "stripes=nan"),
        ({"scale": 2, "step": -1}, "step=-1"),
        ({"scale": 2, "seed": -1}, "seed=-1"),
        ({"scale": 2, "sampling": "median"}, "mean, gaussian, bilinear, nearest"),
        ({"scale": 2, "sampling": "gaussian", "fwhm": 0}, "fwhm=0"),
        ({"scale": 2, "sampling": "gaussian", "mtf": 1.0}, "between 0 and 1"),
        ({"scale": 2, "sampling": "gaussian", "mtf": 0.3, "fwhm": 2.0}, "give one"),
        ({"scale": 2, "mtf": 0.3}, "has no width"),
        ({"scale": 2, "sampling": "bilinear", "fwhm": 2.0}, "has no width"),
    ],
)
def test_impossible_degradations(dem: xr.DataArray, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        dem.demsr.degrade(**arguments)


def test_the_command_line_takes_the_same(dem: xr.DataArray, tmp_path: Path) -> None:
    source, target = write(dem, tmp_path / "dem.tif"), tmp_path / "coarse.tif"
    said = {"scale": 4, "sampling": "gaussian", "mtf": 0.3, "stripes": 0.2, "noise": 0.1, "seed": 3}
    words = [f"--{name}={value}" for name, value in said.items()]
    result = CliRunner().invoke(main, ["degrade", str(source), str(target), *words])
    assert result.exit_code == 0, result.output
    expected = dem.demsr.degrade(**said)
    np.testing.assert_array_equal(xdemsr.open(target).values, expected.values)


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
