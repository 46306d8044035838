"""Mosaics of relative heights: no steps, whatever the windows claim, the chunks and the voids."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

import xdemsr
import xdemsr.runner
from xdemsr import Band, Local, ModelSpec, Windowed
from xdemsr.again import read_again
from xdemsr.agreement import Blending
from xdemsr.errors import ModelError

RGB = ("red", "green", "blue")


@pytest.fixture(scope="session")
def relief(make_model: Callable[..., Path]) -> Callable[..., Path]:
    """A network that knows the truth but for the level of each window."""

    def make(size: int = 16, overlap: int = 8, **options: float) -> Path:
        said = "-".join(f"{key}{value}" for key, value in options.items())
        return make_model(
            f"relief-{size}-{overlap}-{said}",
            "relative:Relief",
            1,
            Windowed(size, overlap),
            options,
            inputs=tuple(Band(name, "1") for name in RGB),
            relative=True,
            border="odd",
        )

    return make


def truth(ny: int = 75, nx: int = 101, seed: int = 3) -> xr.DataArray:
    return xdemsr.synthetic.terrain((ny, nx), gsd=10.0, relief=500.0, seed=seed)


def seen(heights: xr.DataArray) -> xr.DataArray:
    """An image that holds the truth, for those who know."""
    bands = [heights * 0.5, heights, heights * 1.5]
    return xr.concat(bands, xr.Variable("band", list(RGB)))


def never(dsk: object, keys: object, **kwargs: object) -> None:
    """A scheduler that is not to be called."""
    raise AssertionError("something was computed")


@pytest.mark.parametrize("overlap", [1, 3, 8, 13])
@pytest.mark.parametrize("shape", [(75, 101), (16, 40), (17, 16), (9, 70), (12, 14)])
def test_the_mosaic_is_the_truth_up_to_one_constant(
    relief: Callable[..., Path], overlap: int, shape: tuple[int, int]
) -> None:
    heights = truth(*shape)
    found = seen(heights).demsr.elevation(relief(overlap=overlap, offset=2.0))
    # Relative heights reach tens of metres here, levels a thousand.
    expected = heights - heights.mean()
    np.testing.assert_allclose(found.values, expected.values, atol=5e-3, rtol=0)


def test_without_levels_there_would_be_steps(relief: Callable[..., Path]) -> None:
    """What the levels are worth: the same windows, merely blended."""
    heights = truth()
    spec = replace(xdemsr.load_model(relief(offset=2.0)).spec, relative=False)
    blended = seen(heights).demsr.elevation(spec) - heights
    assert float(blended.std()) > 20


def test_a_tilt_that_all_windows_share_stays_a_tilt(relief: Callable[..., Path]) -> None:
    heights = truth()
    found = seen(heights).demsr.elevation(relief(tilt=0.4)) - heights
    slopes = np.diff(found.values, axis=1)
    np.testing.assert_allclose(slopes, 0.4, atol=2e-3, rtol=0)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_chunks_never_change_a_bit(relief: Callable[..., Path], data: st.DataObject) -> None:
    image = seen(truth(43, 61))
    image[:, 10:22, 20:37] = np.nan
    model = relief(offset=2.0, tilt=0.1)
    expected = image.demsr.elevation(model)
    sizes = {dim: data.draw(st.integers(4, 70), label=dim) for dim in ("y", "x")}
    asked = (data.draw(st.integers(11, 50)), data.draw(st.integers(11, 70)))
    found = image.chunk({**sizes, "band": 2}).demsr.elevation(model, chunks=asked)
    xr.testing.assert_identical(found.compute(), expected)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers_never_change_a_bit(relief: Callable[..., Path], scheduler: str) -> None:
    image = seen(truth(43, 61))
    model = relief(offset=2.0)
    expected = image.demsr.elevation(model)
    with dask.config.set(scheduler=scheduler):
        found = image.chunk(y=17, x=20).demsr.elevation(model, chunks=(30, 25))
        np.testing.assert_array_equal(found.values, expected.values)


def test_voids_stay_and_spoil_nothing(relief: Callable[..., Path]) -> None:
    """Voids are bridged in what the network is given, so windows beside them err; not beyond."""
    heights = truth()
    image = seen(heights)
    image[:, 30:45, 40:60] = np.nan
    found = image.demsr.elevation(relief())
    np.testing.assert_array_equal(found.isnull(), image[0].isnull())
    difference = (found - heights).values[~np.isnan(image[0].values)]
    assert np.ptp(difference) < 1.0


def test_parts_that_voids_divide_have_levels_of_their_own(relief: Callable[..., Path]) -> None:
    heights = truth()
    heights[:, 60:] += 3000.0
    heights[:, 40:60] = np.nan
    found = seen(heights).demsr.elevation(relief(offset=2.0))
    parts, count = label(np.isfinite(found.values))
    assert count == 2
    for number in (1, 2):
        inside = parts == number
        assert abs(found.values[inside].mean()) < 1e-3
        assert np.ptp((found - heights).values[inside]) < 1.0


def test_an_empty_raster_is_empty(relief: Callable[..., Path]) -> None:
    image = seen(truth(20, 30) * np.nan)
    assert image.demsr.elevation(relief()).isnull().all()
    assert image.chunk(y=7, x=9).demsr.elevation(relief()).isnull().all()


def test_every_date_is_levelled_on_its_own(relief: Callable[..., Path]) -> None:
    dates = xr.concat([seen(truth(40, 50, seed=k)) + 1000 * k for k in (1, 2)], "time")
    for image in (dates, dates.chunk(y=19, x=23, time=2)):
        found = image.demsr.elevation(relief(offset=2.0))
        assert found.dims == ("time", "y", "x")
        for k in (0, 1):
            alone = dates.isel(time=k).demsr.elevation(relief(offset=2.0))
            np.testing.assert_array_equal(found[k].values, alone.values)


def test_building_computes_nothing_and_imports_no_torch(relief: Callable[..., Path]) -> None:
    with dask.config.set(scheduler=never):
        lazy = seen(truth()).chunk(y=20, x=20).demsr.elevation(relief())
        assert lazy.chunks is not None
        with pytest.raises(AssertionError, match="was computed"):
            lazy.compute()
    code = f"""
