"""Scores against plain numpy and scikit-image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

import xdemsr
from xdemsr import metrics
from xdemsr.errors import GridError, InputError


def pair(seed: int = 0, voids: float = 0.1) -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(seed)
    truth = xdemsr.synthetic.terrain((57, 83), seed=seed)
    guess = truth + rng.normal(0.4, 1.7, truth.shape) ** 3
    truth = truth.where(rng.random(truth.shape) > voids)
    return guess.where(rng.random(truth.shape) > voids), truth


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_scores_are_what_they_say(seed: int) -> None:
    guess, truth = pair(seed)
    scores = guess.demsr.evaluate(truth)
    error = (guess.values.astype(float) - truth.values)[np.isfinite(guess.values - truth.values)]
    assert scores["n"] == error.size
    assert scores["mse"] == pytest.approx(np.mean(error**2))
    assert scores["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert scores["mae"] == pytest.approx(np.mean(np.abs(error)))
    assert scores["bias"] == pytest.approx(np.mean(error))
    median = np.quantile(error, 0.5, method="inverted_cdf")
    nmad = 1.4826 * np.quantile(np.abs(error - median), 0.5, method="inverted_cdf")
    assert scores["nmad"] == pytest.approx(nmad, rel=3e-3)
    le90 = np.quantile(np.abs(error), 0.9, method="inverted_cdf")
    assert scores["le90"] == pytest.approx(le90, rel=2e-3)
    near = np.abs(error - np.mean(error)) <= np.std(error)
    assert scores["within_1sd"] == pytest.approx(np.mean(near), abs=3e-3)
    spread = np.nanmax(truth) - np.nanmin(truth)
    assert scores["psnr"] == pytest.approx(10 * np.log10(spread**2 / np.mean(error**2)))


def test_slope_and_structure_are_those_of_the_whole_raster() -> None:
    guess, truth = pair(voids=0.0)
    scores = guess.demsr.evaluate(truth)
    apart = (guess.demsr.slope() - truth.demsr.slope()).values[1:-1, 1:-1]
    assert scores["slope_rmse"] == pytest.approx(np.sqrt(np.mean(apart**2)), rel=1e-5)
    _, whole = structural_similarity(
        guess.values.astype(float),
        truth.values.astype(float),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=float(truth.max() - truth.min()),
        full=True,
    )
    assert scores["ssim"] == pytest.approx(whole[5:-5, 5:-5].mean(), rel=1e-6)


def test_windows_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    guess, truth = pair()
    expected = guess.demsr.evaluate(truth)
    monkeypatch.setattr(metrics, "_CHUNK", 16)
    found = guess.chunk(19).demsr.evaluate(truth.chunk(7))
    pd.testing.assert_series_equal(found, expected, rtol=1e-9)


def test_a_perfect_answer() -> None:
    _, truth = pair(voids=0.0003)
    scores = truth.demsr.evaluate(truth)
    assert scores["rmse"] == scores["nmad"] == scores["le90"] == 0
    assert scores["psnr"] == np.inf
    assert scores["ssim"] == pytest.approx(1.0)


def test_shares_within_one_deviation() -> None:
    _, truth = pair(voids=0.0)
    assert (truth + 2.0).demsr.evaluate(truth)["within_1sd"] == 1.0
    rng = np.random.default_rng(0)
    normal = truth + rng.normal(0.3, 1.0, truth.shape)
    assert normal.demsr.evaluate(truth)["within_1sd"] == pytest.approx(0.683, abs=0.02)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([0.2, 1.0, 3.0]))
def test_how_often_a_standard_error_was_enough(seed: int, told: float) -> None:
    guess, truth = pair(seed)
    rng = np.random.default_rng(seed + 1)
    expected = truth.copy(data=told * rng.random(truth.shape)).where(rng.random(truth.shape) > 0.1)
    scores = guess.demsr.evaluate(truth, standard_error=expected)
    assert scores["rmse"] == guess.demsr.evaluate(truth)["rmse"]
    error = np.abs(guess.values.astype(float) - truth.values)
    known = np.isfinite(error) & np.isfinite(expected.values)
    for k in (1, 2):
        share = np.mean(error[known] <= k * expected.values[known])
        assert scores[f"within_{k}se"] == pytest.approx(share)
    lazy = guess.chunk(20).demsr.evaluate(truth, standard_error=expected.chunk(x=9))
    pd.testing.assert_series_equal(lazy, scores)


def test_a_standard_error_that_is_none() -> None:
    guess, truth = pair()
    unknown = guess.demsr.evaluate(truth, standard_error=truth * np.nan)
    assert np.isnan(unknown["within_1se"])
    with pytest.raises(InputError, match="cannot be negative"):
        guess.demsr.evaluate(truth, standard_error=truth * 0 - 1)
    with pytest.raises(GridError, match="different grids"):
        guess.demsr.evaluate(truth, standard_error=truth[1:])


@settings(deadline=None, max_examples=6)
@given(st.integers(7, 100), st.sampled_from([16, 50, 2048]))
def test_tiles_are_looked_at_alone(tile: int, chunk: int) -> None:
    guess, truth = pair(voids=0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_CHUNK", chunk)
        scores = guess.demsr.evaluate(truth, tile=tile)
    whole = guess.demsr.evaluate(truth)
    alike = ["n", "mse", "mae", "bias", "nmad", "le90", "within_1sd", "psnr"]
    np.testing.assert_allclose(scores[alike], whole[alike], rtol=1e-9)
    squared, count = 0.0, 0
    for y in range(0, truth.shape[0], tile):
        for x in range(0, truth.shape[1], tile):
            part = [da[y : y + tile, x : x + tile].astype(float) for da in (guess, truth)]
            both = (part[0] - part[1]).notnull()
            if min(both.shape) < 3:
                continue
            first, second = (
                xdemsr.relief.slope_degrees(p.where(both).values, 30, 30) for p in part
            )
            apart = (first - second)[np.isfinite(first - second)]
            squared, count = squared + np.sum(apart**2), count + apart.size
    assert scores["slope_rmse"] == pytest.approx(np.sqrt(squared / count), rel=1e-6)
    with pytest.raises(InputError, match="tile=0"):
        guess.demsr.evaluate(truth, tile=0)


def test_integers_and_sentinels() -> None:
    _, truth = pair()
    whole = truth.round().fillna(-9999).astype("int16")
    scores = whole.demsr.evaluate(truth.round())
    assert scores["rmse"] == 0
    assert scores["n"] == int(truth.notnull().sum())


def test_one_element_of_other_dimensions_is_taken() -> None:
    guess, truth = pair()
    scores = guess.expand_dims("band").demsr.evaluate(truth.expand_dims("time").T)
    assert scores["rmse"] == guess.demsr.evaluate(truth)["rmse"]


def test_what_cannot_be_compared() -> None:
    guess, truth = pair()
    with pytest.raises(GridError, match="different grids"):
        guess.demsr.evaluate(truth[:-1])
    with pytest.raises(GridError, match="different grids"):
        guess.demsr.evaluate(truth.assign_coords(x=truth.x + 15))
    with pytest.raises(GridError, match="as many bands"):
        xr.concat([guess, guess], "time").demsr.evaluate(truth)
    with pytest.raises(InputError, match="nothing to compare"):
        guess.where(truth.isnull()).demsr.evaluate(truth)


def test_bands_are_compared_together(dem: xr.DataArray) -> None:
    truth = xr.concat([dem, 3 * dem + 5], "band")
    shifts = xr.DataArray([1.0, -3.0], dims="band")
    found = (truth + shifts).demsr.evaluate(truth)
    assert found["n"] == 2 * int(dem.notnull().sum())
    assert found["mae"] == pytest.approx(2.0, rel=1e-5)
    assert found["mse"] == pytest.approx(5.0, rel=1e-5)
    assert found["bias"] == pytest.approx(-1.0, rel=1e-5)
    span = float(truth.max() - truth.min())
    assert found["psnr"] == pytest.approx(10 * np.log10(span**2 / 5), rel=1e-5)
    lazy = (truth + shifts).chunk(y=17, x=23).demsr.evaluate(truth.chunk(y=40))
    assert lazy.to_dict() == pytest.approx(found.to_dict(), nan_ok=True)


def test_the_range_of_values_may_be_said(dem: xr.DataArray) -> None:
    noisy = dem + np.random.default_rng(0).normal(0, 2, dem.shape)
    plain, said = noisy.demsr.evaluate(dem), noisy.demsr.evaluate(dem, data_range=1000.0)
    assert said["psnr"] == pytest.approx(10 * np.log10(1e6 / said["mse"]))
    assert said["ssim"] > plain["ssim"]
    assert said["mse"] == plain["mse"]
    with pytest.raises(InputError, match="data_range=0 must be"):
        noisy.demsr.evaluate(dem, data_range=0)


def test_rasters_of_unlike_bands_are_not_compared(dem: xr.DataArray) -> None:
    with pytest.raises(GridError, match="as many bands"):
        xr.concat([dem, dem], "band").demsr.evaluate(dem)


def test_bands_in_another_order_are_not_compared(dem: xr.DataArray) -> None:
    bands = xr.concat([dem, 2 * dem], "band").assign_coords(band=["red", "nir"])
    with pytest.raises(InputError, match=r"\['nir', 'red'\], and \['red', 'nir'\]"):
        bands[::-1].demsr.evaluate(bands)
    # Other names for the same bands say nothing of their order.
    renamed = bands.assign_coords(band=["B04", "B08"])
    assert renamed.demsr.evaluate(bands)["rmse"] == 0
