"""Two grids in one CRS: the pixels of one that lie on the other, and rasters cropped to them."""

from __future__ import annotations

import math
from dataclasses import replace

import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from xdemsr import grid
from xdemsr.errors import GridError
from xdemsr.grid import Grid
from xdemsr.window import Span, Window

#: A pixel may reach beyond the other raster by so much of itself.
_BEYOND = 1e-3


def check_crs(first: Grid, second: Grid) -> None:
    """Refuse grids in different CRSs.

    Raises
    ------
    GridError
    """
    if not grid.same_crs(first.geobox.crs, second.geobox.crs):
        raise GridError(
            f"the rasters are in different CRSs: {first.describe()}, and {second.describe()}. "
            "Reproject the fine one first: da.rio.reproject(crs, resampling=Resampling.average)."
        )


def shared_pixels(base: Grid, other: Grid) -> Window:
    """The whole pixels of ``base`` that lie on ``other``.

    Raises
    ------
    GridError
        If there are none, or the CRSs differ.
    """
    check_crs(base, other)
    own, its = base.geobox.affine, other.geobox.affine
    ny, nx = other.shape
    window = Window(
        shared_span(own.f, own.e, base.shape[0], (its.f, its.f + ny * its.e)),
        shared_span(own.c, own.a, base.shape[1], (its.c, its.c + nx * its.a)),
    )
    if min(window.shape) < 1:
        raise GridError(
            f"the images do not overlap: {base.describe()}, and {other.describe()}. Look at their "
            "coordinates and their CRS."
        )
    return window


def part_of(base: Grid, window: Window) -> Grid:
    """The grid of some of the pixels of another."""
    rows, columns = window.slices
    old = base.geobox.affine
    affine = Affine(
        old.a, 0.0, old.c + columns.start * old.a, 0.0, old.e, old.f + rows.start * old.e
    )
    return replace(base, geobox=GeoBox(window.shape, affine, base.geobox.crs))


def cropped(da: xr.DataArray, window: Window) -> xr.DataArray:
    """Some pixels of a raster, where they lie: labels as they are, a stored transform moved."""
    base = grid.of(da)
    rows, columns = window.slices
    part = da.isel({base.y_dim: rows, base.x_dim: columns})
    coords = part_of(base, window).coordinates(part)
    return part.assign_coords({k: v for k, v in coords.items() if k == base.grid_mapping})


def shared_span(edge: float, step: float, n: int, ends: tuple[float, float]) -> Span:
    """Pixels of an axis that lie between two places; the size is negative where none do."""
    first, last = sorted((end - edge) / step for end in ends)
    return Span(max(math.ceil(first - _BEYOND), 0), min(math.floor(last + _BEYOND), n))
