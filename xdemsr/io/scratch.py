"""Compressed pieces of a file, kept in a folder until all are there and it is put together."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from dask.highlevelgraph import HighLevelGraph

from xdemsr.errors import InputError
from xdemsr.running import computing, run_tasks

if TYPE_CHECKING:
    from distributed import Client

#: The file by which a worker knows that it sees the folder of the one who put it there.
_SIGN = "here"


class Place(NamedTuple):
    """Which piece: level of the pyramid, 0 for the finest, and row and column there."""

    level: int
    row: int
    column: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.level}-{self.row}-{self.column}"


@dataclass(frozen=True)
class Scratch:
    """A folder of pieces, each of them several tiles of bytes.

    Attributes
    ----------
    folder : str
    sign : str
        What is written in it, so that no other folder of that name is taken for it.
    """

    folder: str
    sign: str

    @classmethod
    def within(cls, folder: str) -> Scratch:
        """In a folder that is there, and empty."""
        sign = uuid4().hex
        (Path(folder) / _SIGN).write_text(sign)
        return cls(folder, sign)

    def is_here(self) -> bool:
        """Whether this machine sees the folder."""
        try:
            return (Path(self.folder) / _SIGN).read_text() == self.sign
        except OSError:
            return False

    def put(self, place: Place, piece: bytes) -> None:
        """Keep a piece; the same one again does no harm.

        Raises
        ------
        InputError
            If the folder is not seen from here.
        """
        if not self.is_here():
            raise InputError(
                f"a worker that came later does not see {self.folder}, where the others keep what "
                "they compress. Give a file in a folder that all see, or workers that are alike."
            )
        path = Path(self.folder) / place.name
        # A worker that dies, or two that have the same task, leave no half of it under its name.
        partial = path.with_name(f"{place.name}.{uuid4().hex}")
        partial.write_bytes(piece)
        os.replace(partial, path)

    def sizes(self, place: Place) -> tuple[int, ...]:
        """Bytes of each tile of a piece."""
        with (Path(self.folder) / place.name).open("rb") as file:
            return _sizes(file)

    def tiles(self, place: Place) -> Iterator[bytes]:
        """The tiles of a piece, one after the other."""
        with (Path(self.folder) / place.name).open("rb") as file:
            for size in _sizes(file):
                yield file.read(size)


def packed(tiles: Sequence[bytes]) -> bytes:
    """Tiles as one piece."""
    sizes = map(len, tiles)
    return struct.pack(f"<I{len(tiles)}I", len(tiles), *sizes) + b"".join(tiles)


def _sizes(file: Any) -> tuple[int, ...]:
    (count,) = struct.unpack("<I", file.read(4))
    return struct.unpack(f"<{count}I", file.read(4 * count))


def collect(
    graph: Callable[[Scratch | None], HighLevelGraph],
    keys: Mapping[Any, Place],
    scratch: Scratch,
    client: Client | None,
    what: str,
) -> None:
    """Compute pieces into the folder, on whatever computes.

    Parameters
    ----------
    graph : callable
        Makes the tasks: such that keep their pieces in a folder, or, told None, such that answer
        them. They come through dask then, because the workers of a cluster do not see the folder.
    keys : mapping of key to Place
    scratch : Scratch
    client : distributed.Client or None
    what : str
        For the progress bar.
    """
    _, cluster = computing(client)
    if cluster is None:
        run_tasks(graph(scratch), list(keys), what=what)
        return
    seen = list(cluster.run(scratch.is_here).values())
    if seen and all(seen):
        run_tasks(graph(scratch), list(keys), client=cluster, what=what)
        return
    _fetch(cluster, graph(None), keys, scratch)


def _fetch(
    cluster: Any, graph: HighLevelGraph, keys: Mapping[Any, Place], scratch: Scratch
) -> None:
    """Take pieces from workers as they come."""
    from distributed import as_completed

    places = {str(key): place for key, place in keys.items()}
    waiting = as_completed(cluster.get(graph, list(keys), sync=False), with_results=True)
    # Held by the iterator alone: what is on the disk here may leave the workers' memory.
    for future, piece in waiting:
        scratch.put(places[str(future.key)], piece)
