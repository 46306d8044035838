"""Which keys are computed together, so that memory does not grow with a raster's width.

Row by row of an answer's chunks, what the next row reads too is kept until that is done: a whole
row of source chunks. Square block by square block it is a row of the block, however wide the raster
is, and what lies at the borders of blocks is read again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from numbers import Integral
from typing import Any

from dask._task_spec import DataNode, GraphNode
from dask.system import CPU_COUNT

Graph = dict[Any, GraphNode]

#: Other tasks, mostly reads, that the keys of one batch may need: 32 x 32 chunks of a source.
MOST_NEEDED = 1024
#: A chunk at the corner of four blocks is read for each of them. What more blocks need is for all.
_MOST_TIMES = 4
#: Chunks along the smallest block: 32 for each thread, for they wait for each other at its end.
_LEAST = math.isqrt(32 * CPU_COUNT)


def batches(tasks: Graph, keys: list[Any]) -> list[list[Any]]:
    """The keys, in batches to be computed one after the other.

    It is one batch where there is little to keep, and where blocks would make the same things again
    and again: where keys need each other, or all need what is made of the whole.

    Parameters
    ----------
    tasks : dict
        The graph.
    keys : list of key
        Blocks are made of such as ``(name, ..., row, column)``.

    Returns
    -------
    list of list of key
    """
    ends = set(keys)
    if len(tasks) - len(ends) <= MOST_NEEDED or not all(map(_on_grid, keys)):
        return [keys]
    if any(need in ends for key in tasks for need in tasks[key].dependencies):
        return [keys]
    blocks = _blocks(tasks, keys)
    times = Counter(
        need
        for block in blocks
        for need in needed(tasks, block).keys() - ends
        if not isinstance(tasks[need], DataNode)
    )
    return blocks if max(times.values(), default=0) <= _MOST_TIMES else [keys]


def needed(tasks: Graph, keys: Iterable[Any]) -> Graph:
    """The part of a graph that some keys need."""
    found: Graph = {}
    left = list(keys)
    while left:
        key = left.pop()
        if key in tasks and key not in found:
            found[key] = tasks[key]
            left.extend(tasks[key].dependencies)
    return found


def _blocks(tasks: Graph, keys: list[Any]) -> list[list[Any]]:
    """Square blocks, as large as what they need allows."""
    side = _LEAST
    blocks = _of_side(keys, side)
    while len(blocks) > 1:
        larger = _of_side(keys, 2 * side)
        fullest = max(larger, key=len)
        if len(needed(tasks, fullest)) - len(fullest) > MOST_NEEDED:
            break
        side, blocks = 2 * side, larger
    return blocks


def _of_side(keys: list[Any], side: int) -> list[list[Any]]:
    """Keys by square blocks of chunks, row by row of blocks."""
    blocks: dict[tuple[int, int], list[Any]] = {}
    for key in keys:
        blocks.setdefault((key[-2] // side, key[-1] // side), []).append(key)
    return [blocks[place] for place in sorted(blocks)]


def _on_grid(key: Any) -> bool:
    return (
        isinstance(key, tuple)
        and len(key) > 2
        and isinstance(key[-2], Integral)
        and isinstance(key[-1], Integral)
    )
