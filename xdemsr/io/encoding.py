"""Rasters as they are to lie in a Zarr store: names, chunks, encoding."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numcodecs import Zstd
from xarray.conventions import encode_cf_variable

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.io.chunk_bytes import compressors
from xdemsr.storage import unpacked

#: Encoding that says what the numbers are; how the source was stored does not matter here.
_KEPT_ENCODING = ("_FillValue", "dtype")
_KEPT_COORDINATE_ENCODING = (*_KEPT_ENCODING, "scale_factor", "add_offset", "units", "calendar")

#: Attribute by which a raster names those that say something of it.
_ANCILLARY = "ancillary_variables"

#: Pixels along the chunks of an array that has none.
_CHUNK = 2048

#: Level 1: the default takes three times as long for one or two per cent.
_ZSTD_LEVEL = 1

Sizes = int | tuple[int, int] | None


def laid_out(obj: Any, chunks: Sizes, zarr_format: int) -> xr.Dataset:
    """The rasters as a dataset of lazy arrays in even chunks, with the encoding they are stored by.

    Parameters
    ----------
    obj : DataArray or Dataset
        One raster, or one with its ancillary variables.
    chunks : int, (int, int) or None
        Size of the store's chunks along y and x. The arrays' own chunks are made whole multiples of
        it: each is a shard then (in Zarr 2, which has none, several chunks).
    zarr_format : int

    Raises
    ------
    InputError
        If ``chunks`` is no size, or a name has a slash.
    """
    rasters = _rasters(obj)
    for name in rasters:
        if "/" in str(name):
            raise InputError(
                f"the name {name!r} has a slash, which a store takes for a folder. Rename: "
                "da.rename(...)."
            )
    inner = _pair(chunks)
    lazy = {name: _evenly_chunked(raster, inner) for name, raster in rasters.items()}
    encodings = {
        name: _encoding(raster, lazy[name], inner, zarr_format) for name, raster in rasters.items()
    }
    # A shallow copy: the caller's encodings stay as they are.
    ds = xr.Dataset(lazy, attrs=obj.attrs if isinstance(obj, xr.Dataset) else None).copy()
    for coordinate in list(ds.coords.values()):
        kept = {k: v for k, v in coordinate.encoding.items() if k in _KEPT_COORDINATE_ENCODING}
        coordinate.encoding = kept
        if coordinate.dtype.kind == "U":
            # Zarr 3 has a type for text of any length, and none for text of one length.
            ds[coordinate.name] = coordinate.astype(object)
    for name, encoding in encodings.items():
        if "grid_mapping" in encoding:
            ds[name].attrs.pop("grid_mapping", None)
        ds[name].encoding = encoding
    return ds


def stored_values(raster: xr.DataArray) -> da.Array:
    """The numbers that lie in the store: lazy, void values and types as the encoding says."""
    # The void value of floating point is NaN unless something else is said.
    values: da.Array = encode_cf_variable(raster.variable, name=raster.name).data
    return values


def void_of(raster: xr.DataArray) -> Any:
    """The value that means missing in the store; None where there is none."""
    stored = raster.encoding
    floating = np.dtype(stored.get("dtype", raster.dtype)).kind == "f"
    declared = raster.attrs.get("_FillValue", np.nan if floating else None)
    return stored.get("_FillValue", declared)


def _rasters(obj: Any) -> dict[Hashable, xr.DataArray]:
    """An array by its name; of a dataset, its one raster and what is said of that."""
    if not isinstance(obj, xr.Dataset):
        raster = grid.single(obj)
        return {raster.name or "elevation": raster}
    said = " ".join(str(raster.attrs.get(_ANCILLARY, "")) for raster in obj.data_vars.values())
    if sum(f" {name} " not in f" {said} " for name in obj.data_vars) != 1:
        grid.single(obj)
    return dict(obj.data_vars)


def _pair(chunks: Sizes) -> tuple[int, int] | None:
    pair = chunks if isinstance(chunks, tuple | list) else (chunks, chunks)
    if chunks is None:
        return None
    if len(pair) != 2 or not all(isinstance(size, int) and size > 0 for size in pair):
        raise InputError(
            f"chunks={chunks!r} must be the size of the store's chunks in pixels: an int or "
            "(ny, nx)."
        )
    return int(pair[0]), int(pair[1])  # type: ignore[arg-type]


def _evenly_chunked(raster: xr.DataArray, inner: tuple[int, int] | None) -> xr.DataArray:
    """Chunks of one size but for the last, as a store needs them and a slice may not have."""
    found = grid.of(raster)
    if raster.chunks is None:
        sizes = dict.fromkeys(raster.dims, 1) | dict.fromkeys((found.y_dim, found.x_dim), _CHUNK)
        raster = raster.chunk(sizes)
    wanted = {dim: max(chunks) for dim, chunks in raster.chunksizes.items() if not _even(chunks)}
    if inner is not None:
        for dim, size in zip((found.y_dim, found.x_dim), inner, strict=True):
            # As many whole chunks of the store as fit in one of the array, and one at least.
            most = max(raster.chunksizes[dim])
            wanted[dim] = max(most // size, 1) * size
    return raster.chunk(wanted) if wanted else raster


def _even(chunks: tuple[int, ...]) -> bool:
    return all(size == chunks[0] for size in chunks[:-1]) and chunks[-1] <= chunks[0]


def _encoding(
    raster: xr.DataArray, lazy: xr.DataArray, inner: tuple[int, int] | None, zarr_format: int
) -> dict[str, Any]:
    found, stored = grid.of(raster), unpacked(raster.encoding)
    encoding: dict[str, Any] = {key: stored[key] for key in _KEPT_ENCODING if key in stored}
    if found.grid_mapping is not None:
        encoding["grid_mapping"] = found.grid_mapping
    regions = tuple(sizes[0] for sizes in lazy.chunksizes.values())
    if inner is None:
        encoding["chunks"] = regions
    else:
        along = dict(zip((found.y_dim, found.x_dim), inner, strict=True))
        sizes = [along.get(dim, size) for dim, size in zip(lazy.dims, regions, strict=True)]
        encoding["chunks"] = tuple(sizes)
        if zarr_format == 3:
            # A shard holds whole chunks, beyond the border of the array too.
            pairs = zip(regions, sizes, strict=True)
            encoding["shards"] = tuple(-(-region // size) * size for region, size in pairs)
    if zarr_format == 2:
        # The one checksum that Zarr 2 has.
        encoding["compressors"] = [Zstd(level=_ZSTD_LEVEL, checksum=True)]
    else:
        encoding["compressors"] = compressors()
        # What was not written reads as missing, not as zero.
        void = encoding.get("_FillValue", raster.attrs.get("_FillValue"))
        if void is not None:
            encoding["fill_value"] = void
    return encoding
