"""Folders of places with several rasters each: what is to be learnt, and what from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from xdemsr import grid, io
from xdemsr.bare_earth import ground_filter
from xdemsr.degradation import degrade
from xdemsr.errors import GridError, InputError
from xdemsr.storage import void_values

#: What files of these are called.
SURFACE, GROUND = "dsm", "ground"

#: Places that take no more bytes than this, all together, are held in memory.
_IN_MEMORY = 4 << 30


class Pair(NamedTuple):
    """One place.

    Attributes
    ----------
    target : DataArray, dims (band, y, x), float32
    inputs : DataArray, dims (band, y, x), float32, or None
        All rasters asked for, one band after the other.
    names : tuple of str
        The raster that each band of the inputs is from.
    """

    target: xr.DataArray
    inputs: xr.DataArray | None
    names: tuple[str, ...] = ()


def read_pairs(
    folder: str | Path, target: str, inputs: Sequence[str] = (), *, coarsen: int = 1
) -> dict[str, Pair]:
    """Read the rasters of a folder of places.

    Parameters
    ----------
    folder : str or Path
        Holds a folder for each place with one file for each raster (``place/dtm.tif``,
        ``place/rgb.tif``), or files called by both (``place_dtm.tif``, ``place_rgb.tif``).
    target : str
        Name of the raster that is to be learnt.
    inputs : sequence of str, optional
        Names of the rasters that it is learnt from. Places without one of them are left out. A
        ``ground`` that has no file is made of ``dsm``, by :func:`xdemsr.ground_filter`.
    coarsen : int, optional
        Take means of blocks of so many pixels.

    Returns
    -------
    dict of str to Pair
        By the names of the places. Lazy, where they would take more than four gigabytes.

    Raises
    ------
    InputError
        If no place has all the rasters, or two places have one name.
    GridError
        If the inputs of a place are not on one grid.
    """
    folder = Path(folder)
    pairs = {}
    for name, path in sorted(_named(folder, target).items()):
        rasters = {other: _raster(_sibling(path, target, other), coarsen) for other in inputs}
        sources = {other: raster for other, raster in rasters.items() if raster is not None}
        if len(sources) == len(rasters):
            stack = _stacked(sources, name) if sources else None
            pairs[name] = Pair(_bands(path, coarsen), stack, _names(sources))
    if not pairs:
        wanted = ", ".join(f"{name}.tif" for name in (target, *inputs))
        raise InputError(
            f"no place in {folder} has {wanted}: expected PLACE/{target}.tif, or "
            f"PLACE_{target}.tif, and the others beside it."
        )
    total = sum(da.nbytes for p in pairs.values() for da in (p.target, p.inputs) if da is not None)
    if total > _IN_MEMORY:
        return pairs
    return {
        name: pair._replace(
            target=pair.target.compute(),
            inputs=None if pair.inputs is None else pair.inputs.compute(),
        )
        for name, pair in pairs.items()
    }


def _named(folder: Path, target: str) -> dict[str, Path]:
    """The target of each place."""
    found: dict[str, Path] = {}
    for path in (*folder.glob(f"*/{target}.tif"), *folder.glob(f"*_{target}.tif")):
        other = found.setdefault(_place(path, target), path)
        if other != path:
            raise InputError(
                f"{other} and {path} are both of the place {_place(path, target)!r}; rename one."
            )
    return found


def _place(path: Path, target: str) -> str:
    return path.parent.name if path.stem == target else path.stem.removesuffix(f"_{target}")


def _sibling(path: Path, target: str, other: str) -> Path:
    if path.stem == target:
        return path.with_name(f"{other}.tif")
    return path.with_name(f"{path.stem.removesuffix(target)}{other}.tif")


def _raster(path: Path, coarsen: int) -> xr.DataArray | None:
    """The raster of a file; bare earth from the surface beside it, where that file is not there."""
    if path.exists():
        return _bands(path, coarsen)
    surface = path.with_name(f"{path.stem.removesuffix(GROUND)}{SURFACE}.tif")
    if path.stem.endswith(GROUND) and surface.exists():
        return ground_filter(_bands(surface, coarsen))
    return None


def _bands(path: Path, coarsen: int) -> xr.DataArray:
    """A raster as (band, y, x) in float32, NaN at voids."""
    da = io.open(path)
    voids = void_values(da)
    y_dim, x_dim = grid.spatial_dims(da)
    known = da.notnull()
    for value in voids:
        known = known & (da != value)
    da = da.astype(np.float32).where(known)
    if coarsen > 1:
        da = degrade(da, coarsen)
    if da.ndim == 2:
        da = da.expand_dims("band")
    da = da.transpose(..., y_dim, x_dim)
    return da.drop_vars("band", errors="ignore").rename({da.dims[0]: "band"})


def _stacked(rasters: Mapping[str, xr.DataArray], place: str) -> xr.DataArray:
    """Rasters of one grid, one band after the other."""
    (first, base), *others = [(name, grid.of(raster)) for name, raster in rasters.items()]
    for name, found in others:
        if not found.matches(base):
            raise GridError(
                f"{name!r} of the place {place!r} is not on the grid of {first!r}: found "
                f"{found.describe()}; expected {base.describe()}. Match it first: "
                "da.rio.reproject_match(...)."
            )
    # Coordinates may differ in their last bits: those of the first are taken.
    return xr.concat(
        list(rasters.values()), "band", join="override", combine_attrs="drop", coords="minimal"
    )


def _names(rasters: Mapping[str, xr.DataArray]) -> tuple[str, ...]:
    return tuple(name for name, raster in rasters.items() for _ in range(raster.sizes["band"]))
