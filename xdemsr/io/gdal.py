"""Rasters that GDAL reads, opened lazily: here, behind URLs, in clouds."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import rasterio
import rioxarray
import xarray as xr
from rasterio.env import getenv, hasenv
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from xdemsr.errors import InputError
from xdemsr.io.gdal_source import CLOUDS, GdalSource, Origin, called, environment, reason
from xdemsr.io.paths import is_remote, is_web, public
from xdemsr.io.pixels import lazily
from xdemsr.io.rights import rights_of
from xdemsr.io.states import State, state_of_url
from xdemsr.storage import is_packed

Chunks = int | tuple[int, int] | str

#: Of GDAL, for what is not on this machine: what passes is tried again, what hangs is given up.
_PATIENT = {
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
}
#: Rights that rasterio does not take as options.
_RIGHTS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
#: Files whose state is asked for again with each chunk, at most.
_WATCHED = 16
#: Automatic chunks have about this many pixels along each side, and a block this many bytes.
_CHUNK, _LARGEST_BLOCK = 1024, 128 << 20


def open_gdal(
    place: str | os.PathLike[str],
    chunks: Chunks,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray | xr.Dataset:
    """What rioxarray makes of a file that GDAL reads, on dask arrays; no pixel is read.

    Raises
    ------
    InputError
        If GDAL cannot open it, or it holds rasters of several shapes.
    """
    url, scheme = str(place), urlsplit(str(place)).scheme
    if storage_options and not is_remote(url):
        raise InputError(f"storage_options are for URLs; {url} is none. Leave them out.")
    options, rights = _options(url), rights_of(scheme, storage_options)
    # Given its own name for it, rasterio asks nobody else for rights.
    path = url.replace(f"{scheme}://", CLOUDS[scheme]) if rights else url
    mark = (state_of_url(url) if is_web(url) else None) or uuid4().hex
    try:
        with environment(options | _forgotten(path, ()), rights):
            files, raster = _files(called(path, mark)), _labels(called(path, mark))
    except (RasterioError, OSError) as error:
        said = reason(error)
        raise InputError(f"GDAL cannot open {public(url)}: {said}") from None
    if isinstance(raster, list):
        raise InputError(
            f"{public(url)} holds several rasters of different shapes; open one with GDAL."
        )
    origin = Origin(url, files, storage_options)
    state = origin.state()
    # Very many parts are not looked at with each chunk.
    compared = state if len(files) <= _WATCHED else None
    options |= _forgotten(path, files)
    known = GdalSource(path, mark, origin, compared, options, rights)
    if isinstance(raster, xr.Dataset):
        arrays = {}
        for name, array in raster.data_vars.items():
            source = replace(known, path=array.encoding["source"])
            arrays[name] = _lazy(array, source, state, chunks)
        return raster.assign(arrays)
    return _lazy(raster, known, state, chunks)


def _lazy(raster: xr.DataArray, source: GdalSource, state: State, chunks: Chunks) -> xr.DataArray:
    y_dim, x_dim = raster.dims[-2:]
    block = raster.encoding["preferred_chunks"]
    blocks = (block[y_dim], block[x_dim])
    shape = (raster.sizes[y_dim], raster.sizes[x_dim])
    sizes = chunk_sizes(chunks, shape, blocks, raster.dtype.itemsize)
    along = dict(zip((y_dim, x_dim), sizes, strict=True))
    packed = is_packed(raster.encoding)
    source = replace(source, shape=raster.shape, dtype=raster.dtype, packed=packed)
    lazy = lazily(raster, source, state, along, raster.name)
    # rioxarray takes the address with all that is in it.
    lazy.encoding = {**raster.encoding, "source": public(source.path)}
    return lazy


def chunk_sizes(
    asked: Chunks, shape: tuple[int, int], blocks: tuple[int, int], pixel_bytes: int
) -> tuple[int, int]:
    """Sizes of chunks along y and x; by default about 1024 pixels each, whole blocks of the file.

    Raises
    ------
    InputError
        If what was asked for is no size.
    """
    if asked == "auto":
        return _whole_blocks(shape, blocks, pixel_bytes)
    pair = asked if isinstance(asked, tuple | list) else (asked, asked)
    if len(pair) != 2 or not all(map(_is_size, pair)):
        raise InputError(
            f"chunks={asked!r} must be 'auto', or the size of chunks in pixels: an int or (ny, nx)."
        )
    return int(pair[0]), int(pair[1])


def _is_size(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) > 0


def _whole_blocks(
    shape: tuple[int, int], blocks: tuple[int, int], pixel_bytes: int
) -> tuple[int, int]:
    height, width = blocks
    if height * width * pixel_bytes > _LARGEST_BLOCK:
        return _CHUNK, _CHUNK
    if width < shape[1]:
        return _multiple(height, _CHUNK), _multiple(width, _CHUNK)
    # Strips hold whole rows, and are read whole whatever part of them is asked for.
    return _multiple(height, _CHUNK * _CHUNK // max(width, _CHUNK)), shape[1]


def _multiple(size: int, near: int) -> int:
    return size * max(1, round(near / size))


def _options(path: str) -> dict[str, Any]:
    """Options of GDAL, as they are now and here; those that a user has set come first."""
    chosen: dict[str, Any] = dict(_PATIENT)
    if is_remote(path) and urlsplit(path).path.lower().endswith((".tif", ".tiff")):
        # What belongs to it is in it.
        chosen["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    said = getenv() if hasenv() else {}
    chosen |= {key: value for key, value in said.items() if key not in _RIGHTS}
    return {key: value for key, value in chosen.items() if key not in os.environ}


def _forgotten(path: str, files: tuple[str, ...]) -> dict[str, str]:
    """The option that lets GDAL forget what it has read of objects that keep their names."""
    if is_web(path):
        return {}
    far = [name for name in (path, *files) if re.match(r"/vsi(curl|s3|gs|az)/|(s3|gs|az)://", name)]
    names = dict.fromkeys(re.sub(r"^(s3|gs|az)://", r"/vsi\1/", name) for name in far)
    return {"CPL_VSIL_CURL_NON_CACHED": ":".join(names)} if names else {}


def _files(path: str) -> tuple[str, ...]:
    """What a raster consists of, as far as GDAL knows."""
    with warnings.catch_warnings():
        # rioxarray says so, of what has no grid.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return tuple(_container(name.partition("#")[0]) for name in file.files)


def _labels(path: str) -> Any:
    """What rioxarray makes of a file; its pixels are read elsewhere."""
    how: dict[str, Any] = {"cache": False, "lock": False}
    raster = rioxarray.open_rasterio(path, **how)
    if isinstance(raster, xr.DataArray) and is_packed(raster.attrs):
        raster = rioxarray.open_rasterio(path, mask_and_scale=True, **how)
    return raster


def _container(path: str) -> str:
    """The archive here that a file of GDAL's lies in, or the file itself."""
    found = re.fullmatch(r"/vsi(?:zip|tar|gzip|7z|rar)/(.+)", path)
    if found is None:
        return path
    inside = Path(found[1].strip("{}"))
    return next((str(p) for p in (inside, *inside.parents) if p.is_file()), path)
