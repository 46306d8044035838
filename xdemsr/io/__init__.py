"""Rasters in and out of files, piece by piece."""

from pathlib import Path

import xarray as xr

from xdemsr.errors import InputError
from xdemsr.grid import XarrayObject
from xdemsr.io.cog import write_cog
from xdemsr.io.read import open_raster as open
from xdemsr.io.zarr import write_zarr

__all__ = ["open", "write", "write_cog", "write_zarr"]

_ENDINGS = (".zarr", ".tif", ".tiff")


def write(da: XarrayObject, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a raster in the format its name ends in: ``.zarr``, or ``.tif`` for a COG.

    Raises
    ------
    InputError
        If it ends in something else, or a dataset is to go into a GeoTIFF.
    """
    ending = Path(path).suffix.lower()
    if ending == ".zarr":
        return write_zarr(da, path, overwrite=overwrite)
    if ending not in _ENDINGS:
        raise InputError(f"cannot write {path}: its name must end in {', '.join(_ENDINGS)}.")
    if isinstance(da, xr.Dataset):
        raise InputError(
            f"a GeoTIFF holds one raster, not the variables {', '.join(map(str, da.data_vars))}. "
            "Write a store, ending in .zarr, or one of them."
        )
    return write_cog(da, path, overwrite=overwrite)
