"""The metadata of a store, made in memory before the store is touched."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import dask.array as da
import xarray as xr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from xdemsr.io.stores import ROOT_KEYS

Skeleton = dict[str, bytes]


def skeleton(
    ds: xr.Dataset,
    overviews: Iterable[tuple[int, xr.Dataset]],
    attrs: Mapping[str, Any],
    zarr_format: int,
) -> Skeleton:
    """Every object of a store but the values of its rasters, by key.

    Parameters
    ----------
    ds : Dataset
        At the root.
    overviews : iterable of (int, Dataset)
        In groups of their own, named by their factors.
    attrs : mapping
        Of the root.
    zarr_format : int
    """
    held: dict[str, Buffer] = {}
    store = MemoryStore(held)
    levels = [(None, _hollow(ds).assign_attrs(attrs)), *((str(k), level) for k, level in overviews)]
    with warnings.catch_warnings():
        # Consolidated metadata is an extension of Zarr 3; readers without it are not hindered.
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        # Of texts, early releases of zarr 3 say so twice.
        warnings.filterwarnings("ignore", "The codec `vlen-utf8` is currently not part")
        warnings.filterwarnings("ignore", "The dtype .* is currently not part")
        for group, level in reversed(levels):
            level.to_zarr(
                store,
                group=group,
                mode="w" if group else "a",
                compute=False,
                consolidated=not group,
                zarr_format=zarr_format,
            )
    made = {key: buffer.to_bytes() for key, buffer in held.items()}
    # The root first: by it a store is known.
    return {key: made[key] for key in sorted(made, key=lambda key: (key not in ROOT_KEYS, key))}


def _hollow(ds: xr.Dataset) -> xr.Dataset:
    """Without the tasks of its rasters, which would be counted and hashed."""
    hollow = ds.copy()
    for name, raster in ds.data_vars.items():
        hollow[name].data = da.zeros(raster.shape, dtype=raster.dtype, chunks=raster.shape)
    return hollow
