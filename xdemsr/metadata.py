"""The labels of an answer: coordinates, attributes and encoding."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from typing import Any

import xarray as xr

from xdemsr.bands import Matched, band_names
from xdemsr.execution import Execution
from xdemsr.grid import XarrayObject
from xdemsr.spec import STANDARD_ERROR, ModelSpec
from xdemsr.storage import void_values

#: Attributes that describe the source file's storage, not the elevations.
_STORAGE_ATTRS = {
    "_FillValue",
    "missing_value",
    "fill_value",
    "nodata",
    "nodatavals",
    "transform",
    "res",
    "is_tiled",
    "scale_factor",
    "add_offset",
    "scales",
    "offsets",
    "valid_min",
    "valid_max",
    "valid_range",
    "actual_range",
}


def label(data: Any, matched: Matched, spec: ModelSpec, execution: Execution) -> xr.DataArray:
    """Wrap an answer: exact coordinates, the first input's attributes, and which model made it."""
    first, fine = matched.first, matched.grid.refined(spec.scale)
    banded = len(spec.outputs) > 1 or matched.band_dim is not None
    # A raster of one band may carry it along a dimension of that name.
    band_dim = matched.band_dim or ("output" if "band" in matched.leading else "band")
    dims = (*matched.leading, *((band_dim,) if banded else ()), fine.y_dim, fine.x_dim)
    changed = {fine.y_dim, fine.x_dim, band_dim if banded else None}
    coords = {**carried(first, changed), **fine.coordinates(first)}
    if banded:
        coords.update(_band_coordinate(first, spec, band_dim))
    return wrap(
        data,
        dims,
        coords,
        like=first.rename(_name(matched, spec)),
        attrs={**_true_attrs(first, spec, banded), **provenance(matched, spec, execution)},
    )


def with_standard_error(both: xr.DataArray, before: XarrayObject) -> xr.Dataset:
    """An answer and its standard error, two bands, as a variable and its ancillary variable.

    The coordinates are those ``before`` has, which the names of the bands may have hidden.
    """
    name = "elevation" if both.name is None else both.name
    error_name = f"{name}_{STANDARD_ERROR}"
    band_dim = both.dims[-3]
    hidden = {k: v.variable for k, v in before.coords.items() if k == band_dim and v.ndim == 0}
    value, error = (both.isel({band_dim: k}, drop=True).assign_coords(hidden) for k in (0, 1))
    # Whatever was said of the input's quality is no quality of these.
    error.attrs.pop("ancillary_variables", None)
    value.attrs["ancillary_variables"] = error_name
    error.attrs["long_name"] = f"standard error of {both.attrs.get('long_name', name)}"
    if "standard_name" in error.attrs:
        error.attrs["standard_name"] += f" {STANDARD_ERROR}"
    return xr.Dataset({name: value, error_name: error})


def wrap(
    data: Any,
    dims: Sequence[Hashable],
    coords: Mapping[Hashable, Any],
    like: xr.DataArray,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """An array with the name, the attributes and what still holds of the encoding of another."""
    answer = xr.DataArray(data, dims=dims, coords=coords)
    # Said afterwards: an array without a name would be given that of its dask graph.
    answer.name = like.name
    answer.attrs = dict(plain_attrs(like) if attrs is None else attrs)
    answer.encoding = kept_encoding(like)
    return answer


def plain_attrs(da: xr.DataArray) -> dict[str, Any]:
    """Attributes without those of the file the array was stored in."""
    return {
        key: value
        for key, value in da.attrs.items()
        if key not in _STORAGE_ATTRS
        and not str(key).startswith("STATISTICS_")
        and (key != "grid_mapping" or value in da.coords)
    }


def kept_encoding(da: xr.DataArray) -> dict[Hashable, Any]:
    """Encoding that still holds for another shape and type: the void value, the grid mapping."""
    encoding: dict[Hashable, Any] = {}
    if "grid_mapping" in da.encoding:
        encoding["grid_mapping"] = da.encoding["grid_mapping"]
    voids = void_values(da)
    if voids:
        encoding["_FillValue"] = voids[0]
    return encoding


def provenance(matched: Matched, spec: ModelSpec, execution: Execution) -> dict[str, Any]:
    """Which model made an answer, how, and what it was told."""
    made_by: dict[str, Any] = {"xdemsr_model": spec.name, "xdemsr_model_version": spec.version}
    if spec.weights is not None:
        made_by["xdemsr_model_sha256"] = spec.weights.sha256
        made_by["xdemsr_precision"] = execution.precision
    if matched.vertical_error is not None:
        made_by["xdemsr_vertical_error"] = matched.vertical_error
    return made_by


def band_labels(da: xr.DataArray, dim: Hashable) -> list[Hashable]:
    """What the elements along a dimension are called: their names, else their labels, if any."""
    return [*band_names(da, dim)] or (da[dim].values.tolist() if dim in da.coords else [])


def carried(da: xr.DataArray, changed: Set[Hashable | None]) -> dict[Hashable, Any]:
    """Coordinates that do not lie along dimensions that have changed."""
    return {
        name: coord.variable for name, coord in da.coords.items() if not changed & set(coord.dims)
    }


def _true_attrs(first: xr.DataArray, spec: ModelSpec, banded: bool) -> dict[str, Any]:
    """What was said of the input that holds of the answer: not the names of other bands."""
    attrs = plain_attrs(first)
    names = attrs.get("long_name")
    if banded and isinstance(names, tuple | list) and len(names) != len(spec.outputs):
        del attrs["long_name"]
    return attrs


def _band_coordinate(
    first: xr.DataArray, spec: ModelSpec, band_dim: Hashable
) -> Mapping[Hashable, Any]:
    if first.sizes.get(band_dim) == len(spec.outputs) and band_dim in first.coords:
        return {band_dim: first[band_dim].variable}
    return {band_dim: (band_dim, [band.name for band in spec.outputs])}


def _name(matched: Matched, spec: ModelSpec) -> Hashable | None:
    if len(matched.inputs) == 1 or matched.first.name is None:
        return matched.first.name
    return spec.outputs[0].name
