"""Where the pixels of one grid lie on another, whatever their sizes and CRSs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdemsr.grid import Grid, same_crs
from xdemsr.window import Span, Window

Plane = NDArray[np.float64]
#: Outer edge of the first pixel, and pixel size with its sign, in the CRS's unit.
Axis = tuple[float, float]

#: A place so near to a pixel's centre or edge, in pixels, lies on it.
_ON_IT = 1e-6
#: Points along each edge of a window, and of a whole grid, that tell where it lies.
_POINTS, _MESH = 9, 33


@dataclass(frozen=True)
class Placement:
    """Finds the pixels of a source grid under those of a target grid.

    Places are counted in pixels from the outer edge of the first one: 0.5 is its centre.

    Attributes
    ----------
    target, source : (axis, axis)
        Along y and along x.
    target_shape, source_shape : (ny, nx)
    crs : (str, str) or None
        WKT of the target's and the source's, where they differ.
    turn : float
        What a full turn is along the source's x axis; 0 where that is no longitude.
    """

    target: tuple[Axis, Axis]
    source: tuple[Axis, Axis]
    target_shape: tuple[int, int]
    source_shape: tuple[int, int]
    crs: tuple[str, str] | None = None
    turn: float = 0.0

    @classmethod
    def between(cls, target: Grid, source: Grid) -> Placement:
        """Of two grids; a missing CRS fits any."""
        crs, turn = None, 0.0
        if not same_crs(target.geobox.crs, source.geobox.crs):
            here, there = _on_the_map(target.geobox.crs), _on_the_map(source.geobox.crs)
            crs = here.to_wkt(), there.to_wkt()
            if there.is_geographic:
                turn = 2 * math.pi / there.axis_info[0].unit_conversion_factor
        return cls(_axes(target), _axes(source), target.shape, source.shape, crs, turn)

    def at(self, rows: Plane, columns: Plane) -> tuple[Plane, Plane]:
        """Places (y, x) on the source of the places on the target that rows and columns make.

        Returns
        -------
        ndarray, shapes (n, 1) and (1, m), or (n, m) where the CRSs differ
            Infinite where the source's CRS does not reach.
        """
        (y_edge, y_step), (x_edge, x_step) = self.target
        y, x = (y_edge + rows * y_step)[:, None], (x_edge + columns * x_step)[None]
        if self.crs is not None:
            x, y = _transformer(*self.crs).transform(*np.broadcast_arrays(x, y))
            x = self._unturned(x)
        (y_edge, y_step), (x_edge, x_step) = self.source
        return _snapped((y - y_edge) / y_step), _snapped((x - x_edge) / x_step)

    def reading(self, core: Window, margin: int) -> Window:
        """Source pixels under a window of the target, and a margin around; one at least."""
        points = [np.linspace(span.start, span.stop, _POINTS) for span in (core.y, core.x)]
        places = np.stack(np.broadcast_arrays(*self.at(*points)))
        if not np.isfinite(places).all():
            return Window(*(Span(0, length) for length in self.source_shape))
        spans = zip(places, self.source_shape, strict=True)
        return Window(*(_span(along, length, margin) for along, length in spans))

    def pixels_along(self) -> tuple[float, float] | None:
        """Source pixels along a target pixel's height and width, in the middle of what they share.

        None where the grids share nothing.
        """
        mesh = [np.linspace(0, length, _MESH) for length in self.target_shape]
        places = np.stack(np.broadcast_arrays(*self.at(*mesh)))
        finite = np.isfinite(places).all(axis=0)
        limits = np.array(self.source_shape)
        known = places[:, finite]
        if not known.size or (known.max(axis=1) <= 0).any() or (known.min(axis=1) >= limits).any():
            return None
        with np.errstate(invalid="ignore"):
            inside = finite & ((places > 0) & (places < limits[:, None, None])).all(axis=0)
        marked = np.argwhere(inside if inside.any() else finite)
        middle = marked[len(marked) // 2]
        rows, columns = (
            along[index] + np.array([-0.5, 0.5]) for along, index in zip(mesh, middle, strict=True)
        )
        y, x = np.broadcast_arrays(*self.at(rows, columns))
        height = math.hypot(y[1, 0] - y[0, 0], x[1, 0] - x[0, 0])
        return height, math.hypot(y[0, 1] - y[0, 0], x[0, 1] - x[0, 0])

    def _unturned(self, x: Plane) -> Plane:
        """Longitudes within half a turn of the source's middle."""
        if not self.turn:
            return x
        (edge, step), n = self.source[1], self.source_shape[1]
        off = x - (edge + n * step / 2)
        with np.errstate(invalid="ignore"):
            turns = np.round(off / self.turn)
        return np.where(np.isfinite(turns) & (turns != 0), x - turns * self.turn, x)


def _axes(found: Grid) -> tuple[Axis, Axis]:
    affine = found.geobox.affine
    return (affine.f, affine.e), (affine.c, affine.a)


def _on_the_map(crs: Any) -> Any:
    """The horizontal part of a CRS: heights are not transformed."""
    return (crs.proj.sub_crs_list or [crs.proj])[0]


@lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


def _snapped(places: Plane) -> Plane:
    """Places on centres and edges where they are meant to be: identical grids copy."""
    halves = np.round(2 * places) / 2
    # Infinite where the CRS does not reach.
    with np.errstate(invalid="ignore"):
        near = np.abs(places - halves) < _ON_IT
    snapped: Plane = np.where(near, halves, places)
    return snapped


def _span(places: Plane, length: int, margin: int) -> Span:
    """Pixels that a mesh of places covers, however it bends between its points."""
    # Between three points a smooth curve leaves their straight lines by an eighth of this. Around a
    # pole or half a turn from the raster, where places jump, it is more than all there is.
    bends = [np.abs(np.diff(places, 2, axis=axis)).max(initial=0.0) for axis in (0, 1)]
    low, high = places.min() - max(bends) - margin, places.max() + max(bends) + margin
    start = int(np.clip(math.floor(low), 0, length - 1))
    return Span(start, int(np.clip(math.ceil(high), start + 1, length)))
