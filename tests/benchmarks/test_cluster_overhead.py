"""What a cluster costs beside threads, and what a hundred thousand chunks cost its scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import dask
import dask.array as da
import numpy as np
import psutil
import pytest
import xarray as xr
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph
from distributed import Client, LocalCluster

import xdemsr
from xdemsr.running import run_tasks

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROUNDS = 5


@pytest.mark.parametrize(("workers", "threads"), [(2, 1), (1, 2)])
def test_a_cluster_on_one_machine(tmp_path: Path, workers: int, threads: int) -> None:
    """1500 x 1100 source pixels x16 to a Zarr store, by turns."""
    coarse = tmp_path / "coarse.tif"
    xdemsr.write_cog(xdemsr.synthetic.terrain((1500, 1100)), coarse)

    def seconds(client: Client | None) -> float:
        fine = xdemsr.open(coarse).demsr.upscale(16)
        started = time.perf_counter()
        with ExitStack() as stack:
            if client is None:
                stack.enter_context(dask.config.set(scheduler="threads"))
            xdemsr.write_zarr(fine, tmp_path / "fine.zarr", overwrite=True, client=client)
        return time.perf_counter() - started

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=threads, dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        pairs = [(seconds(client), seconds(None)) for _ in range(ROUNDS + 1)][1:]
        moved = sum(client.run(_received).values()) / (ROUNDS + 1)
    ratio = median(ours / plain for ours, plain in pairs)
    print(
        f"\n{workers} workers of {threads} threads: {ratio:.2f} times as long as threads "
        f"({', '.join(f'{ours:.1f}/{plain:.1f}' for ours, plain in pairs)} s); "
        f"{moved / 1e6:.1f} MB between workers"
    )
    assert ratio < 1.15


def _received(dask_worker: Any) -> int:
    return sum(entry["total"] for entry in dask_worker.transfer_incoming_log)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[tuple[Client, psutil.Process]]:
    """A scheduler and two workers in processes of their own."""
    where = ["--scheduler-file", str(tmp_path / "scheduler.json"), "--no-dashboard"]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask_cli = [sys.executable, "-m", "distributed.cli.dask_"]
    kinds = {"scheduler": ["--port", "0"], "worker": ["--nthreads", "1", "--no-nanny"]}
    running = [
        subprocess.Popen([*dask_cli[:2], dask_cli[2] + kind, *kinds[kind], *where], **quiet)
        for kind in ("scheduler", "worker", "worker")
    ]
    try:
        with Client(scheduler_file=where[1], timeout=60) as client:
            client.wait_for_workers(2)
            yield client, psutil.Process(running[0].pid)
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_a_hundred_thousand_chunks(processes: tuple[Client, psutil.Process]) -> None:
    """Chunks of 128 x 128 pixels, which are hardly any work: what is left is bookkeeping."""
    client, scheduler = processes
    started = time.perf_counter()
    ny, nx = 20_480, 20_000
    source = xr.DataArray(
        da.ones((ny, nx), chunks=256, dtype="float32"),
        dims=("y", "x"),
        coords={"y": -np.arange(ny) * 30.0, "x": np.arange(nx) * 30.0},
    )
    fine = source.demsr.upscale(2, "nearest", chunks=128).data
    # What a write is to the scheduler: a task for each chunk that answers next to nothing.
    keys = [("demsr-length", *index) for index in np.ndindex(*fine.numblocks)]
    layer = {key: Task(key, len, TaskRef((fine.name, *key[1:]))) for key in keys}
    graph = HighLevelGraph.from_collections("demsr-length", layer, dependencies=[fine])
    built = time.perf_counter() - started
    stop = threading.Event()
    peak: list[int] = [0]

    def watch() -> None:
        while not stop.wait(0.5):
            peak[0] = max(peak[0], scheduler.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    busy = sum(scheduler.cpu_times()[:2])
    started = time.perf_counter()
    run_tasks(graph, keys, client=client)
    wall = time.perf_counter() - started
    busy = sum(scheduler.cpu_times()[:2]) - busy
    stop.set()
    watcher.join()
    print(
        f"\n{len(keys)} chunks: built in {built:.1f} s, {busy / len(keys) * 1e3:.2f} ms of the "
        f"scheduler's processor and {wall / len(keys) * 1e3:.2f} ms of wall time for each, "
        f"{peak[0] / 1e6:.0f} MB of the scheduler at most, load {os.getloadavg()[0]:.1f}"
    )
    assert built < 15
    assert busy / len(keys) < 2e-3
    assert peak[0] < 1e9
