"""Tasks run for their effect: here, on a cluster, with what fails on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask._task_spec import DataNode, Task, TaskRef
from dask.highlevelgraph import HighLevelGraph

import xdemsr.progress
import xdemsr.running
from xdemsr.errors import ClusterError, InputError
from xdemsr.running import may_pass, run_tasks

distributed = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(params=["here", "cluster"])
def place(request: pytest.FixtureRequest) -> Any:
    """The client of a cluster, or None for dask's own scheduler."""
    return request.getfixturevalue("client") if request.param == "cluster" else None


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")


def writing(
    effect: Callable[..., None], folder: Path, source: da.Array
) -> tuple[HighLevelGraph, list[Any]]:
    """A graph that calls ``effect`` with each chunk of an array, and its keys."""
    name = f"demsr-write-{dask.base.tokenize(str(folder), effect, source.name)}"
    layer: dict[Any, Any] = {f"{name}-place": DataNode(f"{name}-place", folder)}
    for index in np.ndindex(*source.numblocks):
        key, block = (name, *index), TaskRef((source.name, *index))
        layer[key] = Task(key, effect, TaskRef(f"{name}-place"), index, block)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[source])
    return graph, [key for key in layer if isinstance(key, tuple)]


def put(folder: Path, index: tuple[int, ...], block: np.ndarray) -> None:
    (folder / ".".join(map(str, index))).write_text(f"{block.sum():.0f}")


def said(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_every_key_has_its_effect_and_no_other(place: Any, tmp_path: Path) -> None:
    graph, keys = writing(put, tmp_path, da.ones((6, 9), chunks=(2, 3)))
    run_tasks(graph, keys[:4], client=place)
    assert said(tmp_path) == {"0.0": "6", "0.1": "6", "0.2": "6", "1.0": "6"}


@pytest.mark.filterwarnings("ignore:Running on a single-machine scheduler:UserWarning")
def test_the_cluster_that_is_there_is_used(client: Any, tmp_path: Path) -> None:
    def pid(folder: Path, index: tuple[int, ...], block: np.ndarray) -> None:
        (folder / str(os.getpid())).touch()

    graph, keys = writing(pid, tmp_path / "a", da.ones((6, 9), chunks=(2, 3)))
    (tmp_path / "a").mkdir()
    with client.as_current():
        run_tasks(graph, keys)
        assert str(os.getpid()) not in said(tmp_path / "a")
        with dask.config.set(scheduler="threads"):
            run_tasks(graph, keys)
        assert str(os.getpid()) in said(tmp_path / "a")


def test_a_chunk_is_written_where_it_is_computed(client: Any, tmp_path: Path) -> None:
    """One task for each: nothing waits in memory, nothing travels."""
    source = da.ones((6, 9), chunks=(2, 3)) + 1
    graph, keys = writing(put, tmp_path, source)
    tasks = xdemsr.running._fused(xdemsr.running._optimised(graph, keys), keys)
    assert len(tasks) == len(keys) + 1


def test_what_two_chunks_need_is_computed_once(place: Any, tmp_path: Path) -> None:
    def once(folder: Path) -> np.ndarray:
        (folder / "made").touch(exist_ok=False)
        return np.ones(3)

    shared = Task("made", once, tmp_path)
    layer: dict[Any, Any] = {"made": shared}
    for k in range(3):
        layer["write", k] = Task(("write", k), put, tmp_path, (k,), TaskRef("made"))
    graph = HighLevelGraph.from_collections("write", layer)
    run_tasks(graph, [("write", k) for k in range(3)], client=place)
    assert said(tmp_path) == {"made": "", "0": "3", "1": "3", "2": "3"}


def test_batches_make_no_difference(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xdemsr.running, "_BATCH", 7)
    graph, keys = writing(put, tmp_path, da.arange(100, chunks=2) + da.arange(100, chunks=2))
    run_tasks(graph, keys, client=client)
    assert said(tmp_path) == {str(k): str(2 * (4 * k + 1)) for k in range(50)}


def test_what_a_cluster_holds_is_not_computed_again(client: Any, tmp_path: Path) -> None:
    def once(block: np.ndarray, folder: Path) -> np.ndarray:
        (folder / "made").touch(exist_ok=False)
        return block

    source = client.persist(da.ones(3, chunks=3).map_blocks(once, tmp_path, meta=np.empty(0)))
    graph, keys = writing(put, tmp_path, source + 1)
    run_tasks(graph, keys, client=client)
    assert said(tmp_path) == {"made": "", "0": "6"}


class Flaky:
    """Fails some times for each chunk, then writes."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times = error, times

    def __call__(self, folder: Path, index: tuple[int, ...], block: np.ndarray) -> None:
        tries = folder / f"tries-{index[0]}"
        with tries.open("a") as file:
            file.write("x")
        if tries.stat().st_size <= self.times:
            raise self.error
        put(folder, index, block)


def test_what_fails_for_a_moment_is_tried_again(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause(place, monkeypatch)
    graph, keys = writing(Flaky(ConnectionResetError("away"), 2), tmp_path, da.ones(4, chunks=2))
    run_tasks(graph, keys, client=place)
    assert said(tmp_path) == {"0": "2", "1": "2", "tries-0": "xxx", "tries-1": "xxx"}


@pytest.mark.parametrize(
    ("error", "tries"),
    [(TimeoutError("slow"), 3), (InputError("no model"), 1), (PermissionError("mine"), 1)],
)
def test_what_fails_for_good_is_raised_with_its_place(
    place: Any, error: Exception, tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause(place, monkeypatch)
    graph, keys = writing(Flaky(error, 9), tmp_path, da.ones(2, chunks=2))
    with pytest.raises(type(error), match=str(error)) as raised:
        run_tasks(graph, keys, client=place, retries=2)
    assert any(str(keys[0]) in note for note in raised.value.__notes__)
    assert said(tmp_path) == {"tries-0": "x" * tries}


def pause(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less between tries, here or on the workers."""

    def hurry() -> None:
        xdemsr.running._PAUSE_S = 0.01

    if place is None:
        monkeypatch.setattr(xdemsr.running, "_PAUSE_S", 0.01)
    else:
        place.run(hurry)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionError(), True),
        (OSError("read failed"), True),
        (OSError(28, "no space left"), False),
        (FileNotFoundError(), False),
        (ValueError(), False),
        (MemoryError(), False),
    ],
)
def test_which_errors_may_pass(error: Exception, passes: bool) -> None:
    assert may_pass(error) == passes


