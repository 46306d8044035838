"""What the engine promises: the same numbers whatever the chunks, batches and schedulers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr import Band, Local, Windowed
from xdemsr.device import resolve_device, resolve_precision
from xdemsr.errors import InputError, ModelError
from xdemsr.execution import Execution
from xdemsr.loading import load_model
from xdemsr.runner import Runner

MODELS = {
    "terrain": 16,
    "windowed": 16,
    "edsr": 4,
    "strided": 1,
    "blur": 2,
    "histospline": 5,
}


@pytest.fixture(scope="session")
def models(
    make_model: Callable[..., Path], terrain_model: Path, windowed_model: Path, edsr_model: Path
) -> dict[str, str | Path]:
    return {
        "terrain": terrain_model,
        "windowed": windowed_model,
        "edsr": edsr_model,
        "strided": make_model(
            "strided", "networks:Strided", 1, Local(4, multiple_of=4, tile=12), border="mirror"
        ),
        "blur": make_model("blur", "networks:Blur", 2, Local(2, tile=9)),
        "histospline": "histospline",
    }


def upscaled(da: xr.DataArray, model: str | Path, name: str, **more: object) -> np.ndarray:
    return np.asarray(da.demsr.upscale(MODELS[name], model, **more).values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(MODELS))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_chunks_never_change_a_bit(
    name: str, models: dict[str, str | Path], dem: xr.DataArray, data: st.DataObject
) -> None:
    expected = upscaled(dem, models[name], name)
    source = {
        dim: data.draw(
            st.one_of(st.integers(1, 70), st.lists(st.integers(1, n), min_size=1)), label=dim
        )
        for dim, n in dem.sizes.items()
    }
    chunks = {
        dim: size if isinstance(size, int) else ragged(size, dem.sizes[dim])
        for dim, size in source.items()
    }
    shape = [n * MODELS[name] for n in dem.shape]
    answer = tuple(data.draw(st.integers(max(1, n // 7), n + 9)) for n in shape)
    found = upscaled(dem.chunk(chunks), models[name], name, chunks=answer)
    np.testing.assert_array_equal(found, expected)


def ragged(sizes: list[int], length: int) -> tuple[int, ...]:
    """Chunks of the given sizes, as far as they go."""
    chunks: list[int] = []
    for size in sizes:
        if sum(chunks) + size < length:
            chunks.append(size)
    return (*chunks, length - sum(chunks))


@pytest.mark.parametrize("name", ["terrain", "windowed"])
@pytest.mark.parametrize("chunk", [1, 7, 20, 64])
def test_small_and_large_chunks(
    name: str, chunk: int, models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    expected = upscaled(dem, models[name], name)
    found = upscaled(dem.chunk(chunk), models[name], name)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["terrain", "windowed"])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_schedulers_never_change_a_bit(
    name: str, scheduler: str, models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    expected = upscaled(dem, models[name], name)
    with dask.config.set(scheduler=scheduler, **{"multiprocessing.context": "spawn"}):
        found = upscaled(dem.chunk(17), models[name], name, chunks=(300, 500))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("batch_size", [1, 2, 5, 16])
def test_batches_never_change_a_bit(
    name: str, batch_size: int, models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    expected = upscaled(dem, models[name], name)
    found = upscaled(dem, models[name], name, batch_size=batch_size)
    np.testing.assert_array_equal(found, expected)


def test_threads_of_torch_never_change_a_bit(
    models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    expected = upscaled(dem, models["terrain"], "terrain")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = upscaled(dem, models["terrain"], "terrain")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found, expected)


def test_a_users_settings_of_torch_change_nothing_and_are_kept(
    models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    expected = upscaled(dem, models["terrain"], "terrain")
    try:
        torch.set_float32_matmul_precision("medium")
        found = upscaled(dem.chunk(9), models["terrain"], "terrain", chunks=128)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9"
)
def test_the_newer_way_to_set_precision_is_kept_too(
    models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    expected = upscaled(dem, models["terrain"], "terrain")
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        found = upscaled(dem.chunk(9), models["terrain"], "terrain", chunks=128)
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["terrain", "edsr", "blur", "strided", "histospline"])
def test_tiles_are_the_whole_array_through_the_bare_network(
    name: str, models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    """Local networks: no seam, to float32's rounding."""
    filled = dem.fillna(1200.0)[:40, :60]
    loaded = load_model(models[name], scale=MODELS[name])
    context = loaded.spec.context
    assert isinstance(context, Local)
    planes = [filled.values] + [np.zeros_like(filled.values)] * (len(loaded.spec.inputs) - 1)
    with torch.inference_mode():
        whole = loaded.module(torch.from_numpy(np.stack(planes)[None]))[0, 0].numpy()
    found = upscaled(filled, models[name], name, precision="fp32")
    edge = context.halo * MODELS[name]
    inner = (slice(edge, -edge or None),) * 2
    np.testing.assert_allclose(found[inner], whole[inner], atol=2e-3, rtol=0)


