"""Writing what is there already: Zarr and COG beside the plainest write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import peers
import rasterio
import xarray as xr
from bare import computed
from conftest import COLUMNS, Findings, Times

import xdemsr


def plain_tiff(raster: xr.DataArray, path: Path) -> None:
    """All at once through rasterio."""
    options = {"tiled": True, "compress": "zstd", "zstd_level": 1, "predictor": 3}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=raster.shape[0],
        width=raster.shape[1],
        count=1,
        dtype="float32",
        bigtiff=True,
        num_threads="all_cpus",
        crs=raster.rio.crs,
        transform=raster.rio.transform(),
        **options,
    ) as written:
        written.write(raster.values, 1)


def test_writing(
    race: Callable[..., Times], findings: Findings, source: xr.DataArray, store: Path
) -> None:
    fine = computed(source.chunk(256).demsr.upscale(16, "terrain-x16"))
    tif = store.with_suffix(".tif")
    jobs = {
        "`write_zarr`": lambda: xdemsr.write_zarr(fine, store),
        "`write_zarr(overviews=True)`": lambda: xdemsr.write_zarr(fine, store, overviews=True),
        "xarray's `to_zarr`": lambda: peers.to_zarr(fine.data, store),
        "bytes to one file": lambda: fine.values.tofile(store.with_suffix(".bin")),
        "`write_cog`, overviews too": lambda: xdemsr.write_cog(fine, tif),
        "GeoTIFF by rasterio, no overviews": lambda: plain_tiff(fine, tif),
    }
    times = race(jobs, rounds=3)
    findings.table("writing", COLUMNS, times.rows("`write_zarr`"))
    assert fine.dtype == np.float32
