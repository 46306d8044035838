"""The pieces of a group pasted on its grid, chunk by chunk, without resampling.

Where items overlap they are blended: the weight of each grows with the distance from its own edge,
so that none of them begins or ends with a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import dask.array as da
import numpy as np
from dask._task_spec import Task
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from xdemsr.chunking import split
from xdemsr.progress import KEY_PREFIX
from xdemsr.stac.lattices import Group, Piece
from xdemsr.stac.reading import Reader
from xdemsr.window import Span, Tiling, Window

Plane = NDArray[np.float32]
Overlap = Literal["blend", "first"]
Sizes = tuple[tuple[int, ...], tuple[int, ...]]

#: Pixels along an automatic chunk: whole blocks of most files.
CHUNK = 1024
#: Pixels from an item's edge over which its weight grows.
_RAMP = 64


def paste(group: Group, reader: Reader, overlap: Overlap, chunks: Sizes) -> da.Array:
    """The mosaic of a group on its grid.

    Parameters
    ----------
    group : Group
    reader : Reader
    overlap : {"blend", "first"}
        Between items: their weighted mean, or the first that is known.
    chunks : (tuple of int, tuple of int)

    Returns
    -------
    dask.array.Array, shape (ny, nx), float32
        NaN where no item is known. Its name follows from the items and the grid alone, not from how
        they are read: a signature that expires does not change it.
    """
    contents = [(piece.asset, piece.window) for piece in group.pieces]
    said = (contents, group.lattice, overlap, chunks)
    name = f"{KEY_PREFIX}stac-{tokenize(said)}"
    layer: dict[Any, Task] = {
        (name, i, j): Task((name, i, j), _paste, reader, overlap, window, touching)
        for (i, j), window, touching in _work(group, chunks)
    }
    graph = HighLevelGraph.from_collections(name, layer, dependencies=())
    return da.Array(graph, name, chunks=chunks, dtype=np.float32)


def ramps(group: Group, chunks: Sizes) -> da.Array:
    """The greatest weight that an item of a group has at each pixel; 0 where there is none."""
    name = f"{KEY_PREFIX}ramp-{tokenize([p.window for p in group.pieces], group.lattice, chunks)}"
    layer: dict[Any, Task] = {
        (name, i, j): Task((name, i, j), _greatest, window, tuple(p.window for p in touching))
        for (i, j), window, touching in _work(group, chunks)
    }
    graph = HighLevelGraph.from_collections(name, layer, dependencies=())
    return da.Array(graph, name, chunks=chunks, dtype=np.float32)


def automatic_chunks(group: Group) -> Sizes:
    """Chunks that begin where items do and where their blocks do, so that few blocks are cut."""
    ny, nx = group.lattice.shape
    return (
        _between([piece.window.y for piece in group.pieces], ny),
        _between([piece.window.x for piece in group.pieces], nx),
    )


def regular_chunks(shape: tuple[int, int], sizes: tuple[int, int]) -> Sizes:
    """Chunks of one size but for the last."""
    return split(shape[0], sizes[0]), split(shape[1], sizes[1])


def _between(spans: Sequence[Span], length: int) -> tuple[int, ...]:
    edges = {0, length}
    for span in spans:
        edges.update(range(span.start, span.stop, CHUNK))
        edges.add(span.stop)
    kept = [0]
    for edge in sorted(edge for edge in edges if 0 < edge < length):
        # A sliver is joined to what lies before it.
        if edge - kept[-1] >= CHUNK // 2 and length - edge >= CHUNK // 2:
            kept.append(edge)
    sizes: list[int] = []
    for start, stop in zip(kept, [*kept[1:], length], strict=True):
        sizes.extend(split(stop - start, CHUNK + CHUNK // 2))
    return tuple(sizes)


def _work(
    group: Group, chunks: Sizes
) -> Iterator[tuple[tuple[int, int], Window, tuple[Piece, ...]]]:
    """Index, window and pieces of each chunk."""
    tiling = Tiling.from_chunks(*chunks)
    touching: dict[tuple[int, int], list[Piece]] = {}
    for piece in group.pieces:
        for index, _ in tiling.touching(piece.window):
            touching.setdefault(index, []).append(piece)
    for i in range(tiling.shape[0]):
        for j in range(tiling.shape[1]):
            yield (i, j), tiling[i, j], tuple(touching.get((i, j), ()))


def _paste(reader: Reader, overlap: Overlap, window: Window, pieces: Sequence[Piece]) -> Plane:
    """A chunk, from the pieces that touch it."""
    join = _blended if overlap == "blend" and len(pieces) > 1 else _first
    return join(reader, window, pieces)


def _first(reader: Reader, window: Window, pieces: Sequence[Piece]) -> Plane:
    answer = np.full(window.shape, np.nan, np.float32)
    for piece in pieces:
        shared, inside = _shared(window, piece)
        void = np.isnan(answer[inside])
        # What is known already need not be read.
        if void.any():
            np.copyto(answer[inside], _read(reader, shared, piece), where=void)
    return answer


def _blended(reader: Reader, window: Window, pieces: Sequence[Piece]) -> Plane:
    total, share = np.zeros(window.shape), np.zeros(window.shape)
    for piece in pieces:
        shared, inside = _shared(window, piece)
        values = _read(reader, shared, piece).astype(np.float64)
        weights = np.where(np.isnan(values), 0.0, _weights(piece.window, shared))
        total[inside] += weights * np.where(np.isnan(values), 0.0, values)
        share[inside] += weights
    known = share > 0
    return np.where(known, total / np.where(known, share, 1.0), np.nan).astype(np.float32)


def _greatest(window: Window, covered: Sequence[Window]) -> Plane:
    answer = np.zeros(window.shape, np.float32)
    for whole in covered:
        shared = whole.intersect(window)
        inside = shared.within(window)
        answer[inside] = np.maximum(answer[inside], _weights(whole, shared))
    return answer


def _shared(window: Window, piece: Piece) -> tuple[Window, Any]:
    """The part of a piece in a window, and where in the window that is."""
    shared = piece.window.intersect(window)
    return shared, shared.within(window)


def _read(reader: Reader, shared: Window, piece: Piece) -> Plane:
    y, x = shared.within(piece.window)
    return reader.read(piece.asset, Window(Span(y.start, y.stop), Span(x.start, x.stop)))


def _weights(whole: Window, part: Window) -> NDArray[np.float64]:
    """How far the pixels of a part are from the edges of the whole, along y times along x."""
    rows, columns = (
        _distances(outer, inner) for outer, inner in ((whole.y, part.y), (whole.x, part.x))
    )
    weights: NDArray[np.float64] = rows[:, None] * columns[None]
    return weights


def _distances(outer: Span, inner: Span) -> NDArray[np.float64]:
    centres = np.arange(inner.start, inner.stop) + 0.5
    nearest = np.minimum(centres - outer.start, outer.stop - centres)
    ramp: NDArray[np.float64] = np.minimum(nearest, _RAMP) / _RAMP
    return ramp
