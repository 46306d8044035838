"""Elevations along a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.grid import Grid
from xdemsr.plotting.canvas import lines, new_axes
from xdemsr.storage import void_values
from xdemsr.voids import valid_pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
Plane = NDArray[np.float64]


def profile(
    rasters: Mapping[str, xr.DataArray],
    reference: xr.DataArray | None = None,
    ax: Axes | None = None,
    *,
    line: tuple[Point, Point] | None = None,
) -> Axes:
    """Draw the elevations of several rasters along a line.

    Parameters
    ----------
    rasters : mapping of str to DataArray, dims (y, x)
        Names and elevations, in metres; in one CRS, with pixels of any size. Of each, the pixels
        that the line crosses are drawn as they are, not interpolated.
    reference : DataArray, dims (y, x), optional
        The truth, drawn in black below the others.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own by default.
    line : ((x, y), (x, y)), optional
        Where it begins and ends, in the CRS's coordinates. By default the middle of the first
        raster, from west to east.

    Returns
    -------
    matplotlib.axes.Axes
        Elevations over metres or kilometres from the line's beginning; gaps where nothing is known.

    Raises
    ------
    InputError
        If there is no raster, or the line has no length or meets no valid pixel.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.fractal((60, 80))
    >>> rasters = {"coarse": dem, "fine": dem.demsr.upscale(4, "spline")}
    >>> ax = xdemsr.plotting.profile(rasters, line=((500_300, 4_099_500), (501_800, 4_098_700)))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('along the line (m)', 'elevation (m)')
    """
    if not rasters:
        raise InputError("profile needs a raster at least: {name: raster, ...}.")
    planes = {name: grid.plane(da) for name, da in rasters.items()}
    base = grid.of(next(iter(planes.values())))
    ends = np.asarray(line if line is not None else _middle(base), dtype=np.float64)
    height, width = base.metres()
    tall, wide = base.pixel_size
    length = float(np.hypot((ends[1, 0] - ends[0, 0]) * width / wide, _rise(ends) * height / tall))
    if not (np.isfinite(length) and length > 0):
        raise InputError(f"line={line} has no length; give where it begins and ends.")
    factor, unit = (1.0, "m") if length < 2000 else (1e-3, "km")
    found = {name: _along(raster, ends) for name, raster in planes.items()}
    if not any(np.isfinite(heights).any() for _, heights in found.values()):
        raise InputError(f"line={line} meets no valid pixel; its ends are (x, y) in the CRS.")
    ax = new_axes(ax, (7.0, 3.2))
    if reference is not None:
        share, heights = _along(grid.plane(reference), ends)
        ax.plot(share * length * factor, heights, color="0.1", label="reference", linewidth=2)
    for (name, (share, heights)), colour in zip(found.items(), lines(), strict=False):
        ax.plot(share * length * factor, heights, color=colour, label=name, linewidth=1.4)
    ax.set(xlabel=f"along the line ({unit})", ylabel="elevation (m)", xlim=(0, length * factor))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def _rise(ends: Plane) -> float:
    return float(ends[1, 1] - ends[0, 1])


def _middle(base: Grid) -> tuple[Point, Point]:
    affine, (ny, nx) = base.geobox.affine, base.shape
    y = affine.f + affine.e * (ny // 2 + 0.5)
    west, east = sorted((affine.c, affine.c + affine.a * nx))
    return (west, y), (east, y)


def _along(raster: xr.DataArray, ends: Plane) -> tuple[Plane, Plane]:
    """Shares of the line and elevations there, twice a pixel so that its edges are upright."""
    base = grid.of(raster)
    affine, (ny, nx) = base.geobox.affine, base.shape
    columns = (ends[:, 0] - affine.c) / affine.a
    rows = (ends[:, 1] - affine.f) / affine.e
    cuts = np.concatenate([[0.0, 1.0], _crossings(*columns), _crossings(*rows)])
    cuts = np.unique(cuts[(cuts >= 0) & (cuts <= 1)])
    middle = (cuts[1:] + cuts[:-1]) / 2
    row = np.floor(rows[0] + middle * (rows[1] - rows[0])).astype(int)
    column = np.floor(columns[0] + middle * (columns[1] - columns[0])).astype(int)
    inside = (row >= 0) & (row < ny) & (column >= 0) & (column < nx)
    heights = np.full(middle.size, np.nan)
    points = {
        dim: xr.DataArray(place[inside], dims="point")
        for dim, place in ((base.y_dim, row), (base.x_dim, column))
    }
    found = raster.isel(points).values
    heights[inside] = np.where(valid_pixels(found, void_values(raster)), found, np.nan)
    return np.repeat(cuts, 2)[1:-1], np.repeat(heights, 2)


def _crossings(start: float, stop: float) -> Plane:
    """Shares of the way from one place to another at which a pixel ends."""
    if start == stop:
        return np.zeros(0)
    low, high = sorted((start, stop))
    edges = np.arange(np.ceil(low), np.floor(high) + 1)
    shares: Plane = (edges - start) / (stop - start)
    return shares
