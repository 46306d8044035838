"""Writing Cloud-Optimized GeoTIFF."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from dask.utils import get_scheduler_lock

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.io.paths import local
from xdemsr.storage import unpacked

_BLOCK = 512


def write_cog(da: xr.DataArray, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a raster as a Cloud-Optimized GeoTIFF with overviews, never the whole in memory.

    Parameters
    ----------
    da : DataArray, dims (y, x)
        Lazy arrays are computed chunk by chunk. Other dimensions may have one element each.
    path : str or Path
        Of the file.
    overwrite : bool, optional
        Replace a file that is there.

    Returns
    -------
    Path
        Of the file: deflate, floating-point predictor, 512 px blocks, averaged overviews. Voids are
        the ``_FillValue`` of the array's encoding, or NaN.

    Raises
    ------
    FileExistsError
        If there is a file and ``overwrite`` is not given.
    GridError
        If the array is not one raster on a regular grid.
    InputError
        If ``path`` is a URL or a folder, or ``da`` not a DataArray.

    Notes
    -----
    GDAL can make such a file only from a finished one, so a plain GeoTIFF is written beside it
    first, uncompressed, and removed. Workers of a cluster must see the folder under the same path.
    """
    path = local(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; replace it with overwrite=True (--overwrite).")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file.")
    found = grid.of(grid.single(da))
    path.parent.mkdir(parents=True, exist_ok=True)
    raster = grid.plane(da).rio.set_spatial_dims(found.x_dim, found.y_dim)
    raster.encoding = unpacked(da.encoding)
    if raster.dtype.kind == "b":
        raster = raster.astype(np.uint8)
    if raster.dtype.kind == "f" and raster.rio.encoded_nodata is None:
        raster = raster.rio.write_nodata(math.nan, encoded=True)
    predictor = 3 if np.dtype(raster.dtype).kind == "f" else 2
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".xdemsr-") as folder:
        plain, made = Path(folder) / "plain.tif", Path(folder) / "cog.tif"
        raster.rio.to_raster(
            plain,
            # One writer at a time; on a cluster that is the cluster's own lock.
            lock=get_scheduler_lock(),
            tiled=True,
            blockxsize=_BLOCK,
            blockysize=_BLOCK,
            BIGTIFF="IF_SAFER",
        )
        with rasterio.open(plain, "r+") as file:
            # rioxarray works the pixel size out from coordinates, an ulp or two off.
            file.transform = found.geobox.affine
        rasterio.shutil.copy(
            plain,
            made,
            driver="COG",
            compress="DEFLATE",
            predictor=predictor,
            blocksize=_BLOCK,
            overview_resampling="average",
            num_threads="ALL_CPUS",
            BIGTIFF="IF_SAFER",
        )
        made.replace(path)
    return path
