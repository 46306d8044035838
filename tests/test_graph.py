"""Graphs: lazy, small, deterministic, quick to build."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr import Local
from xdemsr.graph import Answer, Source, map_windows
from xdemsr.window import Window


def never(dsk: object, keys: object, **kwargs: object) -> None:
    """A scheduler that is not to be called."""
    raise AssertionError("something was computed")


def lazy(shape: tuple[int, int], chunk: int) -> xr.DataArray:
    """A raster that nobody can read, since it says it is larger than any memory."""
    y, x = shape
    return xr.DataArray(
        da.zeros(shape, chunks=chunk, dtype="float32"),
        dims=("y", "x"),
        coords={"y": -np.arange(y) * 30.0, "x": np.arange(x) * 30.0},
        name="elevation",
    )


def test_building_reads_no_pixel(dem: xr.DataArray, terrain_model: Path) -> None:
    with dask.config.set(scheduler=never):
        fine = dem.chunk(9).demsr.upscale(16, terrain_model)
        fine.demsr.hillshade()
        dem.chunk(9).demsr.degrade(4)
        dem.chunk(9).demsr.plan(16, terrain_model)
        with pytest.raises(AssertionError, match="was computed"):
            fine.compute()


def test_building_imports_no_torch(terrain_model: Path) -> None:
    code = f"""
import sys
import numpy as np, xarray as xr
import xdemsr
assert "torch" not in sys.modules, "import"
dem = xdemsr.synthetic.terrain((40, 50)).chunk(16)
fine = dem.demsr.upscale(16, {str(terrain_model)!r})
fine.demsr.hillshade()
dem.demsr.plan(16, {str(terrain_model)!r})
xdemsr.list_models()
assert "torch" not in sys.modules, "building"
fine[:16, :16].compute()
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def own_tasks(fine: xr.DataArray) -> dict[Any, Any]:
    graph = fine.__dask_graph__()
    return {
        key: task
        for name, layer in graph.layers.items()
        if name.startswith("demsr-")
        for key, task in layer.items()
    }


def test_one_small_task_for_a_chunk(dem: xr.DataArray, terrain_model: Path) -> None:
    source = dem.chunk(16)
    fine = source.demsr.upscale(16, terrain_model, chunks=128)
    assert fine.data.npartitions > 20
    extra = len(fine.__dask_graph__()) - len(source.__dask_graph__())
    assert extra <= 3 * fine.data.npartitions
    sizes = sorted(len(pickle.dumps(task)) for task in own_tasks(fine).values())
    # One is what all share; each of the others is sent by itself.
    assert sizes[-2] < 1_000
    assert sizes[-1] < 10_000


def test_ten_thousand_chunks_of_a_shipped_model_weigh_little() -> None:
    """No weights, and nothing said twice."""
    fine = lazy((6_400, 6_400), 512).demsr.upscale(16, "terrain-x16", chunks=1024)
    assert fine.data.npartitions == 10_000
    started = time.perf_counter()
    (optimised,) = dask.optimize(fine.data)
    size = len(pickle.dumps(dict(optimised.__dask_graph__())))
    assert time.perf_counter() - started < 4
    assert size < 250 * fine.data.npartitions
    sizes = [len(pickle.dumps(task)) for task in own_tasks(fine).values()]
    assert sum(sizes) / len(sizes) < 600
    assert max(sizes) < 20_000


