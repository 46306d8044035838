"""What a coarse and a fine raster share: coarse pixels, and means of the fine under them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.errors import GridError, InputError
from xdemsr.grid import Grid
from xdemsr.mapping import map_function
from xdemsr.nesting import check_crs, shared_span
from xdemsr.sensor import block_mean
from xdemsr.window import Span, Window

Plane = NDArray[np.float64]

#: Pixels that are read at most: coarse ones, and fine ones under them.
_MOST_COARSE, _MOST_FINE = 1 << 18, 1 << 26
#: Fine pixels are averaged to cells, this many or more along a coarse pixel, and moved as cells.
_CELLS = 4
#: The share of a cell, and of a coarse pixel, that must be known.
_KNOWN, _COVERED = 0.5, 0.9
#: Slopes are what a move of so much of a pixel, either way, makes of a height.
_NUDGE = 0.25
#: A raster may be finer than its reference by this factor: rasters of one resolution differ a bit.
_FINER = 1.25


@dataclass(frozen=True)
class Cells:
    """Means of fine pixels, and where coarse pixels lie on them.

    Attributes
    ----------
    heights, shares : ndarray, shape (ny + 1, nx)
        Running sums along y: of the heights of valid cells, and of their number.
    y, x : (float, float)
        Outer edge of the first coarse pixel, in cells, and cells per coarse pixel.
    """

    heights: Plane
    shares: Plane
    y: tuple[float, float]
    x: tuple[float, float]

    @classmethod
    def of(cls, heights: Plane, y: tuple[float, float], x: tuple[float, float]) -> Cells:
        """From heights of shape (ny, nx), NaN at voids."""
        valid = np.isfinite(heights)
        return cls(
            _running(np.where(valid, heights, 0.0)), _running(valid.astype(np.float64)), y, x
        )

    def under(self, shape: tuple[int, int], shift: tuple[float, float]) -> Plane:
        """Means over the areas of coarse pixels that are moved by ``shift`` of their own size.

        Parameters
        ----------
        shape : (ny, nx)
        shift : (float, float)
            Along y and x. Linear terrain is answered exactly, whatever the shift.

        Returns
        -------
        ndarray, shape (ny, nx)
            NaN where little of the area is known.
        """
        edges: list[Plane] = [
            first + pitch * (np.arange(n + 1, dtype=np.float64) + moved)
            for (first, pitch), n, moved in zip((self.y, self.x), shape, shift, strict=True)
        ]
        share, total = (
            _between(_running(_between(sums, edges[0]).T), edges[1]).T
            for sums in (self.shares, self.heights)
        )
        enough = share >= _COVERED * self.y[1] * self.x[1]
        means: Plane = np.where(enough, total / np.where(enough, share, 1.0), np.nan)
        return means

    def slopes(self, shape: tuple[int, int], shift: tuple[float, float]) -> Plane:
        """How fast these means change as the pixels are moved, shape (2, ny, nx): per pixel."""
        (y, x), h = shift, _NUDGE
        ahead = np.stack([self.under(shape, (y + h, x)), self.under(shape, (y, x + h))])
        behind = np.stack([self.under(shape, (y - h, x)), self.under(shape, (y, x - h))])
        change: Plane = (ahead - behind) / (2 * h)
        return change


def read_overlap(coarse: xr.DataArray, fine: xr.DataArray, reach: int) -> tuple[Plane, Cells]:
    """The coarse pixels that lie on the fine raster, and its cells under and around them.

    Where that would be too many, those in the middle are read.

    Parameters
    ----------
    coarse, fine : DataArray, dims (y, x)
    reach : int
        How far around, in coarse pixels.

    Raises
    ------
    GridError
        If the rasters do not overlap, or are in different CRSs.
    InputError
        If ``fine`` is the coarser one.
    """
    base, other = grid.of(coarse), grid.of(fine)
    check_crs(base, other)
    ratios = [own / its for own, its in zip(base.pixel_size, other.pixel_size, strict=True)]
    if min(ratios) < 1 / _FINER:
        raise InputError(
            f"the reference's pixels are {1 / min(ratios):.3g} times as large as the raster's own. "
            "The finer raster must be the reference: coarse.demsr.coregister(fine)."
        )
    axes = list(zip(_axes(base), _axes(other), strict=True))
    spans = [_overlap(own, its) for own, its in axes]
    if min(span.size for span in spans) < 1:
        raise GridError(
            f"the rasters do not overlap: {base.describe()}, and {other.describe()}. Look at "
            "their coordinates and their CRS."
        )
    core = _middle(Window(*spans), min(_MOST_COARSE, int(_MOST_FINE / math.prod(ratios))))
    size = max(1, int(min(ratios) // _CELLS))
    pairs = list(zip((core.y, core.x), axes, strict=True))
    cut = Window(*(_around(span, own, its, reach) for span, (own, its) in pairs))
    heights = _means(fine, cut, size)
    places = []
    for axis, (span, (own, its)) in enumerate(pairs):
        first = own.edge + span.start * own.step - its.edge - cut.slices[axis].start * its.step
        place = first / (its.step * size), own.step / (its.step * size)
        if place[1] < 0:
            heights = np.flip(heights, axis)
            place = heights.shape[axis] - place[0], -place[1]
        places.append(place)
    return _means(coarse, core, 1), Cells.of(heights, *places)


class _Axis(NamedTuple):
    """Outer edge of the first pixel, pixel size with its sign, and number of pixels."""

    edge: float
    step: float
    n: int


def _axes(found: Grid) -> tuple[_Axis, _Axis]:
    affine, (ny, nx) = found.geobox.affine, found.shape
    return _Axis(affine.f, affine.e, ny), _Axis(affine.c, affine.a, nx)


def _overlap(own: _Axis, other: _Axis) -> Span:
    """Pixels of an axis that lie on another; the size is negative where none do."""
    return shared_span(own.edge, own.step, own.n, (other.edge, other.edge + other.n * other.step))


def _around(span: Span, own: _Axis, other: _Axis, reach: int) -> Span:
    """Pixels of the other axis under a span of one, and around it."""
    ends = [own.edge + k * own.step for k in (span.start - reach, span.stop + reach)]
    first, last = sorted((end - other.edge) / other.step for end in ends)
    return Span(math.floor(first), math.ceil(last)).clip(other.n)


def _middle(window: Window, most: int) -> Window:
    """The middle part of a window, of at most so many pixels."""
    ny, nx = window.shape
    height = min(ny, max(math.isqrt(most), most // nx))
    width = min(nx, max(most // height, 1))
    sizes = zip((window.y, window.x), (height, width), strict=True)
    starts = [(span.start + (span.size - size) // 2, size) for span, size in sizes]
    return Window(*(Span(start, start + size) for start, size in starts))


def _means(da: xr.DataArray, window: Window, size: int) -> Plane:
    """Means of the valid ones among ``size`` x ``size`` pixels."""
    rows, columns = window.slices
    y_dim, x_dim = grid.spatial_dims(da)
    part = da.isel({y_dim: rows, x_dim: columns})
    found = map_function(part, _mean_of_valid, "overlap", coarsen=size, size=size)
    return found.values.astype(np.float64)


def _mean_of_valid(z: Plane, core: Window, size: int) -> Plane:
    valid = np.isfinite(z)
    share = block_mean(valid.astype(np.float64), size)
    total = block_mean(np.where(valid, z, 0.0), size)
    enough = share >= _KNOWN
    return np.where(enough, total / np.where(enough, share, 1.0), np.nan)


def _running(values: Plane) -> Plane:
    """Sums along the first axis of all that comes before."""
    running = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=running[1:])
    return running


def _between(running: Plane, edges: Plane) -> Plane:
    """Integrals along the first axis between edges; there is nothing beyond the border."""
    inside = np.clip(edges, 0, len(running) - 1)
    below = np.minimum(inside.astype(np.int64), len(running) - 2)
    part = (inside - below)[:, None]
    integral: Plane = (1 - part) * running[below] + part * running[below + 1]
    return np.diff(integral, axis=0)
