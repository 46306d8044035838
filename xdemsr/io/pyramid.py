"""Overviews of a store: means of 2 x 2 pixels, level by level, from what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from dask._task_spec import DataNode, Task, TaskRef
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from xdemsr import grid
from xdemsr.grid import Grid
from xdemsr.io.regions import Index, Regions

#: Overviews end with the first that is no larger along either axis.
_SMALLEST = 512


def factors(shape: tuple[int, int]) -> list[int]:
    """By which factors a raster is divided for its overviews."""
    found, factor = [], 1
    while max(shape) > factor * _SMALLEST:
        factor *= 2
        found.append(factor)
    return found


def coarser(found: Grid, factor: int) -> Grid:
    """Pixels multiplied by a factor; one more where they do not fill the last."""
    ny, nx = (-(-size // factor) for size in found.shape)
    old = found.geobox.affine
    affine = Affine(old.a * factor, 0.0, old.c, 0.0, old.e * factor, old.f)
    return replace(found, geobox=GeoBox((ny, nx), affine, found.geobox.crs))


def overview(ds: xr.Dataset, factor: int) -> xr.Dataset:
    """A dataset of the shape of an overview, stored like the dataset itself; its values are not."""
    found = coarser(grid.of(ds), factor)
    spatial = {found.y_dim: found.shape[0], found.x_dim: found.shape[1]}
    rasters = {}
    for name, raster in ds.data_vars.items():
        shape = tuple(spatial.get(dim, raster.sizes[dim]) for dim in raster.dims)
        rasters[name] = (
            raster.dims,
            da.zeros(shape, dtype=raster.dtype, chunks=shape),
            raster.attrs,
        )
    coords = {name: c.variable for name, c in ds.coords.items() if not set(spatial) & set(c.dims)}
    level = xr.Dataset(rasters, {**coords, **found.coordinates(ds)})
    for name, raster in ds.data_vars.items():
        level[name].encoding = raster.encoding
    for name, coord in ds.coords.items():
        if name in level.coords:
            level[name].encoding = coord.encoding
    return level


def averaging(
    name: str, lower: Regions, upper: Regions, wanted: Sequence[Index], void: Any
) -> dict[Any, Any]:
    """Tasks that write regions of an overview from the level below; they answer nothing."""
    places = (name, "lower"), (name, "upper")
    layer: dict[Any, Any] = {
        place: DataNode(place, regions)
        for place, regions in zip(places, (lower, upper), strict=True)
    }
    for index in wanted:
        key = (name, *index)
        layer[key] = Task(key, _average, *map(TaskRef, places), index, void)
    return layer


def _average(lower: Regions, upper: Regions, index: Index, void: Any) -> None:
    *leading, rows, columns = upper.slices(index)
    shape = [part.stop - part.start for part in (*leading, rows, columns)]
    block = np.empty(shape, upper.array.dtype)
    # By halves, each of which is about one region of the level below.
    for y, x in product(_halves(rows), _halves(columns)):
        fine = lower.array[(*leading, *(slice(2 * part.start, 2 * part.stop) for part in (y, x)))]
        place = (
            slice(y.start - rows.start, y.stop - rows.start),
            slice(x.start - columns.start, x.stop - columns.start),
        )
        block[(..., *place)] = means(np.asarray(fine), void)
    upper.write(index, block)


def _halves(part: slice) -> list[slice]:
    middle = -(-(part.start + part.stop) // 2)
    return [
        half
        for half in (slice(part.start, middle), slice(middle, part.stop))
        if half.start < half.stop
    ]


def means(fine: NDArray[Any], void: Any) -> NDArray[Any]:
    """Means of the valid pixels among 2 x 2; void where there are none."""
    odd = [(0, 0)] * (fine.ndim - 2) + [(0, size % 2) for size in fine.shape[-2:]]
    known = np.pad(_known(fine, void), odd)
    values = np.where(known, np.pad(fine, odd), 0)
    parts = [(..., slice(i, None, 2), slice(j, None, 2)) for i, j in product((0, 1), (0, 1))]
    total = sum(values[part].astype(np.float64) for part in parts)
    count = sum(known[part].astype(np.int8) for part in parts)
    means = total / np.maximum(count, 1)
    if fine.dtype.kind != "f":
        means = np.rint(means)
    return np.where(count > 0, means, 0 if void is None else void).astype(fine.dtype)


def _known(fine: NDArray[Any], void: Any) -> NDArray[np.bool_]:
    known = np.ones(fine.shape, bool) if void is None else fine != void
    return known & ~np.isnan(fine) if fine.dtype.kind == "f" else known
