"""Keys in batches: each once, and memory that does not grow with a raster's width."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask._task_spec import DataNode, Task, TaskRef
from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xdemsr
import xdemsr.batches
from xdemsr.batches import batches
from xdemsr.running import run_tasks


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xdemsr.batches, "_LEAST", 8)


class Job:
    """Chunks that are each made of those around it in a source, as halos make them."""

    def __init__(self, ny: int, nx: int, of_all: bool = False) -> None:
        self.read: Counter[tuple[int, int]] = Counter()
        self.written: Counter[tuple[int, int]] = Counter()
        self.summed = 0
        self.keys = [("write", y, x) for y, x in np.ndindex(ny, nx)]
        self.tasks: dict[Any, Any] = {
            ("read", y, x): Task(("read", y, x), self._read, y, x) for y, x in np.ndindex(ny, nx)
        }
        reads = [TaskRef(key) for key in self.tasks]
        for _, y, x in self.keys:
            around = [TaskRef(("read", *near)) for near in self.around(y, x, ny, nx)]
            more = [TaskRef("sum")] if of_all else []
            self.tasks["write", y, x] = Task(("write", y, x), self._write, y, x, *around, *more)
        if of_all:
            self.tasks["sum"] = Task("sum", self._sum, *reads)
        self.shape = ny, nx

    @staticmethod
    def around(y: int, x: int, ny: int, nx: int) -> list[tuple[int, int]]:
        return [
            (j, i)
            for j in range(max(y - 1, 0), min(y + 2, ny))
            for i in range(max(x - 1, 0), min(x + 2, nx))
        ]

    def _read(self, y: int, x: int) -> np.ndarray:
        self.read[y, x] += 1
        return np.array([y, x])

    def _write(self, y: int, x: int, *around: np.ndarray) -> None:
        self.written[y, x] += 1
        assert [tuple(a) for a in around if a.ndim] == self.around(y, x, *self.shape)

    def _sum(self, *chunks: np.ndarray) -> np.ndarray:
        self.summed += 1
        return np.asarray(sum(int(chunk.sum()) for chunk in chunks))

    def run(self) -> int:
        """Compute it all on this thread; most source chunks that were held at once."""
        held = [0]

        def count(key: Any, result: Any, dsk: Any, state: Any, worker: Any) -> None:
            held.append(sum(isinstance(value, np.ndarray) for value in state["cache"].values()))

        graph = HighLevelGraph.from_collections("write", self.tasks)
        with dask.config.set(scheduler="sync"), Callback(posttask=count):
            run_tasks(graph, self.keys)
        return max(held)


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(ny=st.integers(1, 30), nx=st.integers(1, 30), most=st.integers(1, 400))
def test_every_chunk_is_written_once(ny: int, nx: int, most: int) -> None:
    job = Job(ny, nx)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xdemsr.batches, "MOST_NEEDED", most)
        job.run()
    assert set(job.written) == set(np.ndindex(ny, nx))
    assert set(job.written.values()) == {1}
    assert max(job.read.values()) <= 4


def test_what_is_held_does_not_grow_with_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, wide, unbound = Job(20, 30), Job(20, 60), Job(20, 60)
    monkeypatch.setattr(xdemsr.batches, "MOST_NEEDED", 10**6)
    assert unbound.run() > 2 * 60
    monkeypatch.setattr(xdemsr.batches, "MOST_NEEDED", 100)
    assert wide.run() == narrow.run() < 50
    assert wide.read.total() < 1.6 * 20 * 60


def test_what_all_need_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xdemsr.batches, "MOST_NEEDED", 100)
    job = Job(30, 40, of_all=True)
    job.run()
    assert job.summed == 1
    assert set(job.read.values()) == {1}


def test_what_needs_another_is_computed_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyramid: its levels are keys, and made of each other."""
    monkeypatch.setattr(xdemsr.batches, "MOST_NEEDED", 1)
    job = Job(30, 40)
    job.tasks["write", 31, 40] = Task(("write", 31, 40), repr, TaskRef(job.keys[0]))
    keys = [*job.keys, ("write", 31, 40)]
    assert batches(job.tasks, keys) == [keys]


def test_a_wide_raster_in_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    xdemsr.write_zarr(xdemsr.synthetic.terrain((300, 3000)).chunk(64), tmp_path / "coarse.zarr")
    fine = xdemsr.open(tmp_path / "coarse.zarr").demsr.upscale(2, "bicubic", chunks=256)
    monkeypatch.setattr(xdemsr.batches, "MOST_NEEDED", 100)
    found: list[int] = []

    def counted(tasks: Any, keys: Any) -> Any:
        made = batches(tasks, keys)
        found.append(len(made))
        return made

    monkeypatch.setattr("xdemsr.running.batches", counted)
    xdemsr.write_zarr(fine, tmp_path / "fine.zarr")
    assert found[0] > 1
    xr.testing.assert_equal(xdemsr.open(tmp_path / "fine.zarr").compute(), fine.compute())


def test_what_is_in_memory_is_read_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xdemsr.batches, "MOST_NEEDED", 100)
    job = Job(30, 40)
    for key in [key for key in job.tasks if key[0] == "read"]:
        job.tasks[key] = DataNode(key, np.array(key[1:]))
    job.run()
    assert set(job.written.values()) == {1}


def test_one_axis_is_one_batch() -> None:
    line = da.ones(3000, chunks=1) + da.ones(3000, chunks=1)
    keys = [(line.name, k) for k in range(3000)]
    assert batches(dict(line.dask), keys) == [keys]
