"""The main job, end to end, on a real DEM that comes with matplotlib."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine

from xdemsr.benchmarking import benchmark
from xdemsr.inference import upscale
from xdemsr.io import open as open_raster
from xdemsr.io import write_cog, write_zarr
from xdemsr.planning import plan
from xdemsr.plotting import compare

#: Rows and columns of the part that is drawn, in source pixels.
_DETAIL = (slice(150, 230), slice(215, 310))
_SCALE = 16


def jacksboro() -> xr.DataArray:
    """SRTM elevations of the Jacksboro fault, Tennessee: 344 x 403, 3 arc-seconds, whole metres.

    Returns
    -------
    DataArray, dims (y, x), int16
        In degrees, EPSG:4326; heights above the EGM96 geoid.

    Examples
    --------
    >>> from xdemsr.demo import jacksboro
    >>> dem = jacksboro()
    >>> dem.shape, int(dem.min()), int(dem.max())
    ((344, 403), 236, 1076)
    """
    from matplotlib.cbook import get_sample_data

    sample: Any = get_sample_data("jacksboro_fault_dem.npz")
    with sample as file:
        elevation = file["elevation"].astype(np.int16)
        north, west = float(file["ymin"]), float(file["xmin"])
        height, width = float(file["dy"]), float(file["dx"])
    ny, nx = elevation.shape
    affine = Affine(width, 0, west, 0, -height, north)
    dem = xr.DataArray(
        elevation,
        dims=("y", "x"),
        coords={
            "y": ("y", north - (np.arange(ny) + 0.5) * height, {"units": "degrees_north"}),
            "x": ("x", west + (np.arange(nx) + 0.5) * width, {"units": "degrees_east"}),
        },
        name="elevation",
        attrs={"units": "m", "long_name": "elevation above the EGM96 geoid (SRTM)"},
    )
    placed: xr.DataArray = dem.rio.write_crs("EPSG:4326").rio.write_transform(affine)
    return placed


def run_demo(folder: str | Path, say: Callable[[str], None] = print) -> list[Path]:
    """Upscale the Jacksboro DEM sixteen times, write it, draw it, and score the model on it.

    Parameters
    ----------
    folder : str or Path
        Where the Zarr store, the COG and the picture go; made if need be, files replaced.
    say : callable, optional
        Takes each line of the report.

    Returns
    -------
    list of Path
        What was written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    dem = jacksboro().chunk(128)
    say(f"{dem.name}: {dem.sizes['y']} x {dem.sizes['x']} pixels of 3 arc-seconds, whole metres\n")
    fine = upscale(dem, _SCALE)
    say(f"{plan(dem, _SCALE)}\n")

    started = time.perf_counter()
    store = folder / "jacksboro_x16.zarr"
    write_zarr(fine, store, overwrite=True)
    seconds = time.perf_counter() - started
    say(f"wrote {store.name} in {seconds:.1f} s: {fine.size / seconds / 1e6:.1f} million pixels/s")
    written = open_raster(store)
    cog = folder / "jacksboro_x16.tif"
    write_cog(written, cog, overwrite=True)
    say(f"wrote {cog.name}, cloud-optimized GeoTIFF with overviews")
    picture = _draw(dem, written, folder / "jacksboro_x16.png")
    say(f"wrote {picture.name}\n")

    table = benchmark(dem, _SCALE)
    say(f"Degraded to 48 arc-seconds and restored (metres, {int(table['n'].iloc[0]):,} pixels):")
    columns = ["rmse", "mae", "nmad", "slope_rmse", "ssim", "of_best_classical"]
    say(table[columns].round(3).to_string())
    return [store, cog, picture]


def _draw(dem: xr.DataArray, fine: xr.DataArray, path: Path) -> Path:
    import matplotlib.pyplot as plt

    rows, columns = _DETAIL
    fine_rows, fine_columns = (
        slice(part.start * _SCALE, part.stop * _SCALE) for part in (rows, columns)
    )
    spline = upscale(dem, _SCALE, "spline")
    axes = compare(
        {
            "SRTM, 3 arc-seconds": dem[rows, columns],
            "cubic spline, x16": spline[fine_rows, fine_columns],
            "terrain-x16": fine[fine_rows, fine_columns],
        },
        exaggeration=1.5,
    )
    figure = axes[0].figure
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
