"""Running tasks for their effect, wherever dask computes: here or on a cluster.

Tasks that write answer nothing, so nothing travels back. What fails for a moment is tried again;
what fails for good is raised with its place.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

import dask.array as da
from dask._task_spec import DataNode, Task, convert_legacy_graph
from dask.base import get_scheduler
from dask.highlevelgraph import HighLevelGraph
from dask.utils import ensure_dict

from xdemsr.batches import Graph, batches, needed
from xdemsr.errors import ClusterError, InputError
from xdemsr.progress import bar, counting

if TYPE_CHECKING:
    from distributed import Client
    from tqdm import tqdm

#: Seconds before another try; doubled each time.
_PAUSE_S = 1.0

#: Errors that the same call would give again.
_LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError)
_LASTING_NUMBERS = (28, 30, 122)  # no space left, read-only file system, quota exceeded

#: Packages that speak to stores far away; what they raise is not always an OSError.
_CARRIERS = ("aiohttp", "botocore", "obstore", "requests", "urllib3")

#: Keys that a cluster is given at once. The scheduler, which takes some kilobytes for a task, holds
#: two batches at most; what both need is still there for the second.
_BATCH = 5_000

#: Looking at futures takes at most one part in this many of the client's time.
_LOOKING_SHARE, _LOOK_S = 50, 0.05


def run_tasks(
    graph: HighLevelGraph,
    keys: Iterable[Hashable],
    *,
    client: Client | None = None,
    what: str = "xdemsr",
    retries: int = 3,
) -> None:
    """Compute some keys of a graph for their effect; their values are thrown away.

    The graph is culled, and each key fused with the only task it needs where nobody else needs it,
    so that a chunk is written where it is computed. Of wide rasters it is done in batches of
    neighbours (:mod:`xdemsr.batches`).

    Parameters
    ----------
    graph : HighLevelGraph
    keys : iterable of key
    client : distributed.Client, optional
        By default the client that is there, else dask's configured scheduler.
    what : str, optional
        For the progress bar and for messages.
    retries : int, optional
        How often a task is tried again after an error of a store or a connection.

    Raises
    ------
    ClusterError
        If workers died, or the scheduler did, or there was no worker for longer than
        ``distributed.scheduler.no-workers-timeout``, which is for ever unless it is set.
    Exception
        What a task raised, with a note that says which.
    """
    wanted: list[Any] = list(dict.fromkeys(keys))
    tasks = _patient(_fused(_optimised(graph, wanted), wanted), retries)
    get, cluster = computing(client)
    with bar(len(wanted), what) as shown:
        if cluster is not None:
            near = [key for batch in batches(tasks, wanted) for key in batch]
            _run_on(cluster, tasks, near, shown, what)
        else:
            with counting(set(wanted), shown):
                for batch in batches(tasks, wanted):
                    get(needed(tasks, batch), batch)


def computing(client: Client | None) -> tuple[Callable[..., Any], Any]:
    """What computes graphs here, and the client of a cluster if it is one.

    Raises
    ------
    InputError
        If ``client`` is none.
    """
    if client is not None and not hasattr(client, "cancel"):
        raise InputError(
            f"client={client!r} must be a distributed.Client: for a scheduler's address, "
            "distributed.Client(address); for dask's own schedulers, "
            "dask.config.set(scheduler='threads')."
        )
    get = get_scheduler(scheduler=client, cls=da.Array)
    cluster = getattr(get, "__self__", None)
    return get, cluster if hasattr(cluster, "cancel") else None


def _optimised(graph: HighLevelGraph, keys: list[Any]) -> Graph:
    """What the keys need, as dask's own arrays optimise it."""
    tasks: Graph = convert_legacy_graph(ensure_dict(da.optimize(graph, keys)))
    return tasks