import sys
import xdemsr
image = xdemsr.synthetic.terrain((40, 50)).expand_dims(band={list(RGB)!r}).chunk(y=16, x=20)
coarse = xdemsr.synthetic.terrain((10, 13), gsd=120.0)
image.demsr.elevation({str(relief())!r})
image.demsr.elevation({str(relief())!r}, anchor=coarse)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class Held(Callback):  # type: ignore[misc]
    """The most chunks of a source that dask holds at once."""

    def __init__(self, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name, self.most = name, 0

    def _posttask(self, key: object, result: object, dsk: Any, state: Any, worker: object) -> None:
        held = sum(str(key).startswith(f"('{self.name}") for key in state["cache"])
        self.most = max(self.most, held)


def test_a_raster_is_not_kept_from_the_first_pass_to_the_second(
    relief: Callable[..., Path],
) -> None:
    def drawn(block_info: Any = None) -> np.ndarray:
        return np.ones([hi - lo for lo, hi in block_info[None]["array-location"]], "float32")

    chunks = ((16,) * 3, (16,) * 40)
    bands = {
        name: (
            ("y", "x"),
            da.map_blocks(drawn, chunks=chunks, dtype="float32", name=f"drawn-{name}"),
        )
        for name in RGB
    }
    lazy = xr.Dataset(bands).demsr.elevation(relief(), chunks=16)
    with Held("drawn") as held, dask.config.set(scheduler="synchronous"):
        lazy.data.compute(optimize_graph=False)
    # Of 360.
    assert 0 < held.most < 120


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_an_array_read_again_is_the_array(data: st.DataObject) -> None:
    base = da.from_array(np.arange(35.0).reshape(5, 7), chunks=(2, 3))
    kinds = {
        "plain": base,
        "sliced": base[1:, ::2],
        "rechunked": base.rechunk((3, 2)),
        "reduced": base - base.mean(),
        "overlapped": base.map_overlap(lambda x: x * 2, 1, boundary="reflect"),
        "drawn": da.random.default_rng(0).random((5, 7), chunks=3),
        "delayed": da.from_delayed(dask.delayed(np.ones)((5, 7)), (5, 7), float),
        "persisted": base.persist(scheduler="synchronous"),
        "optimised": dask.optimize(base[1:] + 1)[0],
        "legacy": da.Array(
            {("l", 0, 0): (np.ones, (5, 3)), ("l", 0, 1): (np.add, ("l", 0, 0), 1)},
            "l",
            ((5,), (3, 3)),
            float,
        ),
    }
    array = kinds[data.draw(st.sampled_from(sorted(kinds)))]
    after = da.ones(4, chunks=2).min()
    again = read_again(array, after)
    first, second = dask.compute(array, again, scheduler="synchronous")
    np.testing.assert_array_equal(first, second)
    assert again.name != array.name
    assert again.name == read_again(array, after).name


def test_what_is_read_again_waits() -> None:
    done = []

    def note(block: np.ndarray, what: str) -> np.ndarray:
        done.append(what)
        return block

    # More than one level, so that something could begin early.
    source = da.ones((4, 6), chunks=2).map_blocks(note, what="source", meta=np.ones((0, 0)))
    after = da.ones(3, chunks=1).map_blocks(note, what="known", meta=np.ones(0))
    read_again(source[1:], after.min()).compute(scheduler="synchronous")
    assert done[:3] == ["known"] * 3
    assert set(done[3:]) == {"source"}


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(4, 20),
    data=st.data(),
)
def test_both_windows_say_the_same_of_what_they_share(
    shape: tuple[int, int], size: int, data: st.DataObject
) -> None:
    """One weight for a pair, to the last bit; and its difference is that of the two levels."""
    overlap = data.draw(st.integers(1, size - 1))
    spec = ModelSpec(name="m", architecture="m:M", scale=1, context=Windowed(size, overlap))
    blending = Blending.of(spec, shape)
    rows, columns = blending.tiling.shape
    rng = np.random.default_rng(0)
    sums = {}
    ground = rng.random((shape[0] + 2 * size, shape[1] + 2 * size)).astype(np.float32)
    known = np.zeros(ground.shape, bool)
    known[size:-size, size:-size] = rng.random(shape) < 0.8
    for i in range(rows):
        for j in range(columns):
            tile = blending.tiling[i, j]
            cut = tuple(slice(s.start + size, s.stop + size) for s in (tile.y, tile.x))
            sums[i, j] = blending.sums((i, j), ground[cut] + 10 * i + j, known[cut])
    for i, j in sums:
        for side, other, rise in ((1, (i, j + 1), 1.0), (3, (i + 1, j), 10.0)):
            if other in sums:
                mine, its = sums[i, j][2 * side :][:2], sums[other][2 * side + 2 :][:2]
                assert mine[0] == its[0]
                np.testing.assert_allclose(its[1] - mine[1], rise * mine[0], atol=1e-3, rtol=1e-4)
    total = sum(found[0] for found in sums.values())
    np.testing.assert_allclose(total, known.sum(), rtol=1e-5)


