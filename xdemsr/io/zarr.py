"""Writing Zarr."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import xarray as xr
from zarr.codecs import ZstdCodec

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.grid import XarrayObject
from xdemsr.io.paths import local
from xdemsr.storage import unpacked

#: The mantissas of elevations are noise to a compressor: the default level takes three times as
#: long for one or two per cent.
_CODEC = ZstdCodec(level=1)

#: Encoding that says what the numbers are; how the source was stored does not matter here.
_KEPT_ENCODING = ("_FillValue", "dtype")
_KEPT_COORDINATE_ENCODING = (*_KEPT_ENCODING, "scale_factor", "add_offset", "units", "calendar")

#: Attribute by which a raster names those that say something of it.
_ANCILLARY = "ancillary_variables"

#: Files that make a folder a Zarr store, of version 3 or 2.
_MARKS = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


def write_zarr(da: XarrayObject, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a raster into a Zarr store, chunk by chunk.

    Parameters
    ----------
    da : DataArray or Dataset
        Lazy arrays are computed chunk by chunk. A dataset is one raster with its ancillary
        variables, as :func:`xdemsr.upscale` answers with ``uncertainty=True``.
    path : str or Path
        Of the store.
    overwrite : bool, optional
        Replace a store that is there.

    Returns
    -------
    Path
        Of the store. ``xarray.open_zarr(path, decode_coords="all")`` and GDAL read it back with
        its CRS and transform.

    Raises
    ------
    FileExistsError
        If there is a store and ``overwrite`` is not given.
    InputError
        If ``path`` is a URL, what is to be replaced is not a Zarr store, or ``da`` not one raster.

    Notes
    -----
    The store is written beside its place and put there when it is complete: an array may be written
    over the store it is read from, and a run that fails leaves what was there as it was.
    """
    path = local(path)
    dataset = _dataset(da)
    if path.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists; replace it with overwrite=True (--overwrite).")
        if not any((path / name).is_file() for name in _MARKS):
            raise InputError(f"{path} is not a Zarr store, and is not replaced. Give another name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".xdemsr-") as folder:
        made, old = Path(folder) / "new", Path(folder) / "old"
        with warnings.catch_warnings():
            # Consolidated metadata is an extension of Zarr 3; readers without it are not hindered.
            warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
            # Of texts, early releases of zarr 3 say so twice.
            warnings.filterwarnings("ignore", "The codec `vlen-utf8` is currently not part")
            warnings.filterwarnings("ignore", "The dtype .* is currently not part")
            dataset.to_zarr(made, mode="w", consolidated=True)
        if path.exists():
            path.rename(old)
        try:
            made.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    return path


def _rasters(obj: Any) -> dict[Hashable, xr.DataArray]:
    """An array by its name; of a dataset, its one raster and what is said of that."""
    if not isinstance(obj, xr.Dataset):
        da = grid.single(obj)
        return {da.name or "elevation": da}
    said = " ".join(str(da.attrs.get(_ANCILLARY, "")) for da in obj.data_vars.values())
    if sum(f" {name} " not in f" {said} " for name in obj.data_vars) != 1:
        grid.single(obj)
    return dict(obj.data_vars)


def _dataset(obj: Any) -> xr.Dataset:
    """The rasters as a dataset, encoded as they are to be stored."""
    rasters = _rasters(obj)
    for name in rasters:
        if "/" in str(name):
            raise InputError(
                f"the name {name!r} has a slash, which a store takes for a folder. Rename: "
                "da.rename(...)."
            )
    encodings = {name: _encoding(da) for name, da in rasters.items()}
    # A shallow copy: the caller's encodings stay as they are.
    ds = xr.Dataset({name: _evenly_chunked(da) for name, da in rasters.items()}).copy()
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


def _encoding(da: xr.DataArray) -> dict[str, Any]:
    found, stored = grid.of(da), unpacked(da.encoding)
    encoding: dict[str, Any] = {key: stored[key] for key in _KEPT_ENCODING if key in stored}
    if found.grid_mapping is not None:
        encoding["grid_mapping"] = found.grid_mapping
    return {**encoding, "compressors": [_CODEC]}


def _evenly_chunked(da: xr.DataArray) -> xr.DataArray:
    """Chunks of one size but for the last, as a store needs them and a slice may not have."""
    sizes = {dim: max(chunks) for dim, chunks in da.chunksizes.items() if not _even(chunks)}
    return da.chunk(sizes) if sizes else da


def _even(chunks: tuple[int, ...]) -> bool:
    return all(size == chunks[0] for size in chunks[:-1]) and chunks[-1] <= chunks[0]
