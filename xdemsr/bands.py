"""Finding the bands a model wants in an array or a dataset, without reading a pixel."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import xarray as xr

from xdemsr import grid
from xdemsr.derived import NDVI, NODATA_MASK, ndvi, nodata_mask
from xdemsr.errors import GridError, InputError
from xdemsr.grid import Grid, XarrayObject
from xdemsr.spec import VERTICAL_ERROR, ModelSpec
from xdemsr.storage import check_values, storage_step, void_values
from xdemsr.task import BlockInput
from xdemsr.units import check_units

VerticalError = float | str | xr.DataArray

#: What a dimension of bands is called.
BAND_DIMS = ("band", "bands", "channel", "channels")
_NDVI_OF = ("red", "nir")


@dataclass(frozen=True)
class MatchedInput:
    """One array of a call, dimensions in order, and what it brings to the model."""

    array: xr.DataArray
    block: BlockInput


@dataclass(frozen=True)
class Matched:
    """Everything a model takes from a call.

    Attributes
    ----------
    inputs : list of MatchedInput
        The first gives the answer its grid, its leading dimensions and its voids.
    constants : dict of int to float
        Inputs that are the same everywhere.
    grid : Grid
        Of the model's input.
    band_dim : hashable or None
        Dimension along which the first array's bands lie.
    vertical_error : float, str or None
        What the model is told of it: a number, or the name of an array.
    """

    inputs: list[MatchedInput]
    constants: dict[int, float]
    grid: Grid
    band_dim: Hashable | None
    vertical_error: float | str | None

    @property
    def first(self) -> xr.DataArray:
        """The array that gives the answer its grid."""
        return self.inputs[0].array

    @property
    def leading(self) -> tuple[Hashable, ...]:
        """Dimensions that are carried through."""
        return self.first.dims[: self.inputs[0].block.leading]


def match(obj: XarrayObject, spec: ModelSpec, vertical_error: VerticalError = "auto") -> Matched:
    """Find the model's inputs.

    A single band is the array itself, or a dataset's only raster. Several are variables of a
    dataset or named elements of their band dimensions, or lie along the array's band dimension, by
    name where it has names and by order elsewhere. Where a dataset has no ``ndvi`` or
    ``nodata_mask``, they are derived from its other bands.

    Raises
    ------
    InputError
        If bands are missing or too many, or of a type that is not a number.
    GridError
        If there is no regular grid, or the grids of several bands do not fit.
    """
    if isinstance(obj, xr.Dataset):
        inputs, band_dim = _from_dataset(obj, spec), None
    elif len(spec.raster_inputs) == 1:
        inputs, band_dim = [_single(obj, spec)], None
    else:
        inputs, band_dim = _from_bands(obj, spec)
    first = inputs[0]
    base = grid.of(first.array)
    constants: dict[int, float] = {}
    stated: float | str | None = None
    if spec.takes_vertical_error:
        index = [band.name for band in spec.inputs].index(VERTICAL_ERROR)
        if isinstance(vertical_error, xr.DataArray):
            inputs.append(_ordered(vertical_error, (index,), 1, _leading(first)))
            stated = str(vertical_error.name or "array")
        else:
            stated = constants[index] = _stated_error(vertical_error, first.array)
    for other in inputs[1:]:
        _check_fits(other, base)
    return Matched(inputs, constants, base, band_dim, stated)


def _single(da: xr.DataArray, spec: ModelSpec) -> MatchedInput:
    band = spec.raster_inputs[0]
    check_units(da, band, spec)
    return _ordered(da, (spec.inputs.index(band),), 1, None)


def _from_dataset(ds: xr.Dataset, spec: ModelSpec) -> list[MatchedInput]:
    wanted = spec.raster_inputs
    rasters = [name for name, variable in ds.data_vars.items() if variable.ndim >= 2]
    planes = named_planes(ds)
    if len(wanted) == 1 and len(rasters) == 1 and wanted[0].name not in planes:
        return [_single(ds[rasters[0]], spec)]
    check_names(spec, planes)
    _derive(planes, spec)
    base = next(band for band in wanted if band.scale == 1)
    ordered = [base, *(band for band in wanted if band is not base)]
    inputs: list[MatchedInput] = []
    for band in ordered:
        leading = _leading(inputs[0]) if inputs else None
        index = spec.inputs.index(band)
        check_units(planes[band.name], band, spec)
        inputs.append(_ordered(planes[band.name], (index,), band.scale, leading))
    return inputs


def named_planes(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """What a dataset holds, by name: its variables, and named elements of their band dimensions.

    Raises
    ------
    InputError
        If two variables hold bands of one name.
    """
    rasters = {name: ds[name] for name, found in ds.data_vars.items() if found.ndim >= 2}
    planes: dict[str, xr.DataArray] = {}
    for da in rasters.values():
        band_dim = band_dimension(da)
        for k, name in enumerate(() if band_dim is None else band_names(da, band_dim)):
            if name in planes and name not in rasters:
                raise InputError(
                    f"both {planes[name].name!r} and {da.name!r} hold a band {name!r}. Drop one: "
                    "ds.drop_vars(...)."
                )
            planes[name] = da.isel({band_dim: k}, drop=True)
    return {**planes, **{str(name): da for name, da in rasters.items()}}


def band_dimension(da: xr.DataArray) -> Hashable | None:
    """The dimension along which bands lie, if it has a customary name."""
    return next((dim for dim in da.dims if str(dim).lower() in BAND_DIMS), None)


def needed_names(spec: ModelSpec, names: Collection[str]) -> list[str]:
    """Bands that must be there for a model to run on a dataset of these."""
    needed = [band.name for band in spec.raster_inputs]
    if NDVI in needed and NDVI not in names:
        needed.remove(NDVI)
        needed += [name for name in _NDVI_OF if name not in needed]
    return [name for name in needed if name != NODATA_MASK or name in names]


def check_names(spec: ModelSpec, names: Collection[str]) -> None:
    """Refuse a dataset that has not all bands of a model.

    Raises
    ------
    InputError
        Which are missing, and which there are.
    """
    missing = [name for name in needed_names(spec, names) if name not in names]
    if missing:
        raise InputError(
            f"model {spec.name!r} needs the bands {', '.join(b.name for b in spec.raster_inputs)}; "
            f"the dataset has no {', '.join(missing)} (it has {', '.join(names) or 'none'}). "
            "Rename variables: ds.rename(...); or name the elements of a band dimension: "
            "ds.assign_coords(band=[...])."
        )


def _derive(planes: dict[str, xr.DataArray], spec: ModelSpec) -> None:
    """Add the bands that follow from others, where they are wanted and not there."""
    bands = {band.name: band for band in spec.raster_inputs}
    if NDVI in bands and NDVI not in planes:
        planes[NDVI] = ndvi(*(planes[name] for name in _NDVI_OF))
    if NODATA_MASK in bands and NODATA_MASK not in planes:
        scale = bands[NODATA_MASK].scale
        alike = [n for n, band in bands.items() if band.scale == scale and n != NODATA_MASK]
        planes[NODATA_MASK] = nodata_mask(*(planes[name] for name in alike))


def _from_bands(da: xr.DataArray, spec: ModelSpec) -> tuple[list[MatchedInput], Hashable]:
    wanted = [band.name for band in spec.raster_inputs]
    spatial = grid.spatial_dims(da)
    candidates = [dim for dim in da.dims if dim not in spatial]
    named = [dim for dim in candidates if str(dim).lower() in BAND_DIMS]
    fitting = named or [dim for dim in candidates if da.sizes[dim] == len(wanted)]
    if not fitting:
        raise InputError(
            f"model {spec.name!r} takes {len(wanted)} bands ({', '.join(wanted)}); the array "
            f"{tuple(da.dims)} has no band dimension."
        )
    band_dim = fitting[0]
    names = [name.lower() for name in band_names(da, band_dim)]
    known = [name for name in wanted if name.lower() in names]
    if len(known) == len(wanted):
        da = da.isel({band_dim: [names.index(name.lower()) for name in wanted]})
    elif known:
        missing = [name for name in wanted if name not in known]
        raise InputError(
            f"model {spec.name!r} takes the bands {', '.join(wanted)}; the array has "
            f"{', '.join(known)}, and no {', '.join(missing)} (its bands are {', '.join(names)}). "
            f"Name or choose them: da.assign_coords({band_dim}=[...])."
        )
    elif da.sizes[band_dim] != len(wanted):
        raise InputError(
            f"model {spec.name!r} takes {len(wanted)} bands ({', '.join(wanted)}); the array has "
            f"{da.sizes[band_dim]} along {band_dim!r}. Choose them: da.isel({band_dim}=[...])."
        )
    for band in spec.raster_inputs:
        check_units(da, band, spec)
    indices = tuple(spec.inputs.index(band) for band in spec.raster_inputs)
    matched = _ordered(da, indices, 1, None, band_dim)
    return [matched], band_dim


def band_names(da: xr.DataArray, band_dim: Hashable) -> list[str]:
    """Names of the elements of a band dimension; none where they have none of their own.

    Texts along it; or a list in the attribute ``long_name``, where rioxarray puts the descriptions
    of a file's bands, which it numbers. Descriptions that are not all different name nothing.
    """
    if band_dim in da.coords and da[band_dim].dtype.kind in "UOT":
        return [str(name) for name in da[band_dim].values]
    said = da.attrs.get("long_name", ())
    named = isinstance(said, tuple | list) and len(set(said)) == len(said) == da.sizes[band_dim]
    return list(map(str, said)) if named else []


def _ordered(
    da: xr.DataArray,
    bands: tuple[int, ...],
    scale: int,
    leading: Sequence[Hashable] | None,
    band_dim: Hashable | None = None,
) -> MatchedInput:
    """Put dimensions into the order (leading..., [band], y, x) and note what the array brings."""
    check_values(da)
    y_dim, x_dim = grid.spatial_dims(da)
    lead = [dim for dim in da.dims if dim not in (y_dim, x_dim, band_dim)]
    if leading is not None and lead and lead != list(leading):
        raise InputError(
            f"{da.name!r} has the extra dimensions {tuple(lead)}; they must be those of the first "
            f"input, {tuple(leading)}, or none."
        )
    order = [*lead, *([band_dim] if band_dim is not None else []), y_dim, x_dim]
    block = BlockInput(bands, scale, len(lead), band_dim is not None, void_values(da))
    return MatchedInput(da if list(da.dims) == order else da.transpose(*order), block)


def _leading(matched: MatchedInput) -> list[Hashable]:
    return list(matched.array.dims[: matched.block.leading])


def _check_fits(other: MatchedInput, base: Grid) -> None:
    found, wanted = grid.of(other.array), base.refined(other.block.scale)
    if not found.matches(wanted):
        raise GridError(
            f"{other.array.name!r} is on another grid than the first input: {found.describe()}; "
            f"expected {wanted.describe()}. Match it first: xdemsr.match_grid(other, first)."
        )


def _stated_error(value: Any, da: xr.DataArray) -> float:
    if isinstance(value, str):
        if value != "auto":
            raise InputError(
                f"vertical_error={value!r} must be 'auto', a standard error in the elevations' own "
                "unit, or a DataArray of them."
            )
        # The standard deviation of rounding to a step.
        return storage_step(da) / math.sqrt(12)
    if not isinstance(value, Real) or value is True or value is False:
        raise InputError(
            f"vertical_error={value!r} must be 'auto', a number, or a DataArray on the same grid."
        )
    error = float(value)
    if not (math.isfinite(error) and error >= 0):
        raise InputError(f"vertical_error={value!r} must be a finite number, 0 or more.")
    return error
