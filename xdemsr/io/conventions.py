"""Where a store lies in the world, in Zarr's conventions ``proj:``, ``spatial:``, ``multiscales``.

They stand on groups, beside CF's grid mapping on each array: an array that is computed further
takes its attributes along, and a transform among them would no longer be true.

References
----------
https://github.com/zarr-conventions/geo-proj, https://github.com/zarr-conventions/spatial,
https://github.com/zarr-conventions/multiscales
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdemsr.grid import Grid

DECLARED = "zarr_conventions"

PROJ = {
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/geo-proj/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/geo-proj/blob/v1/README.md",
    "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "name": "proj:",
    "description": "Coordinate reference system information for geospatial data",
}
SPATIAL = {
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/spatial/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/spatial/blob/v1/README.md",
    "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
    "name": "spatial:",
    "description": "Spatial coordinate information",
}
MULTISCALES = {
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/multiscales/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/multiscales/blob/v1/README.md",
    "uuid": "d35379db-88df-4056-af3a-620245f8e347",
    "name": "multiscales",
    "description": "Multiscale layout of zarr datasets",
}


def placed(found: Grid) -> dict[str, Any]:
    """Attributes of a group whose arrays lie on a grid."""
    crs = found.geobox.crs
    attrs: dict[str, Any] = {DECLARED: [SPATIAL] if crs is None else [PROJ, SPATIAL]}
    if crs is not None:
        attrs["proj:wkt2"] = crs.proj.to_wkt()
        authority = crs.proj.to_authority()
        if authority is not None:
            attrs["proj:code"] = ":".join(authority)
    (ny, nx), affine = found.shape, found.geobox.affine
    left, right = sorted((affine.c, affine.c + nx * affine.a))
    low, high = sorted((affine.f, affine.f + ny * affine.e))
    attrs["spatial:dimensions"] = [str(found.y_dim), str(found.x_dim)]
    attrs["spatial:transform"] = list(affine)[:6]
    attrs["spatial:shape"] = [ny, nx]
    attrs["spatial:bbox"] = [left, low, right, high]
    attrs["spatial:registration"] = "pixel"
    return attrs


def scaled(found: Grid, names: Sequence[str], levels: Sequence[tuple[int, Grid]]) -> dict[str, Any]:
    """Attributes of a group with overviews in groups of its own, named by their factors.

    Parameters
    ----------
    found : Grid
        Of the arrays in the group itself.
    names : sequence of str
        Of the arrays.
    levels : sequence of (int, Grid)
        Factors of the overviews, and their grids.
    """
    attrs = placed(found)
    attrs[DECLARED] = [MULTISCALES, *attrs[DECLARED]]
    layout = []
    for name in names:
        before, factor = name, 1
        layout.append({"asset": name, **_at(found, 1.0)})
        for reached, grid in levels:
            asset = f"{reached}/{name}"
            layout.append({"asset": asset, "derived_from": before, **_at(grid, reached / factor)})
            before, factor = asset, reached
    attrs["multiscales"] = {"layout": layout, "resampling_method": "average"}
    return attrs


def _at(found: Grid, factor: float) -> dict[str, Any]:
    return {
        "transform": {"scale": [factor, factor]},
        "spatial:shape": list(found.shape),
        "spatial:transform": list(found.geobox.affine)[:6],
    }
