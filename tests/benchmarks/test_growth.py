"""Time, memory and graphs over size."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from conftest import Findings, Times
from processes import peak

import xdemsr

MEGA = 1 << 20

IN_A_PROCESS = r"""
import sys
import numpy as np, xdemsr, xdemsr.batches
from dask.callbacks import Callback
source, store, scale, model, *most = sys.argv[1:]
if most:
    xdemsr.batches.MOST_NEEDED = int(most[0])
held = [0]
def count(key, result, dsk, state, worker):
    chunks = [value for value in state["cache"].values() if isinstance(value, np.ndarray)]
    held.append(sum(chunk.nbytes for chunk in chunks))
with Callback(posttask=count):
    xdemsr.write_zarr(xdemsr.open(source).demsr.upscale(int(scale), model), store)
print(max(held))
"""


def made(shape: tuple[int, int], folder: Path, chunks: int = 1024) -> Path:
    """A Zarr store of a plane with noise: terrain of 64 million pixels takes too long to make."""
    noise = da.random.default_rng(0).normal(500, 50, shape, chunks=chunks).astype(np.float32)
    raster = xr.DataArray(noise, dims=("y", "x"), name="elevation")
    like = xdemsr.synthetic.terrain((2, 2))
    coords = {"y": -30.0 * np.arange(shape[0]), "x": 30.0 * np.arange(shape[1])}
    raster = raster.assign_coords(coords).rio.write_crs(like.rio.crs)
    return xdemsr.write_zarr(raster, folder / f"{shape[0]}x{shape[1]}.zarr", overwrite=True)


def written(source: Path, store: Path, scale: int, model: str, *most: int) -> tuple[int, int]:
    """Bytes at the peak, and of source chunks that were held at most."""
    found, lines = peak(IN_A_PROCESS, source, store, scale, model, *most)
    return found, int(lines[-1])


@pytest.mark.parametrize(
    ("scale", "model"), [(16, "terrain-x16"), (2, "terrain-x2"), (4, "bicubic")]
)
def test_memory_over_size(
    findings: Findings, quick: bool, tmp_path: Path, scale: int, model: str
) -> None:
    # As far as the disk holds it: sixteen times finer, 64 million are 69 gigabytes.
    free = shutil.disk_usage(tmp_path).free
    sizes = (1, 2) if quick else (1, 4, 16, 64)
    millions = [n for n in sizes if 4 * n * MEGA * scale**2 < free]
    rows = {}

    def measure() -> None:
        for n in millions:
            side = round((n * MEGA) ** 0.5)
            source = made((side, side), tmp_path)
            rows[n] = written(source, tmp_path / "fine.zarr", scale, model)
            for path in (source, tmp_path / "fine.zarr"):
                shutil.rmtree(path)

    findings.once(measure)
    findings.table(
        "memory",
        ("model", "source, Mpx", "answer, GB", "source held, MB", "peak, GB"),
        [
            [
                model,
                n,
                f"{4 * n * MEGA * scale**2 / 1e9:.2g}",
                f"{held / 1e6:.0f}",
                f"{found / 1e9:.2f}",
            ]
            for n, (found, held) in rows.items()
        ],
    )
    what = f"`{model}` x{scale}: peak memory at {millions[-1]} over that at 1 million pixels"
    findings.target(what, rows[millions[-1]][0] / rows[1][0], 1.1, most=True)


def test_memory_over_width(findings: Findings, quick: bool, tmp_path: Path) -> None:
    """The same height: what the next row of chunks reads too would be kept from end to end."""
    widths = [n << 10 for n in ((8, 16) if quick else (32, 64, 128))]
    rows = {}

    def measure() -> None:
        for width in widths:
            source, store = made((4096, width), tmp_path, chunks=512), tmp_path / "fine.zarr"
            for words, more in (("in batches", ()), ("all at once", (10**9,))):
                rows[words, width] = written(source, store, 2, "bicubic", *more)
                shutil.rmtree(store)
            shutil.rmtree(source)

    findings.once(measure)
    columns = ("`bicubic` x2", "source", "answer, GB", "source held, MB", "peak, GB")
    findings.table(
        "width",
        columns,
        [
            [
                words,
                f"4096 x {width:,}",
                f"{4 * 4096 * width * 4 / 1e9:.2g}",
                f"{held / 1e6:.0f}",
                f"{found / 1e9:.2f}",
            ]
            for (words, width), (found, held) in rows.items()
        ],
    )
    ratio = rows["in batches", widths[-1]][0] / rows["in batches", widths[0]][0]
    findings.target("`bicubic` x2: peak memory at 4 times the width", ratio, 1.1, most=True)


def test_time_over_size(
    race: Callable[..., Times], findings: Findings, quick: bool, store: Path
) -> None:
    side = 256 if quick else 512

    def job(rows: int) -> Callable[[], object]:
        dem = xdemsr.synthetic.terrain((side, side))
        tall = xr.concat([dem] * rows, "y").assign_coords(y=-30.0 * np.arange(rows * side))
        return lambda: xdemsr.write_zarr(tall.chunk(256).demsr.upscale(16, "terrain-x16"), store)

    areas = (1, 2, 4, 8)
    times = race({str(area): job(area) for area in areas}, rounds=4)
    first = times.best("1")
    findings.table(
        "growth",
        ("area", "fastest, s", "over area, of the first", "processors, s"),
        [
            [
                f"{area} x {side} x {side}",
                f"{times.best(str(area)):.2f}",
                f"{times.best(str(area)) / area / first:.3f}",
                f"{times.work(str(area)):.2f}",
            ]
            for area in areas
        ],
    )
    ratio = times.best("8") / times.best("4") / 2
    findings.target("time at 8 times the area over twice that at 4", ratio, 1.05, most=True)


def test_graphs_over_chunks(findings: Findings, quick: bool) -> None:
    rows = []

    def measure() -> None:
        for side in (32, 64, 100) if quick else (32, 100, 200, 400):
            lazy = da.zeros((side * 128, side * 128), chunks=512, dtype=np.float32)
            raster = xr.DataArray(
                lazy,
                dims=("y", "x"),
                coords={"y": -np.arange(side * 128.0), "x": np.arange(side * 128.0)},
            )
            start = perf_counter()
            fine = raster.demsr.upscale(16, "terrain-x16", chunks=2048)
            built = perf_counter()
            (optimised,) = dask.optimize(fine.data)
            done = perf_counter()
            count = fine.data.npartitions
            per = 1e6 * (done - start) / count
            rows.append(
                [
                    f"{count:,}",
                    f"{len(optimised.__dask_graph__()):,}",
                    f"{built - start:.2f}",
                    f"{done - built:.2f}",
                    f"{per:.0f}",
                ]
            )

    findings.once(measure)
    columns = ("chunks of the answer", "tasks", "built in, s", "optimised in, s", "a chunk, µs")
    findings.table("graphs", columns, rows)
