"""Plans say what happens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xdemsr
import xdemsr.device


@pytest.mark.parametrize("chunks", ["auto", (300, 250)])
@pytest.mark.parametrize("ensemble", [False, True])
def test_tiles_and_tasks_are_counted_right(
    terrain_model: Path,
    chunks: object,
    ensemble: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dem = xdemsr.synthetic.terrain((43, 61)).chunk(16).expand_dims(time=2)
    plan = dem.demsr.plan(16, terrain_model, ensemble=ensemble, chunks=chunks)
    given = []
    core = xdemsr.device.Runner._core

    def counted(self, inputs):  # type: ignore[no-untyped-def]
        given.append(inputs[0].shape[-2] * inputs[0].shape[-1])
        return core(self, inputs)

    monkeypatch.setattr(xdemsr.device.Runner, "_core", counted)
    fine = dem.demsr.upscale(16, terrain_model, ensemble=ensemble, chunks=chunks)
    fine.compute()
    assert plan.tiles == len(given)
    turns = 8 if ensemble else 1
    assert plan.halo_overhead == pytest.approx(sum(given) / (2 * turns) / (43 * 61))
    assert plan.output_shape == fine.shape
    assert plan.output_bytes == fine.nbytes
    assert plan.chunks == fine.chunks
    assert plan.tasks == fine.data.npartitions
    assert plan.flops > 0


def test_plans_read_well(dem: xr.DataArray) -> None:
    plan = dem.chunk(16).demsr.plan(16, "histospline")
    text = str(plan)
    assert "histospline" in text
    assert "688 x 976" in text
    assert "<table>" in plan._repr_html_()
    assert "none (in memory)" in str(dem.demsr.plan(16, "histospline"))


def test_datasets_have_plans(dem: xr.DataArray) -> None:
    model = xdemsr.load_model("bilinear", scale=3)
    ds = xr.Dataset({"elevation": dem})
    assert ds.demsr.plan(model=model).output_shape == (129, 183)
    assert ds.demsr.apply(model).shape == (129, 183)


def test_plans_grow_with_the_area(terrain_model: Path) -> None:
    def plan(n: int) -> xdemsr.Plan:
        values = np.broadcast_to(np.float32(0), (n, 2 * n))
        return xr.DataArray(values, dims=("y", "x")).demsr.plan(16, terrain_model, chunks=1024)

    small, large = plan(512), plan(1024)
    assert large.flops == pytest.approx(4 * small.flops, rel=0.05)
    assert large.peak_bytes == small.peak_bytes
