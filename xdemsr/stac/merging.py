"""Groups of different lattices on one grid, without a step or a line of voids where they meet.

Interpolation stops half a pixel before the edge of a group. So each group is first continued into
its neighbours: the pixels of its own lattice that lie in them take their heights. The coarsest goes
first: the centres of its pixels are farthest from the common edge, among those of the finer one;
the finer ones then find the coarser continued under them. So every value lies between known ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xdemsr import grid
from xdemsr.matching import MatchMethod, match_grid
from xdemsr.placing import Placement
from xdemsr.stac.assets import Lattice
from xdemsr.stac.lattices import Group
from xdemsr.stac.pasting import Overlap, Sizes, automatic_chunks, paste, ramps
from xdemsr.stac.places import bounds_over, raster_on
from xdemsr.stac.reading import Reader
from xdemsr.window import Span, Window

#: Pixels around what is needed of a group, for interpolation and for the bend of its edges.
MARGIN = 8
#: Pixels by which a group is continued into its neighbours.
_RING = 4


@dataclass(frozen=True)
class Mosaic:
    """How groups are put on the grid of an answer.

    Attributes
    ----------
    template : Dataset
        Coordinates of the answer, without variables.
    lattice : Lattice
        The same as pixels.
    method : str
        Of :func:`xdemsr.match_grid`.
    overlap : {"blend", "first"}
    reader : Reader
    """

    template: xr.Dataset
    lattice: Lattice
    method: MatchMethod
    overlap: Overlap
    reader: Reader

    def of(self, groups: Sequence[Group], attrs: dict[str, Any], chunks: Sizes | None) -> Any:
        """The array of an answer; chunks as asked, or what suits."""
        near = [cut for found in groups if (cut := self._near(found, len(groups) > 1)) is not None]
        if len(near) == 1 and (window := _window_of(self.lattice, near[0])) is not None:
            own = near[0].cut(window)
            return paste(own, self.reader, self.overlap, chunks or automatic_chunks(own))
        rasters = [self._raster(found, attrs) for found in near]
        merged = self._merged(near, rasters)
        return merged if chunks is None or merged is None else merged.rechunk(chunks)

    def _near(self, found: Group, ringed: bool) -> Group | None:
        """A group without what is too far from the answer's grid to matter."""
        around = bounds_over(self.lattice.bounds, self.lattice.crs, found.crs)
        window, own = found.covering(around).pad(MARGIN).padded, found.window
        if ringed:
            own = own.pad(_RING).padded
        shared = window.intersect(own)
        if shared.y.size <= 0 or shared.x.size <= 0:
            return None
        cut = found.cut(shared)
        return cut if cut.pieces else None

    def _raster(self, found: Group, attrs: dict[str, Any]) -> xr.DataArray:
        data = paste(found, self.reader, self.overlap, automatic_chunks(found))
        return raster_on(data, found.lattice).assign_attrs(attrs)

    def _merged(self, groups: Sequence[Group], rasters: list[xr.DataArray]) -> Any:
        if not rasters:
            return None
        if len(rasters) == 1:
            answer = self._matched(rasters[0])
            return None if answer is None else answer.data
        if self.overlap == "first":
            planes = [self._matched(raster) for raster in rasters[::-1]]
            return _first_known([plane.data for plane in planes if plane is not None])
        finest = min(math.prod(found.pixel_size) for found in groups)
        continued = _continued(rasters, self.method)
        values, weights = [], []
        for found, raster, whole in zip(groups, rasters, continued, strict=True):
            value = self._matched(whole)
            if value is None:
                continue
            # Where a finer group is known, a coarser one hardly counts.
            worth = (finest / math.prod(found.pixel_size)) ** 2
            ramp = raster_on(ramps(found, automatic_chunks(found)), found.lattice)
            weight = self._matched((ramp * worth).where(raster.notnull()), "bilinear")
            values.append(value.data)
            weights.append(da.zeros_like(value.data) if weight is None else weight.data)
        return _weighted(values, weights) if values else None

    def _matched(self, raster: xr.DataArray, method: MatchMethod | None = None) -> Any:
        if not _overlap(self.template, raster):
            return None
        return match_grid(raster, self.template, method=method or self.method)


def _window_of(wanted: Lattice, found: Group) -> Window | None:
    """The pixels of a group that are exactly those of a grid, if there are such."""
    if wanted.crs != found.crs:
        return None
    a, _, x0, _, e, y0 = found.lattice.transform
    ny, nx = wanted.shape
    row = round((wanted.transform[5] - y0) / e)
    column = round((wanted.transform[2] - x0) / a)
    moved = (a, 0.0, x0 + column * a, 0.0, e, y0 + row * e)
    if not Lattice(wanted.shape, moved, wanted.crs).is_at(wanted):
        return None
    return Window(Span(row, row + ny), Span(column, column + nx))


def _continued(rasters: Sequence[xr.DataArray], method: MatchMethod) -> list[xr.DataArray]:
    """Each raster with its voids filled by the others, from the coarsest to the finest."""
    answers: list[xr.DataArray] = []
    for k, raster in enumerate(rasters):
        others = [*answers, *rasters[k + 1 :]]
        fills = [
            match_grid(other, raster, method=method).data
            for other in others
            if _overlap(raster, other)
        ]
        answers.append(raster.copy(data=_first_known([raster.data, *fills])))
    return answers


def _overlap(target: Any, source: xr.DataArray) -> bool:
    return Placement.between(grid.of(target), grid.of(source)).pixels_along() is not None


def _first_known(planes: Sequence[da.Array]) -> Any:
    if not planes:
        return None
    answer = planes[0]
    for plane in planes[1:]:
        answer = da.where(da.isnan(answer), plane, answer)
    return answer


def _weighted(values: Sequence[da.Array], weights: Sequence[da.Array]) -> da.Array:
    """The weighted mean of what is known; what has no weight counts where there is nothing else."""
    chunks = values[0].chunks
    merged: da.Array = da.map_blocks(
        _mean,
        *(part.rechunk(chunks) for part in (*values, *weights)),
        dtype=np.float32,
        meta=np.empty((0, 0), np.float32),
    )
    return merged


def _mean(*planes: Any) -> Any:
    values, weights = planes[: len(planes) // 2], planes[len(planes) // 2 :]
    total, share = np.zeros(values[0].shape), np.zeros(values[0].shape)
    spare = np.full(values[0].shape, np.nan)
    for value, weight in zip(values, weights, strict=True):
        known = ~np.isnan(value)
        spare = np.where(np.isnan(spare), value, spare)
        own = np.where(known, np.nan_to_num(weight), 0.0).astype(np.float64)
        total += own * np.where(known, value, 0.0)
        share += own
    mean = total / np.where(share > 0, share, 1.0)
    return np.where(share > 0, mean, spare).astype(np.float32)
