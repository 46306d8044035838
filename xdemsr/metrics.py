"""How far one raster is from another: void-aware, chunk by chunk, in bounded memory.

Every window gives a handful of sums and one histogram; what is reported is worked out from their
total. Quantiles come from a histogram whose bins are 0.1 % wide, so they are exact to that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.chunking import split
from xdemsr.errors import GridError, InputError
from xdemsr.grid import Grid
from xdemsr.relief import slope_degrees
from xdemsr.storage import check_values, void_values
from xdemsr.voids import valid_pixels
from xdemsr.window import Tiling, Window

_CHUNK = 2048
#: Bins are even in asinh(error / unit): linear below a tenth of a millimetre, logarithmic above.
_UNIT = 1e-4
_BINS_PER_E = 1000
_HALF = 25 * _BINS_PER_E
_SSIM_SIGMA, _SSIM_HALO = 1.5, 5

Plane = NDArray[np.float64]


def evaluate(obj: xr.DataArray, reference: xr.DataArray) -> pd.Series:
    """Compare a raster with the truth.

    Parameters
    ----------
    obj, reference : DataArray, dims (y, x)
        On one grid, in one unit. Pixels void in either are left out. Lazy arrays are read piece by
        piece.

    Returns
    -------
    pandas.Series
        In the raster's unit unless said otherwise: ``n`` (pixels compared), ``mse`` (unit squared),
        ``rmse``, ``mae``, ``bias`` (mean of obj - reference), ``nmad`` (1.4826 times the median
        distance from the median error), ``le90`` (90 % of absolute errors are below),
        ``slope_rmse`` (degrees), ``psnr`` (dB, for the reference's range) and ``ssim``
        (Gaussian window, sigma 1.5).

    Raises
    ------
    GridError
        If the two are on different grids.
    InputError
        If no pixel is valid in both.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((48, 64))
    >>> scores = (dem + 2.0).demsr.evaluate(dem)
    >>> float(scores["bias"]), float(scores["rmse"])
    (2.0, 2.0)

    References
    ----------
    Höhle, J. and Höhle, M. (2009). Accuracy assessment of digital elevation models by means of
    robust statistical methods. ISPRS J. 64(4), 398-406.

    Wang, Z. et al. (2004). Image quality assessment: from error visibility to structural
    similarity. IEEE Trans. Image Process. 13(4), 600-612.
    """
    for da in (obj, reference):
        check_values(grid.single(da))
    voids = [void_values(da) for da in (obj, reference)]
    pair = [grid.plane(obj), grid.plane(reference)]
    base = _common_grid(*pair)
    windows = list(_windows(base.shape))
    ranges = compute(*(delayed(_range)(pair[1].data[core.slices], voids[1]) for core in windows))
    low = min(found[0] for found in ranges)
    high = max(found[1] for found in ranges)
    tasks = []
    for core in windows:
        read = core.pad(_SSIM_HALO).clip(base.shape)
        blocks = [da.data[read.padded.slices] for da in pair]
        tasks.append(delayed(_sums)(*blocks, voids, core, read, base.metres(), high - low))
    while len(tasks) > 1:
        tasks = [delayed(_total)(tasks[k : k + 16]) for k in range(0, len(tasks), 16)]
    (sums,) = compute(tasks[0])
    if sums.n == 0:
        raise InputError("no pixel is valid in both rasters; there is nothing to compare.")
    return pd.Series(_scores(sums, high - low))


@dataclass
class _Sums:
    """What a window contributes."""

    n: int
    error: float
    squared: float
    absolute: float
    histogram: NDArray[np.int64]
    slope_n: int
    slope_squared: float
    ssim_n: int
    ssim: float


def _common_grid(obj: xr.DataArray, reference: xr.DataArray) -> Grid:
    found, wanted = grid.of(obj), grid.of(reference)
    if not found.matches(wanted):
        raise GridError(
            f"the rasters are on different grids: {found.describe()}, and {wanted.describe()}. "
            "Match one to the other first: da.rio.reproject_match(reference)."
        )
    return wanted


def _windows(shape: tuple[int, int]) -> Iterator[Window]:
    tiling = Tiling.from_chunks(*(split(length, _CHUNK) for length in shape))
    for i in range(tiling.shape[0]):
        for j in range(tiling.shape[1]):
            yield tiling[i, j]


def _range(block: NDArray[np.generic], voids: tuple[float, ...]) -> tuple[float, float]:
    values = np.asarray(block)[valid_pixels(block, voids)]
    return (float(values.min()), float(values.max())) if values.size else (math.inf, -math.inf)


def _sums(
    obj: NDArray[np.generic],
    reference: NDArray[np.generic],
    voids: tuple[tuple[float, ...], tuple[float, ...]],
    core: Window,
    read: Window,
    metres: tuple[float, float],
    data_range: float,
) -> _Sums:
    valid = valid_pixels(obj, voids[0]) & valid_pixels(reference, voids[1])
    first, second = (np.where(valid, a, np.nan).astype(np.float64) for a in (obj, reference))
    inside = core.within(read)
    error = (first - second)[inside][valid[inside]]
    slopes = slope_degrees(first, *metres) - slope_degrees(second, *metres)
    slopes = _inner(slopes, inside, read, 1)
    similarity = _inner(_ssim(first, second, data_range), inside, read, 0)
    return _Sums(
        n=error.size,
        error=float(error.sum()),
        squared=float(np.square(error).sum()),
        absolute=float(np.abs(error).sum()),
        histogram=_histogram(error),
        slope_n=slopes.size,
        slope_squared=float(np.square(slopes).sum()),
        ssim_n=similarity.size,
        ssim=float(similarity.sum()),
    )


def _inner(values: Plane, inside: tuple[slice, slice], read: Window, border: int) -> Plane:
    """The finite values of the core, where ``values`` lacks ``border`` pixels of what was read."""
    full = np.full(read.padded.shape, np.nan)
    ny, nx = full.shape
    full[border : ny - border, border : nx - border] = values
    core = full[inside]
    finite: Plane = core[np.isfinite(core)]
    return finite


def _ssim(first: Plane, second: Plane, data_range: float) -> Plane:
    """Structural similarity of every pixel whose whole window is valid and inside."""
    from scipy.ndimage import gaussian_filter

    if min(first.shape) <= 2 * _SSIM_HALO or data_range <= 0:
        return np.full(first.shape, np.nan)

    def smooth(values: Plane) -> Plane:
        radius = _SSIM_HALO
        blurred: Plane = gaussian_filter(
            values, _SSIM_SIGMA, radius=radius, mode="constant", cval=np.nan
        )
        return blurred

    centre = np.nanmean(second) if np.isfinite(second).any() else 0.0
    a, b = first - centre, second - centre
    mean_a, mean_b = smooth(a), smooth(b)
    variance_a = smooth(a * a) - mean_a**2
    variance_b = smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    # The means enter by their own heights, as for any image.
    mean_a, mean_b = mean_a + centre, mean_b + centre
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return luminance * structure


def _histogram(error: Plane) -> NDArray[np.int64]:
    position = np.rint(np.arcsinh(error / _UNIT) * _BINS_PER_E)
    index = np.clip(position, -_HALF, _HALF).astype(np.int64) + _HALF
    return np.bincount(index, minlength=2 * _HALF + 1)


def _bin_values() -> Plane:
    values: Plane = np.sinh(np.arange(-_HALF, _HALF + 1) / _BINS_PER_E) * _UNIT
    return values


def _total(parts: list[_Sums]) -> _Sums:
    return _Sums(**{f.name: sum(getattr(p, f.name) for p in parts) for f in fields(_Sums)})


def _scores(sums: _Sums, data_range: float) -> dict[str, float]:
    mse = sums.squared / sums.n
    values = _bin_values()
    median = _quantile(values, sums.histogram, 0.5)
    return {
        "n": float(sums.n),
        "mse": mse,
        "rmse": math.sqrt(mse),
        "mae": sums.absolute / sums.n,
        "bias": sums.error / sums.n,
        "nmad": 1.4826 * _quantile(np.abs(values - median), sums.histogram, 0.5),
        "le90": _quantile(np.abs(values), sums.histogram, 0.9),
        "slope_rmse": math.sqrt(sums.slope_squared / sums.slope_n) if sums.slope_n else math.nan,
        "psnr": 10 * math.log10(data_range**2 / mse) if mse and data_range else math.inf,
        "ssim": sums.ssim / sums.ssim_n if sums.ssim_n else math.nan,
    }


def _quantile(values: Plane, counts: NDArray[np.int64], share: float) -> float:
    order = np.argsort(values, kind="stable")
    below = np.cumsum(counts[order])
    return float(values[order][np.searchsorted(below, share * below[-1])])