def test_windows_are_the_bare_network_away_from_the_blending(windowed_model: Path) -> None:
    # Windows of 25 begin every 17 pixels and share 8, so one alone answers its middle 9.
    dem = xdemsr.synthetic.terrain((25 + 17, 25 + 2 * 17))
    found = dem.demsr.upscale(16, windowed_model, precision="fp32").values
    tile = torch.from_numpy(dem.values[17:42, 17:42][None, None])
    with torch.inference_mode():
        alone = load_model(windowed_model).module(tile)[0, 0].numpy()
    middle = slice(8 * 16, 17 * 16)
    place = slice((17 + 8) * 16, (17 + 17) * 16)
    np.testing.assert_allclose(found[place, place], alone[middle, middle], atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", ["terrain", "windowed", "edsr"])
def test_an_ensemble_turns_with_the_raster(
    name: str, models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    """Flipped and turned input gives the flipped and turned answer."""
    plain = dem.fillna(1200.0).drop_vars(["x", "y", "spatial_ref"])[:40, :40]
    expected = upscaled(plain, models[name], name, ensemble=True, precision="fp32")
    for turn in (lambda a: a[::-1], lambda a: np.rot90(a).copy()):
        turned = xr.DataArray(turn(plain.values), dims=("y", "x"))
        found = upscaled(turned, models[name], name, ensemble=True, precision="fp32")
        np.testing.assert_allclose(found, turn(expected), atol=2e-3, rtol=0)
    alone = upscaled(plain, models[name], name, precision="fp32")
    assert np.abs(alone - expected).max() > 1e-3


@pytest.mark.parametrize("name", ["terrain", "edsr"])
def test_half_precision_is_near(
    name: str, models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    single = upscaled(dem, models[name], name, precision="fp32")
    half = upscaled(dem, models[name], name, precision="bf16")
    assert not np.array_equal(single, half)
    assert np.sqrt(np.nanmean((single - half) ** 2)) < 0.1


def test_a_users_network_stays_in_single_precision_unless_told(
    models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    spec = load_model(models["blur"]).spec
    assert resolve_precision("auto", torch.device("cpu"), spec) == torch.float32
    single = upscaled(dem, models["blur"], "blur")
    half = upscaled(dem, models["blur"], "blur", precision="bf16")
    assert not np.array_equal(single, half)


@pytest.mark.parametrize(
    ("shape", "base"),
    [((1, 1), 5.0), ((3, 500), 5.0), ((1, 40), -400.0), ((20, 30), 8800.0), ((5, 5), 0.0)],
)
@pytest.mark.parametrize("name", ["terrain", "windowed"])
def test_odd_shapes_and_heights(
    name: str, shape: tuple[int, int], base: float, models: dict[str, str | Path]
) -> None:
    values = base + np.random.default_rng(0).normal(0, 2, shape)
    da = xr.DataArray(values, dims=("y", "x"))
    found = upscaled(da, models[name], name)
    assert found.shape == (shape[0] * 16, shape[1] * 16)
    assert np.isfinite(found).all()
    chunked = upscaled(da.chunk(3), models[name], name, chunks=100)
    np.testing.assert_array_equal(chunked, found)
    if name == "terrain":
        means = found.astype(np.float64).reshape(shape[0], 16, shape[1], 16).mean(axis=(1, 3))
        np.testing.assert_allclose(means, values, atol=5e-3, rtol=0)


@pytest.mark.parametrize("dtype", ["int16", "uint8", "int64", "float64", "float32", "float16"])
def test_every_real_type(dtype: str, terrain_model: Path) -> None:
    values = np.random.default_rng(0).integers(0, 200, (9, 13)).astype(dtype)
    da = xr.DataArray(values, dims=("y", "x"))
    fine = da.demsr.upscale(16, terrain_model)
    assert fine.dtype == np.float32
    error = 1 / 12**0.5 if da.dtype.kind in "iu" else 0.0
    assert fine.attrs["xdemsr_vertical_error"] == pytest.approx(error)
    expected = da.astype(np.float32).demsr.upscale(16, terrain_model, vertical_error=error)
    np.testing.assert_array_equal(fine.values, expected.values)


def test_a_constant_stays_constant(models: dict[str, str | Path]) -> None:
    da = xr.DataArray(np.full((20, 33), 712.5), dims=("y", "x"))
    for name in ("terrain", "histospline"):
        np.testing.assert_allclose(upscaled(da, models[name], name), 712.5, atol=2e-3)


def test_error_maps_are_read_pixel_by_pixel(terrain_model: Path, dem: xr.DataArray) -> None:
    whole = xr.full_like(dem, 0.5).fillna(0.5)
    stated = dem.demsr.upscale(16, terrain_model, vertical_error=0.5)
    mapped = dem.demsr.upscale(16, terrain_model, vertical_error=whole)
    np.testing.assert_array_equal(mapped.values, stated.values)
    half = whole.where(whole.x < float(whole.x.mean()), 0.0)
    mixed = dem.demsr.upscale(16, terrain_model, vertical_error=half)
    chunked = dem.chunk(9).demsr.upscale(16, terrain_model, vertical_error=half.chunk(13))
    np.testing.assert_array_equal(chunked.values, mixed.values)
    right = mixed[:, -16 * 15 :].values
    exact = dem.demsr.upscale(16, terrain_model, vertical_error=0.0)[:, -16 * 15 :].values
    np.testing.assert_array_equal(right, exact)
    assert not np.array_equal(mixed.values, stated.values)


class _Scarce:
    """A network on a device with room for two tiles."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.asked.append(x.shape[0])
        if x.shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x * 2


def test_batches_are_halved_when_memory_runs_out() -> None:
    spec = xdemsr.ModelSpec(name="m", architecture="a:b", scale=1, context=Local(0))
    network = _Scarce()
    asked = Execution(batch_size=8)
    runner = Runner(lambda: network, spec, torch.device("cpu"), torch.float32, asked)  # type: ignore[arg-type,return-value]
    tiles = [[np.full((1, 4, 5), k, np.float32)] for k in range(7)]
    answers = list(runner._in_batches(iter(tiles)))
    assert network.asked == [8, 4, 2, 2, 2, 2]
    for k, answer in enumerate(answers):
        np.testing.assert_array_equal(answer, np.full((1, 4, 5), 2.0 * k))


def test_one_tile_that_does_not_fit_is_an_error() -> None:
    spec = xdemsr.ModelSpec(name="m", architecture="a:b", scale=1, context=Local(0))

    def never(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    asked = Execution(batch_size=4)
    runner = Runner(lambda: never, spec, torch.device("cpu"), torch.float32, asked)  # type: ignore[arg-type,return-value]
    with pytest.raises(torch.OutOfMemoryError):
        list(runner._in_batches(iter([[np.zeros((1, 4, 5), np.float32)]])))


def test_a_network_that_breaks_its_promise_is_named(
    make_model: Callable[..., Path], dem: xr.DataArray, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"wrong-size.*does not fit"):
        make_model("wrong-size", "networks:WrongSize", 1, Windowed(16, 4))
    torch.save({"weight": torch.ones(1)}, tmp_path / "m.pt")
    spec = xdemsr.ModelSpec("wrong-size", "networks:WrongSize", 1, Windowed(16, 4))
    loaded = load_model(tmp_path / "m.pt", spec=spec)
    with pytest.raises(ModelError, match=r"wrong-size.*promises"):
        dem.demsr.upscale(1, loaded)


def test_a_network_that_keeps_things_on_itself_serves_many_threads(
    make_model: Callable[..., Path],
) -> None:
    """As U-Nets do with what they skip; eight threads must not see each other's."""
    model = make_model("forgetful", "networks:Forgetful", 1, Local(1, tile=16))
    dem = xdemsr.synthetic.terrain((200, 210))
    with dask.config.set(scheduler="threads", num_workers=8):
        answer = dem.chunk(40).demsr.upscale(1, model, chunks=32).compute()
    with dask.config.set(scheduler="synchronous"):
        expected = dem.chunk(40).demsr.upscale(1, model, chunks=32).compute()
    np.testing.assert_array_equal(answer.values, expected.values)


def test_devices_that_are_not_there_are_errors() -> None:
    with pytest.raises(InputError, match="not a device"):
        resolve_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="finds no device"):
            resolve_device("cuda")


def test_one_network_for_a_process(terrain_model: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from xdemsr.loading import load_module

    spec = load_model(terrain_model).spec
    with ThreadPoolExecutor(8) as pool:
        modules = set(
            pool.map(lambda _: load_module(spec, torch.device("cpu"), torch.float32), range(32))
        )
    assert len(modules) == 1


def test_several_samplings_go_in_together(make_model: Callable[..., Path]) -> None:
    model = make_model(
        "guided",
        "networks:Guided",
        2,
        Local(1, tile=8),
        inputs=(Band("elevation", "m"), Band("guide", "1", 2)),
    )
    rng = np.random.default_rng(0)
    coarse = xr.DataArray(
        rng.normal(size=(21, 17)),
        dims=("y", "x"),
        coords={"y": -np.arange(21.0), "x": np.arange(17.0)},
    )
    guide = xr.DataArray(
        rng.normal(size=(42, 34)),
        dims=("fy", "fx"),
        coords={
            "fy": ("fy", 0.25 - np.arange(42) / 2, {"axis": "Y"}),
            "fx": ("fx", -0.25 + np.arange(34) / 2, {"axis": "X"}),
        },
    )
    ds = xr.Dataset({"guide": guide, "elevation": coarse})
    found = ds.demsr.apply(model)
    assert found.dims == ("y", "x")
    assert found.shape == (42, 34)
    with torch.inference_mode():
        expected = load_model(model).module(
            *(torch.from_numpy(a.values[None, None]).float() for a in (coarse, guide))
        )[0, 0]
    inner = (slice(2, -2),) * 2
    np.testing.assert_allclose(found.values[inner], expected.numpy()[inner], atol=1e-5)
    chunked = ds.chunk(y=5, x=4, fy=9, fx=11).demsr.apply(model, chunks=13)
    np.testing.assert_array_equal(chunked.values, found.values)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["terrain", "windowed"])
def test_on_a_gpu_chunks_and_batches_never_change_a_bit(
    name: str, models: dict[str, str | Path], dem: xr.DataArray
) -> None:
    expected = upscaled(dem, models[name], name, device="cuda")
    for batch_size in (1, 3, 16):
        found = upscaled(dem, models[name], name, device="cuda", batch_size=batch_size)
        np.testing.assert_array_equal(found, expected)
    found = upscaled(dem.chunk(11), models[name], name, device="cuda", chunks=200)
    np.testing.assert_array_equal(found, expected)
    single = upscaled(dem, models[name], name, device="cpu", precision="fp32")
    assert np.sqrt(np.nanmean((single - expected) ** 2)) < 0.1


@pytest.mark.gpu
def test_on_a_gpu_the_shipped_model_never_changes_a_bit() -> None:
    """At the size of its own tiles, where a GPU has several ways to convolve."""
    dem = xdemsr.synthetic.terrain((400, 330), gsd=30.0)
    expected = dem.demsr.upscale(16, device="cuda")
    for batch_size in (1, 2, 5):
        found = dem.demsr.upscale(16, device="cuda", batch_size=batch_size)
        np.testing.assert_array_equal(found.values, expected.values)
    found = dem.chunk(97).demsr.upscale(16, device="cuda", chunks=1500)
    np.testing.assert_array_equal(found.values, expected.values)
    single = dem.demsr.upscale(16, device="cpu", precision="fp32")
    assert float(np.sqrt(((single - expected) ** 2).mean())) < 0.01
