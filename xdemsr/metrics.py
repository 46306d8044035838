"""How far one raster is from another: void-aware, chunk by chunk, in bounded memory.

Every window gives a handful of sums and one histogram; what is reported is worked out from their
total. Quantiles and shares come from the histogram, whose bins are 0.1 % wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from xdemsr import grid, histogram
from xdemsr.chunking import split
from xdemsr.errors import GridError, InputError
from xdemsr.grid import Grid
from xdemsr.metadata import band_labels
from xdemsr.relief import slope_degrees
from xdemsr.storage import check_values, void_values
from xdemsr.voids import valid_pixels
from xdemsr.window import Tiling, Window

#: Pixels along a window, and windows that are under way at once.
_CHUNK, _LOT = 2048, 32
_SSIM_SIGMA, _SSIM_HALO = 1.5, 5

Plane = NDArray[np.float64]


def evaluate(
    obj: xr.DataArray,
    reference: xr.DataArray,
    *,
    standard_error: xr.DataArray | None = None,
    tile: int | None = None,
    data_range: float | None = None,
) -> pd.Series:
    """Compare a raster with the truth.

    Parameters
    ----------
    obj, reference : DataArray, dims (y, x) or (band, y, x)
        On one grid, in one unit. Pixels void in either are left out. Lazy arrays are read piece by
        piece. Of several bands, in the same order, errors are taken together and similarities
        averaged.
    standard_error : DataArray, dims as ``obj``, optional
        Of ``obj``, as a model predicts it, on the same grid and in the same unit: adds how often it
        was enough. Pixels where it is void do not count there.
    tile : int, optional
        Size in pixels of square tiles, from the first pixel on, that were made apart from each
        other: slopes and structures are then not taken across their borders.
    data_range : float, optional
        What ``psnr`` and ``ssim`` take for the range of values: 1 for reflectances as shares, 255
        for 8-bit images. By default that of the reference, over all its bands.

    Returns
    -------
    pandas.Series
        In the raster's unit unless said otherwise: ``n`` (pixels compared), ``mse`` (unit squared),
        ``rmse``, ``mae``, ``bias`` (mean of obj - reference), ``nmad`` (1.4826 times the median
        distance from the median error), ``le90`` (90 % of absolute errors are below),
        ``within_1sd`` (share of errors at most one standard deviation from their mean; 0.68 where
        they are normal, more where few are large), ``slope_rmse`` (degrees), ``psnr`` (dB, for the
        data range) and ``ssim`` (Gaussian window, sigma 1.5). With ``standard_error`` also
        ``within_1se`` and ``within_2se``: shares of absolute errors of at most one and two standard
        errors (0.68 and 0.95 where the errors are normal and the prediction is right).

    Raises
    ------
    GridError
        If they are on different grids, or have not as many bands.
    InputError
        If no pixel is valid in both, bands of the same names are in different orders, a standard
        error is negative, the tile has no pixel, or the data range is not positive.

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
    if tile is not None and tile < 1:
        raise InputError(f"tile={tile} has no pixel; give the size of the tiles in pixels.")
    if data_range is not None and not 0 < data_range < math.inf:
        raise InputError(f"data_range={data_range!r} must be a finite number, more than 0.")
    given = [obj, reference, *([] if standard_error is None else [standard_error])]
    for da in given:
        check_values(grid.single(da))
    voids = [void_values(da) for da in given]
    bands = _bands(given)
    base = common_grid(*bands[0])
    if data_range is None:
        data_range = _range([planes[1] for planes in bands], voids[1], base, tile)
    sums = _total([_collect(planes, voids, base, tile, data_range) for planes in bands])
    if sums.n == 0:
        raise InputError("no pixel is valid in both rasters; there is nothing to compare.")
    scores = _scores(sums, data_range)
    return pd.Series(scores if standard_error is None else {**scores, **_shares(sums)})


def common_grid(*planes: xr.DataArray) -> Grid:
    """The grid that all these rasters are on.

    Raises
    ------
    GridError
        If one is on another.
    """
    first, *others = (grid.of(da) for da in planes)
    for other in others:
        if not first.matches(other):
            raise GridError(
                f"the rasters are on different grids: {first.describe()}, and {other.describe()}. "
                "Match one to the other first: da.rio.reproject_match(reference)."
            )
    return others[0]