def _fused(tasks: Graph, keys: list[Any]) -> Graph:
    """Each key and what it alone needs in one task, as far as that is a chain.

    dask fuses only tasks with a single input; what is said once for all tasks counts as one there.
    """
    needed = Counter(need for task in tasks.values() for need in task.dependencies)
    ends = set(keys)
    for key in keys:
        chain = [tasks[key]]
        while True:
            needs = [
                need for need in chain[-1].dependencies if not isinstance(tasks.get(need), DataNode)
            ]
            if len(needs) != 1 or needs[0] in ends or needs[0] not in tasks:
                break
            if needed[needs[0]] != 1 or tasks[needs[0]].block_fusion:
                break
            chain.append(tasks.pop(needs[0]))
        if len(chain) > 1:
            tasks[key] = Task.fuse(*chain, key=key)
    return tasks


def _patient(tasks: Graph, retries: int) -> Graph:
    return {
        key: _Patient.of(task, retries) if isinstance(task, Task) else task
        for key, task in tasks.items()
    }


class _Patient:
    """A task's function, called again after an error that may pass."""

    __slots__ = ("function", "key", "retries")

    def __init__(self, function: Callable[..., Any], key: Hashable, retries: int) -> None:
        self.function, self.key, self.retries = function, key, retries

    @classmethod
    def of(cls, task: Task, retries: int) -> Task:
        """The same task with patience."""
        function = cls(task.func, task.key, retries)
        produces = task.data_producer
        return Task(task.key, function, *task.args, _data_producer=produces, **task.kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tries = 0
        while True:
            try:
                return self.function(*args, **kwargs)
            except Exception as error:
                if tries == self.retries or not may_pass(error):
                    error.add_note(f"in {self.key}")
                    raise
            time.sleep(_PAUSE_S * 2**tries)
            tries += 1


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed a little later: a connection, a store, a time-out."""
    if isinstance(error, OSError):
        return not isinstance(error, _LASTING) and error.errno not in _LASTING_NUMBERS
    return any(kind.__module__.split(".")[0] in _CARRIERS for kind in type(error).__mro__)


def _run_on(client: Any, tasks: Graph, keys: list[Any], shown: tqdm[Any], what: str) -> None:
    """Run tasks on a cluster, batch after batch; whatever ends the wait ends them too."""
    portions = [keys[start : start + _BATCH] for start in range(0, len(keys), _BATCH)][::-1]
    waiting: list[Any] = []
    try:
        while portions or waiting:
            if portions and len(waiting) <= _BATCH:
                portion = portions.pop()
                waiting.extend(client.get(needed(tasks, portion), portion, sync=False))
            started = time.perf_counter()
            left = []
            for future in waiting:
                if future.status == "pending":
                    left.append(future)
                elif future.status != "finished":
                    _raise(future, what)
            # Those that are done are let go: the scheduler forgets them.
            shown.update(len(waiting) - len(left))
            waiting = left
            looked = time.perf_counter() - started
            time.sleep(max(_LOOK_S, _LOOKING_SHARE * looked) if waiting else 0)
    finally:
        if waiting and client.status == "running":
            client.cancel(waiting)


def _raise(future: Any, what: str) -> None:
    from distributed.scheduler import KilledWorker, NoWorkerError

    if future.status != "error":
        raise ClusterError(
            f"{what}: the scheduler went away, or somebody cancelled {future.key}. What is written "
            "stays in a Zarr store: go on with resume=True."
        )
    error = future.exception()
    if isinstance(error, KilledWorker):
        raise ClusterError(
            f"{what}: the workers that were given {error.task} died, {error.allowed_failures + 1} "
            "of them, most often for want of memory. What is written stays in a Zarr store: give "
            "each worker more memory or fewer threads, and go on with resume=True; or begin anew "
            "with smaller chunks=."
        ) from error
    if isinstance(error, NoWorkerError):
        raise ClusterError(
            f"{what}: there was no worker for {error.timeout:g} seconds. What is written stays in "
            "a Zarr store: start workers, and go on with resume=True."
        ) from error
    future.result()
