"""Zarr stores, recognised by what is in them, and opened lazily."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.core.sync import sync

from xdemsr.errors import GridError, InputError
from xdemsr.grid import spatial_dims
from xdemsr.io.conventions_read import base_of, located
from xdemsr.io.gdal import Chunks, chunk_sizes
from xdemsr.io.paths import is_remote, is_web, public, redacted
from xdemsr.io.patience import PatientStore
from xdemsr.io.pixels import lazily
from xdemsr.io.store_states import state_of_array
from xdemsr.io.stores import ROOT_KEYS, Objects, StoreLike, named, zarr_store
from xdemsr.io.writing import state_of

#: Endings of URLs that are no stores.
_FILES = {
    *(".tif", ".tiff", ".vrt", ".img", ".asc", ".jp2", ".nc", ".hdf", ".h5", ".hgt", ".bil"),
    *(".png", ".jpg", ".jpeg", ".webp", ".grd", ".gpkg", ".dem", ".dt0", ".dt1", ".dt2"),
}


@dataclass(frozen=True)
class StoreSource:
    """An array of a store, and what the store is called."""

    name: str
    variable: xr.Variable

    def read(self, part: tuple[slice | int, ...]) -> NDArray[Any]:
        """The pixels of a part of the array.

        Raises
        ------
        OSError
            If they cannot be read.
        """
        try:
            return np.asarray(self.variable[part].values)
        except Exception as error:
            # Not chained: errors of web servers hold the whole address.
            said = f"{type(error).__name__}: {redacted(str(error))}"
        raise OSError(f"{self.name} cannot be read: {said}")


def is_store(
    target: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> bool:
    """Whether there is a Zarr store, or a group in one."""
    if not is_remote(target):
        return _is_local_store(Path(target))
    parts = urlsplit(str(target))
    ending = Path(parts.path).suffix.lower()
    if ending == ".zarr":
        return True
    if parts.scheme == "" or "+" in parts.scheme or parts.query or ending in _FILES:
        return False
    try:
        objects = Objects(_reading(target, storage_options))
        return any(objects.read(key) is not None for key in ROOT_KEYS)
    except Exception:
        # GDAL may reach what fsspec does not, and says why if not.
        return False


def _is_local_store(path: Path) -> bool:
    if path.suffix == ".zarr" and path.is_dir():
        return True
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            return bool(set(ROOT_KEYS) & set(file.namelist()))
    return any((path / key).is_file() for key in ROOT_KEYS)


def open_group(
    target: StoreLike,
    variable: str | None,
    chunks: Chunks,
    storage_options: Mapping[str, Any] | None,
) -> xr.DataArray:
    """A raster of a store, lazily.

    Raises
    ------
    InputError
        If there is no store, it is unfinished, or the variable must be named.
    """
    store, name = _reading(target, storage_options), named(target)
    _refuse_unfinished(store, target, name)
    group, _, wanted = (variable or "").rpartition("/")
    ds = _dataset(store, group, name)
    if variable is None and not _rasters(ds):
        base = base_of(ds.attrs)
        group, wanted, ds = (group, "", ds) if base is None else _base(store, base, name)
    array = chosen(ds, wanted or None, name)
    raster = located(array, ds.attrs)
    for coordinate in raster.coords.values():
        if coordinate.ndim < 2:
            coordinate.load()
    path = f"{group}/{raster.name}".lstrip("/")
    state = state_of_array(store, path)
    return lazily(raster, StoreSource(name, raster.variable), state, _sizes(raster, chunks), path)


def chosen(ds: xr.Dataset, variable: str | None, path: object) -> xr.DataArray:
    """The raster of a dataset that is asked for, or the only one.

    Raises
    ------
    InputError
        If there is none of that name, or several and no name is given.
    """
    names = _rasters(ds)
    if variable is None and len(names) == 1:
        variable = names[0]
    if variable not in names:
        raise InputError(
            f"{public(path)} holds the variables {', '.join(names) or 'none'}; say which: "
            "variable=... (--variable)."
        )
    return ds[variable]


def _rasters(ds: xr.Dataset) -> list[str]:
    return sorted(str(name) for name, array in ds.data_vars.items() if array.ndim >= 2)


def _reading(target: StoreLike, storage_options: Mapping[str, Any] | None) -> Store:
    store = zarr_store(target, read_only=True, storage_options=storage_options)
    # Some are not ready before.
    sync(store._ensure_open())
    return PatientStore(store) if is_web(target) else store


def _refuse_unfinished(store: Store, target: StoreLike, name: str) -> None:
    stores = [(store, name)]
    if isinstance(target, str | os.PathLike) and not is_remote(target):
        # A group of an unfinished store is no more finished than the store.
        for folder in Path(target).resolve().parents:
            if not any((folder / key).is_file() for key in ROOT_KEYS):
                break
            stores.append((zarr_store(folder, read_only=True), str(folder)))
    for one, called in stores:
        state = state_of(Objects(one))
        if state.exists and not state.complete:
            raise InputError(
                f"the store {called} is unfinished: the run that wrote it was stopped. Go on with "
                "xdemsr.write_zarr(..., resume=True), or look at it with xarray.open_zarr."
            )


def _dataset(store: Store, group: str, name: str) -> xr.Dataset:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated")
            return xr.open_dataset(
                store,  # type: ignore[arg-type]
                engine="zarr",
                group=group or None,
                chunks=None,
                cache=False,
                decode_coords="all",
            )
    except Exception as error:
        # Stores far away have errors of their own.
        said = redacted(str(error))
    raise InputError(f"{name} cannot be opened as a Zarr store: {said}")


def _base(store: Store, path: str, name: str) -> tuple[str, str, xr.Dataset]:
    """The group and array of the full resolution; a path may be that of either."""
    objects = Objects(store)
    is_array = objects.read(f"{path}/.zarray") is not None
    document = objects.read(f"{path}/zarr.json")
    if document is not None:
        is_array = json.loads(document).get("node_type") == "array"
    group, _, array = path.rpartition("/") if is_array else (path, "", "")
    return group, array, _dataset(store, group, name)


def _sizes(raster: xr.DataArray, chunks: Chunks) -> dict[Hashable, int]:
    stored = {dim: int(np.max(n)) for dim, n in raster.encoding["preferred_chunks"].items()}
    if chunks == "auto":
        return stored
    try:
        y_dim, x_dim = spatial_dims(raster)
    except GridError:
        y_dim, x_dim = raster.dims[-2:]
    shape = (raster.sizes[y_dim], raster.sizes[x_dim])
    return stored | dict(zip((y_dim, x_dim), chunk_sizes(chunks, shape, (1, 1), 1), strict=True))
