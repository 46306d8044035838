"""Regions of a Zarr array, written one by one, with a mark for each that is done.

A region is a chunk of the array in memory: one shard, or one or several chunks of the store. Its
mark is an object beside the chunks, put there after them; it says how large they are. What has no
mark, or whose chunks are of another size, is written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal

import dask.array as da
import numpy as np
import zarr
from dask._task_spec import DataNode, Task, TaskRef
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.storage import LocalStore

from xdemsr.errors import InputError
from xdemsr.io.chunk_bytes import ChunkBytes
from xdemsr.io.stores import Objects
from xdemsr.window import Tiling

#: Folder of the marks, inside that of the array: readers do not look there.
MARKS = ".xdemsr"

Index = tuple[int, ...]


@dataclass(frozen=True)
class Regions:
    """An array of a store, and the regions it is written in.

    Attributes
    ----------
    store : zarr Store
    path : str
        Of the array in the store.
    chunks : tuple of tuple of int
        Sizes of the regions along each dimension.
    """

    store: Store
    path: str
    chunks: tuple[tuple[int, ...], ...]

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """The array as zarr has it.

        Raises
        ------
        InputError
            If it is not in the store that this process sees.
        """
        mode: Literal["r", "r+"] = "r" if self.store.read_only else "r+"
        # Raised outside: zarr's errors do not survive the way from a worker to the client.
        with suppress(FileNotFoundError):
            return zarr.open_array(self.store, path=self.path, mode=mode)
        raise InputError(
            f"{self.path!r} is not in the store {self.store} as a worker sees it. Every worker "
            "must reach the store under this name: a folder that they share, or a URL; not the "
            "memory of one process."
        )

    @property
    def indices(self) -> Iterator[Index]:
        """Every region, by its number along each dimension."""
        return product(*(range(len(sizes)) for sizes in self.chunks))

    def slices(self, index: Index) -> tuple[slice, ...]:
        """Where a region lies in the array."""
        return tuple(starts[k] for starts, k in zip(self._slices, index, strict=True))

    def write(self, index: Index, block: NDArray[Any]) -> None:
        """Put a region in place, then its mark."""
        try:
            self._put(index, block)
        except FileNotFoundError:
            # Another run on the same store has ended, and swept away what was half written.
            self._put(index, block)

    def _put(self, index: Index, block: NDArray[Any]) -> None:
        objects, keys = Objects(self.store), self._keys(index)
        if self._chunk_bytes is not None and len(keys) == 1:
            objects.replace(keys[0], self._chunk_bytes(block))
        else:
            self.array[self.slices(index)] = block
        objects.note_sizes(keys, self._mark(index))

    def unmarked(self) -> list[Index]:
        """Regions without a mark."""
        return self._sorted()[0]

    def missing(self) -> list[Index]:
        """Regions that are not there, or torn."""
        left, done = self._sorted()
        # A file may be there in part after a crash; an object in a cloud is there or is not.
        if isinstance(self.store, LocalStore):
            objects = Objects(self.store)
            left += [index for index in done if not self._whole(objects, index)]
        return sorted(left)

    def unreadable(self) -> list[Index]:
        """Regions whose chunks are not what was written: each has a checksum."""
        return [index for index in self.indices if not self._readable(index)]

    def _sorted(self) -> tuple[list[Index], list[Index]]:
        """Regions without a mark, and those with one."""
        prefix = f"{self.path}/{MARKS}/"
        marks = {key.removeprefix(prefix) for key in Objects(self.store).keys(prefix)}
        left: list[Index] = []
        done: list[Index] = []
        for index in self.indices:
            (done if _label(index) in marks else left).append(index)
        return left, done

    def clear(self) -> None:
        """Take the marks away."""
        Objects(self.store).remove(f"{self.path}/{MARKS}")

    @cached_property
    def _chunk_bytes(self) -> ChunkBytes | None:
        return ChunkBytes.of(self.array)

    @cached_property
    def _slices(self) -> list[list[slice]]:
        spans = [Tiling.from_chunks(sizes, ()).y for sizes in self.chunks]
        return [[slice(span.start, span.stop) for span in axis] for axis in spans]

    def _mark(self, index: Index) -> str:
        return f"{self.path}/{MARKS}/{_label(index)}"

    def _keys(self, index: Index) -> list[str]:
        """Keys of the objects that hold a region."""
        array = self.array
        sizes = array.shards or array.chunks
        ranges = [
            range(part.start // size, -(-part.stop // size))
            for part, size in zip(self.slices(index), sizes, strict=True)
        ]
        encode = array.metadata.encode_chunk_key
        return [f"{self.path}/{encode(chunk)}" for chunk in product(*ranges)]

    def _whole(self, objects: Objects, index: Index) -> bool:
        mark = objects.read(self._mark(index))
        try:
            said = json.loads(mark or b"")
        except ValueError:
            return False
        return bool(said == dict(zip(said, objects.sizes(said), strict=True)))

    def _readable(self, index: Index) -> bool:
        try:
            self.array[self.slices(index)]
        except (OSError, RuntimeError, ValueError):
            return False
        return True


def writing(
    name: str, regions: Regions, values: da.Array, wanted: Sequence[Index]
) -> dict[Any, Any]:
    """Tasks that write regions of an array, one each; they answer nothing.

    Parameters
    ----------
    name : str
        That keys begin with.
    regions : Regions
    values : dask.array.Array
        In the chunks of ``regions``.
    wanted : sequence of index
    """
    # Said once for all tasks: a store and its array weigh some kilobytes.
    place = (name, "place")
    layer: dict[Any, Any] = {place: DataNode(place, regions)}
    for index in wanted:
        key = (name, *index)
        block = TaskRef((values.name, *index))
        layer[key] = Task(key, _write, TaskRef(place), index, block)
    return layer


def _write(regions: Regions, index: Index, block: NDArray[Any]) -> None:
    regions.write(index, np.asarray(block))


def _label(index: Index) -> str:
    return ".".join(map(str, index))
