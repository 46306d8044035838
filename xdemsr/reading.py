"""Windows of rasters as floating-point numbers; what a file holds in one chunk is read at once.

Nothing is opened or kept before the first window is read, and nothing that was opened is handed to
another process: a copy that has been pickled begins with nothing read.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import compute_as_if_collection
from numpy.typing import NDArray

from xdemsr.errors import InputError
from xdemsr.storage import check_values, void_values
from xdemsr.voids import valid_pixels
from xdemsr.window import Tiling, Window

Floats = NDArray[np.floating[Any]]
Whole = NDArray[np.intp]

#: Bytes of chunks that are kept after reading, where other windows may want them.
KEPT_BYTES = 384 << 20
#: Chunks narrower than the first are joined until they are as wide as the second.
_CRUMB, _JOINED = 64, 256
#: Size of the pieces in which a file is read that is not stored in chunks.
_PIECE = 512


@dataclass(frozen=True, eq=False)
class Layer:
    """One raster that windows are read from.

    Attributes
    ----------
    data : ndarray or dask.array.Array, shape (ny, nx) or (bands, ny, nx)
    voids : tuple of float
        Values that mean missing, beside NaN.
    process : int
        Where it was made, or unpickled.
    """

    data: NDArray[Any] | da.Array
    voids: tuple[float, ...] = ()
    process: int = field(default_factory=os.getpid)

    @classmethod
    def of(cls, array: xr.DataArray) -> Layer:
        """A layer of an array with dimensions (y, x) or (bands, y, x). Reads no pixel.

        Raises
        ------
        InputError
            If its values are no numbers, or packed.
        """
        check_values(array)
        voids = void_values(array)
        # Asking a file that xarray indexes lazily for its data would read all of it.
        if array.chunks is None and array.variable._in_memory:
            return cls(array.values, voids)
        data = (_in_stored_chunks(array) if array.chunks is None else array).data
        return cls(_joined(data), voids)

    @property
    def in_memory(self) -> bool:
        """Whether there is nothing to be read."""
        return isinstance(self.data, np.ndarray)

    @property
    def bands(self) -> int:
        """How many planes lie above each other."""
        return self.data.shape[0] if self.data.ndim == 3 else 1

    @cached_property
    def tiling(self) -> Tiling:
        """The chunks, as windows."""
        return Tiling.from_chunks(*self.data.chunks[-2:])  # type: ignore[union-attr]

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the largest chunk, read."""
        ny, nx = (max(span.size for span in spans) for spans in (self.tiling.y, self.tiling.x))
        return ny * nx * self.bands * np.result_type(self.data.dtype, np.float32).itemsize

    def key(self, index: tuple[int, int]) -> Hashable:
        """Name of a chunk in its dask graph, the same in every process."""
        lead = (0,) * (self.data.ndim - 2)
        return (self.data.name, *lead, *index)  # type: ignore[union-attr]

    def kept_as(self, index: tuple[int, int]) -> Hashable:
        """Name of a chunk whose voids were found: two layers may declare different ones."""
        return (self.key(index), self.voids)

    def floats(self, block: NDArray[Any]) -> Floats:
        """A piece as (bands, y, x), NaN at voids, in a type that holds its numbers exactly."""
        valid = valid_pixels(block, self.voids)
        values = block.astype(np.result_type(block.dtype, np.float32))
        if not valid.all():
            values[~valid] = np.nan
        return values if values.ndim == 3 else values[None]

    def blocks(self, indices: list[Hashable]) -> Iterator[Floats]:
        """The chunks of these names, read together.

        Raises
        ------
        InputError
            In a process that was forked from the layer's own.
        """
        if os.getpid() != self.process:
            # Dask's threads, Zarr's and GDAL's are not there: it would wait for them for ever.
            raise InputError(
                "patches of a lazy array are read in a process that was forked from the one that "
                "opened it, without the threads that read. Start the workers afresh: "
                "DataLoader(..., multiprocessing_context='spawn') or 'forkserver'; or load the "
                "array first: da.load()."
            )
        graph = self.data.__dask_graph__()  # type: ignore[union-attr]
        blocks = deque(compute_as_if_collection(da.Array, graph, indices))
        while blocks:
            # Not kept beside its copy.
            yield self.floats(np.asarray(blocks.popleft()))

    def __reduce__(self) -> tuple[type[Layer], tuple[Any, ...]]:
        # Without what has been read or made ready here, and with a process of its own.
        return Layer, (self.data, self.voids)