def test_plans_count_the_windows_twice(
    relief: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = seen(truth()).chunk(y=20, x=30)
    spec = replace(xdemsr.load_model(relief()).spec, flops=10.0)
    plan = image.demsr.plan(model=spec, chunks=32)
    once = image.demsr.plan(model=replace(spec, relative=False), chunks=32)
    given = []
    core = xdemsr.runner.Runner._core

    def counted(self: Any, inputs: Any) -> Any:
        given.append(inputs[0].shape[-2] * inputs[0].shape[-1])
        return core(self, inputs)

    monkeypatch.setattr(xdemsr.runner.Runner, "_core", counted)
    fine = image.demsr.elevation(relief(), chunks=32)
    fine.compute()
    assert plan.tiles == len(given)
    assert plan.tiles > once.tiles
    assert plan.halo_overhead == pytest.approx(sum(given) / (75 * 101))
    assert plan.flops == 10.0 * sum(given)
    assert plan.tasks > once.tasks


def test_headers_say_that_heights_are_relative_and_old_ones_do_not() -> None:
    spec = ModelSpec(
        name="m", architecture="pix2pix", scale=1, context=Windowed(16, 8), relative=True
    )
    assert ModelSpec.from_json(spec.to_json()) == spec
    old = replace(spec, relative=False).to_json().replace('"relative": false, ', "")
    assert "relative" not in old
    assert not ModelSpec.from_json(old).relative
    assert spec.identity() != replace(spec, relative=False).identity()


@pytest.mark.parametrize(
    "more",
    [
        {"context": Local(3)},
        {"context": Windowed(16, 0)},
        {"outputs": (Band("dsm", "m"), Band("dtm", "m"))},
    ],
)
def test_what_cannot_be_levelled_is_not_relative(more: dict[str, Any]) -> None:
    values = {"name": "m", "architecture": "m:M", "scale": 1, "context": Windowed(16, 8)}
    with pytest.raises(ModelError, match="one output band and windows that overlap"):
        ModelSpec(**{**values, **more}, relative=True)
