"""Rasters in and out of files, piece by piece."""

from pathlib import Path

import xarray as xr

from xdemsr.errors import InputError
from xdemsr.grid import XarrayObject
from xdemsr.io.cog import write_cog
from xdemsr.io.read import open_raster as open
from xdemsr.io.zarr import Missing, missing, write_zarr

__all__ = ["Missing", "missing", "open", "write", "write_cog", "write_zarr"]

_ENDINGS = (".zarr", ".tif", ".tiff")


def write(
    da: XarrayObject,
    target: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    overviews: bool = False,
) -> str | Path:
    """Write a raster in the format its name ends in: ``.zarr``, or ``.tif`` for a COG.

    Raises
    ------
    InputError
        If it ends in something else, a GeoTIFF is to be gone on with, or a dataset is to go into
        one.
    """
    ending = Path(target).suffix.lower()
    if ending == ".zarr":
        write_zarr(da, target, overwrite=overwrite, resume=resume, overviews=overviews)
        return target
    if ending not in _ENDINGS:
        raise InputError(f"cannot write {target}: its name must end in {', '.join(_ENDINGS)}.")
    if resume:
        raise InputError(
            f"{target} is a GeoTIFF: it is there when it is complete, and cannot be gone on with. "
            "Leave resume out, or write a store, ending in .zarr."
        )
    if isinstance(da, xr.Dataset):
        raise InputError(
            f"a GeoTIFF holds one raster, not the variables {', '.join(map(str, da.data_vars))}. "
            "Write a store, ending in .zarr, or one of them."
        )
    return write_cog(da, target, overwrite=overwrite)
