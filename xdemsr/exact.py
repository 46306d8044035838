"""Settings of torch under which a device gives the same bits each time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch


class _Exact:
    """Single precision that is single, and algorithms that give the same bits each time.

    A GPU would multiply elevations in TF32, half a metre at 1000 m, and may choose its algorithms
    by the clock. torch keeps these settings for the process, so they are put back when the last
    thread leaves.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._inside = 0
        self._restore = ExitStack()

    def __enter__(self) -> None:
        with self._guard:
            if self._inside == 0:
                for read, write, value in _exact_settings():
                    self._restore.callback(write, read())
                    write(value)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._guard:
            self._inside -= 1
            if self._inside == 0:
                self._restore.close()


Setting = tuple[Callable[[], Any], Callable[[Any], None], Any]


def _exact_settings() -> list[Setting]:
    """How each setting of torch is read and written, and what it must be."""

    def attribute(place: Any, name: str, value: Any) -> Setting:
        return partial(getattr, place, name), partial(setattr, place, name), value

    backends: Any = torch.backends
    chosen = [
        attribute(backends.cudnn, "benchmark", False),
        attribute(backends.cudnn, "deterministic", True),
    ]
    # Since torch 2.9 precision is set by kind of operation, and the two ways must not be mixed.
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        gpu = (backends.cuda.matmul, backends.cudnn.conv)
        cpu = (backends.mkldnn.matmul, backends.mkldnn.conv)
        return [*chosen, *(attribute(kind, "fp32_precision", "ieee") for kind in (*gpu, *cpu))]
    matmul = (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest")
    return [*chosen, matmul, attribute(backends.cudnn, "allow_tf32", False)]


exact = _Exact()
