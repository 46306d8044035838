"""What the benchmarks share: jobs that are compared are timed in turn, and leave a table."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pytest
import torch
import xarray as xr
from pytest_benchmark.fixture import BenchmarkFixture

import xdemsr
from xdemsr.models.effnetv2_dem import EfficientNetV2DEM
from xdemsr.spec import ModelSpec, Windowed

Job = Callable[[], object]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer a run of two minutes."""
    parser.addoption("--quick", action="store_true", help="small arrays and few rounds")


@pytest.fixture(scope="session")
def quick(pytestconfig: pytest.Config) -> bool:
    """Whether it shall be over soon."""
    return bool(pytestconfig.getoption("--quick"))


@pytest.fixture(scope="session")
def size(quick: bool) -> int:
    """Pixels along the sides of the terrain that is made sixteen times finer."""
    return 512 if quick else 1024


@pytest.fixture(scope="session")
def source(size: int) -> xr.DataArray:
    """A terrain."""
    return xdemsr.synthetic.terrain((size, size))


@pytest.fixture(scope="session")
def effnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EfficientNetV2-DEM as published, with random weights: they cost what others cost."""
    torch.manual_seed(0)
    spec = ModelSpec("effnetv2-dem-x16", "effnetv2_dem", 16, Windowed(25, 5))
    path = tmp_path_factory.mktemp("models") / "effnetv2-dem-x16.safetensors"
    xdemsr.save_model(EfficientNetV2DEM(), path, spec)
    return path


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path) -> Iterator[None]:
    """Delete what was written: gigabytes, which pytest would keep."""
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where to write."""
    return tmp_path / "answer.zarr"


class Findings:
    """What one benchmark found, for the report: a table, and what was to be reached."""

    def __init__(self, benchmark: BenchmarkFixture) -> None:
        self.benchmark = benchmark
        self.said: dict[str, Any] = benchmark.extra_info

    def table(self, title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
        """Leave a table; the report has a place for each title."""
        self.said["table"] = {
            "title": title,
            "columns": list(columns),
            "rows": [[str(cell) for cell in row] for row in rows],
        }

    def target(self, what: str, found: float, wanted: float, *, most: bool = False) -> None:
        """Leave a ratio that was to be ``wanted`` at least, or at most."""
        reached = found <= wanted if most else found >= wanted
        words = f"{'at most' if most else 'at least'} {wanted:g}"
        row = [what, words, f"{found:.2f}", "yes" if reached else "**no**"]
        self.said.setdefault("targets", []).append(row)

    def once(self, job: Callable[[], object]) -> None:
        """Run what measures for itself."""
        self.benchmark.pedantic(job, rounds=1, warmup_rounds=0)


class Times(dict[str, list[tuple[float, float]]]):
    """Seconds, and seconds of processors, of each job, round after round."""

    def best(self, name: str) -> float:
        """The fastest round: what else the machine did counts least there."""
        return min(seconds for seconds, _ in self[name])

    def work(self, name: str) -> float:
        """Seconds of processors, of this process and of those it started; the least of all rounds.

        What others do on the machine makes a job wait, but gives it little more to do.
        """
        return min(processors for _, processors in self[name])

    def rows(self, against: str) -> list[list[str]]:
        """Job, fastest and median seconds, fastest over that of ``against``, and processors'."""
        return [
            [
                name,
                f"{self.best(name):.2f}",
                f"{median(seconds for seconds, _ in self[name]):.2f}",
                f"{self.best(name) / self.best(against):.2f}",
                f"{self.work(name):.2f}",
            ]
            for name in self
        ]


COLUMNS = ("", "fastest, s", "median, s", "ratio", "processors, s")


def _processors() -> float:
    """Seconds that processors have worked for this process and those it started."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)


@pytest.fixture
def findings(benchmark: BenchmarkFixture) -> Findings:
    """Where a benchmark leaves what it found."""
    return Findings(benchmark)


@pytest.fixture
def race(benchmark: BenchmarkFixture, quick: bool, store: Path) -> Callable[..., Times]:
    """Run jobs in turn for some rounds; the first, in which networks are loaded, does not count.

    What each has written is deleted before the next.
    """

    def run(jobs: Mapping[str, Job], rounds: int = 5) -> Times:
        times = Times({name: [] for name in jobs})

        def one_round() -> None:
            for name, job in jobs.items():
                _delete(store)
                start, worked = perf_counter(), _processors()
                job()
                times[name].append((perf_counter() - start, _processors() - worked))

        benchmark.pedantic(one_round, rounds=min(rounds, 2) if quick else rounds, warmup_rounds=1)
        found = Times({name: seconds[1:] for name, seconds in times.items()})
        benchmark.extra_info["seconds"] = dict(found)
        return found

    return run


def _delete(store: Path) -> None:
    for path in store.parent.glob(f"{store.stem}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


os.environ.setdefault("TQDM_DISABLE", "1")
