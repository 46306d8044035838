"""Opening rasters lazily."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from xdemsr.errors import InputError
from xdemsr.io.gdal import Chunks, open_gdal
from xdemsr.io.groups import chosen, is_store, open_group
from xdemsr.io.paths import is_remote, lost_slash
from xdemsr.io.stores import StoreLike


def open_raster(
    path: StoreLike,
    variable: str | None = None,
    *,
    chunks: Chunks = "auto",
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Open a GeoTIFF, or any raster GDAL reads, or a Zarr store, without reading a pixel.

    Parameters
    ----------
    path : str, Path, zarr Store or obstore store
        What has Zarr's metadata, or a name ending in ``.zarr``, is a Zarr store: a folder, a zip
        file, a URL. Anything else goes to GDAL, its virtual paths (``/vsicurl/...``, ``https://...``,
        ``zip://...``) included.
    variable : str, optional
        Which variable of a store; needed where it has several on a grid. With a slash, of a group:
        ``"2/elevation"``.
    chunks : int, (int, int) or "auto", optional
        Size of the chunks along y and x. By default those of the store, or of a file whole blocks,
        about 1024 pixels.
    storage_options : mapping, optional
        Of the file system that fsspec finds for a URL; what is needed to read it goes to the
        workers with the tasks, and stands in no name.

    Returns
    -------
    DataArray, dims (y, x) or (band, y, x)
        Lazy, in physical units. Voids are NaN in floating-point rasters and in stores; in integer
        ones that GDAL reads they keep their value, declared in the attributes. Packed numbers
        (``scale_factor``, ``add_offset``) are unpacked. The CRS is that of CF's grid mapping, or
        of the conventions ``proj:`` and ``spatial:``.

    Raises
    ------
    InputError
        If there is nothing at ``path``, the variable must be named, or the store is unfinished.

    Notes
    -----
    The name of the dask array is the same in every process, and another when the file is another:
    it depends on path, size and time of files, on the tags of what is behind a URL. Where a server
    tells neither tag nor date, the name is new each time.

    Examples
    --------
    >>> import tempfile
    >>> import xdemsr
    >>> path = tempfile.mkdtemp() + "/a.tif"
    >>> _ = xdemsr.write_cog(xdemsr.synthetic.terrain((600, 800), gsd=30.0), path)
    >>> xdemsr.open(path).data.name == xdemsr.open(path).data.name
    True
    """
    error = lost_slash(path)
    if error is not None:
        raise error
    if not isinstance(path, str | os.PathLike):
        return open_group(path, variable, chunks, storage_options)
    if not is_remote(path) and not Path(path).exists():
        raise InputError(f"there is no raster at {path}.")
    if is_store(path, storage_options):
        return open_group(path, variable, chunks, storage_options)
    raster = open_gdal(path, chunks, storage_options)
    if isinstance(raster, xr.Dataset):
        return chosen(raster, variable, path)
    if raster.sizes.get("band") == 1:
        raster = raster.isel(band=0, drop=True)
    return raster if raster.dtype.kind in "iu" else _masked(raster)


def _masked(raster: xr.DataArray) -> xr.DataArray:
    """NaN for the void value, which moves to the encoding as rioxarray's own masking does."""
    nodata = raster.rio.nodata
    if nodata is None or raster.rio.encoded_nodata is not None:
        return raster
    masked = raster.where(raster != raster.dtype.type(nodata))
    masked.attrs = {key: value for key, value in raster.attrs.items() if key != "_FillValue"}
    masked.encoding = {**raster.encoding, "_FillValue": nodata}
    return masked