class ChunkReader:
    """Reads windows, and keeps the chunks they lie in, the latest ones first.

    Parameters
    ----------
    kept : int
        Bytes of chunks to keep. What was fetched since :meth:`turn` is kept, however much.
    """

    def __init__(self, kept: int = KEPT_BYTES) -> None:
        self._kept = kept
        self._chunks: OrderedDict[Hashable, Floats] = OrderedDict()
        self._fetched: set[Hashable] = set()
        self._bytes = 0
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[ChunkReader], tuple[int]]:
        return ChunkReader, (self._kept,)

    def turn(self) -> None:
        """What was fetched until now is no more wanted than anything else."""
        self._fetched.clear()

    def fetch(self, layer: Layer, corners: Whole, shape: tuple[int, int]) -> None:
        """Read at once what windows of one shape lie in.

        Parameters
        ----------
        layer : Layer
        corners : ndarray of int, shape (n, 2)
            First pixel (y, x) of each window.
        shape : (ny, nx)
        """
        if layer.in_memory or not len(corners):
            return
        rows = _touched([s.stop for s in layer.tiling.y], corners[:, 0], shape[0])
        columns = _touched([s.stop for s in layer.tiling.x], corners[:, 1], shape[1])
        ranges = np.unique(np.concatenate([rows, columns], axis=1), axis=0)
        indices = {
            (i, j)
            for top, bottom, left, right in ranges.tolist()
            for i in range(top, bottom + 1)
            for j in range(left, right + 1)
        }
        with self._lock:
            self._fetched.update(map(layer.kept_as, indices))
            self._load(layer, sorted(indices))

    def read(self, layer: Layer, window: Window) -> Floats:
        """The window's core as (bands, y, x), NaN at voids; the caller may write into it."""
        if isinstance(layer.data, np.ndarray):
            return layer.floats(layer.data[(..., *window.slices)])
        touching = list(layer.tiling.touching(window))
        with self._lock:
            self._load(layer, [index for index, _ in touching])
            chunks = [self._chunks[layer.kept_as(index)] for index, _ in touching]
        pasted = np.empty((layer.bands, *window.shape), chunks[0].dtype)
        for (_, place), chunk in zip(touching, chunks, strict=True):
            shared = place.intersect(window)
            pasted[(..., *shared.within(window))] = chunk[(..., *shared.within(place))]
        return pasted

    def _load(self, layer: Layer, indices: Iterable[tuple[int, int]]) -> None:
        names = {layer.kept_as(index): layer.key(index) for index in indices}
        for name in self._chunks.keys() & names.keys():
            self._chunks.move_to_end(name)
        missing = [name for name in names if name not in self._chunks]
        if not missing:
            return
        self._make_room(len(missing) * layer.chunk_bytes, self._fetched.union(names))
        chunks = layer.blocks([names[name] for name in missing])
        for name, chunk in zip(missing, chunks, strict=True):
            self._chunks[name] = chunk
            self._bytes += chunk.nbytes

    def _make_room(self, wanted: int, kept: set[Hashable]) -> None:
        for key in list(self._chunks):
            if self._bytes + wanted <= self._kept:
                return
            if key not in kept:
                self._bytes -= self._chunks.pop(key).nbytes


def _touched(stops: list[int], first: Whole, size: int) -> Whole:
    """First and last chunk along an axis that ``size`` pixels from ``first`` on lie in."""
    ends = np.stack([first, first + size - 1], axis=1)
    return np.searchsorted(stops, ends, side="right")


def _in_stored_chunks(array: xr.DataArray) -> xr.DataArray:
    """A dask array in chunks that are whole ones of the file."""
    stored = array.encoding.get("preferred_chunks", {})
    sizes: dict[Hashable, int] = {}
    for dim in array.dims[-2:]:
        size = int(np.max(stored.get(dim, _PIECE)))
        sizes[dim] = size * -(-_JOINED // size)
    return array.chunk(sizes)


def _joined(data: da.Array) -> da.Array:
    """All bands in one chunk, and no chunks of a few pixels."""
    sizes = dict.fromkeys(range(data.ndim - 2), -1)
    for axis in (data.ndim - 2, data.ndim - 1):
        largest = max(data.chunks[axis])
        if largest < min(_CRUMB, data.shape[axis]):
            sizes[axis] = largest * -(-_JOINED // largest)
    changed = {a: s for a, s in sizes.items() if s != -1 or data.numblocks[a] > 1}
    return data.rechunk(changed) if changed else data
