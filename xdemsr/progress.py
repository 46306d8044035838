"""Progress bars, for long work at a terminal or in a notebook; silent elsewhere.

tqdm's own environment variables apply: ``TQDM_DISABLE=1`` turns every bar off.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Hashable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dask.callbacks import Callback

if TYPE_CHECKING:
    from tqdm import tqdm

#: Every dask key of this library begins with it.
KEY_PREFIX = "demsr-"
_DELAY_S = 2.0


def bar(total: int, what: str) -> tqdm[Any]:
    """A bar that appears once the work has taken two seconds."""
    from tqdm.auto import tqdm

    return tqdm(
        total=total,
        desc=what,
        unit="chunk",
        delay=_DELAY_S,
        disable=False if _in_notebook() else None,
        leave=False,
    )


def watch_dask() -> None:
    """Show a bar whenever dask's local schedulers compute chunks of this library."""
    if not _GraphProgress.active_one:
        _GraphProgress.active_one = _GraphProgress()
        _GraphProgress.active_one.register()


@contextmanager
def counting(keys: Set[Hashable], shown: tqdm[Any]) -> Iterator[None]:
    """Move a bar whenever a local scheduler, called from this thread, has computed one of ``keys``.

    The bar of :func:`watch_dask` stays away meanwhile.
    """

    def count(key: Hashable, *state: object) -> None:
        if key in keys:
            shown.update()

    _here.counted = True
    try:
        with Callback(posttask=count):
            yield
    finally:
        _here.counted = False


#: Whether the work of this thread has a bar of its own.
_here = threading.local()


class _GraphProgress(Callback):
    active_one: _GraphProgress | None = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bars: dict[int, tqdm[Any]] = {}

    def _start_state(self, dsk: Mapping[Hashable, Any], state: Mapping[str, Any]) -> None:
        total = 0 if getattr(_here, "counted", False) else sum(map(_ours, dsk))
        if total:
            self.bars[id(state)] = bar(total, "xdemsr")

    def _posttask(
        self,
        key: Hashable,
        result: object,
        dsk: Mapping[Hashable, Any],
        state: Mapping[str, Any],
        worker_id: object,
    ) -> None:
        shown = self.bars.get(id(state))
        if shown is not None and _ours(key):
            shown.update()

    def _finish(self, dsk: Mapping[Hashable, Any], state: Mapping[str, Any], errored: bool) -> None:
        shown = self.bars.pop(id(state), None)
        if shown is not None:
            shown.close()


def _ours(key: Hashable) -> bool:
    # A chunk's key is a tuple; what chunks share has a plain name.
    name = key[0] if isinstance(key, tuple) and key else None
    return isinstance(name, str) and KEY_PREFIX in name


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    instance = shell.get_ipython() if shell else None
    return instance is not None and "IPKernelApp" in instance.config