def test_names_are_deterministic(dem: xr.DataArray, terrain_model: Path) -> None:
    def name(**more: Any) -> str:
        source = dem.chunk(more.pop("source", 16))
        return str(source.demsr.upscale(16, terrain_model, **more).data.name)

    assert name() == name()
    others = [
        name(chunks=100),
        name(source=15),
        name(ensemble=True),
        name(vertical_error=0.3),
        name(precision="fp32"),
    ]
    assert len({name(), *others}) == 6
    again = subprocess.run(
        [
            sys.executable,
            "-c",
            "import xdemsr\n"
            "dem = xdemsr.synthetic.terrain((40, 50)).chunk(16)\n"
            f"print(dem.demsr.upscale(16, {str(terrain_model)!r}).data.name)",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    here = xdemsr.synthetic.terrain((40, 50)).chunk(16).demsr.upscale(16, terrain_model)
    assert again.stdout.strip() == here.data.name


def test_changed_weights_are_another_graph(
    dem: xr.DataArray, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    import shutil

    import torch

    from xdemsr.errors import WeightsError

    path = tmp_path / "m.safetensors"
    shutil.copy(make_model("blur", "networks:Blur", 2, Local(2, tile=9)), path)
    before = dem.chunk(9).demsr.upscale(2, path)
    loaded = xdemsr.load_model(path)
    with torch.no_grad():
        loaded.module.first.weight += 1
    xdemsr.save_model(loaded, path)
    after = dem.chunk(9).demsr.upscale(2, path)
    assert before.data.name != after.data.name
    with pytest.raises(WeightsError, match="not the file it was"):
        before.compute()


def test_forty_thousand_chunks_are_built_and_optimised_in_seconds() -> None:
    source = lazy((12_800, 12_800), 512)
    started = time.perf_counter()
    fine = source.demsr.upscale(16, "histospline", chunks=1024)
    assert fine.data.npartitions == 40_000
    (optimised,) = dask.optimize(fine.data)
    len(optimised.__dask_graph__())
    assert time.perf_counter() - started < 10


class Sum:
    """Base pixels and their neighbours, added up over leading and middle dimensions."""

    def __init__(self, shape: tuple[int, int], halo: int) -> None:
        self.shape, self.halo = shape, halo

    def __dask_tokenize__(self) -> object:
        return ("Sum", self.shape, self.halo)

    def reading(self, core: Window) -> Window:
        return core.coarsen(2).pad(self.halo).clip(self.shape)

    def __call__(self, core: Window, read: Window, blocks: list[np.ndarray]) -> np.ndarray:
        base, guide = blocks
        assert base.shape[-2:] == read.padded.shape
        assert guide.shape[-2:] == read.refine(3).padded.shape
        assert guide.shape[-3] == 2
        place = core.coarsen(2)
        inner = base[(..., *place.within(read))]
        coarse = guide.sum(axis=-3)[..., ::3, ::3][(..., *place.within(read))]
        fine = (inner + coarse).repeat(2, axis=-2).repeat(2, axis=-1)
        return fine[(..., *core.within(place.refine(2)))]


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    ny=st.integers(1, 25),
    nx=st.integers(1, 25),
    halo=st.integers(0, 30),
    leading=st.integers(1, 3),
)
def test_any_chunks_of_any_source_give_what_numpy_gives(
    data: st.DataObject, ny: int, nx: int, halo: int, leading: int
) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(leading, ny, nx))
    guide = rng.normal(size=(2, ny * 3, nx * 3))
    expected = (base + guide.sum(axis=0)[::3, ::3]).repeat(2, 1).repeat(2, 2)

    def chunked(array: np.ndarray) -> da.Array:
        sizes = tuple(data.draw(st.integers(1, n)) for n in array.shape)
        return da.from_array(array, chunks=sizes)

    answer = tuple(data.draw(st.integers(1, 2 * n)) for n in (ny, nx))
    chunks = da.core.normalize_chunks((1, *answer), shape=expected.shape)
    found = map_windows(
        Sum((ny, nx), halo),
        [Source(chunked(base), 1, 1), Source(chunked(guide), 3, 0)],
        Answer("demsr-sum", chunks, np.float64, 1),
    )
    np.testing.assert_array_equal(found.compute(scheduler="synchronous"), expected)


def test_progress_is_shown_where_there_is_somebody_to_see(
    dem: xr.DataArray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import xdemsr.progress

    bars = []

    def recorded(total: int, what: str) -> Any:
        from tqdm import tqdm

        bars.append(tqdm(total=total, desc=what, leave=True))
        return bars[-1]

    monkeypatch.setattr(xdemsr.progress, "bar", recorded)
    fine = dem.chunk(9).demsr.upscale(4, "bilinear", chunks=40)
    fine.compute()
    (shown,) = bars
    assert shown.total == fine.data.npartitions
    assert shown.n == shown.total
    da.ones(10, chunks=2).sum().compute()
    assert len(bars) == 1
    assert "xdemsr" in capsys.readouterr().err
