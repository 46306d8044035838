"""The batch examples on a SLURM of one node, started for the test and stopped after it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xdemsr
from xdemsr.errors import InputError

pytest.importorskip("pystac_client")

from catalog import make_item, stac_api
from web import WebServer

EXAMPLES = Path(__file__).parent.parent / "examples" / "batch"
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")
SCALE, CHUNK = 16, 256

missing = [name for name in NEEDED if shutil.which(name) is None]
if missing:
    pytest.skip(f"there is no {', '.join(missing)} here", allow_module_level=True)
if os.geteuid() != 0:
    pytest.skip("a SLURM is started by root only", allow_module_level=True)

pytestmark = pytest.mark.slurm

CONFIGURATION = """
ClusterName=xdemsr
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
KillWait=2
SchedulerParameters=sched_min_interval=1,bf_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ran(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def until(what: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a SLURM that runs."""
    # Sockets have short names, and munge refuses folders that others may write.
    home = Path("/run") / f"xdemsr-slurm-{os.getpid()}"
    for folder in ("munge", "state", "spool"):
        (home / folder).mkdir(parents=True)
    key = home / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for path in (home / "munge", key):
        shutil.chown(path, "munge", "munge")
    files = {"key": "key", "socket": "socket", "pid": "pid", "log": "log", "seed": "seed"}
    options = [f"--{name}-file={home}/munge/{file}" for name, file in files.items()]
    options[1] = f"--socket={home}/munge/socket"
    ran("runuser", "-u", "munge", "--", "munged", "--force", *options)
    configuration = home / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    ports = free_port(), free_port()
    configuration.write_text(CONFIGURATION.format(home=home, host=host, ports=ports))
    patch = pytest.MonkeyPatch()
    patch.setenv("SLURM_CONF", str(configuration))
    patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    patch.setenv("OMP_NUM_THREADS", "1")
    try:
        ran("slurmctld", "-c")
        ran("slurmd")
        until(lambda: ran("sinfo", "--noheader", "--format=%t") == "idle")
        yield home
    finally:
        with suppress(subprocess.CalledProcessError, AssertionError):
            ran("scancel", "--user=root")
            until(lambda: not ran("squeue", "--noheader"), seconds=20)
            ran("scontrol", "shutdown")
        for file in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            with suppress(FileNotFoundError, ProcessLookupError, ValueError):
                os.kill(int((home / file).read_text()), signal.SIGTERM)
        time.sleep(1)
        patch.undo()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raster that takes some seconds to upscale."""
    dem = xdemsr.synthetic.terrain((300, 390), gsd=30.0, seed=5)
    dem[20:40, 50:90] = np.nan
    path = tmp_path_factory.mktemp("slurm") / "coarse.tif"
    xdemsr.write_cog(dem, path)
    return path


@pytest.fixture(scope="module")
def undisturbed(coarse: Path) -> dict[str, bytes]:
    """Every file of the store that nobody disturbs."""
    fine = xdemsr.open(coarse).demsr.upscale(SCALE, "histospline", chunks=CHUNK)
    return content(xdemsr.write_zarr(fine, coarse.parent / "undisturbed.zarr"))


def content(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def submitted(
    source: Path | str, target: Path, *options: str, place: Sequence[str] = (), chunk: int = CHUNK
) -> str:
    """The number of a job that runs the example."""
    return ran(
        *("sbatch", "--parsable", f"--output={target}.log", *options, str(EXAMPLES / "slurm.sh")),
        *(str(source), str(target), "--scale", str(SCALE), "--model", "histospline"),
        *("--chunks", str(chunk), *place),
    )


def state(job: str) -> str:
    return ran("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}")


def wait_for_regions(target: Path, number: int) -> None:
    until(lambda: len(list(target.glob("*/.xdemsr/*"))) >= number)
    assert xdemsr.missing(target)
    with pytest.raises(InputError, match="resume"):
        xdemsr.open(target)


def ended(job: str) -> bool:
    if state(job) == "PENDING":
        # Two minutes pass before SLURM itself would start it again; what starts in the second in
        # which it was queued has no right to run, and fails.
        time.sleep(2)
        with suppress(subprocess.CalledProcessError):
            ran("scontrol", "update", f"JobId={job}", "StartTime=now")
    return state(job) in ("COMPLETED", "FAILED", "CANCELLED")


def check_finished(job: str, target: Path, expected: dict[str, bytes]) -> None:
    until(lambda: ended(job))
    assert state(job) == "COMPLETED", Path(f"{target}.log").read_text()
    assert content(target) == expected
    assert xr.open_zarr(target).sizes == {"y": 300 * SCALE, "x": 390 * SCALE}


def restarts(job: str) -> str:
    said = ran("scontrol", "show", "job", job)
    return next(word for word in said.split() if word.startswith("Restarts=")).split("=")[1]


def test_a_job_that_slurm_queues_again_goes_on(
    slurm: Path, coarse: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """As after a preemption, or a node that fails."""
    target = tmp_path / "fine.zarr"
    job = submitted(coarse, target)
    wait_for_regions(target, 20)
    ran("scontrol", "requeue", job)
    until(lambda: state(job) == "PENDING")
    left = len(xdemsr.missing(target))
    assert 0 < left <= 475 - 20
    check_finished(job, target, undisturbed)
    assert restarts(job) == "1"


def test_a_job_that_reads_a_stac_goes_on(slurm: Path, coarse: Path, tmp_path: Path) -> None:
    target = tmp_path / "fine.zarr"
    with WebServer(coarse.parent) as web:
        item = make_item(web.url(coarse.name), coarse, bands=[{"nodata": "nan"}])
        west, south, east, north = item.bbox
        bbox = [west + 0.01, south + 0.01, east - 0.01, north - 0.01]
        with stac_api(tmp_path, [item]) as url:
            place = ["--collection", "terrain", "--bbox", *map(str, bbox)]
            job = submitted(url, target, place=place, chunk=128)
            wait_for_regions(target, 5)
            ran("scontrol", "requeue", job)
            until(lambda: ended(job))
            assert state(job) == "COMPLETED", Path(f"{target}.log").read_text()
            assert restarts(job) == "1"
            fine = xdemsr.open_stac(url, "terrain", bbox=bbox).demsr.upscale(
                SCALE, "histospline", chunks=128
            )
            whole = xdemsr.write_zarr(fine, tmp_path / "whole.zarr")
    assert content(target) == content(whole)


def test_work_that_is_killed_is_begun_again_by_its_job(
    slurm: Path, coarse: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """As by the memory limit."""
    target = tmp_path / "fine.zarr"
    job = submitted(coarse, target)
    wait_for_regions(target, 20)
    ran("scancel", "--signal=KILL", f"{job}.0")
    check_finished(job, target, undisturbed)
    assert restarts(job) == "1"
    assert "starting again after status 137" in Path(f"{target}.log").read_text()


def test_a_job_near_its_end_queues_itself(
    slurm: Path, coarse: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    target = tmp_path / "fine.zarr"
    job = submitted(coarse, target)
    wait_for_regions(target, 20)
    # What SLURM does by itself a minute before the time is up.
    ran("scancel", "--batch", "--signal=USR1", job)
    check_finished(job, target, undisturbed)
    assert "the time was nearly up" in Path(f"{target}.log").read_text()


def test_work_that_is_killed_each_time_ends(slurm: Path, coarse: Path, tmp_path: Path) -> None:
    target = tmp_path / "fine.zarr"
    job = submitted(coarse, target, "--export=ALL,RESTARTS=0")
    wait_for_regions(target, 1)
    ran("scancel", "--signal=KILL", f"{job}.0")
    until(lambda: ended(job))
    assert state(job) == "FAILED"


def test_workers_that_are_jobs(
    slurm: Path, coarse: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    target = tmp_path / "fine.zarr"
    said = subprocess.run(
        [
            *(sys.executable, str(EXAMPLES / "slurm_jobqueue.py"), str(coarse), str(target)),
            *("--scale", str(SCALE), "--model", "histospline", "--chunks", str(CHUNK)),
            *("--memory", "1GB"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert content(target) == undisturbed