def _bands(given: list[xr.DataArray]) -> list[list[xr.DataArray]]:
    """The rasters band by band, as planes of one piece (y, x)."""
    extra = [
        [dim for dim in da.dims if dim not in grid.spatial_dims(da) and da.sizes[dim] > 1]
        for da in given
    ]
    if not any(extra):
        return [[grid.plane(da) for da in given]]
    sizes = [[da.sizes[dim] for dim in dims] for da, dims in zip(given, extra, strict=True)]
    if any(len(size) != 1 or size != sizes[0] for size in sizes):
        raise GridError(
            f"the rasters have {' and '.join(str(dict(da.sizes)) for da in given)}: compare "
            "rasters of as many bands, along one dimension."
        )
    names = [band_labels(da, dims[0]) for da, dims in zip(given[:2], extra[:2], strict=True)]
    if names[0] != names[1] and sorted(map(str, names[0])) == sorted(map(str, names[1])):
        raise InputError(
            f"the bands are in different orders: {names[0]}, and {names[1]}. Choose them in one: "
            f"obj.sel({extra[0][0]}=[...])."
        )
    return [
        [grid.plane(da.isel({dims[0]: k})) for da, dims in zip(given, extra, strict=True)]
        for k in range(sizes[0][0])
    ]


@dataclass
class _Sums:
    """What a window contributes."""

    n: int
    error: float
    squared: float
    absolute: float
    counts: histogram.Counts
    predicted_n: int
    within_1se: int
    within_2se: int
    slope_n: int
    slope_squared: float
    ssim_n: int
    ssim: float


def _range(
    planes: list[xr.DataArray], voids: tuple[float, ...], base: Grid, tile: int | None
) -> float:
    """The range of all bands' values."""
    tasks = [
        delayed(_extremes)(plane.data[read.slices], voids)
        for plane in planes
        for read, _ in _parts(base.shape, tile)
    ]
    ranges = compute(*tasks)
    return float(max(found[1] for found in ranges) - min(found[0] for found in ranges))


def _collect(
    planes: list[xr.DataArray],
    voids: list[tuple[float, ...]],
    base: Grid,
    tile: int | None,
    data_range: float,
) -> _Sums:
    """The sums of all windows of one band."""
    parts = list(_parts(base.shape, tile))
    sums: list[_Sums] = []
    # One lot after the other: in one graph, dask may read far ahead of what is scored.
    for k in range(0, len(parts), _LOT):
        tasks = []
        for read, pieces in parts[k : k + _LOT]:
            blocks = [da.data[read.padded.slices] for da in planes]
            tasks.append(delayed(_sums)(blocks, voids, read, pieces, base.metres(), data_range))
        sums = [_total([*sums, *compute(*tasks)])]
    return sums[0]


