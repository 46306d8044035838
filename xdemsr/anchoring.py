"""Relative heights anchored to a coarse DEM: its block means, the fine raster's detail.

What the coarse DEM lacks is the misfit: its own pixels less the means of the fine raster over them.
The histospline of the misfit has these means and no steps, so a fine raster that it is added to has
the coarse DEM's means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from scipy.ndimage import binary_dilation

from xdemsr import grid
from xdemsr.answering import answer_windows
from xdemsr.chunking import split
from xdemsr.errors import GridError, InputError
from xdemsr.graph import Answer
from xdemsr.grid import Grid
from xdemsr.kernels import histospline
from xdemsr.progress import KEY_PREFIX
from xdemsr.resampling import resample
from xdemsr.voids import SLOPING_RINGS, bridge
from xdemsr.window import Span, Window

Plane = NDArray[np.float64]

#: An anchor's pixels are larger than the raster's by this factor, at least.
_COARSER = 1.5
#: The share of a coarse pixel's fine pixels that must be valid for a misfit.
_COVERED = 0.9
#: Coarse pixels from the nearest misfit, beyond which nothing is known; and radius of the spline.
_BRIDGED, _RADIUS = 8, 8
_MARGIN = _BRIDGED + 2 * _RADIUS + SLOPING_RINGS
#: Fine pixels along a chunk, about; and fine rows that are interpolated at once.
_CHUNK, _ROWS = 2048, 128


@dataclass(frozen=True)
class Blocks:
    """Where coarse pixels lie on a fine raster: whole pixels, the first maybe before its border.

    Attributes
    ----------
    size : (int, int)
        Fine pixels along a coarse one.
    before : (int, int)
        Fine pixels that the first coarse pixel lacks.
    fine : (int, int)
        Size of the fine raster.
    """

    size: tuple[int, int]
    before: tuple[int, int]
    fine: tuple[int, int]

    @classmethod
    def of(cls, fine: Grid, coarse: Grid) -> Blocks:
        """The blocks that are nearest to a coarse grid's pixels.

        Raises
        ------
        GridError
            If the grids are in different CRSs, do not overlap, or the fine one has not the extent
            of a coarse pixel.
        InputError
            If the coarse one is not coarser.
        """
        _check(fine, coarse)
        ratios = [its / own for own, its in zip(fine.pixel_size, coarse.pixel_size, strict=True)]
        size = round(ratios[0]), round(ratios[1])
        first = [start for start, _ in _ends(fine, coarse)]
        before = (-round(first[0]) % size[0], -round(first[1]) % size[1])
        whole = [
            (length - -lacking % width) // width
            for length, lacking, width in zip(fine.shape, before, size, strict=True)
        ]
        if min(whole) < 1:
            raise GridError(
                "no pixel of the anchor lies wholly on the raster: the anchor is "
                f"{coarse.describe()}, the raster {fine.describe()}. Take a finer anchor, or a "
                "larger raster."
            )
        return cls(size, before, fine.shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of coarse pixels (ny, nx) that cover the fine raster."""
        ny, nx = (
            -(-(length + lacking) // size)
            for length, lacking, size in zip(self.fine, self.before, self.size, strict=True)
        )
        return ny, nx

    def grid(self, fine: Grid, like: Grid) -> Grid:
        """Their grid, with the dimensions of another."""
        old, (height, width), (above, left) = fine.geobox.affine, self.size, self.before
        affine = Affine(
            old.a * width, 0.0, old.c - left * old.a, 0.0, old.e * height, old.f - above * old.e
        )
        return replace(like, geobox=GeoBox(self.shape, affine, like.geobox.crs))

    def under(self, coarse: Window) -> Window:
        """Fine pixels of coarse ones, also those beyond the border."""
        y, x = (
            Span(span.start * size - lacking, span.stop * size - lacking)
            for span, size, lacking in zip(
                (coarse.y, coarse.x), self.size, self.before, strict=True
            )
        )
        return Window(y, x)

    def over(self, fine: Window) -> Window:
        """Coarse pixels that fine ones lie in."""
        y, x = (
            Span(span.start + lacking, span.stop + lacking).coarsen(size)
            for span, size, lacking in zip((fine.y, fine.x), self.size, self.before, strict=True)
        )
        return Window(y, x)


def anchored(da: xr.DataArray, anchor: xr.DataArray, blocks: Blocks) -> xr.DataArray:
    """Give a raster the means of a coarser one.

    Parameters
    ----------
    da : DataArray, dims (..., y, x)
        Heights, NaN at voids; its chunks hold one element of each leading dimension.
    anchor : DataArray, dims (y, x)
        Numpy's where ``da`` is, or anything where ``da`` is dask's.
    blocks : Blocks
        Of both.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        Lazy where ``da`` is; void as well farther than eight coarse pixels from the next one where
        both are known. The same numbers whatever the chunks.
    """
    fine = grid.of(da)
    if da.chunks is not None and anchor.chunks is None:
        anchor = anchor.chunk()
    coarse = resample(anchor, blocks.grid(fine, grid.of(anchor)))
    lead = [(1,) * size for size in da.shape[:-2]]
    by_block = (
        split(length, max(1, _CHUNK // size))
        for length, size in zip(blocks.shape, blocks.size, strict=True)
    )
    by_pixel = da.chunks[-2:] if da.chunks else (split(length, _CHUNK) for length in fine.shape)
    averaged = Answer(f"{KEY_PREFIX}means", (*lead, *by_block), np.float64, len(lead))
    lifted = Answer(f"{KEY_PREFIX}anchored", (*lead, *by_pixel), np.float32, len(lead))
    means = answer_windows(_MeansTask(blocks), [(da.data, 1, len(lead))], averaged)
    arrays = [(means, 1, len(lead)), (coarse.data, 1, 0)]
    return da.copy(data=da.data + answer_windows(_LiftTask(blocks), arrays, lifted))


@dataclass(frozen=True)
class _MeansTask:
    """Averages a fine raster over coarse pixels; void where too little of one is known."""

    blocks: Blocks

    def reading(self, core: Window) -> Window:
        """Fine pixels of the coarse ones in ``core``."""
        return self.blocks.under(core).clip(self.blocks.fine)

    def __call__(self, core: Window, read: Window, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Means; the block holds one element of each leading dimension."""
        lead = blocks[0].shape[:-2]
        under = self.blocks.under(core)
        heights = np.full(under.shape, np.nan)
        heights[read.core.within(under)] = blocks[0][(0,) * len(lead)]
        valid = np.isfinite(heights)
        count = _sums(valid.astype(np.float64), self.blocks.size)
        total = _sums(np.where(valid, heights, 0.0), self.blocks.size)
        enough = count >= _COVERED * math.prod(self.blocks.size)
        means = np.where(enough, total / np.where(enough, count, 1.0), np.nan)
        return means.reshape(*lead, *core.shape)


@dataclass(frozen=True)
class _LiftTask:
    """The smooth surface that a fine raster lacks, from its means and the coarse raster."""

    blocks: Blocks

    def reading(self, core: Window) -> Window:
        """Coarse pixels that ``core`` (fine pixels) depends on."""
        return self.blocks.over(core).pad(_MARGIN).clip(self.blocks.shape)

    def __call__(self, core: Window, read: Window, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The histospline of the misfit."""
        means, coarse = blocks
        lead = means.shape[:-2]
        misfit = coarse - means[(0,) * len(lead)]
        valid = np.isfinite(misfit)
        lift = np.full(core.shape, np.nan, np.float32)
        if valid.any():
            smooth = bridge(misfit, valid, _BRIDGED + _RADIUS) if not valid.all() else misfit
            near = binary_dilation(valid, np.ones((3, 3)), iterations=_BRIDGED)
            self._interpolate(smooth, near, core, read.padded, lift)
        return lift.reshape(*lead, *core.shape)

    def _interpolate(
        self, smooth: Plane, near: NDArray[np.bool_], core: Window, held: Window, lift: NDArray[Any]
    ) -> None:
        """Write the histospline of ``smooth`` into ``lift``, a few rows at a time."""
        place = self.blocks.over(core)
        around = _padded(smooth, place.pad(_RADIUS).padded, held)
        inside = core.within(self.blocks.under(place))
        y, x = (histospline(size, _RADIUS) for size in self.blocks.size)
        known = near[place.within(held)]
        for axis, size in enumerate(self.blocks.size):
            known = known.repeat(size, axis=axis)
        tall = _spread(around, y)[inside[0]]
        for start in range(0, len(tall), _ROWS):
            rows = slice(start, start + _ROWS)
            wide = _spread(tall[rows].T, x).T[:, inside[1]]
            lift[rows] = np.where(known[inside][rows], wide, np.nan)


def _check(fine: Grid, coarse: Grid) -> None:
    """Refuse an anchor that cannot be one."""
    if not grid.same_crs(fine.geobox.crs, coarse.geobox.crs):
        raise GridError(
            f"the anchor is in another CRS: {coarse.describe()}; the raster is {fine.describe()}. "
            "Reproject the anchor: anchor.rio.reproject(crs, resolution=...)."
        )
    ratio = min(its / own for own, its in zip(fine.pixel_size, coarse.pixel_size, strict=True))
    if ratio < _COARSER:
        raise InputError(
            f"the anchor's pixels are {ratio:.3g} times as large as the raster's own. It must be "
            f"coarser by {_COARSER:g} or more. Average it: anchor.demsr.degrade(scale)."
        )
    for (start, stop), length in zip(_ends(fine, coarse), fine.shape, strict=True):
        if max(start, stop) <= 0 or min(start, stop) >= length:
            raise GridError(
                f"the anchor and the raster do not overlap: {coarse.describe()}, and "
                f"{fine.describe()}. Look at their coordinates and their CRS."
            )


def _ends(fine: Grid, coarse: Grid) -> list[tuple[float, float]]:
    """First and last edge of the coarse grid along y and x, in fine pixels from the first."""
    old, new = fine.geobox.affine, coarse.geobox.affine
    ny, nx = coarse.shape
    return [
        ((new.f - old.f) / old.e, (new.f + ny * new.e - old.f) / old.e),
        ((new.c - old.c) / old.a, (new.c + nx * new.a - old.c) / old.a),
    ]


def _sums(z: Plane, size: tuple[int, int]) -> Plane:
    """Sums over blocks, always added up in the same order."""
    rows = z[:: size[0]].copy()
    for k in range(1, size[0]):
        rows += z[k :: size[0]]
    total: Plane = rows[:, :: size[1]].copy()
    for k in range(1, size[1]):
        total += rows[:, k :: size[1]]
    return total


def _padded(z: Plane, wanted: Window, held: Window) -> Plane:
    """What ``wanted`` says of ``z``, which holds ``held``; slopes go on beyond the border."""
    there = wanted.intersect(held)
    missing = [
        (inner.start - outer.start, outer.stop - inner.stop)
        for inner, outer in ((there.y, wanted.y), (there.x, wanted.x))
    ]
    return np.pad(z[there.within(held)], missing, mode="reflect", reflect_type="odd")


def _spread(z: Plane, taps: Plane) -> Plane:
    """Each row, but for the radius at both ends, as many finer ones; added up in one order."""
    scale, width = taps.shape
    length = len(z) - width + 1
    fine = np.empty((length * scale, z.shape[1]))
    for k, weights in enumerate(taps):
        total = weights[0] * z[:length]
        for j in range(1, width):
            total += weights[j] * z[j : j + length]
        fine[k::scale] = total
    return fine
