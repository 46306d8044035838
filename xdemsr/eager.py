"""The same windows without dask: numpy in, numpy out, on all processors."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
import psutil
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from xdemsr.errors import InputError
from xdemsr.graph import Answer, WindowTask
from xdemsr.progress import bar
from xdemsr.window import Tiling

#: Share of the free memory an answer may take.
_SHARE = 0.8


def compute_windows(
    task: WindowTask, sources: Sequence[tuple[NDArray[Any], int, int]], answer: Answer
) -> NDArray[Any]:
    """Answer every chunk of ``answer`` now.

    Parameters
    ----------
    task : WindowTask
    sources : sequence of (ndarray, int, int)
        Arrays (..., ny * scale, nx * scale), their pixels per base pixel, and how many of their
        first dimensions are the answer's own.
    answer : Answer
        Its chunks hold one element of each leading dimension.

    Raises
    ------
    InputError
        If the answer would not fit in the free memory.
    """
    shape = tuple(sum(sizes) for sizes in answer.chunks)
    _check_memory(shape, np.dtype(answer.dtype))
    result = np.empty(shape, dtype=answer.dtype)
    tiling = Tiling.from_chunks(*answer.chunks[-2:])

    def one(index: tuple[int, ...]) -> None:
        lead: tuple[Any, ...] = tuple(slice(k, k + 1) for k in index[:-2])
        core = tiling[index[-2], index[-1]]
        read = task.reading(core)
        blocks = [
            array[(*lead[:leading], ..., *read.padded.refine(scale).slices)]
            for array, scale, leading in sources
        ]
        result[(*lead, ..., *core.slices)] = task(core, read, blocks)

    indices = list(product(*map(range, (*shape[: answer.leading], *tiling.shape))))
    with bar(len(indices), "xdemsr") as progress, ThreadPoolExecutor(CPU_COUNT) as pool:
        try:
            for _ in pool.map(one, indices):
                progress.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return result


def _check_memory(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    free = psutil.virtual_memory().available
    if needed > _SHARE * free:
        raise InputError(
            f"the answer {shape} would take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of "
            "memory are free. Make it lazy and write it piece by piece: give chunks=4096 (pixels "
            "of the answer), or a dask array: da.chunk(), then .to_zarr(...)."
        )
