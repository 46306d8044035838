"""Local contrast evened out: adaptive histogram equalisation that does not know chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.again import read_again
from xdemsr.errors import InputError
from xdemsr.metadata import wrap
from xdemsr.storage import check_values, void_values
from xdemsr.voids import valid_pixels

Block = NDArray[Any]
#: Rows and columns of a region.
Size = tuple[int, int]

#: Grey levels that scikit-image works with, and its share of the raster that a region is.
_LEVELS, _PARTS = 2**14, 8
#: Pixels along a chunk of whole regions.
_CHUNK = 1024
_MOST_BINS = 4096
#: Stands in the map of a region that has no valid pixel.
_NONE = np.iinfo(np.uint16).max
#: So that dask need not call what it only lays out.
_EMPTY = np.empty((0,))


def equalize(
    obj: xr.DataArray,
    *,
    tile: int | tuple[int, int] | None = None,
    clip_limit: float = 0.01,
    bins: int = 256,
    limits: tuple[float, float] | None = None,
) -> xr.DataArray:
    """Even out local contrast: contrast-limited adaptive histogram equalisation (CLAHE).

    Every region of the raster has a histogram, whose cumulative sum says what its values become;
    between the centres of regions, what the four around say is interpolated. Regions are counted
    from the raster's first pixel, so that no answer depends on chunks.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        An image, for instance a panchromatic ortho. Every element of the other dimensions (band,
        time) is equalised by itself.
    tile : int or (int, int), optional
        Rows and columns of a region; an eighth of the raster's by default.
    clip_limit : float, optional
        Largest share of a region's pixels in one bin; what is more is spread over all bins. Larger
        is more contrast, and more noise; 0 or 1 does not limit it.
    bins : int, optional
        Of the histograms.
    limits : (float, float), optional
        Values that the bins begin and end at; what lies beyond is clipped. By default the smallest
        and the largest valid value of each element, for which a lazy raster is read once more. Give
        them to compare rasters, or where a few outliers would take up all bins.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        From 0 to 1, void where the input is. Lazy where the input is; the same numbers whatever its
        chunks.

    Raises
    ------
    InputError
        If an argument cannot be used.

    Notes
    -----
    scikit-image's ``equalize_adapthist`` gives the same, to one of its 16384 grey levels, where
    ``tile`` divides the raster's size, but stretches its answer to reach 0 and 1; here numbers mean
    the same in every raster. Where regions are cut off by the raster's border, scikit-image fills
    them up by reflection, and here the histogram of what there is counts. Voids count nowhere.

    References
    ----------
    Zuiderveld, K. (1994). Contrast limited adaptive histogram equalization. Graphics Gems IV,
    Academic Press, 474-485.

    Examples
    --------
    >>> import xdemsr
    >>> ortho = xdemsr.synthetic.terrain((64, 80), gsd=1.0)
    >>> even = xdemsr.equalize(ortho.chunk(20), tile=16)
    >>> bool(even.min() >= 0), bool(even.max() <= 1)
    (True, True)
    """
    base = grid.of(grid.single(obj))
    check_values(obj)
    obj = obj.transpose(..., base.y_dim, base.x_dim)
    size = _region(tile, base.shape)
    _check(clip_limit, bins, limits)
    image = _in_whole_regions(obj, size)
    codes = _coded(image, void_values(obj), bins, limits)
    maps = _mapped(codes, size, clip_limit, bins)
    even = _applied(codes, maps, size)
    answer = wrap(even, obj.dims, dict(obj.coords), like=obj)
    # A void value of the image, often 0, is a number like others here.
    answer.encoding.pop("_FillValue", None)
    answer.attrs["units"] = "1"
    return answer if obj.chunks is not None else answer.compute()


def _region(tile: int | tuple[int, int] | None, shape: tuple[int, int]) -> Size:
    if tile is None:
        return max(shape[0] // _PARTS, 1), max(shape[1] // _PARTS, 1)
    pair = tile if isinstance(tile, tuple | list) else (tile, tile)
    if len(pair) != 2 or not all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) and n > 0 for n in pair
    ):
        raise InputError(f"tile={tile!r} must be a number of pixels or (rows, columns).")
    return min(int(pair[0]), shape[0]), min(int(pair[1]), shape[1])


def _check(clip_limit: float, bins: int, limits: tuple[float, float] | None) -> None:
    if not 0 <= clip_limit <= 1:
        raise InputError(f"clip_limit={clip_limit} must be a share of pixels, from 0 to 1.")
    if not (isinstance(bins, int | np.integer) and 2 <= bins <= _MOST_BINS):
        raise InputError(f"bins={bins!r} must be a whole number from 2 to {_MOST_BINS}.")
    if limits is not None and not (
        len(limits) == 2 and all(map(math.isfinite, limits)) and limits[0] < limits[1]
    ):
        raise InputError(f"limits={limits!r} must be (low, high), low < high.")


def _in_whole_regions(obj: xr.DataArray, size: Size) -> da.Array:
    """The raster in chunks that begin and end where regions do."""
    chunks = (*(1,) * (obj.ndim - 2), *(n * max(1, _CHUNK // n) for n in size))
    lazy = obj.chunks is not None
    data: da.Array = obj.data.rechunk(chunks) if lazy else da.from_array(obj.values, chunks=chunks)
    return data


def _coded(
    image: da.Array, voids: tuple[float, ...], bins: int, limits: tuple[float, float] | None
) -> da.Array:
    """The bin of every pixel; ``bins`` where it is void."""
    ends: Sequence[Any] = limits or ()
    if limits is None:
        spatial = (image.ndim - 2, image.ndim - 1)
        low = da.map_blocks(_filled, image, voids, math.inf, dtype=np.float64, meta=_EMPTY)
        high = da.map_blocks(_filled, image, voids, -math.inf, dtype=np.float64, meta=_EMPTY)
        ends = [low.min(axis=spatial, keepdims=True), high.max(axis=spatial, keepdims=True)]
        image = read_again(image, da.stack([end.ravel() for end in ends]).rechunk(-1))
    coded: da.Array = da.map_blocks(
        _code, image, *ends, voids=voids, bins=bins, dtype=np.uint16, meta=_EMPTY.astype(np.uint16)
    )
    return coded


def _filled(block: Block, voids: tuple[float, ...], value: float) -> Block:
    return np.where(valid_pixels(block, voids), block, value).astype(np.float64)


def _code(block: Block, low: Any, high: Any, voids: tuple[float, ...], bins: int) -> Block:
    valid = valid_pixels(block, voids)
    if not valid.any():
        return np.full(block.shape, bins, np.uint16)
    width = high - low
    share = np.where(valid, block, low).astype(np.float64) - low
    share = np.clip(share / np.where(width > 0, width, 1.0), 0.0, 1.0)
    level = np.round(share * (_LEVELS - 1)).astype(np.uint16)
    return np.where(valid, level // (1 + _LEVELS // bins), bins).astype(np.uint16)


def _mapped(codes: da.Array, size: Size, clip_limit: float, bins: int) -> da.Array:
    """What every bin becomes in every region, shape (..., bins, rows, columns of regions)."""
    spatial = [
        tuple(-(-n // k) for n in sizes) for sizes, k in zip(codes.chunks[-2:], size, strict=True)
    ]
    maps: da.Array = da.map_blocks(
        _maps,
        codes,
        size=size,
        clip_limit=clip_limit,
        bins=bins,
        chunks=(*codes.chunks[:-2], (bins,), *spatial),
        new_axis=codes.ndim - 2,
        dtype=np.uint16,
        meta=_EMPTY.astype(np.uint16),
    )
    return maps


def _maps(codes: Block, size: Size, clip_limit: float, bins: int) -> Block:
    shape: Size = codes.shape[-2:]
    plane = codes.reshape(shape)
    rows, columns = (range(0, n, k) for n, k in zip(shape, size, strict=True))
    maps = np.empty((bins, len(rows), len(columns)), np.uint16)
    for (i, y), (j, x) in product(enumerate(rows), enumerate(columns)):
        region = plane[y : y + size[0], x : x + size[1]]
        counts = np.bincount(region.ravel(), minlength=bins + 1)[:bins]
        maps[:, i, j] = _map(counts, clip_limit)
    return maps.reshape(*codes.shape[:-2], *maps.shape)


def _map(counts: NDArray[np.int64], clip_limit: float) -> Block:
    """Levels that bins become: the running sum of the clipped histogram."""
    n = int(counts.sum())
    if n == 0:
        return np.full(len(counts), _NONE, np.uint16)
    most = max(int(clip_limit * n), 1) if clip_limit > 0 else n
    running = np.cumsum(_clipped(counts, most)) * ((_LEVELS - 1) / n)
    levels: Block = np.minimum(running, _LEVELS - 1).astype(np.uint16)
    return levels


def _clipped(counts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many in a bin; the rest is spread over the others, first evenly, then one by one.

    In the order in which scikit-image does it.
    """
    excess = int(np.maximum(counts - most, 0).sum())
    even = excess // len(counts)
    spread = np.minimum(counts, most)
    low = spread < most - even
    spread[low] += even
    nearly = (spread >= most - even) & (spread < most)
    excess -= even * int(low.sum()) + int((most - spread[nearly]).sum())
    spread[nearly] = most
    while excess > 0:
        before = excess
        for first in range(len(spread)):
            step = max(1, int((spread < most).sum()) // excess)
            open_bins = first + step * np.flatnonzero(spread[first::step] < most)
            spread[open_bins] += 1
            excess -= len(open_bins)
            if excess <= 0:
                break
        if excess == before:
            break
    return spread


def _applied(codes: da.Array, maps: da.Array, size: Size) -> da.Array:
    """Every pixel's bin, mapped by the four regions around it."""
    y, x = maps.ndim - 2, maps.ndim - 1
    around = da.overlap.overlap(
        maps, depth={y: 1, x: 1}, boundary={y: "nearest", x: "nearest"}, allow_rechunk=False
    )
    axes, bins = tuple(range(codes.ndim)), codes.ndim
    even: da.Array = da.blockwise(
        _even,
        axes,
        codes,
        axes,
        around,
        (*axes[:-2], bins, *axes[-2:]),
        size=size,
        concatenate=True,
        align_arrays=False,
        dtype=np.float32,
        meta=_EMPTY.astype(np.float32),
    )
    return even


def _even(codes: Block, maps: Block, size: Size) -> Block:
    """Interpolate a block's maps, those of one region around included, between region centres."""
    shape: Size = codes.shape[-2:]
    plane, table = codes.reshape(shape), maps.reshape(maps.shape[-3:])
    bins = len(table)
    bin_of = np.minimum(plane, bins - 1)
    (rows, down), (columns, right) = (_regions(n, k) for n, k in zip(shape, size, strict=True))
    total, share = np.zeros(shape), np.zeros(shape)
    for dy, dx in product((0, 1), repeat=2):
        level = table[bin_of, rows[:, None] + dy, columns + dx]
        weight = (down if dy else 1 - down)[:, None] * (right if dx else 1 - right)
        weight = np.where(level == _NONE, 0.0, weight)
        total += weight * level
        share += weight
    known = (plane < bins) & (share > 0)
    even = np.where(known, total / np.where(known, share, 1.0) / (_LEVELS - 1), np.nan)
    return even.astype(np.float32).reshape(codes.shape)


def _regions(n: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The region whose centre lies before each pixel, counted from the one around; how far on."""
    off = np.arange(n) - size // 2
    return off // size + 1, off % size / size
