"""Classical interpolations against their definitions and against other libraries."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from rasterio.warp import Resampling, reproject
from skimage.transform import resize

import xdemsr
from xdemsr.errors import ModelError
from xdemsr.kernels import KERNELS, histospline, taps

scales = st.integers(1, 20)
smooth_kernels = [name for name in KERNELS if name != "nearest"]


@pytest.mark.parametrize("kernel", list(KERNELS))
@given(scale=scales)
def test_constants_are_kept(kernel: str, scale: int) -> None:
    np.testing.assert_allclose(taps(kernel, scale).sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("kernel", smooth_kernels)
@given(scale=scales)
def test_straight_lines_are_kept(kernel: str, scale: int) -> None:
    table = taps(kernel, scale)
    radius = table.shape[1] // 2
    position = (np.arange(scale) + 0.5) / scale - 0.5
    np.testing.assert_allclose(table @ np.arange(-radius, radius + 1), position, atol=1e-5)


@given(scale=scales, radius=st.integers(1, 12))
def test_histospline_keeps_block_means_at_any_radius(scale: int, radius: int) -> None:
    means = histospline(scale, radius).mean(axis=0)
    expected = np.zeros(2 * radius + 1)
    expected[radius] = 1
    np.testing.assert_allclose(means, expected, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 16])
def test_histospline_is_the_differenced_spline_of_the_running_sum(scale: int) -> None:
    from scipy.interpolate import CubicSpline

    values = np.random.default_rng(0).normal(size=60)
    edges = np.arange(61)
    running_sum = CubicSpline(edges, np.concatenate([[0], values.cumsum()]))
    expected = np.diff(running_sum(np.arange(60 * scale + 1) / scale)) * scale
    table = taps("histospline", scale)
    radius = table.shape[1] // 2
    windows = np.lib.stride_tricks.sliding_window_view(values, table.shape[1])
    found = (windows @ table.T).ravel()
    inner = slice(10 * scale, -10 * scale)
    # Twelve pixels from either end, what the ends are told is forgotten.
    np.testing.assert_allclose(
        found[inner], expected[radius * scale : -radius * scale][inner], atol=1e-5
    )


def interpolated(values: np.ndarray, kernel: str, scale: int) -> np.ndarray:
    da = xr.DataArray(values, dims=("y", "x"))
    return np.asarray(da.demsr.upscale(scale, kernel).values)


@pytest.mark.parametrize("scale", [2, 5, 16])
def test_spline_is_that_of_scikit_image(scale: int) -> None:
    values = np.random.default_rng(1).normal(size=(23, 31))
    expected = resize(
        values,
        (23 * scale, 31 * scale),
        order=3,
        mode="reflect",
        anti_aliasing=False,
        clip=False,
    )
    np.testing.assert_allclose(interpolated(values, "spline", scale), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("kernel", "resampling"),
    [
        ("nearest", Resampling.nearest),
        ("bilinear", Resampling.bilinear),
        ("bicubic", Resampling.cubic),
    ],
)
@pytest.mark.parametrize("scale", [2, 3, 16])
def test_interpolations_are_those_of_gdal(kernel: str, resampling: Resampling, scale: int) -> None:
    values = np.random.default_rng(2).normal(size=(17, 29)).astype(np.float32)
    expected = np.empty((17 * scale, 29 * scale), np.float32)
    source = rasterio.Affine(scale, 0, 5e5, 0, -scale, 4e6)
    target = rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)
    reproject(
        values,
        expected,
        src_transform=source,
        dst_transform=target,
        src_crs="EPSG:32611",
        dst_crs="EPSG:32611",
        resampling=resampling,
        XSCALE=1,
        YSCALE=1,
    )
    inner = (slice(2 * scale, -2 * scale),) * 2
    found = interpolated(values, kernel, scale)
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-4)


def test_an_unknown_kernel_is_named() -> None:
    with pytest.raises(ModelError, match="lanczos"):
        taps("lanczos", 2)


def test_scale_one_changes_nothing() -> None:
    values = np.random.default_rng(3).normal(size=(7, 11)).astype(np.float32)
    for kernel in KERNELS:
        np.testing.assert_allclose(interpolated(values, kernel, 1), values, atol=1e-5)


def test_the_module_is_public() -> None:
    assert xdemsr.list_models().loc["histospline", "scale"] == "any"
