"""Freed memory, kept for the next block instead of being given back to the system each time."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

#: Parameters of glibc's mallopt, and what they are set to: the highest value that glibc itself
#: comes to in a process that has freed large arrays, and four times that.
_MMAP_THRESHOLD, _LARGEST = -3, 32 << 20
_TRIM_THRESHOLD, _KEPT = -1, 128 << 20

#: What Dask gives its workers, so that they give back whatever they can.
_OF_DASK = "65536"


@cache
def keep_freed_memory() -> None:
    """Let the C library keep what is freed, once for this process; its larger arrays it gives back.

    A block of the answer is made through some twenty arrays of its size. A Dask worker asks the
    system for the pages of each, which takes as long as everything else together. Who has set
    glibc's ``MALLOC_..._THRESHOLD_`` variables otherwise is left alone; where there is no glibc,
    nothing happens.
    """
    said = os.environ.get("MALLOC_TRIM_THRESHOLD_", _OF_DASK)
    if sys.platform != "linux" or said != _OF_DASK or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)
