"""A raster and its overviews in pieces: which there are, and the tasks that compress them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from affine import Affine
from dask._task_spec import List, Task, TaskRef
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from xdemsr.io.pyramid import means
from xdemsr.io.scratch import Place, Scratch, packed
from xdemsr.io.tiff import read_tiles
from xdemsr.progress import KEY_PREFIX

#: Pixels along a tile.
TILE = 512
#: Pixels along a piece, and bytes of it, at most, where the array's own chunks do not say.
PIECE, _PIECE_BYTES = 2048, 64 << 20

#: How GDAL stores pixels.
STORED = {
    "driver": "GTiff",
    "tiled": True,
    "blockxsize": TILE,
    "blockysize": TILE,
    "compress": "deflate",
    "interleave": "pixel",
    "ENDIANNESS": "LITTLE",
}

Block = NDArray[Any]


@dataclass(frozen=True)
class Pyramid:
    """Levels of a raster in pieces of one size.

    Attributes
    ----------
    shapes : tuple of (int, int)
        Of each level, from fine to coarse; each is half of the one before, rounded up.
    piece : (int, int)
        Size of pieces in pixels along y and x, whole tiles, the same at all levels.
    """

    shapes: tuple[tuple[int, int], ...]
    piece: tuple[int, int]

    @classmethod
    def of(cls, array: da.Array) -> Pyramid:
        """Of an array (..., y, x): down to a level of one tile."""
        shapes = [array.shape[-2:]]
        while max(shapes[-1]) > TILE:
            ny, nx = shapes[-1]
            shapes.append((-(-ny // 2), -(-nx // 2)))
        return cls(tuple(shapes), _piece(array))

    def places(self, level: int) -> Iterator[Place]:
        """The pieces of a level, row by row."""
        rows, columns = self.counts(level)
        return (Place(level, row, column) for row, column in product(range(rows), range(columns)))

    def counts(self, level: int) -> tuple[int, int]:
        """How many pieces lie along y and x."""
        (ny, nx), (height, width) = self.shapes[level], self.piece
        return -(-ny // height), -(-nx // width)

    def tiles(self, place: Place) -> tuple[int, int]:
        """How many tiles lie along y and x of a piece."""
        sizes = zip(self.shapes[place.level], self.piece, place[1:], strict=True)
        ny, nx = (min(piece, size - index * piece) for size, piece, index in sizes)
        return -(-ny // TILE), -(-nx // TILE)

    def below(self, place: Place) -> list[list[Place]]:
        """The pieces of the next finer level that a piece is made of."""
        level, row, column = place
        rows, columns = self.counts(level - 1)
        return [
            [Place(level - 1, i, j) for j in range(2 * column, min(2 * column + 2, columns))]
            for i in range(2 * row, min(2 * row + 2, rows))
        ]


def _piece(array: da.Array) -> tuple[int, int]:
    """The array's own chunks, where they are whole tiles and not too large."""
    own = tuple(axis[0] for axis in array.chunks[-2:])
    regular = all(
        size % TILE == 0 and set(axis[:-1]) <= {size} and axis[-1] <= size
        for size, axis in zip(own, array.chunks[-2:], strict=True)
    )
    pixel = array.dtype.itemsize * int(np.prod(array.shape[:-2], dtype=int))
    if regular and own[0] * own[1] * pixel <= _PIECE_BYTES:
        return own[0], own[1]
    side = PIECE
    while side > TILE and side * side * pixel > _PIECE_BYTES:
        side //= 2
    return side, side


def keys_of(pyramid: Pyramid) -> dict[Any, Place]:
    """Names of the tasks that compress, and what they answer or keep; new ones at each call."""
    name = f"{KEY_PREFIX}cog-{uuid4().hex}"
    levels = range(len(pyramid.shapes))
    return {(name, *place): place for level in levels for place in pyramid.places(level)}


def compressing(
    array: da.Array, pyramid: Pyramid, keys: dict[Any, Place], void: Any
) -> Callable[[Scratch | None], HighLevelGraph]:
    """What makes the tasks of a pyramid.

    Parameters
    ----------
    array : dask.array.Array, shape (ny, nx) or (bands, ny, nx)
        As it is to be stored: void pixels have the void value.
    pyramid : Pyramid
    keys : dict of key to Place
    void : number or None
        The void value: no part of a mean.
    """
    lead = (0,) * (array.ndim - 2)
    pieces = array.rechunk(dict.fromkeys(range(array.ndim - 2), -1))
    pieces = pieces.rechunk({array.ndim - 2: pyramid.piece[0], array.ndim - 1: pyramid.piece[1]})

    def made(scratch: Scratch | None) -> HighLevelGraph:
        (name,) = {key[0] for key in keys}
        layer: dict[Any, Any] = {}
        last = len(pyramid.shapes) - 1
        for key, place in keys.items():
            block: Any = (pieces.name, *lead, *place[1:])
            if place.level > 0:
                block = (f"{name}-means", *place)
                halves = [
                    List(*(TaskRef((f"{name}-half", *part)) for part in row))
                    for row in pyramid.below(place)
                ]
                layer[block] = Task(block, _joined, List(*halves))
            layer[key] = Task(key, _compress, TaskRef(block), place, scratch)
            if place.level < last:
                half = (f"{name}-half", *place)
                layer[half] = Task(half, means, TaskRef(block), void)
        return HighLevelGraph.from_collections(name, layer, dependencies=[pieces])

    return made


def _joined(halves: list[list[Block]]) -> Block:
    return np.concatenate([np.concatenate(row, axis=-1) for row in halves], axis=-2)


def _compress(block: Block, place: Place, scratch: Scratch | None) -> bytes | None:
    """Compress a piece, and keep it, or answer it where there is no folder."""
    piece = packed(read_tiles(_as_tiff(block)))
    if scratch is None:
        return piece
    scratch.put(place, piece)
    return None


def _as_tiff(block: Block) -> bytes:
    bands = block[None] if block.ndim == 2 else block
    count, height, width = bands.shape
    with MemoryFile() as memory:
        with memory.open(
            **STORED,
            count=count,
            height=height,
            width=width,
            dtype=block.dtype,
            predictor=predictor(block.dtype),
            photometric="minisblack",
            # Any: rasterio warns of rasters that have none.
            transform=Affine.scale(2),
            bigtiff="NO",
        ) as file:
            file.write(bands)
        return bytes(memory.getbuffer())


def predictor(dtype: Any) -> int:
    """How GDAL prepares pixels to be compressed: as floating point, or as differences."""
    return 3 if np.dtype(dtype).kind == "f" else 2