def test_errors_of_packages_that_speak_to_stores_may_pass() -> None:
    aiohttp = pytest.importorskip("aiohttp")
    assert may_pass(aiohttp.ServerDisconnectedError())


def test_workers_that_die_are_told_of(client: Any, tmp_path: Path) -> None:
    def die(folder: Path, index: tuple[int, ...], block: np.ndarray) -> None:
        os._exit(1)

    graph, keys = writing(die, tmp_path, da.ones(2, chunks=2))
    with pytest.raises(ClusterError, match=r"^writing fine.zarr: .* died.* memory.*resume=True"):
        run_tasks(graph, keys, client=client, what="writing fine.zarr")
    client.wait_for_workers(2, timeout=30)


def test_without_workers_it_ends_where_that_is_asked_for(tmp_path: Path) -> None:
    setting = {"distributed.scheduler.no-workers-timeout": "200ms"}
    with (
        dask.config.set(setting),
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.raises(ClusterError, match=r"no worker for 0\.2 seconds.*resume=True"),
    ):
        run_tasks(*writing(put, tmp_path, da.ones((2, 3), chunks=1)), client=client)


def test_what_is_no_client_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be a distributed\.Client: for a scheduler's addr"):
        run_tasks(*writing(put, tmp_path, da.ones((2, 3), chunks=1)), client="tcp://127.0.0.1:8786")


def test_an_interrupt_leaves_nothing_behind(client: Any, tmp_path: Path) -> None:
    def wait(folder: Path, index: tuple[int, ...], block: np.ndarray) -> None:
        (folder / str(index[0])).touch()
        time.sleep(0.2)

    graph, keys = writing(wait, tmp_path, da.ones(200, chunks=1))

    def interrupt() -> None:
        while len(said(tmp_path)) < 3:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(graph, keys, client=client)
    deadline = time.monotonic() + 10
    while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert 0 < len(said(tmp_path)) < 50


def test_a_bar_counts_what_was_asked_for(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tqdm import tqdm

    bars: list[Any] = []

    def recorded(total: int, what: str) -> Any:
        bars.append(tqdm(total=total, desc=what))
        return bars[-1]

    monkeypatch.delenv("TQDM_DISABLE")
    for module in (xdemsr.progress, xdemsr.running):
        monkeypatch.setattr(module, "bar", recorded)
    xdemsr.progress.watch_dask()
    graph, keys = writing(put, tmp_path, da.ones((6, 9), chunks=(2, 3), name="demsr-x") + 1)
    run_tasks(graph, keys, client=place, what="writing")
    (shown,) = bars
    assert (shown.desc, shown.total, shown.n) == ("writing", 9, 9)


def test_workers_do_not_read_ahead(client: Any, tmp_path: Path) -> None:
    """Memory is flat: a source chunk is read when what needs it can run."""

    def read(block: np.ndarray, folder: Path) -> np.ndarray:
        log(folder, "r")
        return block

    def slowly(folder: Path, index: tuple[int, ...], block: np.ndarray) -> None:
        time.sleep(0.02)
        log(folder, "w")

    def log(folder: Path, letter: str) -> None:
        descriptor = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(descriptor, letter.encode())
        os.close(descriptor)

    source = da.ones((120, 8), chunks=(1, 8)).map_blocks(read, tmp_path, meta=np.empty((0, 0)))
    shared = da.overlap.overlap(source, depth={0: 1}, boundary="none").rechunk((3, 8))
    graph, keys = writing(slowly, tmp_path, shared)
    run_tasks(graph, keys, client=client)
    log_text = (tmp_path / "log").read_text()
    assert log_text.count("r") == 120
    written = log_text.count("w")
    per_write = 120 / written
    ahead = [
        log_text[: k + 1].count("r") - per_write * log_text[:k].count("w")
        for k in range(len(log_text))
    ]
    assert max(ahead) < 20
