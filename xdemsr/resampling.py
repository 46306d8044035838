"""A raster laid on another grid of about the same pixel size: lazy, void-safe, any displacement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr.chunking import split
from xdemsr.eager import compute_windows
from xdemsr.graph import Answer, Source, map_windows
from xdemsr.grid import Grid, of
from xdemsr.metadata import carried, wrap
from xdemsr.progress import KEY_PREFIX, watch_dask
from xdemsr.storage import check_values, void_values
from xdemsr.voids import SLOPING_RINGS, bridge, valid_pixels
from xdemsr.window import Span, Window

Plane = NDArray[np.float64]
#: Where a target pixel's centre lies: (of the first one, step), in source pixels from the first's.
Places = tuple[float, float]

_CHUNK = 2048
#: Source pixels that the cubic kernel reaches, and what bridging them depends on.
_REACH = 2
_MARGIN = 2 * _REACH + SLOPING_RINGS
#: A centre so near to a source pixel's, in pixels, lies on it.
_ON_IT = 1e-6


def resample(da: xr.DataArray, target: Grid) -> xr.DataArray:
    """Cubic convolution at the target's pixel centres; void where the nearest pixel is, or none is.

    Parameters
    ----------
    da : DataArray, dims (..., y, x)
    target : Grid
        In the same CRS, along the same axes.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        Lazy where the input is; the same numbers whatever its chunks.

    References
    ----------
    Keys, R. (1981). Cubic convolution interpolation for digital image processing. IEEE Trans. ASSP
    29(6), 1153-1160.
    """
    base = of(da)
    check_values(da)
    da = da.transpose(..., base.y_dim, base.x_dim)
    old, new = base.geobox.affine, target.geobox.affine
    task = _ResampleTask(
        _places(old.f, old.e, new.f, new.e),
        _places(old.c, old.a, new.c, new.a),
        base.shape,
        void_values(da),
    )
    leading = [(1,) * size for size in da.shape[:-2]]
    chunks = (*leading, *(split(length, _CHUNK) for length in target.shape))
    answer = Answer(f"{KEY_PREFIX}resample", chunks, np.float32, len(leading))
    data: Any
    if da.chunks is not None:
        watch_dask()
        data = map_windows(task, [Source(da.data, 1, len(leading))], answer)
    else:
        data = compute_windows(task, [(da.values, 1, len(leading))], answer)
    coords = {**carried(da, {base.y_dim, base.x_dim}), **target.coordinates(da)}
    return wrap(data, da.dims, coords, like=da)


@dataclass(frozen=True)
class _ResampleTask:
    """Answers a window of the target grid from the source pixels under it."""

    y: Places
    x: Places
    shape: tuple[int, int]
    voids: tuple[float, ...]

    def reading(self, core: Window) -> Window:
        """Source pixels that are needed to answer ``core``."""
        spans = zip((core.y, core.x), (self.y, self.x), self.shape, strict=True)
        return Window(*(_reading(span, places, length) for span, places, length in spans))

    def __call__(self, core: Window, read: Window, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Answer ``core``; the block holds one element of each leading dimension."""
        leading = blocks[0].shape[:-2]
        block = blocks[0][(0,) * len(leading)]
        valid = valid_pixels(block, self.voids)
        answer = np.full(core.shape, np.nan, np.float32)
        if valid.any():
            heights = np.where(valid, block, np.nan).astype(np.float64)
            y, x = (
                _centres(span, places) - origin.start
                for span, places, origin in (
                    (core.y, self.y, read.y),
                    (core.x, self.x, read.x),
                )
            )
            cubic = _cubic(_cubic(bridge(heights, valid, _MARGIN), y).T, x).T
            known = _nearest(_nearest(valid, y).T, x).T
            answer = np.where(known, cubic, np.nan).astype(np.float32)
        return answer.reshape(*leading, *core.shape)


def _places(edge: float, step: float, new_edge: float, new_step: float) -> Places:
    return (new_edge + new_step / 2 - edge) / step - 0.5, new_step / step


def _centres(span: Span, places: Places) -> Plane:
    first, step = places
    centres: Plane = first + step * np.arange(span.start, span.stop, dtype=np.float64)
    whole = np.round(centres)
    snapped: Plane = np.where(np.abs(centres - whole) < _ON_IT, whole, centres)
    return snapped


def _reading(span: Span, places: Places, length: int) -> Span:
    """Source pixels under a span of the target, with their margin; one at least."""
    ends = _centres(Span(span.start, span.stop), places)[[0, -1]]
    start = int(np.floor(ends.min())) - _MARGIN
    stop = int(np.ceil(ends.max())) + _MARGIN + 1
    start = min(max(start, 0), length - 1)
    return Span(start, max(min(stop, length), start + 1))


def _cubic(z: Plane, centres: Plane) -> Plane:
    """Rows interpolated at ``centres``; slopes go on beyond the border."""
    padded = np.pad(z, ((_REACH, _REACH), (0, 0)), mode="reflect", reflect_type="odd")
    below = np.clip(np.floor(centres).astype(np.int64), -1, len(z) - 1)
    # Centres far beyond the border are void, whatever is read there.
    t = np.clip(centres - below, 0.0, 1.0)
    weights = (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    total = np.zeros((len(centres), z.shape[1]))
    for k, weight in enumerate(weights):
        total += weight[:, None] * padded[below + k - 1 + _REACH]
    return total


def _nearest(valid: NDArray[np.bool_], centres: Plane) -> NDArray[np.bool_]:
    """Whether the row nearest to each centre is valid, and there."""
    inside = (centres >= -0.5) & (centres <= len(valid) - 0.5)
    row = np.clip(np.floor(centres + 0.5).astype(np.int64), 0, len(valid) - 1)
    known: NDArray[np.bool_] = valid[row] & inside[:, None]
    return known
