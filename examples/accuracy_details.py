"""Measure what a score does not say: the later tables of docs/accuracy.md.

    python examples/accuracy_details.py FOLDER

FOLDER holds bare-earth GeoTIFFs (``*.tif`` or ``*/dtm.tif``) that no model has seen: where their
streams run after restoring, and how much worse pixels beside voids are. What a hillshade shows, and
what half precision costs, is measured on SRTM of the Jacksboro fault and on made terrain. Prints
Markdown. Streams need the extra ``hydro``.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import xarray as xr
from accuracy import MODELS, head, rasters, row
from scipy import ndimage

import xdemsr
from xdemsr.demo import jacksboro

SCALE = 16
#: Sides of voids, in source pixels.
VOIDS = {"1 pixel": (1, 1), "3 to 6 pixels": (3, 6), "12 to 15 pixels": (12, 15)}


def streams(dems: dict[str, xr.DataArray]) -> None:
    """Share of the true streams that each model has within half a source pixel."""
    print(head("place", *MODELS))
    for name, dem in dems.items():
        coarse = dem.demsr.degrade(SCALE)
        truth = trimmed(dem, coarse)
        shares = [
            xdemsr.drainage_agreement(
                coarse.demsr.upscale(SCALE, model), truth, cells=5000, tolerance=8
            )
            for model in MODELS
        ]
        print(row(name, *(f"{share:.2f}" for share in shares)), flush=True)


def beside_voids(dems: dict[str, xr.DataArray]) -> None:
    """MSE of source pixels that touch a void, over that of the same ones without it."""
    models = f"terrain-x{SCALE}", "histospline"
    print(head("place", "voids", *models))
    for name, dem in dems.items():
        coarse = dem.demsr.degrade(SCALE)
        truth = trimmed(dem, coarse).values
        for words, sides in VOIDS.items():
            hole = holes(coarse.shape, *sides) & coarse.notnull().values
            touching = ndimage.binary_dilation(hole, np.ones((3, 3))) & ~hole
            fine = np.kron(touching, np.ones((SCALE, SCALE), bool))
            ratios = []
            for model in models:
                squares = [
                    (raster.demsr.upscale(SCALE, model).values - truth)[fine] ** 2
                    for raster in (coarse.where(~hole), coarse)
                ]
                ratios.append(np.nanmean(squares[0]) / np.nanmean(squares[1]))
            print(row(name, words, *(f"{ratio:.2f}" for ratio in ratios)), flush=True)


def holes(shape: tuple[int, int], least: int, most: int) -> np.ndarray:
    """Rectangular voids, one in each square of a grid, of sides between two numbers."""
    rng = np.random.default_rng(0)
    found, step = np.zeros(shape, bool), most + 6
    for y in range(3, shape[0] - most - 3, step):
        for x in range(3, shape[1] - most - 3, step):
            ny, nx = rng.integers(least, most, 2, endpoint=True)
            found[y : y + ny, x : x + nx] = True
    return found


def trimmed(dem: xr.DataArray, coarse: xr.DataArray) -> xr.DataArray:
    """What whole source pixels cover."""
    y_dim, x_dim = coarse.dims
    return dem.isel(
        {y_dim: slice(coarse.sizes[y_dim] * SCALE), x_dim: slice(coarse.sizes[x_dim] * SCALE)}
    )


def traces() -> None:
    """Second differences across source pixels' borders, and how uneven level water becomes."""
    dem = jacksboro()
    fine = dem.demsr.upscale(SCALE).values
    print(head("along", "second differences at borders, over those inside"))
    for axis, rows in {"x": fine, "y": fine.T}.items():
        change = np.abs(np.diff(rows.astype(np.float64), 2, axis=1))
        place = np.arange(1, rows.shape[1] - 1) % SCALE
        border = (place == 0) | (place == SCALE - 1)
        print(row(axis, f"{change[:, border].mean() / change[:, ~border].mean():.2f}"))
    near = np.ones((3, 3))
    level = ndimage.grey_dilation(dem, footprint=near) == ndimage.grey_erosion(dem, footprint=near)
    print("\n" + head("model", "RMS within pixels of level water, m"))
    for model in (f"terrain-x{SCALE}", "histospline"):
        answer = dem.demsr.upscale(SCALE, model).values
        blocks = answer.reshape(dem.shape[0], SCALE, dem.shape[1], SCALE).swapaxes(1, 2)[level]
        print(row(model, f"{np.sqrt(blocks.var(axis=(1, 2)).mean()):.2f}"))


def half_precision() -> None:
    """How far bfloat16 in the trunk moves an answer."""
    hills = xdemsr.synthetic.fractal((400, 520), relief=500, seed=1)
    print(head("raster", "RMS, mm", "largest, mm"))
    for name, dem in {"fractal terrain, 500 m of relief": hills, "Jacksboro": jacksboro()}.items():
        half, full = (
            dem.demsr.upscale(SCALE, precision=precision).values for precision in ("bf16", "fp32")
        )
        off = 1000 * np.abs(half - full)
        print(row(name, f"{np.sqrt((off**2).mean()):.1f}", f"{off.max():.0f}"))


if __name__ == "__main__":
    warnings.simplefilter("ignore", xdemsr.GsdWarning)
    found = dict(rasters(Path(sys.argv[1])))
    traces()
    print()
    half_precision()
    for part in (beside_voids, streams):
        print()
        part(found)
