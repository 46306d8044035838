"""Plans say what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xdemsr
import xdemsr.runner
from xdemsr.spec import Windowed


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
    core = xdemsr.runner.Runner._core

    def counted(self, inputs):  # type: ignore[no-untyped-def]
        given.append(inputs[0].shape[-2] * inputs[0].shape[-1])
        return core(self, inputs)

    monkeypatch.setattr(xdemsr.runner.Runner, "_core", counted)
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
    # A row of the source's chunks is as long as the raster is wide.
    assert large.peak_bytes == pytest.approx(small.peak_bytes, rel=0.05)


@pytest.mark.parametrize("chunks", ["auto", 200])
@pytest.mark.parametrize("source", [7, {"y": 11, "x": 30}, 64])
def test_tasks_are_those_of_the_graph(terrain_model: Path, chunks: object, source: object) -> None:
    dem = xdemsr.synthetic.terrain((43, 61)).chunk(source)
    for scale, model in ((16, terrain_model), (3, "bicubic")):
        graph = dem.demsr.upscale(scale, model, chunks=chunks).data.__dask_graph__()
        own = [k for k in graph.to_dict() if k not in dem.data.__dask_graph__().to_dict()]
        # What all tasks share is one more, and no task.
        answering = [k for k in own if isinstance(k, tuple)]
        assert len(own) - len(answering) == 1
        assert dem.demsr.plan(scale, model, chunks=chunks).tasks == len(answering)


IN_A_PROCESS = r"""
import re, sys
from pathlib import Path
import xdemsr
source, store, scale, model, chunks = sys.argv[1:]
dem = xdemsr.open(source)
print(dem.demsr.plan(int(scale), model, chunks=int(chunks)).peak_bytes)
xdemsr.write_zarr(dem.demsr.upscale(int(scale), model, chunks=int(chunks)), store)
print(1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("scale", "model", "chunks"), [(8, "histospline", 4096), (1, "nearest", 64)]
)
def test_memory_is_as_planned(tmp_path: Path, scale: int, model: str, chunks: int) -> None:
    dem = xdemsr.synthetic.terrain((640, 768)).astype(np.float32)
    xdemsr.write_zarr(dem.chunk(256), tmp_path / "dem.zarr")
    arguments = [str(tmp_path / "dem.zarr"), str(tmp_path / "fine.zarr"), str(scale), model]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_PROCESS, *arguments, str(chunks)],
        check=True,
        capture_output=True,
        text=True,
    )
    said, found = map(int, re.findall(r"\d+", done.stdout))
    assert said == pytest.approx(found, rel=0.25)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_trial_says_how_long_it_takes(
    dem: xr.DataArray, lazy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdemsr.calibration.tiles_a_second.__defaults__", (0.2,))
    raster = dem.chunk(16) if lazy else dem

    def never(*_: object) -> None:
        raise AssertionError("a pixel was read")

    if lazy:
        raster = raster.copy(data=raster.data.map_blocks(never, dtype=raster.dtype))
    plan = raster.demsr.plan(4, "bicubic", calibrate=True)
    assert 0 < plan.seconds < 60
    assert "about" in dict(plan.rows())["time"]
    assert raster.demsr.plan(4, "bicubic").seconds is None


@pytest.mark.parametrize("lazy", [True, False])
def test_windows_of_a_small_raster_are_answered_once(make_model, lazy: bool) -> None:  # type: ignore[no-untyped-def]
    model = make_model("windowed", "networks:Blur", 2, Windowed(25, 5))
    for shape in ((64, 90), (128, 107), (130, 75)):
        dem = xdemsr.synthetic.terrain(shape)
        plan = (dem.chunk(50) if lazy else dem).demsr.plan(model=model)
        ny, nx = (-(-(length - 5) // 20) for length in shape)
        assert plan.tiles == ny * nx
