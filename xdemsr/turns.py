"""Turns at a device that several threads and processes share."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

#: Seconds between two looks at whether another process has left the device.
_LOOK_S = 0.005


class _Turns:
    """One lock for each device, between the threads of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def of(self, name: str) -> threading.Lock:
        """The lock of a device."""
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())


_turns = _Turns()


@contextmanager
def turn(name: str) -> Iterator[None]:
    """Be the only one at a device: of this process's threads, and of this user's processes.

    Workers side by side on one GPU would otherwise hold a batch each, and run out of its memory
    together. The lock is a file on this machine; it goes with the process that holds it.

    Parameters
    ----------
    name : str
        The same for the same device in every process.
    """
    # Nobody may write into another user's file; where there are no numbers, folders are one's own.
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"xdemsr-{user}"
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / f"{name}.lock")
    with _turns.of(name), lock.acquire(poll_interval=_LOOK_S):
        yield
