"""Opening rasters lazily."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import rioxarray
import xarray as xr
from rasterio.errors import RasterioIOError

from xdemsr.errors import InputError
from xdemsr.io.paths import is_remote
from xdemsr.storage import is_packed

_CHUNK = 1024


def open_raster(
    path: str | Path, variable: str | None = None, *, chunks: int = _CHUNK
) -> xr.DataArray:
    """Open a GeoTIFF, or any raster GDAL reads, or a Zarr store, without reading a pixel.

    Parameters
    ----------
    path : str or Path
        A folder or URL ending in ``.zarr`` is a Zarr store; anything else goes to GDAL, its virtual
        paths (``/vsicurl/...``, ``https://...``, ``zip://...``) included.
    variable : str, optional
        Which variable of a store; needed where it has several on a grid.
    chunks : int, optional
        Size of the chunks along y and x. A Zarr store keeps its own.

    Returns
    -------
    DataArray, dims (y, x) or (band, y, x)
        Lazy, in physical units. Voids are NaN in floating-point rasters and in stores; in integer
        ones that GDAL reads they keep their value, declared in the attributes. Packed numbers
        (``scale_factor``, ``add_offset``) are unpacked.

    Raises
    ------
    InputError
        If there is nothing at ``path``, or the variable must be named.
    """
    if not is_remote(path) and not Path(path).exists():
        raise InputError(f"there is no raster at {path}.")
    if Path(path).suffix == ".zarr":
        return _variable(_open_store(path), variable, path)
    raster = _open_gdal(path, chunks)
    if isinstance(raster, xr.Dataset):
        return _variable(raster, variable, path)
    if isinstance(raster, list):
        raise InputError(f"{path} holds several rasters of different shapes; open one with GDAL.")
    if raster.sizes.get("band") == 1:
        raster = raster.isel(band=0, drop=True)
    return raster if raster.dtype.kind in "iu" else _masked(raster)


def _open_store(path: str | Path) -> xr.Dataset:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated")
            store: xr.Dataset = xr.open_zarr(path, decode_coords="all")
    except (OSError, ImportError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be opened as a Zarr store: {error}") from error
    return store


def _open_gdal(path: str | Path, chunks: int) -> xr.DataArray | xr.Dataset | list[xr.Dataset]:
    options: dict[str, Any] = {"chunks": {"x": chunks, "y": chunks}, "lock": False}
    try:
        raster = rioxarray.open_rasterio(path, **options)
        if isinstance(raster, xr.DataArray) and is_packed(raster.attrs):
            raster = rioxarray.open_rasterio(path, mask_and_scale=True, **options)
    except RasterioIOError as error:
        raise InputError(f"GDAL cannot open {path}: {error}") from error
    return raster


def _variable(ds: xr.Dataset, variable: str | None, path: str | Path) -> xr.DataArray:
    names = sorted(str(name) for name, array in ds.data_vars.items() if array.ndim >= 2)
    if variable is None and len(names) == 1:
        variable = names[0]
    if variable not in names:
        raise InputError(
            f"{path} holds the variables {', '.join(names) or 'none'}; say which: variable=... "
            "(--variable)."
        )
    return ds[variable]


def _masked(raster: xr.DataArray) -> xr.DataArray:
    """NaN for the void value, which moves to the encoding as rioxarray's own masking does."""
    nodata = raster.rio.nodata
    if nodata is None or raster.rio.encoded_nodata is not None:
        return raster
    masked = raster.where(raster != raster.dtype.type(nodata))
    masked.attrs = {key: value for key, value in raster.attrs.items() if key != "_FillValue"}
    masked.encoding = {**raster.encoding, "_FillValue": nodata}
    return masked
