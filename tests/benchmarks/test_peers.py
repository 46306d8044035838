"""``terrain-x16`` to Zarr beside its bounds, and beside what a user would write."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import peers
import pytest
import xarray as xr
from bare import BareNetwork, bare_write, computed
from conftest import COLUMNS, Findings, Times

import xdemsr

pytestmark = pytest.mark.filterwarnings("ignore")

OURS = "xdemsr, `write_zarr`"


def test_terrain_x16_beside_its_bounds(
    race: Callable[..., Times], findings: Findings, source: xr.DataArray, store: Path
) -> None:
    fine = source.chunk(peers.CHUNK).demsr.upscale(16, "terrain-x16")
    there = computed(fine)
    jobs = {
        OURS: lambda: xdemsr.write_zarr(fine, store),
        "network": BareNetwork("terrain-x16", 16, source.shape),
        "write": lambda: bare_write(there, store),
    }
    # Nearer than three rounds can tell.
    times = race(jobs, rounds=10)
    findings.target(
        "`terrain-x16` to Zarr: time over bare network and bare write",
        times.best(OURS) / (times.best("network") + times.best("write")),
        1.2,
        most=True,
    )


def test_terrain_x16_beside_peers(
    race: Callable[..., Times],
    findings: Findings,
    source: xr.DataArray,
    store: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    fine = source.chunk(peers.CHUNK).demsr.upscale(16, "terrain-x16")
    there = computed(fine)
    network = BareNetwork("terrain-x16", 16, source.shape)
    same, plain = peers.Elevation(), peers.PlainEDSR().eval()
    jobs = {
        OURS: lambda: xdemsr.write_zarr(fine, store),
        "xdemsr, `to_zarr`": lambda: peers.to_zarr(fine.data, store),
        "bare network, same tiles": network,
        "bare write": lambda: bare_write(there, store),
        "`map_overlap`, EDSR 8 x 64, float32": lambda: peers.map_overlap(source, plain, store),
        "`map_overlap`, our network, float32": lambda: peers.map_overlap(source, same, store),
    }
    if find_spec("monai"):
        jobs["MONAI, our network, float32"] = lambda: peers.monai(source, same, store)
    if find_spec("xbatcher"):
        jobs["xbatcher, our network, float32"] = lambda: peers.xbatcher(source, same, store)
    if find_spec("torchgeo") and find_spec("torchvision"):
        tif = tmp_path_factory.mktemp("source") / "source.tif"
        xdemsr.write_cog(source, tif)
        jobs["torchgeo, our network, float32"] = lambda: peers.torchgeo(tif, same, store)
    times = race(jobs, rounds=3)
    findings.table("peers", COLUMNS, times.rows(OURS))
    for name in list(jobs)[4:]:
        what = f"`terrain-x16` to Zarr: throughput over {name}"
        findings.target(what, times.best(name) / times.best(OURS), 3)
