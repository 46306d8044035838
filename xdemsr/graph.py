"""Output-driven dask graphs: one task for each chunk of the answer.

``map_overlap`` makes twelve tasks of a chunk, ties the answer's chunks to the source's, and trims
in source pixels. Here every output chunk lists the source chunks that hold what it needs, wherever
their borders are, and one task pastes the pieces and answers.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import dask.array as da
import numpy as np
from dask._task_spec import DataNode, Task, TaskRef
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import DTypeLike, NDArray

from xdemsr.allocator import keep_freed_memory
from xdemsr.window import Span, Tiling, Window

Block = NDArray[Any]

#: Where a task would have more inputs (dask orders them in quadratic time, and each lengthens the
#: task), source chunks narrower than ``_CRUMB`` pixels are joined.
_MOST_INPUTS, _CRUMB = 64, 64

_STOP = attrgetter("stop")


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
    reads = _Reads.of(task, tiling, separable)
    leads = tuple(map(_spans, answer.chunks[: answer.leading]))
    inputs = [_Inputs.of(source, leads, reads.rows, reads.columns) for source in sources]
    # Said once, and known to all tasks by its key: a cluster sends every task by itself.
    job = DataNode(f"{name}-job", _Job(task, tiling, leads, tuple(each.cutting for each in inputs)))
    layer: dict[Any, Any] = {job.key: job}
    shared = TaskRef(job.key)
    middle = (0,) * (len(answer.chunks) - answer.leading - 2)
    for index in product(*map(range, (*map(len, leads), *tiling.shape))):
        key = (name, *index[:-2], *middle, *index[-2:])
        row, column = reads.index(*index[-2:])
        blocks = [ref for each in inputs for ref in each.refs(index[:-2], row, column)]
        read = reads.rows[row], reads.columns[column]
        layer[key] = Task(key, _paste_and_answer, shared, index, *read, *blocks)
    dependencies: Sequence[Any] = [each.array for each in inputs]
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
class _Job:
    """What all tasks of an answer share.

    Attributes
    ----------
    task : WindowTask
    tiling : Tiling
        The answer's windows.
    leads : tuple of tuple of Span
        The answer's chunks along each leading dimension.
    cuttings : tuple of _Cutting
        One for each source.
    """

    task: WindowTask
    tiling: Tiling
    leads: tuple[tuple[Span, ...], ...]
    cuttings: tuple[_Cutting, ...]

    def __call__(self, index: tuple[int, ...], read: Window, chunks: Iterator[Block]) -> Block:
        """Answer one window from the chunks of all sources."""
        keep_freed_memory()
        lead = [spans[k] for spans, k in zip(self.leads, index[:-2], strict=True)]
        blocks = [
            _paste(cutting.pieces(lead, read), cutting.dtype, chunks) for cutting in self.cuttings
        ]
        return self.task(self.tiling[index[-2], index[-1]], read, blocks)


class _Piece(NamedTuple):
    """Where a part of a source chunk goes."""

    chunk: int
    target: slice
    source: slice


Axes = Sequence[tuple[_Piece, ...]]


@dataclass(frozen=True)
class _Cutting:
    """How one source is cut into chunks along each axis, and which of them a window needs.

    Attributes
    ----------
    axes : tuple of tuple of Span
    dtype : dtype
    leading, scale, whole
        As the source says.
    """

    axes: tuple[tuple[Span, ...], ...]
    dtype: np.dtype[Any]
    leading: int
    scale: int
    whole: bool

    @classmethod
    def of(cls, source: Source) -> _Cutting:
        """Of a source."""
        array = source.array
        axes = tuple(map(_spans, array.chunks))
        return cls(axes, array.dtype, source.leading, source.scale, source.whole)

    def pieces(self, lead: Sequence[Span], read: Window) -> Axes:
        """The parts of chunks, axis by axis, that make up one block."""
        first = [_pieces(axis, span) for axis, span in zip(self.axes, lead, strict=False)]
        middle = [_pieces(axis) for axis in self.axes[self.leading : -2]]
        return [*first[: self.leading], *middle, self.along(-2, read.y), self.along(-1, read.x)]

    def along(self, axis: int, span: Span) -> tuple[_Piece, ...]:
        """The parts along y or x, of base pixels that are read."""
        wanted = None if self.whole else span.padded.refine(self.scale)
        return _pieces(self.axes[axis], wanted)


@dataclass(frozen=True)
class _Inputs:
    """The chunks of one source that each window needs, by their numbers along each axis."""

    array: da.Array
    cutting: _Cutting
    lead: list[list[range]]
    middle: list[range]
    y: list[range]
    x: list[range]
    known: dict[tuple[int, ...], TaskRef] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        source: Source,
        leads: Sequence[Sequence[Span]],
        rows: Sequence[Span],
        columns: Sequence[Span],
    ) -> _Inputs:
        """Of a source, whose chunks are joined where a task would have too many inputs."""
        cutting = _Cutting.of(source)
        found = cls(
            source.array,
            cutting,
            [
                [_numbers(_pieces(axis, span)) for span in spans]
                for axis, spans in zip(cutting.axes[: source.leading], leads, strict=False)
            ],
            [range(len(axis)) for axis in cutting.axes[source.leading : -2]],
            [_numbers(cutting.along(-2, span)) for span in rows],
            [_numbers(cutting.along(-1, span)) for span in columns],
        )
        joined = replace(source, array=_without_crumbs(source.array))
        if found.most <= _MOST_INPUTS or joined.array is source.array:
            return found
        return cls.of(joined, leads, rows, columns)

    @property
    def most(self) -> int:
        """Chunks that the task with the most of them needs."""
        axes = [*self.lead, *([numbers] for numbers in self.middle), self.y, self.x]
        return math.prod(max(map(len, axis), default=1) for axis in axes)

    def refs(self, lead: tuple[int, ...], i: int, j: int) -> Iterator[TaskRef]:
        """The source chunks that one window needs, in the order they are pasted."""
        first = (axis[k] for axis, k in zip(self.lead, lead, strict=False))
        for chunk in product(*first, *self.middle, self.y[i], self.x[j]):
            yield self.known.setdefault(chunk, TaskRef((self.array.name, *chunk)))


def _paste_and_answer(job: _Job, index: tuple[int, ...], y: Span, x: Span, *chunks: Block) -> Block:
    return job(index, Window(y, x), iter(chunks))


def _paste(axes: Axes, dtype: np.dtype[Any], chunks: Iterator[Block]) -> Block:
    if all(len(pieces) == 1 for pieces in axes):
        return next(chunks)[tuple(pieces[0].source for pieces in axes)]
    block = np.empty([pieces[-1].target.stop for pieces in axes], dtype=dtype)
    for parts in product(*axes):
        block[tuple(part.target for part in parts)] = next(chunks)[
            tuple(part.source for part in parts)
        ]
    return block


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


def _spans(sizes: Sequence[int]) -> tuple[Span, ...]:
    return Tiling.from_chunks(sizes, ()).y


def _pieces(chunks: Sequence[Span], wanted: Span | None = None) -> tuple[_Piece, ...]:
    """The parts of the chunks along one axis that make up a span; by default, all of them."""
    span = wanted or Span(0, chunks[-1].stop)
    pieces = []
    for index in range(bisect_right(chunks, span.start, key=_STOP), len(chunks)):
        shared = chunks[index].intersect(span)
        if shared.size <= 0:
            break
        pieces.append(_Piece(index, shared.within(span), shared.within(chunks[index])))
    return tuple(pieces)


def _numbers(pieces: Sequence[_Piece]) -> range:
    return range(pieces[0].chunk, pieces[-1].chunk + 1) if pieces else range(0)
