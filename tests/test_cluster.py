"""The same call on a real cluster of processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xdemsr
from xdemsr.errors import ClusterError

distributed = pytest.importorskip("distributed")

# Signals and teardown of processes leave sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[object]:
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("model", ["terrain_model", "windowed_model"])
def test_a_cluster_never_changes_a_bit(
    client: object, model: str, dem: xr.DataArray, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(model)
    expected = dem.demsr.upscale(16, path)
    lazy = dem.chunk(13).demsr.upscale(16, path, chunks=(333, 200))
    np.testing.assert_array_equal(lazy.compute().values, expected.values)


def test_a_killed_worker_costs_time_only(
    client: object, dem: xr.DataArray, terrain_model: Path, tmp_path: Path
) -> None:
    expected = dem.demsr.upscale(16, terrain_model)
    lazy = dem.chunk(13).demsr.upscale(16, terrain_model, chunks=64).persist()
    victim = next(iter(client.run(os.getpid).values()))  # type: ignore[attr-defined]
    os.kill(victim, signal.SIGKILL)
    np.testing.assert_array_equal(lazy.compute().values, expected.values)


def content(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def wait_for_regions(store: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(store.glob("*/.xdemsr/*"))) < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def slowed(dem: xr.DataArray, seconds: float) -> xr.DataArray:
    """A raster that takes its time, of the same name each time."""

    def wait(block: np.ndarray) -> np.ndarray:
        time.sleep(seconds)
        return block

    made = da.map_blocks(wait, dem.data, name="slow", meta=np.empty((0, 0), dem.dtype))
    return dem.copy(data=made)


def test_a_store_survives_a_killed_worker(
    client: Any, dem: xr.DataArray, terrain_model: Path, tmp_path: Path
) -> None:
    lazy = dem.chunk(13).demsr.upscale(16, terrain_model, chunks=64)
    whole = xdemsr.write_zarr(lazy, tmp_path / "whole.zarr")
    store = tmp_path / "fine.zarr"

    def kill() -> None:
        wait_for_regions(store, 10)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    xdemsr.write_zarr(lazy, store, client=client)
    killer.join()
    assert content(store) == content(whole)
    client.wait_for_workers(2, timeout=30)


def test_one_load_of_the_model_in_each_worker(
    client: Any, dem: xr.DataArray, terrain_model: Path
) -> None:
    """Many chunks, several threads that begin together, and a second job that finds it there."""

    def count() -> None:
        import xdemsr.loading as loading

        loading._cache.clear()
        build, loading.loads = loading._build, 0

        def counted(spec: Any) -> Any:
            loading.loads += 1
            time.sleep(0.2)
            return build(spec)

        loading._build = counted

    def loads() -> int:
        import xdemsr.loading as loading

        return loading.loads

    client.run(count)
    lazy = dem.chunk(13).demsr.upscale(16, terrain_model, chunks=64)
    lazy.compute()
    assert list(client.run(loads).values()) == [1, 1]
    (lazy[::2] + lazy[1::2]).compute()
    assert list(client.run(loads).values()) == [1, 1]


def test_pixels_of_the_answer_stay_where_they_are(
    client: Any, dem: xr.DataArray, terrain_model: Path, tmp_path: Path
) -> None:
    """What goes from worker to worker is source pixels, a 256th of the answer's."""

    def received(dask_worker: Any) -> int:
        return sum(entry["total"] for entry in dask_worker.transfer_incoming_log)

    before = sum(client.run(received).values())
    lazy = dem.chunk(13).demsr.upscale(16, terrain_model, chunks=128)
    xdemsr.write_zarr(lazy, tmp_path / "fine.zarr")
    moved = sum(client.run(received).values()) - before
    assert moved < 0.1 * lazy.nbytes


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and a worker that are processes of their own: their file, and they."""
    where = str(tmp_path / "scheduler.json")
    dask = [sys.executable, "-m", "distributed.cli.dask_"]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = [dask[0], "-m", f"{dask[2]}scheduler", "--port", "0", "--no-dashboard"]
    worker = [dask[0], "-m", f"{dask[2]}worker", "--nthreads", "2", "--no-dashboard", "--no-nanny"]
    processes = [
        subprocess.Popen([*command, "--scheduler-file", where], **quiet)
        for command in (scheduler, worker)
    ]
    yield where, processes
    for process in processes:
        process.kill()
        process.wait()


def test_a_scheduler_that_dies_leaves_a_store_to_go_on_with(
    alone: tuple[str, list[subprocess.Popen[bytes]]], dem: xr.DataArray, tmp_path: Path
) -> None:
    where, (scheduler, _) = alone
    lazy = slowed(dem.chunk(13), 0.1).demsr.upscale(16, "bicubic", chunks=64)
    store = tmp_path / "fine.zarr"

    def kill() -> None:
        wait_for_regions(store, 5)
        scheduler.kill()

    threading.Thread(target=kill).start()
    with (
        distributed.Client(scheduler_file=where, timeout=30, set_as_default=False) as client,
        pytest.raises(ClusterError, match=r"writing .*fine\.zarr: the scheduler went away.*resume"),
    ):
        xdemsr.write_zarr(lazy, store, client=client)
    left = len(xdemsr.missing(store))
    assert 0 < left < lazy.data.npartitions
    xdemsr.write_zarr(lazy, store, resume=True)
    whole = xdemsr.write_zarr(lazy, tmp_path / "whole.zarr")
    assert content(store) == content(whole)


def test_a_worker_without_memory_is_told_of_and_the_store_goes_on(
    dem: xr.DataArray, tmp_path: Path
) -> None:
    """One chunk takes more than a worker has, until there is more."""
    plenty = tmp_path / "plenty"

    def hungry(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info[0]["chunk-location"] == (2, 2) and not plenty.exists():
            held = [np.ones(1 << 22) for _ in range(60)]
            time.sleep(2)
            del held
        return block

    made = da.map_blocks(hungry, dem.chunk(13).data, name="hungry", meta=np.empty((0, 0)))
    lazy = dem.copy(data=made).demsr.upscale(16, "bicubic", chunks=208)
    store = tmp_path / "fine.zarr"
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit="900MiB",
            dashboard_address=":0",
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        with pytest.raises(ClusterError, match=r"died, 2 of them.*memory"):
            xdemsr.write_zarr(lazy, store, client=client)
        plenty.touch()
        xdemsr.write_zarr(lazy, store, client=client, resume=True)
    np.testing.assert_array_equal(xdemsr.open(store).values, lazy.values)


def test_the_example_for_one_machine_runs(dem: xr.DataArray, tmp_path: Path) -> None:
    xdemsr.write_cog(dem, tmp_path / "coarse.tif")
    script = Path(__file__).parent.parent / "examples" / "batch" / "localcluster.py"
    options = ["--scale", "4", "--model", "bicubic", "--workers", "2", "--chunks", "64"]
    command = [sys.executable, str(script), "coarse.tif", "fine.zarr", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fine.zarr" in done.stdout
    expected = xdemsr.open(tmp_path / "coarse.tif").demsr.upscale(4, "bicubic")
    np.testing.assert_array_equal(xdemsr.open(tmp_path / "fine.zarr").values, expected.values)


def test_the_example_reads_a_stac_and_goes_on_after_a_kill(
    dem: xr.DataArray, tmp_path: Path
) -> None:
    """API, web server, cluster and all: everything that belongs to the run dies at once."""
    pytest.importorskip("pystac_client")
    from catalog import make_item, stac_api
    from web import WebServer

    xdemsr.write_cog(dem, tmp_path / "coarse.tif")
    options = ["--scale", "8", "--model", "bicubic", "--workers", "2", "--chunks", "24"]
    script = Path(__file__).parent.parent / "examples" / "batch" / "localcluster.py"
    with WebServer(tmp_path) as web:
        voids: list[Any] = [{"nodata": "nan"}]
        item = make_item(web.url("coarse.tif"), tmp_path / "coarse.tif", bands=voids)
        west, south, east, north = item.bbox
        bbox = (west + 0.002, south + 0.002, east - 0.002, north - 0.002)
        with stac_api(tmp_path, [item]) as url:
            found = xdemsr.open_stac(url, "terrain", bbox=bbox)
            fine = found.demsr.upscale(8, "bicubic", chunks=24)
            whole = xdemsr.write_zarr(fine, tmp_path / "whole.zarr")
            store = tmp_path / "fine.zarr"
            line = [sys.executable, str(script), "--stac", url, "terrain", *map(str, bbox)]
            command = [*line, str(store), *options]
            quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with subprocess.Popen(command, start_new_session=True, **quiet) as job:
                wait_for_regions(store, 5)
                os.killpg(job.pid, signal.SIGKILL)
            assert 0 < len(xdemsr.missing(store)) <= fine.data.npartitions - 5
            subprocess.run(command, check=True, timeout=120, **quiet)
    assert content(store) == content(whole)


def test_threads_that_begin_together_load_once(
    terrain_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import xdemsr.loading as loading
    from xdemsr.catalog import find

    spec, loads = find(terrain_model), []
    build = loading._build

    def counted(spec: Any) -> Any:
        loads.append(spec.name)
        time.sleep(0.1)
        return build(spec)

    monkeypatch.setattr(loading, "_build", counted)
    loading._cache.clear()
    with ThreadPoolExecutor(8) as pool:
        modules = list(
            pool.map(
                lambda _: loading.load_module(spec, torch.device("cpu"), torch.float32), range(8)
            )
        )
    assert len(loads) == 1
    assert len({id(module) for module in modules}) == 1


TURNS = """
import sys, threading, time
from xdemsr.turns import turn
def work():
    for _ in range(10):
        asked = time.monotonic_ns()
        with turn("gpu-a-test"):
            began = time.monotonic_ns()
            time.sleep(0.02)
            print(began, time.monotonic_ns(), asked, flush=True)
