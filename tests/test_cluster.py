"""The same call on a real cluster of processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xdemsr

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
            n_workers=2, threads_per_worker=2, dashboard_address=None, silence_logs=50
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


def test_writing_from_a_cluster(
    client: object, dem: xr.DataArray, terrain_model: Path, tmp_path: Path
) -> None:
    lazy = dem.chunk(13).demsr.upscale(16, terrain_model, chunks=200)
    cog = xdemsr.write_cog(lazy, tmp_path / "fine.tif")
    np.testing.assert_array_equal(xdemsr.open(cog).values, lazy.values)
    store = xdemsr.write_zarr(lazy, tmp_path / "fine.zarr")
    expected = dem.demsr.upscale(16, terrain_model)
    np.testing.assert_array_equal(xdemsr.open(store).values, expected.values)
