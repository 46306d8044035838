"""Rasters in and out of files, piece by piece."""

from pathlib import Path

import xarray as xr

from xdemsr.errors import InputError
from xdemsr.io.cog import write_cog
from xdemsr.io.read import open_raster as open
from xdemsr.io.zarr import write_zarr

__all__ = ["open", "write", "write_cog", "write_zarr"]

_WRITERS = {".zarr": write_zarr, ".tif": write_cog, ".tiff": write_cog}


def write(da: xr.DataArray, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a raster in the format its name ends in: ``.zarr``, or ``.tif`` for a COG.

    Raises
    ------
    InputError
        If it ends in something else.
    """
    writer = _WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise InputError(f"cannot write {path}: its name must end in {', '.join(_WRITERS)}.")
    return writer(da, path, overwrite=overwrite)
