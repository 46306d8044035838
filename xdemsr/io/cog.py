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
from xdemsr.bands import BAND_DIMS
from xdemsr.errors import InputError
from xdemsr.io.paths import local
from xdemsr.storage import unpacked

_BLOCK = 512
#: Types that a GeoTIFF has not, and those that hold as much.
_STORED_AS = {np.dtype(bool): np.dtype(np.uint8), np.dtype(np.float16): np.dtype(np.float32)}


def write_cog(da: xr.DataArray, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a raster as a Cloud-Optimized GeoTIFF with overviews, never the whole in memory.

    Parameters
    ----------
    da : DataArray, dims (y, x) or (band, y, x)
        Lazy arrays are computed chunk by chunk. The names of bands become their descriptions. Other
        dimensions may have one element each.
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
        If the array is not one raster, of one band or several, on a regular grid.
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
    raster = _layers(da, found).rio.set_spatial_dims(found.x_dim, found.y_dim)
    raster.encoding = unpacked(da.encoding)
    if raster.dtype in _STORED_AS:
        raster = raster.astype(_STORED_AS[raster.dtype])
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
            # GDAL takes the fourth of four bands of 8 bits for opacity, and averages by it.
            ALPHA="YES" if "alpha" in _names(raster) else "UNSPECIFIED",
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


def _layers(da: xr.DataArray, found: grid.Grid) -> xr.DataArray:
    """The array as (y, x), or as (band, y, x) with the bands' names among its attributes."""
    dims = [dim for dim in da.dims if dim in BAND_DIMS and da.sizes[dim] > 1]
    others = {dim: 0 for dim in da.dims if dim not in (*dims, found.y_dim, found.x_dim)}
    if len(dims) != 1 or any(da.sizes[dim] != 1 for dim in others):
        return _named(grid.plane(da), 1)
    layers = da.isel(others, drop=True).transpose(dims[0], found.y_dim, found.x_dim)
    if dims[0] in da.coords and da[dims[0]].dtype.kind in "UOT":
        names = tuple(map(str, da[dims[0]].values))
        return layers.drop_vars(dims[0]).assign_attrs(long_name=names)
    return _named(layers, layers.sizes[dims[0]])


def _named(raster: xr.DataArray, count: int) -> xr.DataArray:
    """Without the names of bands that were there before some of them were chosen."""
    names = _names(raster)
    if not names or len(names) == count:
        return raster
    attrs = {key: value for key, value in raster.attrs.items() if key != "long_name"}
    chosen = raster.copy(deep=False)
    chosen.attrs = attrs
    return chosen


def _names(raster: xr.DataArray) -> tuple[str, ...]:
    """Names of bands among the attributes; none where there is one name for all."""
    said = raster.attrs.get("long_name", ())
    return tuple(map(str, said)) if isinstance(said, tuple | list) else ()
