"""How fast this machine does a job, found by doing a little of it for a few seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from xdemsr.chunking import spatial_chunks
from xdemsr.inference import SOURCE_CHUNK, Job, run
from xdemsr.io.pixels import Pixels
from xdemsr.io.zarr import write_zarr
from xdemsr.tiles import make_tiling
from xdemsr.window import Tiling

#: How long to try.
TRIAL_S = 5.0

Spatial = tuple[tuple[int, ...], tuple[int, ...]]


def tiles_a_second(job: Job, trial: float = TRIAL_S) -> float:
    """Tiles that all processors together read, answer, compress and write in a second.

    The first chunks of the answer are written into a folder that is deleted, as
    :func:`xdemsr.write_zarr` writes them. Where one takes too long, chunks of fewer tiles stand for
    them. Loading the network does not count.

    Parameters
    ----------
    job : Job
        Over made values: see :func:`made_like`.
    trial : float, optional
        Seconds to try, about.
    """
    chunks: Spatial = job.answer.chunks[-2], job.answer.chunks[-1]
    small = min(chunks, _layout(job, 0), key=_area)
    _written(job, small, CPU_COUNT)
    tiles, seconds = _written(job, small, CPU_COUNT)
    # A third of the time for one large chunk on each processor, what is left for more of them.
    pixels = _area(small) * trial / 3 / seconds
    large = min(chunks, max(small, _layout(job, int(pixels)), key=_area), key=_area)
    tiles, seconds = _written(job, large, CPU_COUNT)
    more = int((trial - seconds) / seconds)
    if more > 0:
        tiles, seconds = _written(job, large, CPU_COUNT * more)
    return tiles / seconds


def made_like(job: Job) -> Job:
    """The same job over made values, lazy, in the same chunks. No pixel is read."""
    inputs = [replace(item, array=_made(item.array)) for item in job.matched.inputs]
    return replace(job, matched=replace(job.matched, inputs=inputs), lazy=True)


def _made(raster: xr.DataArray) -> xr.DataArray:
    sizes = (1,) * (raster.ndim - 2) + (SOURCE_CHUNK, SOURCE_CHUNK)
    pixels = Pixels(_Noise(raster.dtype), raster.shape, raster.dtype)
    chunks = raster.chunks or sizes
    meta = np.empty((0,) * raster.ndim, raster.dtype)
    return raster.copy(data=da.from_array(pixels, chunks=chunks, fancy=False, meta=meta))


@dataclass(frozen=True)
class _Noise:
    """Values that cost next to nothing."""

    dtype: np.dtype[Any]

    def read(self, part: tuple[slice | int, ...]) -> NDArray[Any]:
        """A part of an array of any size."""
        return np.resize(self._values, [k.stop - k.start for k in part if isinstance(k, slice)])

    @cached_property
    def _values(self) -> NDArray[Any]:
        values = np.random.default_rng(0).normal(500.0, 50.0, 100_003)
        return values.astype(self.dtype)


def _layout(job: Job, pixels: int) -> Spatial:
    """Chunks of whole tiles and about so many pixels of the answer; one tile at least."""
    return spatial_chunks("auto", job.spec, job.matched.grid.shape, 1, pixels)


def _area(chunks: Spatial) -> int:
    return math.prod(sizes[0] for sizes in chunks)


def _written(job: Job, chunks: Spatial, count: int) -> tuple[int, float]:
    """Tiles in the first ``count`` chunks of the answer, and seconds until these are written."""
    answer = replace(job.answer, chunks=(*job.answer.chunks[:-2], *chunks))
    # Levels of relative heights need all windows; here every window is answered for itself.
    fine = run(replace(job, answer=answer, spec=replace(job.spec, relative=False)))
    wide = min(count, len(chunks[1]))
    high = min(-(-count // wide), len(chunks[0]))
    first = dict.fromkeys(job.matched.leading, slice(0, 1))
    y, x = (sum(sizes[:n]) for sizes, n in zip(chunks, (high, wide), strict=True))
    part = fine.isel(first | dict(zip(fine.dims[-2:], (slice(y), slice(x)), strict=True)))
    with TemporaryDirectory() as folder:
        start = perf_counter()
        write_zarr(part, f"{folder}/trial.zarr")
        seconds = perf_counter() - start
    return _tiles(job, chunks, (high, wide)), seconds


def _tiles(job: Job, chunks: Spatial, numbers: tuple[int, int]) -> int:
    """Tiles that the first chunks touch, each counted with every chunk."""
    tiling = make_tiling(job.spec, job.matched.grid.shape)
    windows = Tiling.from_chunks(*(sizes[:n] for sizes, n in zip(chunks, numbers, strict=True)))
    places = (windows[i, j].coarsen(job.spec.scale) for i, j in product(*map(range, numbers)))
    return sum(sum(1 for _ in tiling.touching(place)) for place in places)
