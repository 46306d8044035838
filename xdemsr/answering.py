"""Windows of arrays, whether they lie in memory or in dask: one call for both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da

from xdemsr.eager import compute_windows
from xdemsr.graph import Answer, Source, WindowTask, map_windows
from xdemsr.progress import watch_dask

#: Arrays, their pixels per base pixel, and how many of their first dimensions are the answer's own.
Arrays = Sequence[tuple[Any, int, int]]


def answer_windows(task: WindowTask, arrays: Arrays, answer: Answer) -> Any:
    """Answer every chunk of ``answer``: now where the arrays are numpy's, later where dask's.

    Parameters
    ----------
    task : WindowTask
    arrays : sequence of (array, int, int)
        Arrays (..., ny * scale, nx * scale), all numpy's or all dask's; their pixels per base
        pixel; and how many of their first dimensions are the answer's own.
    answer : Answer
        Its chunks hold one element of each leading dimension.

    Returns
    -------
    ndarray or dask.array.Array
    """
    if not isinstance(arrays[0][0], da.Array):
        return compute_windows(task, arrays, answer)
    watch_dask()
    return map_windows(task, [Source(*array) for array in arrays], answer)
