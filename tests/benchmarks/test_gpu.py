"""Throughput on a GPU beside the bare network there, and beside what can be copied from it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import COLUMNS, Findings, Times

import xdemsr
from xdemsr.catalog import ModelLike, find
from xdemsr.device import resolve_precision
from xdemsr.exact import exact
from xdemsr.loading import load_module
from xdemsr.models.network import Network
from xdemsr.spec import Local
from xdemsr.tiles import make_tiling

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]

#: Pixels given to the bare network at once, as the library does.
BATCH = 1 << 16


class OnGpu:
    """A network on its tiles, which are on the GPU already; answers stay there."""

    def __init__(self, model: ModelLike, shape: tuple[int, int]) -> None:
        device = torch.device("cuda", torch.cuda.current_device())
        spec = find(model, 16)
        self.network = load_module(spec, device, resolve_precision("auto", device, spec))
        assert isinstance(self.network, Network)
        tiling = make_tiling(spec, shape)
        padded = tiling[0, 0].padded.shape
        count = len(list(product(*map(range, tiling.shape))))
        size = max(1, BATCH // (padded[0] * padded[1]))
        self.batches = -(-count // size)
        values = np.random.default_rng(0).normal(500, 50, (size, len(spec.inputs), *padded))
        self.batch = torch.from_numpy(values.astype(np.float32)).to(device)
        self.given = {"halo": spec.context.halo if isinstance(spec.context, Local) else 0}

    def __call__(self) -> None:
        with torch.inference_mode(), exact:
            for _ in range(self.batches):
                self.network(self.batch, **self.given)
        torch.cuda.synchronize()


def copied(count: int) -> Callable[[], None]:
    """Copy so many float32 from the GPU into pinned memory, 64 MiB at a time."""
    there = torch.zeros(1 << 24, device="cuda")
    here = torch.empty(1 << 24, pin_memory=True)

    def job() -> None:
        for _ in range(-(-count // there.numel())):
            here.copy_(there, non_blocking=True)
        torch.cuda.synchronize()

    return job


@pytest.mark.parametrize(("name", "side"), [("terrain-x16", 2048), ("effnetv2-dem-x16", 512)])
def test_on_a_gpu(
    name: str, side: int, race: Callable[..., Times], findings: Findings, effnet: Path
) -> None:
    model = effnet if name.startswith("effnet") else name
    dem = xdemsr.synthetic.terrain((side, side)).chunk(512)
    fine = dem.demsr.upscale(16, model, device="cuda")

    def library() -> None:
        # A number of each chunk, so that the answer need not fit in memory.
        fine.data.map_blocks(lambda block: block[:1, :1], chunks=(1, 1)).compute()

    card = torch.cuda.get_device_name()
    ours, bare, copy = f"{name} on {card}", "bare network", "copy from the GPU"
    jobs = {ours: library, bare: OnGpu(model, dem.shape), copy: copied(fine.size)}
    times = race(jobs, rounds=3)
    findings.table("gpu", COLUMNS, times.rows(ours))
    if model == effnet:
        share = times.best(bare) / times.best(ours)
        findings.target(f"`{name}` on a GPU: throughput over the bare network's", share, 0.8)
    else:
        share = times.best(copy) / times.best(ours)
        findings.target(f"`{name}` on a GPU: throughput over that of the copy", share, 0.5)
