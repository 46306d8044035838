"""The threads of a process that answer tiles on the CPU, shared by all blocks."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

#: What one caller has given to the crew, in order, and whether it takes of the room for all.
_UnderWay = deque[tuple[Future[Result], bool]]


def on_all_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply a function to items on as many threads as torch may use, each on one; in order.

    A convolution that is split over threads need not round alike; a tile that has one to itself
    does. One block alone so keeps all processors busy, and many blocks share the same threads.
    Where torch may use one thread (a Dask worker's), it is the caller's.

    Parameters
    ----------
    function : callable
    items : iterable
        Taken when there is room: a few more than there are threads are under way.

    Yields
    ------
    result
    """
    # While threads of a crew are told to use one, another that asks for its first time hears one.
    with _guard:
        size = torch.get_num_threads()
        crew = _crew(size) if size > 1 else None
    return map(function, items) if crew is None else crew.map(function, items)


class _Crew:
    """Threads with room for one item of each caller, and for as many more as there are threads."""

    def __init__(self, size: int) -> None:
        self._threads = ThreadPoolExecutor(size, "xdemsr", initializer=_alone)
        self._room = threading.Semaphore(size)
        # All are started now, since torch takes the last number said for that of new threads.
        together = threading.Barrier(size + 1)
        for _ in range(size):
            self._threads.submit(together.wait)
        together.wait()
        torch.set_num_threads(size)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items."""
        left = iter(items)
        under_way: _UnderWay[Result] = deque()
        try:
            while True:
                self._fill(under_way, function, left)
                if not under_way:
                    return
                yield under_way[0][0].result()
                self._leave(under_way)
        finally:
            while under_way:
                under_way[0][0].cancel()
                self._leave(under_way)

    def _fill(
        self,
        under_way: _UnderWay[Result],
        function: Callable[[Item], Result],
        left: Iterator[Item],
    ) -> None:
        """Begin with items while there is room; with one in any case."""
        while True:
            takes_room = bool(under_way)
            if takes_room and not self._room.acquire(blocking=False):
                return
            try:
                item = next(left)
            except BaseException as error:
                if takes_room:
                    self._room.release()
                if isinstance(error, StopIteration):
                    return
                raise
            under_way.append((self._threads.submit(function, item), takes_room))

    def _leave(self, under_way: _UnderWay[Result]) -> None:
        _, took_room = under_way.popleft()
        if took_room:
            self._room.release()


def _alone() -> None:
    # A thread takes its number when it first asks for it, and would later take another.
    torch.get_num_threads()
    torch.set_num_threads(1)


_guard = threading.Lock()


@cache
def _crew(size: int) -> _Crew:
    return _Crew(size)


def _renew() -> None:
    _crew.cache_clear()
    _guard.release()


if hasattr(os, "register_at_fork"):
    # Threads do not come along into a process that is forked, and a lock that is held stays so.
    os.register_at_fork(
        before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_renew
    )
