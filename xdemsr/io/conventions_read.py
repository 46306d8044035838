"""Where an array lies, told by the Zarr conventions ``proj:`` and ``spatial:`` alone."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from typing import Any

import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import CRSError

from xdemsr import grid
from xdemsr.errors import GridError, InputError
from xdemsr.grid import Grid


def located(raster: xr.DataArray, group: Mapping[str, Any]) -> xr.DataArray:
    """The array with the CRS and transform that it, or else its group, declares.

    What CF's grid mapping and coordinates say stays.

    Parameters
    ----------
    raster : DataArray
    group : mapping
        Attributes of the array's group.

    Raises
    ------
    InputError
        If the declared CRS or transform is none.

    References
    ----------
    https://github.com/zarr-conventions/geo-proj, https://github.com/zarr-conventions/spatial
    """
    said = {**_ours(group), **_ours(raster.attrs)}
    raster = raster.copy(deep=False)
    raster.attrs = {key: value for key, value in raster.attrs.items() if key not in said}
    crs = _crs(said)
    if crs is not None and raster.rio.crs is None:
        raster = raster.rio.write_crs(crs)
    dims = _dims(raster, said)
    if "spatial:transform" in said and dims is not None and not set(dims) & set(raster.coords):
        raster = _placed(raster, dims, said)
    return raster


def base_of(group: Mapping[str, Any]) -> str | None:
    """The path of what has the full resolution, where a group holds several; None if not said."""
    said = group.get("multiscales")
    layout = said.get("layout", []) if isinstance(said, Mapping) else []
    assets = [level.get("asset") for level in layout if "derived_from" not in level]
    return str(assets[0]) if assets and assets[0] is not None else None


def _ours(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(k): v for k, v in attrs.items() if str(k).startswith(("proj:", "spatial:"))}


def _crs(said: Mapping[str, Any]) -> CRS | None:
    for key in ("proj:wkt2", "proj:projjson", "proj:code"):
        declared = said.get(key)
        if declared is None:
            continue
        try:
            return CRS.from_user_input(
                json.dumps(declared) if isinstance(declared, Mapping) else declared
            )
        except CRSError as error:
            raise InputError(f"the attribute {key} is no CRS: {error}") from error
    return None


def _dims(raster: xr.DataArray, said: Mapping[str, Any]) -> tuple[Hashable, Hashable] | None:
    """Names of the dimensions along y and x; None if they are not known."""
    declared = said.get("spatial:dimensions", ())
    if len(declared) == 2 and set(declared) <= set(raster.dims):
        return declared[0], declared[1]
    try:
        return grid.spatial_dims(raster)
    except GridError:
        return None


def _placed(
    raster: xr.DataArray, dims: tuple[Hashable, Hashable], said: Mapping[str, Any]
) -> xr.DataArray:
    numbers = said["spatial:transform"]
    if not isinstance(numbers, list | tuple) or len(numbers) not in (6, 9):
        raise InputError(
            f"the attribute spatial:transform is {numbers!r}, not the six numbers of an affine "
            "transform."
        )
    affine = Affine(*map(float, numbers[:6]))
    if said.get("spatial:registration", "pixel") == "node":
        # Of the first pixel's centre then, not of its corner.
        affine = affine * Affine.translation(-0.5, -0.5)
    raster = raster.rio.write_transform(affine)
    if affine.b or affine.d:
        return raster
    shape = (raster.sizes[dims[0]], raster.sizes[dims[1]])
    centres = Grid(*dims, GeoBox(shape, affine, None)).coordinates(raster)
    for dim, axis in zip(dims, "YX", strict=True):
        # CF's way to say which is which, whatever their names.
        raster = raster.assign_coords({dim: (dim, centres[dim][1], {"axis": axis})})
    return raster