threads = [threading.Thread(target=work) for _ in range(2)]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_one_at_a_time_at_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of two processes with two threads each."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-c", TURNS]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said = [worker.communicate(timeout=60)[0].splitlines() for worker in workers]
    assert [len(lines) for lines in said] == [20, 20]
    turns = sorted(tuple(map(int, line.split())) for lines in said for line in lines)
    assert all(before[1] <= after[0] for before, after in pairwise(turns))
    # They did meet: each asked while the other had turns to come.
    asked = [min(int(line.split()[2]) for line in lines) for lines in said]
    began = [max(int(line.split()[0]) for line in lines) for lines in said]
    assert max(asked) < min(began)


def test_a_process_that_dies_leaves_its_turn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = "from xdemsr.turns import turn; import os\nwith turn('gpu-x'): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    code = "from xdemsr.turns import turn\nwith turn('gpu-x'): print('mine')"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)
    assert b"mine" in done.stdout


def test_the_first_gpu_that_a_worker_is_shown_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As LocalCUDACluster does it, by CUDA_VISIBLE_DEVICES; told apart by what no number says."""
    import types

    import torch

    from xdemsr.device import resolve_device, unmistakable

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    properties = types.SimpleNamespace(uuid="8a3f")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    device = resolve_device("auto")
    assert device == torch.device("cuda:0") == resolve_device("cuda")
    assert unmistakable(device) == "gpu-8a3f"


FAULTS = """
import resource, sys, threading
import numpy as np
from xdemsr.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    for _ in range(40):
        np.ones(1 << 20)
thread = threading.Thread(target=work)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/maps").exists() or "libc.so.6" not in Path("/proc/self/maps").read_text(),
    reason="the C library is not glibc",
)
def test_a_worker_asks_for_the_same_memory_once() -> None:
    """Where a Dask worker's environment would have it given back each time."""

    def faults(what: str, **environment: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, what],
            env={**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0", **environment},
            check=True,
            capture_output=True,
            text=True,
        )
        return int(done.stdout)

    many = faults("leave", MALLOC_TRIM_THRESHOLD_="65536")
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="65536") < 0.3 * many
    # Who has chosen otherwise knows why.
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="65537") > 0.8 * many


def test_writing_from_a_cluster(
    client: object, dem: xr.DataArray, terrain_model: Path, tmp_path: Path
) -> None:
    lazy = dem.chunk(13).demsr.upscale(16, terrain_model, chunks=200)
    cog = xdemsr.write_cog(lazy, tmp_path / "fine.tif")
    np.testing.assert_array_equal(xdemsr.open(cog).values, lazy.values)
    store = xdemsr.write_zarr(lazy, tmp_path / "fine.zarr")
    expected = dem.demsr.upscale(16, terrain_model)
    np.testing.assert_array_equal(xdemsr.open(store).values, expected.values)
