"""Throughput of ``upscale`` x16 to Zarr beside its bounds and beside what a user would write.

All in one run: machines differ, and differ from minute to minute; ratios do less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dask.array as da
import pytest
import xarray as xr
from peers import (
    bare_network,
    library_all_through,
    library_to_zarr,
    map_overlap_to_zarr,
    write_to_zarr,
)
from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 3


class Times(dict[str, float]):
    """Seconds of each job, and what they say of each other."""

    @property
    def gain(self) -> float:
        """How much faster than the plain way, each written in its own way."""
        return self["map_overlap"] / self["library_write"]

    @property
    def gain_same_writer(self) -> float:
        """How much faster where both are written by xarray, whose compression takes most of it."""
        return self["map_overlap"] / self["library"]

    @property
    def excess(self) -> float:
        """How much longer than the least that must be done."""
        return self["library"] / (self["network"] + self["write"])


@pytest.fixture(scope="module")
def times() -> Iterator[Times]:
    """Collect seconds; print what they say when all is timed."""
    collected = Times()
    yield collected
    if len(collected) == 5:
        print(
            f"\nas fast as float32 map_overlap with to_zarr: {collected.gain:.2f} times"
            f"\nthe same, both with to_zarr: {collected.gain_same_writer:.2f} times"
            f"\nas long as the bare network plus the bare write: {collected.excess:.2f} times"
        )


@pytest.fixture
def timed(benchmark: BenchmarkFixture, times: Times) -> Callable[..., None]:
    """Time a job some rounds, one not counted, and remember the fastest."""

    def run(name: str, job: Callable[..., None], *arguments: object) -> None:
        benchmark.pedantic(job, args=arguments, rounds=ROUNDS, warmup_rounds=1)
        times[name] = float(benchmark.stats.stats.min)

    return run


def test_library(timed: Callable[..., None], source: xr.DataArray, model: str, store: Path) -> None:
    timed("library", library_to_zarr, source, model, store)
    assert xr.open_zarr(store, consolidated=False).elevation.shape == (16384, 16384)


def test_library_write(
    timed: Callable[..., None], source: xr.DataArray, model: str, store: Path
) -> None:
    timed("library_write", library_all_through, source, model, store)
    assert xr.open_zarr(store).elevation.shape == (16384, 16384)


def test_map_overlap(
    timed: Callable[..., None], source: xr.DataArray, store: Path, times: Times
) -> None:
    timed("map_overlap", map_overlap_to_zarr, source, store)
    assert times.gain > 2.5
    # Two thirds of the time is the same compression on both sides, so this one is near its bound.
    assert times.gain_same_writer > 2.0


def test_bare_network(
    timed: Callable[..., None], source: xr.DataArray, model: str, times: Times
) -> None:
    timed("network", bare_network, source, model)
    assert times["network"] < times["library"]


def test_bare_write(
    timed: Callable[..., None], source: xr.DataArray, model: str, store: Path, times: Times
) -> None:
    fine = da.from_array(source.demsr.upscale(16, model).values, chunks=4096)
    timed("write", write_to_zarr, fine, store)
    assert times.excess < 1.35
