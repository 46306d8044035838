"""Writing Cloud-Optimized GeoTIFF."""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from xdemsr import grid
from xdemsr.bands import BAND_DIMS
from xdemsr.errors import InputError
from xdemsr.io.encoding import stored_values
from xdemsr.io.overviews import PIECE, STORED, Pyramid, compressing, keys_of, predictor
from xdemsr.io.paths import is_remote, local, lost_slash, public
from xdemsr.io.remote import filesystem
from xdemsr.io.scratch import Place, Scratch, collect
from xdemsr.io.tiff import Image, Tags, framed, header, read_tags, resized
from xdemsr.storage import unpacked

if TYPE_CHECKING:
    from distributed import Client

#: Types that a GeoTIFF has not, and those that hold as much.
_STORED_AS = {np.dtype(bool): np.dtype(np.uint8), np.dtype(np.float16): np.dtype(np.float32)}

_Item = TypeVar("_Item")


class Labels(NamedTuple):
    """What GDAL makes of a raster's labels: tags of a file, the void value, the type."""

    tags: Tags
    void: float | None
    dtype: str


def write_cog(
    da: xr.DataArray,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    client: Client | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Path | str:
    """Write a raster as a Cloud-Optimized GeoTIFF with overviews, never the whole in memory.

    Workers compute and compress; the file is put together here, once all of it is there.

    Parameters
    ----------
    da : DataArray, dims (y, x) or (band, y, x)
        Lazy arrays are computed chunk by chunk. The names of bands become their descriptions. Other
        dimensions may have one element each.
    target : str or Path
        Of the file: a path, or a URL (``s3://bucket/fine.tif``).
    overwrite : bool, optional
        Replace a file that is there. Until the new one is complete, the old one stays.
    client : distributed.Client, optional
        Who computes. By default the client that is there, else dask's own scheduler.
    storage_options : mapping, optional
        Of the file system that fsspec finds for a URL.

    Returns
    -------
    Path, or ``target`` where it is a URL
        Of the file: deflate, floating-point predictor, 512 px tiles, overviews of means of 2 x 2
        valid pixels, each band by itself. Voids are the ``_FillValue`` of the array's encoding, or
        NaN. A BigTIFF where it takes 4 GB.

    Raises
    ------
    FileExistsError
        If there is a file and ``overwrite`` is not given.
    GridError
        If the array is not one raster, of one band or several, on a regular grid.
    InputError
        If ``target`` is a folder or cannot be written to, or ``da`` not a DataArray.

    Notes
    -----
    Compressed pieces wait on the disk, in the folder of the file, or for a URL in the folder for
    temporary files (``TMPDIR``): as much as the file takes, twice at the end. Workers that do not
    see that folder hand them over through dask; credentials are needed here alone.

    Examples
    --------
    >>> import tempfile
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=30.0).chunk(16)
    >>> path = xdemsr.write_cog(dem.demsr.upscale(4, "bicubic"), tempfile.mkdtemp() + "/fine.tif")
    >>> xdemsr.open(path).shape
    (96, 128)
    """
    error = lost_slash(target)
    if error is not None:
        raise error
    if is_remote(target):
        return _upload(da, str(target), overwrite, client, storage_options)
    if storage_options:
        raise InputError(f"storage_options are for URLs; {target} is none. Leave them out.")
    path = local(target)
    if path.exists() and not overwrite:
        raise _taken(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file.")
    raster, affine = _prepared(da)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".xdemsr-") as folder:
        _write(raster, affine, Path(folder), str(path), client).replace(path)
    return path


def _upload(
    da: xr.DataArray,
    url: str,
    overwrite: bool,
    client: Client | None,
    storage_options: Mapping[str, Any] | None,
) -> str:
    files, path = filesystem(url, storage_options)
    if files.exists(path) and not overwrite:
        raise _taken(public(url))
    raster, affine = _prepared(da)
    with tempfile.TemporaryDirectory(prefix="xdemsr-") as folder:
        made = _write(raster, affine, Path(folder), public(url), client)
        with suppress(NotImplementedError):
            # In several parts; the object is there when all are.
            files.put_file(str(made), path)
            return url
    raise InputError(f"{public(url)} cannot be written to. Give a path, or a URL of a cloud.")


def _taken(name: object) -> FileExistsError:
    return FileExistsError(f"{name} exists; replace it with overwrite=True (--overwrite).")


def _prepared(da: xr.DataArray) -> tuple[xr.DataArray, Affine]:
    """The raster as (y, x) or (band, y, x), with the void value and type to be stored."""
    found = grid.of(grid.single(da))
    raster = _layers(da, found).rio.set_spatial_dims(found.x_dim, found.y_dim)
    raster.encoding = unpacked(da.encoding)
    if raster.dtype in _STORED_AS:
        raster = raster.astype(_STORED_AS[raster.dtype])
    if raster.dtype.kind == "f" and raster.rio.encoded_nodata is None:
        declared = raster.rio.nodata
        if declared is None or math.isnan(declared):
            raster = raster.rio.write_nodata(math.nan, encoded=True)
        else:
            # A file has one void value.
            raster = raster.fillna(declared)
    return raster, found.geobox.affine


def _write(
    raster: xr.DataArray, affine: Affine, folder: Path, name: str, client: Client | None
) -> Path:
    """Make the file in a folder."""
    labels = _labels(raster, affine)
    if raster.chunks is None:
        raster = raster.chunk(dict(zip(raster.dims[-2:], (PIECE, PIECE), strict=True)))
    values = stored_values(raster).astype(labels.dtype)
    pyramid = Pyramid.of(values)
    keys = keys_of(pyramid)
    scratch = Scratch.within(str(folder))
    graph = compressing(values, pyramid, keys, labels.void)
    collect(graph, keys, scratch, client, f"writing {name}")
    made = folder / "made.tif"
    _put_together(made, labels.tags, pyramid, scratch)
    return made


def _labels(raster: xr.DataArray, affine: Affine) -> Labels:
    """What GDAL says of such a raster, found out by writing one pixel of it."""
    y_dim, x_dim = raster.rio.y_dim, raster.rio.x_dim
    corner = raster.isel({y_dim: slice(1), x_dim: slice(1)})
    corner = corner.copy(data=np.zeros(corner.shape, raster.dtype))
    corner = corner.drop_vars([y_dim, x_dim], errors="ignore").rio.write_transform(affine)
    corner.encoding = raster.encoding
    with MemoryFile(ext=".tif") as memory, warnings.catch_warnings():
        # An array without a place becomes a file without one.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        corner.rio.to_raster(
            memory.name,
            **STORED,
            predictor=predictor(raster.dtype),
            # GDAL takes the fourth of four bands of 8 bits for opacity.
            ALPHA="YES" if "alpha" in _names(raster) else "UNSPECIFIED",
        )
        with rasterio.open(memory.name, "r+") as file:
            # rioxarray works the pixel size out from coordinates, an ulp or two off.
            file.transform = affine
            void, dtype = file.nodata, file.dtypes[0]
        return Labels(read_tags(memory.getbuffer()), void, dtype)


def _put_together(made: Path, tags: Tags, pyramid: Pyramid, scratch: Scratch) -> None:
    images = [
        Image(
            resized(tags, shape, overview=level > 0), list(_by_rows(pyramid, level, scratch.sizes))
        )
        for level, shape in enumerate(pyramid.shapes)
    ]
    with made.open("wb") as file:
        file.write(header(images))
        # The coarsest first: who looks at the whole reads one stretch.
        for level in reversed(range(len(images))):
            for tile in _by_rows(pyramid, level, scratch.tiles):
                file.write(framed(tile))


def _by_rows(
    pyramid: Pyramid, level: int, read: Callable[[Place], Iterable[_Item]]
) -> Iterator[_Item]:
    """What is said of each tile of a level, row by row of tiles, though it lies piece by piece."""
    rows, columns = pyramid.counts(level)
    for row in range(rows):
        places = [Place(level, row, column) for column in range(columns)]
        pieces = [iter(read(place)) for place in places]
        for _ in range(pyramid.tiles(places[0])[0]):
            for place, piece in zip(places, pieces, strict=True):
                yield from islice(piece, pyramid.tiles(place)[1])


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