def _parts(shape: tuple[int, int], tile: int | None) -> Iterator[tuple[Window, list[Window]]]:
    """Windows with what is read around them, and the pieces in which slopes are taken."""
    if tile is None:
        reads = [core.pad(_SSIM_HALO).clip(shape) for core in _windows(shape, _CHUNK)]
        yield from ((read, [read]) for read in reads)
    else:
        tiles = Tiling.from_chunks(*(split(length, tile) for length in shape))
        for core in _windows(shape, tile * max(1, _CHUNK // tile)):
            yield core, [piece for _, piece in tiles.touching(core)]


def _windows(shape: tuple[int, int], size: int) -> Iterator[Window]:
    tiling = Tiling.from_chunks(*(split(length, size) for length in shape))
    rows, columns = tiling.shape
    yield from (tiling[i, j] for i, j in product(range(rows), range(columns)))


def _extremes(block: NDArray[np.generic], voids: tuple[float, ...]) -> tuple[float, float]:
    values = np.asarray(block)[valid_pixels(block, voids)]
    return (float(values.min()), float(values.max())) if values.size else (math.inf, -math.inf)


def _sums(
    blocks: list[NDArray[np.generic]],
    voids: list[tuple[float, ...]],
    read: Window,
    pieces: list[Window],
    metres: tuple[float, float],
    data_range: float,
) -> _Sums:
    known = [valid_pixels(block, values) for block, values in zip(blocks, voids, strict=True)]
    valid = known[0] & known[1]
    first, second = (np.where(valid, block, np.nan).astype(np.float64) for block in blocks[:2])
    inside = read.within(read)
    apart = (first - second)[inside]
    error = apart[valid[inside]]
    predicted = _predicted(apart, blocks[2][inside], known[2][inside]) if blocks[2:] else (0, 0, 0)
    local = np.zeros(4)
    for piece in pieces:
        seen = piece.padded.within(read)
        local += _local(first[seen], second[seen], piece, metres, data_range)
    return _Sums(
        n=error.size,
        error=float(error.sum()),
        squared=float(np.square(error).sum()),
        absolute=float(np.abs(error).sum()),
        counts=histogram.count(error),
        predicted_n=predicted[0],
        within_1se=predicted[1],
        within_2se=predicted[2],
        slope_n=int(local[0]),
        slope_squared=float(local[1]),
        ssim_n=int(local[2]),
        ssim=float(local[3]),
    )


def _predicted(
    apart: Plane, standard_error: NDArray[np.generic], known: NDArray[np.bool_]
) -> tuple[int, int, int]:
    """Errors whose standard error is known, and how many are within one and two of it."""
    counted = known & np.isfinite(apart)
    distance, expected = np.abs(apart[counted]), standard_error[counted].astype(np.float64)
    if expected.size and expected.min() < 0:
        raise InputError(f"a standard error is {expected.min():.6g}; it cannot be negative.")
    one, two = (int((distance <= k * expected).sum()) for k in (1, 2))
    return distance.size, one, two


def _local(
    first: Plane, second: Plane, piece: Window, metres: tuple[float, float], data_range: float
) -> Plane:
    """Count and sum of squared slope errors, count and sum of similarities."""
    similarity = _inner(_ssim(first, second, data_range), piece, 0)
    slopes = _inner(slope_degrees(first, *metres) - slope_degrees(second, *metres), piece, 1)
    return np.array([slopes.size, np.square(slopes).sum(), similarity.size, similarity.sum()])


def _inner(values: Plane, piece: Window, border: int) -> Plane:
    """The finite values of the core, where ``values`` lacks ``border`` pixels of what was read."""
    full = np.full(piece.padded.shape, np.nan)
    ny, nx = full.shape
    full[border : ny - border, border : nx - border] = values
    core = full[piece.within(piece)]
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


def _total(parts: list[_Sums]) -> _Sums:
    return _Sums(**{f.name: sum(getattr(p, f.name) for p in parts) for f in fields(_Sums)})


def _scores(sums: _Sums, data_range: float) -> dict[str, float]:
    mse, bias = sums.squared / sums.n, sums.error / sums.n
    deviation = math.sqrt(max(mse - bias**2, 0.0))
    values = histogram.bin_values()
    median = histogram.quantile(values, sums.counts, 0.5)
    absolute = np.abs(values)
    return {
        "n": float(sums.n),
        "mse": mse,
        "rmse": math.sqrt(mse),
        "mae": sums.absolute / sums.n,
        "bias": bias,
        "nmad": 1.4826 * histogram.quantile(np.abs(values - median), sums.counts, 0.5),
        "le90": histogram.quantile(absolute, sums.counts, 0.9),
        "within_1sd": histogram.share_between(sums.counts, bias - deviation, bias + deviation),
        "slope_rmse": math.sqrt(sums.slope_squared / sums.slope_n) if sums.slope_n else math.nan,
        "psnr": 10 * math.log10(data_range**2 / mse) if mse and data_range else math.inf,
        "ssim": sums.ssim / sums.ssim_n if sums.ssim_n else math.nan,
    }


def _shares(sums: _Sums) -> dict[str, float]:
    """How often the predicted standard error was enough."""
    n = sums.predicted_n
    return {
        f"within_{k}se": found / n if n else math.nan
        for k, found in ((1, sums.within_1se), (2, sums.within_2se))
    }
