"""Output-driven dask graphs: one task for each chunk of the answer.

``map_overlap`` makes twelve tasks of a chunk, ties the answer's chunks to the source's, and trims
in source pixels. Here every output chunk lists the source chunks that hold what it needs, wherever
their borders are, and one task pastes the pieces and answers.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Protocol

import dask.array as da
import numpy as np
from dask._task_spec import Task, TaskRef
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import DTypeLike, NDArray

from xdemsr.window import Span, Tiling, Window

Block = NDArray[Any]

#: Where a task would have more inputs (dask orders them in quadratic time, and each lengthens the
#: task), source chunks narrower than ``_CRUMB`` pixels are joined.
_MOST_INPUTS, _CRUMB = 64, 64


class WindowTask(Protocol):
    """What answers a window, on a worker. Small, picklable, deterministic.

    It may read torch and weights inside the call, never before.
    """

    def reading(self, core: Window) -> Window:
        """Base pixels needed to answer ``core`` (answer's pixels), inside the array.

        Rows must depend on rows alone and columns on columns, where :func:`map_windows` is not
        told otherwise.
        """
        ...

    def __call__(self, core: Window, read: Window, blocks: Sequence[Block]) -> Block:
        """Answer ``core`` from one pasted block for each source."""
        ...


@dataclass(frozen=True)
class Source:
    """A dask array that windows are read from.

    Attributes
    ----------
    array : dask.array.Array, shape (..., ny * scale, nx * scale)
    scale : int
        Its pixels per base pixel.
    leading : int
        How many of its first dimensions are the answer's own (time, band, ...). What lies between
        them and (y, x) is read whole.
    whole : bool
        Read (y, x) whole as well, whatever the window: a small table, not a raster.
    """

    array: da.Array
    scale: int
    leading: int
    whole: bool = False


@dataclass(frozen=True)
class Answer:
    """Shape of what a graph gives: chunks of every dimension, and a name to begin keys with.

    ``chunks`` holds first the leading dimensions, then any new ones (whole), then y and x.
    """

    name: str
    chunks: tuple[tuple[int, ...], ...]
    dtype: DTypeLike
    leading: int


def map_windows(
    task: WindowTask, sources: Sequence[Source], answer: Answer, *, separable: bool = True
) -> da.Array:
    """Answer every chunk of ``answer`` with ``task``.

    Parameters
    ----------
    task : WindowTask
    sources : sequence of Source
        Their leading dimensions are the answer's, or absent.
    answer : Answer
    separable : bool, optional
        Whether the rows that are read depend on rows alone, and columns on columns. Between rasters
        in different CRSs they do not.

    Returns
    -------
    dask.array.Array
        One task for each chunk, beyond the sources' own. The name is a hash of the task, the
        sources and the chunks.
    """
    name = f"{answer.name}-{tokenize(task, [s.array.name for s in sources], answer.chunks)}"
    tiling = Tiling.from_chunks(*answer.chunks[-2:])
    middle = (0,) * (len(answer.chunks) - answer.leading - 2)
    reads = _Reads.of(task, tiling, separable)
    rows, columns = reads.rows, reads.columns
    plans = [_plan(source, rows, columns, answer) for source in sources]
    layer: dict[Any, Task] = {}
    lead_counts = [range(len(chunks)) for chunks in answer.chunks[: answer.leading]]
    for index in product(*lead_counts):
        for i, j in product(range(tiling.shape[0]), range(tiling.shape[1])):
            key = (name, *index, *middle, i, j)
            row, column = reads.index(i, j)
            read = Window(rows[row], columns[column])
            pieces, refs = zip(*(plan.pieces(index, row, column) for plan in plans), strict=True)
            blocks = [ref for group in refs for ref in group]
            layer[key] = Task(key, _paste_and_answer, task, tiling[i, j], read, pieces, *blocks)
    dependencies: Sequence[Any] = [plan.array for plan in plans]
    graph = HighLevelGraph.from_collections(name, layer, dependencies=dependencies)
    return da.Array(graph, name, chunks=answer.chunks, dtype=answer.dtype)


@dataclass(frozen=True)
class _Reads:
    """Rows and columns that are read for the windows of an answer.

    Where they depend on each other, every window has a row and a column of its own: ``wide`` is
    then how many windows lie beside each other, and 0 elsewhere.
    """

    rows: list[Span]
    columns: list[Span]
    wide: int = 0

    @classmethod
    def of(cls, task: WindowTask, tiling: Tiling, separable: bool) -> _Reads:
        """What ``task`` reads."""
        ny, nx = tiling.shape
        if separable:
            rows = [task.reading(tiling[i, 0]).y for i in range(ny)]
            return cls(rows, [task.reading(tiling[0, j]).x for j in range(nx)])
        reads = [task.reading(tiling[i, j]) for i, j in product(range(ny), range(nx))]
        return cls([read.y for read in reads], [read.x for read in reads], nx)

    def index(self, i: int, j: int) -> tuple[int, int]:
        """Which row and which column are read for a window."""
        return (i * self.wide + j,) * 2 if self.wide else (i, j)


@dataclass(frozen=True)
class _Piece:
    """Where a part of a source chunk goes."""

    chunk: int
    target: slice
    source: slice


@dataclass(frozen=True)
class _Pasting:
    """How the pieces of one source make one block: axis by axis, chunks in the order of indices."""

    dtype: np.dtype[Any]
    axes: tuple[tuple[_Piece, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the block."""
        return tuple(pieces[-1].target.stop for pieces in self.axes)


class _SourcePlan:
    """The pieces of one source for every output chunk, axis by axis."""

    def __init__(
        self, source: Source, rows: Sequence[Span], columns: Sequence[Span], answer: Answer
    ) -> None:
        self.array, self.leading = source.array, source.leading
        chunks = source.array.chunks
        self.lead = [
            _pieces(chunks[axis], _spans(answer.chunks[axis])) for axis in range(source.leading)
        ]
        self.middle = [
            _pieces(sizes, [Span(0, sum(sizes))])[0] for sizes in chunks[source.leading : -2]
        ]
        self.y, self.x = (
            _pieces(sizes, [Span(0, sum(sizes))]) * len(spans)
            if source.whole
            else _pieces(sizes, [span.padded.refine(source.scale) for span in spans])
            for sizes, spans in zip(chunks[-2:], (rows, columns), strict=True)
        )

    @property
    def most_inputs(self) -> int:
        """Chunks that the task with the most of them needs."""
        axes: list[list[tuple[_Piece, ...]]] = [*self.lead, *([m] for m in self.middle)]
        return math.prod(max(map(len, axis), default=1) for axis in [*axes, self.y, self.x])

    def pieces(self, index: tuple[int, ...], i: int, j: int) -> tuple[_Pasting, list[TaskRef]]:
        """How to paste the block of one output chunk, and the source chunks it needs."""
        lead = [axis[k] for axis, k in zip(self.lead, index[: self.leading], strict=True)]
        axes = (*lead, *self.middle, self.y[i], self.x[j])
        chunks = product(*([piece.chunk for piece in pieces] for pieces in axes))
        refs = [TaskRef((self.array.name, *chunk)) for chunk in chunks]
        return _Pasting(self.array.dtype, axes), refs


def _paste_and_answer(
    task: WindowTask, core: Window, read: Window, pastings: Sequence[_Pasting], *chunks: Block
) -> Block:
    remaining = iter(chunks)
    return task(core, read, [_paste(pasting, remaining) for pasting in pastings])


def _paste(pasting: _Pasting, chunks: Iterator[Block]) -> Block:
    if all(len(pieces) == 1 for pieces in pasting.axes):
        return next(chunks)[tuple(pieces[0].source for pieces in pasting.axes)]
    block = np.empty(pasting.shape, dtype=pasting.dtype)
    for pieces in product(*pasting.axes):
        block[tuple(piece.target for piece in pieces)] = next(chunks)[
            tuple(piece.source for piece in pieces)
        ]
    return block


def _plan(
    source: Source, rows: Sequence[Span], columns: Sequence[Span], answer: Answer
) -> _SourcePlan:
    """The pieces of a source, whose chunks are joined where a task would have too many inputs."""
    plan = _SourcePlan(source, rows, columns, answer)
    if plan.most_inputs <= _MOST_INPUTS:
        return plan
    joined = replace(source, array=_without_crumbs(source.array))
    return _SourcePlan(joined, rows, columns, answer)


def _without_crumbs(array: da.Array) -> da.Array:
    """Join chunks of a few pixels, axis by axis."""
    for axis in (array.ndim - 1, array.ndim - 2):
        sizes = array.chunks[axis]
        joined: list[int] = []
        for size in sizes:
            if joined and joined[-1] < _CRUMB:
                joined[-1] += size
            else:
                joined.append(size)
        if len(joined) < len(sizes):
            array = array.rechunk({axis: tuple(joined)})
    return array


def _spans(sizes: Sequence[int]) -> list[Span]:
    return list(Tiling.from_chunks(sizes, ()).y)


def _pieces(sizes: Sequence[int], wanted: Sequence[Span]) -> list[tuple[_Piece, ...]]:
    """For each wanted span, the parts of the chunks along one axis that make it up."""
    chunks = _spans(sizes)
    stops = [chunk.stop for chunk in chunks]
    found = []
    for span in wanted:
        pieces = []
        for index in range(bisect_right(stops, span.start), len(chunks)):
            shared = chunks[index].intersect(span)
            if shared.size <= 0:
                break
            pieces.append(_Piece(index, shared.within(span), shared.within(chunks[index])))
        found.append(tuple(pieces))
    return found
