"""``bicubic`` x16 beside ``gdalwarp -r cubic`` on as many threads, to the same formats."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from conftest import COLUMNS, Findings, Times
from rasterio.enums import Resampling
from rasterio.warp import reproject

import xdemsr

THREADS = os.cpu_count() or 1
COMPRESSION = ("COMPRESS=ZSTD", "PREDICTOR=3", f"NUM_THREADS={THREADS}", "BIGTIFF=YES")
TIFF = ("TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "ZSTD_LEVEL=1", *COMPRESSION)
FORMATS = {
    "GTiff": TIFF,
    "COG": ("LEVEL=1", *COMPRESSION),
    "Zarr": ("FORMAT=ZARR_V2", "COMPRESS=ZSTD", "ZSTD_LEVEL=1", "BLOCKSIZE=4096,4096"),
}


def gdalwarp(source: Path, fine: tuple[int, int], kind: str, target: Path) -> None:
    """The program, as its manual says to use several threads."""
    options = [part for option in FORMATS[kind] for part in ("-co", option)]
    size = [str(fine[1]), str(fine[0])]
    threads = ["-multi", "-wo", f"NUM_THREADS={THREADS}", "-wm", "500"]
    command = ["gdalwarp", "-q", "-r", "cubic", "-ts", *size, *threads, "-of", kind, *options]
    subprocess.run([*command, str(source), str(target)], check=True)


def warped(source: Path, fine: tuple[int, int], target: Path) -> None:
    """The same through rasterio, into a GeoTIFF."""
    with rasterio.open(source) as coarse:
        scale = fine[0] // coarse.height
        profile = {
            **coarse.profile,
            **dict(option.lower().split("=") for option in TIFF),
            "driver": "GTiff",
            "height": fine[0],
            "width": fine[1],
            "transform": coarse.transform * Affine.scale(1 / scale),
        }
        with rasterio.open(target, "w", **profile) as written:
            reproject(
                rasterio.band(coarse, 1),
                rasterio.band(written, 1),
                resampling=Resampling.cubic,
                num_threads=THREADS,
                warp_mem_limit=500,
            )


@pytest.mark.filterwarnings("ignore")
def test_bicubic_beside_gdalwarp(
    race: Callable[..., Times], findings: Findings, source: xr.DataArray, store: Path
) -> None:
    tif = store.with_name("source.tif")
    xdemsr.write_cog(source.astype(np.float32), tif)
    fine = tuple(16 * length for length in source.shape)

    def lazy() -> xr.DataArray:
        return xdemsr.open(tif).demsr.upscale(16, "bicubic")

    target = store.with_suffix(".tif")
    jobs: dict[str, Callable[[], object]] = {
        "xdemsr to Zarr": lambda: xdemsr.write_zarr(lazy(), store),
        "xdemsr to COG": lambda: xdemsr.write_cog(lazy(), target),
        "rasterio.warp to GeoTIFF": lambda: warped(tif, fine, target),
    }
    if shutil.which("gdalwarp"):
        jobs |= {
            "gdalwarp to Zarr": lambda: gdalwarp(tif, fine, "Zarr", store),
            "gdalwarp to GeoTIFF": lambda: gdalwarp(tif, fine, "GTiff", target),
            "gdalwarp to COG": lambda: gdalwarp(tif, fine, "COG", target),
        }
    times = race(jobs, rounds=2)
    findings.table("bicubic", COLUMNS, times.rows("xdemsr to Zarr"))
    for kind in ("Zarr", "COG"):
        if f"gdalwarp to {kind}" in times:
            ratio = times.best(f"xdemsr to {kind}") / times.best(f"gdalwarp to {kind}")
            what = f"`bicubic` x16 to {kind}: time over `gdalwarp -r cubic`"
            findings.target(what, ratio, 1, most=True)
