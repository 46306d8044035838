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
from processes import peak

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


IN_A_PROCESS = r"""
import sys
from pathlib import Path
import dask.array as da, numpy as np, rasterio, rasterio.shutil, xarray as xr, xdemsr
how, side, target = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
noise = da.random.default_rng(0).normal(500, 50, (side, side), chunks=2048).astype("float32")
place = {"y": -10.0 * np.arange(side), "x": 10.0 * np.arange(side)}
fine = xr.DataArray(noise, dims=("y", "x"), coords=place).rio.write_crs("EPSG:32633")
if how == "write_cog":
    xdemsr.write_cog(fine, target, overwrite=True)
else:
    plain = target.with_name("plain.tif")
    options = dict(width=side, height=side, count=1, dtype="float32", tiled=True, bigtiff=True)
    place = dict(crs=fine.rio.crs, transform=fine.rio.transform())
    with rasterio.open(plain, "w", driver="GTiff", **options, **place) as file:
        for top in range(0, side, 2048):
            rows = fine[top : top + 2048].values
            file.write(rows, 1, window=((top, top + rows.shape[0]), (0, side)))
    rasterio.shutil.copy(
        plain, target, driver="COG", compress="zstd", predictor=3, num_threads="all_cpus"
    )
    plain.unlink()
"""


def test_memory_of_a_cog(findings: Findings, quick: bool, tmp_path: Path) -> None:
    """Noise, lazily; GDAL copies a plain GeoTIFF."""
    sides = (2048, 4096) if quick else (8192, 16384)
    peaks = {}

    def measure() -> None:
        for how in ("write_cog", "copy by GDAL"):
            for side in sides:
                peaks[how, side], _ = peak(IN_A_PROCESS, how, side, tmp_path / "fine.tif")

    findings.once(measure)
    findings.table(
        "cog-memory",
        ("", *(f"{side} x {side}, GB" for side in sides)),
        [
            [how, *(f"{peaks[how, side] / 1e9:.2f}" for side in sides)]
            for how in ("write_cog", "copy by GDAL")
        ],
    )
