"""One terrain network for every scale: its laws, its tables, its specification, its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import xdemsr
from xdemsr import Band, Local, ModelSpec
from xdemsr.catalog import find, shipped_models
from xdemsr.errors import ModelError
from xdemsr.kernels import histospline, histospline_ratio, linear_ratio
from xdemsr.models.layers import upsample
from xdemsr.models.terrain import Terrain
from xdemsr.spec import STANDARD_ERROR, VERTICAL_ERROR
from xdemsr.weights import read_spec

BANDS = (Band("elevation", "m"), Band(VERTICAL_ERROR, "m"))
OPTIONS: dict[str, Any] = {"scale": 16, "features": 6, "blocks": 1, "uncertainty": False}
HALO = 9
SCALES = (2, 5, 16)

scales = st.integers(2, 20)
seeds = st.integers(0, 100)
ratios = {"up": st.integers(1, 20), "down": st.integers(1, 6)}


def awake(seed: int = 0, scale: int = 16, **options: object) -> Terrain:
    """A small network that has learnt something, if nothing true."""
    network = Terrain(scale, features=6, blocks=1, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            size = 0.3 / parameter[0].numel() ** 0.5
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    return network.eval().requires_grad_(False)


def ground(seed: int, ny: int = 13, nx: int = 18, error: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = 300 + 20 * torch.randn(1, 1, ny, nx, generator=generator)
    e = error * torch.rand(z.shape, generator=generator)
    return torch.cat([z, e], dim=1)


@settings(deadline=None, max_examples=25)
@given(scale=scales, seed=seeds, error=st.sampled_from([0.0, 0.2, 4.0]), halo=st.integers(0, 9))
def test_block_means_are_the_input_within_three_standard_errors(
    scale: int, seed: int, error: float, halo: int
) -> None:
    x = ground(seed, 7 + 2 * halo, 5 + 2 * halo, error)
    answer = awake(seed).at(scale)(x, halo=halo)
    assert answer.shape == (1, 1, 7 * scale, 5 * scale)
    means = nn.functional.avg_pool2d(answer.double(), scale)
    z, e = x[..., halo : halo + 7, halo : halo + 5].double().split(1, dim=1)
    # An ulp or two of float32 at these heights.
    assert bool(((means - z).abs() <= 3 * e + 2e-4).all())


@settings(deadline=None, max_examples=25)
@given(
    scale=scales,
    seed=seeds,
    factor=st.floats(0.01, 100),
    constant=st.floats(-1000, 9000),
    error=st.sampled_from([0.0, 0.3, 5.0]),
)
def test_neither_band_knows_a_unit_or_a_datum(
    scale: int, seed: int, factor: float, constant: float, error: float
) -> None:
    network = awake(seed, scale, uncertainty=True, calibration={"4": 1.3}).double()
    x = ground(seed, error=error).double()
    z, e = x.split(1, dim=1)
    before = network(x)
    after = network(torch.cat([factor * z + constant, factor * e], dim=1))
    # In double, but for the tables of H, whose sums are 1 to float32's last bit.
    rounding = 4e-7 * (abs(constant) + 400 * factor)
    expected = factor * before[:, :1] + constant
    torch.testing.assert_close(after[:, :1], expected, atol=rounding, rtol=0)
    torch.testing.assert_close(after[:, 1:], factor * before[:, 1:], rtol=1e-5, atol=0)


@settings(deadline=None, max_examples=15)
@given(scale=scales, seed=seeds)
def test_a_tile_with_its_halo_is_the_whole(scale: int, seed: int) -> None:
    network = awake(seed, scale, uncertainty=True)
    halo = network.radius
    x = ground(seed, 4 + 2 * halo + 6, 6 + 2 * halo + 5)
    whole = network(x)
    core = network(x[..., 2 : 2 + 4 + 2 * halo, 3 : 3 + 6 + 2 * halo], halo=halo)
    assert core.shape == (1, 2, 4 * scale, 6 * scale)
    top, left = (2 + halo) * scale, (3 + halo) * scale
    expected = whole[..., top : top + 4 * scale, left : left + 6 * scale]
    torch.testing.assert_close(core, expected, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("fine", "coarse"), [(16, 8), (16, 4), (16, 2), (20, 5), (18, 3), (12, 6), (6, 2)]
)
@pytest.mark.parametrize("uncertainty", [False, True])
def test_a_coarser_answer_is_the_mean_of_a_finer_one(
    fine: int, coarse: int, uncertainty: bool
) -> None:
    network = awake(2, uncertainty=uncertainty)
    x = ground(5)
    z = network.at(fine)(x)[:, :1]
    means = nn.functional.avg_pool2d(z, fine // coarse)
    expected = network.at(coarse)(x)[:, :1]
    # The running sum is interpolated once, so they differ by what cutting the spline off has left:
    # some hundredths of white noise; nothing where a pixel is whole quarters.
    noise = float(x[:, :1].std())
    torch.testing.assert_close(means, expected, atol=0.03 * noise, rtol=0)
    if coarse in (2, 4):
        torch.testing.assert_close(means, expected, atol=2e-4, rtol=0)


def test_the_radius_is_one_for_all_scales_and_no_larger_than_needed() -> None:
    network = awake(uncertainty=True)
    x = ground(0, 45, 47)
    for scale in (2, 3, 7, 16):
        twin = network.at(scale)
        assert twin.radius == network.radius == HALO
        apart = ground(1, 45, 47)
        # All that lies farther away than the radius is another terrain.
        y, k = 22, 23
        apart[..., y - HALO : y + HALO + 1, k - HALO : k + HALO + 1] = x[
            ..., y - HALO : y + HALO + 1, k - HALO : k + HALO + 1
        ]
        pixel = (..., slice(y * scale, (y + 1) * scale), slice(k * scale, (k + 1) * scale))
        torch.testing.assert_close(twin(apart)[pixel], twin(x)[pixel], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("uncertainty", [False, True])
def test_the_second_band_leaves_the_first_as_it_is(uncertainty: bool) -> None:
    x = ground(3)
    for scale in (2, 3, 6, 16):
        both = awake(1, scale, uncertainty=True)(x)
        alone = awake(1, scale, uncertainty=False)(x)
        assert both.shape[1] == 2
        torch.testing.assert_close(both[:, :1], alone, rtol=0, atol=0)


@settings(deadline=None, max_examples=20)
@given(
    scale=scales,
    height=st.sampled_from([0.0, 1e-30, 0.1, -430.5, 8848.86]),
    error=st.sampled_from([0.0, 1e-38, 1e-30, 1.0]),
    halo=st.integers(0, 4),
    seed=seeds,
)
def test_the_standard_error_is_a_number_on_flat_ground(
    scale: int, height: float, error: float, halo: int, seed: int
) -> None:
    x = torch.tensor([height, error])[None, :, None, None].expand(1, 2, 9, 12).contiguous()
    answer = awake(seed, scale, uncertainty=True)(x, halo=halo)
    assert bool(torch.isfinite(answer).all())
    assert bool((answer[:, 1] >= 0).all())
    if height == error == 0:
        assert not answer.any()


def test_the_standard_error_of_a_cliff_is_never_negative() -> None:
    x = torch.zeros(1, 2, 12, 17)
    x[:, 0, :, 8:] = 2000
    for scale in (2, 3, 5, 16):
        for seed in range(4):
            error = awake(seed, scale, uncertainty=True)(x)[:, 1]
            assert float(error.min()) >= 0
            assert bool(torch.isfinite(error).all())


def test_exact_flat_ground_can_be_learnt_from() -> None:
    """What has no amplitude has no gradient either, rather than one that is no number."""
    network = awake(uncertainty=True).requires_grad_(True)
    x = ground(0)
    x[:, 1] = 0
    x[..., :8] = 0
    network(x).square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)


@pytest.mark.parametrize(
    ("calibration", "scale", "factor"),
    [
        (None, 4, 1.0),
        ({}, 4, 1.0),
        ({"4": 1.7}, 2, 1.7),
        ({"4": 1.7}, 20, 1.7),
        ({"2": 1.0, "8": 4.0}, 4, 2.0),
        ({"16": 0.5, "4": 2.0}, 8, 1.0),
        ({"16": 0.5, "4": 2.0}, 4, 2.0),
        ({"16": 0.5, "4": 2.0}, 2, 2.0),
        ({"16": 0.5, "4": 2.0}, 20, 0.5),
    ],
)
def test_the_calibration_is_interpolated_between_scales(
    calibration: dict[str, float] | None, scale: int, factor: float
) -> None:
    x = ground(2)
    plain = awake(1, scale, uncertainty=True)(x)
    found = awake(1, scale, uncertainty=True, calibration=calibration)(x)
    torch.testing.assert_close(found[:, :1], plain[:, :1], rtol=0, atol=0)
    torch.testing.assert_close(found[:, 1:], factor * plain[:, 1:])


def test_a_network_at_another_scale_shares_its_parameters() -> None:
    network = awake(1, uncertainty=True, calibration={"4": 2.0})
    twin = network.at(6)
    assert (twin.scale, twin.uncertainty, twin.calibration) == (6, True, {"4": 2.0})
    assert list(twin.state_dict()) == list(network.state_dict())
    for own, shared in zip(twin.parameters(), network.parameters(), strict=True):
        assert own is shared
    x = ground(1)
    torch.testing.assert_close(twin(x), awake(1, 6, uncertainty=True, calibration={"4": 2.0})(x))
    torch.testing.assert_close(twin.at(16)(x), network(x), rtol=0, atol=0)
    network.train()
    assert network.at(2).training
    assert not twin.training


def test_a_network_at_another_scale_has_the_precision_of_the_first() -> None:
    x = ground(1).double()
    double = awake(1, uncertainty=True).double().at(6)
    answer = double(x)
    assert answer.dtype == torch.float64
    expected = awake(1, 6, uncertainty=True).double()(x)
    torch.testing.assert_close(answer, expected, rtol=1e-9, atol=1e-9)
    half = awake(1)
    half.set_precision(torch.bfloat16)
    twin = half.at(6)
    assert twin.head.weight.dtype == half.head.weight.dtype == torch.bfloat16
    assert twin.first.weight.dtype == torch.float32
    assert twin(x.float()).dtype == torch.float32


@pytest.mark.parametrize("scale", [1, 0, -4])
def test_scales_that_are_none_are_refused(scale: int) -> None:
    with pytest.raises(ModelError, match=f"scales from 2 on; got {scale}"):
        Terrain(scale)
    with pytest.raises(ModelError, match=f"scales from 2 on; got {scale}"):
        Terrain(4).at(scale)


@pytest.mark.parametrize("scale", [2, 5, 16])
def test_heights_are_not_rounded_by_autocast(scale: int) -> None:
    network = awake(1, scale, uncertainty=True)
    x = ground(4)
    x[:, :1] += 8000
    exact = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network(x)
    assert mixed.dtype == torch.float32
    detail = float((exact[:, :1] - x[:, :1].mean()).abs().max())
    # A bfloat16 is 32 m wide up here.
    assert float((mixed - exact)[:, :1].abs().max()) < 0.1 * detail
    means = nn.functional.avg_pool2d(mixed[:, :1].double(), scale)
    assert bool(((means - x[:, :1]).abs() <= 3 * x[:, 1:] + 5e-3).all())
    assert float((mixed / exact - 1)[:, 1].abs().max()) < 0.2


def naive(x: np.ndarray, taps: np.ndarray, stride: int) -> np.ndarray:
    """One axis after the other, one output pixel after the other."""
    up, width = taps.shape
    for axis in (-2, -1):
        x = np.moveaxis(x, axis, -1)
        groups = (x.shape[-1] - (width - stride)) // stride
        answer = [
            x[..., g * stride : g * stride + width] @ taps[k]
            for g in range(groups)
            for k in range(up)
        ]
        x = np.moveaxis(np.stack(answer, -1), -1, axis)
    return x


@settings(deadline=None, max_examples=60)
@given(
    up=st.integers(1, 9),
    stride=st.integers(1, 4),
    radius=st.integers(0, 3),
    ny=st.integers(1, 9),
    nx=st.integers(1, 17),
    channels=st.integers(1, 2),
)
def test_upsampling_by_strides_is_a_naive_loop(
    up: int, stride: int, radius: int, ny: int, nx: int, channels: int
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, channels, ny * stride + 2 * radius, nx * stride + 2 * radius))
    taps = rng.normal(size=(up, stride + 2 * radius))
    found = upsample(torch.from_numpy(x), torch.from_numpy(taps), stride)
    assert found.shape == (2, channels, ny * up, nx * up)
    np.testing.assert_allclose(found.numpy(), naive(x, taps, stride), atol=1e-10)


def test_upsampling_a_view_and_learning_through_it() -> None:
    x = torch.randn(1, 1, 14, 20, dtype=torch.float64).transpose(-1, -2)[..., ::2, 1:]
    x.requires_grad_(True)
    taps = torch.randn(3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: upsample(a, taps, 2), x)
    np.testing.assert_allclose(
        upsample(x, taps, 2).detach().numpy(), naive(x.detach().numpy(), taps.numpy(), 2)
    )


def test_upsampling_stays_in_single_precision_under_autocast() -> None:
    x = torch.randn(1, 1, 10, 14) + 5000
    taps = torch.from_numpy(histospline_ratio(3, 2, 2)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = upsample(x, taps, 2)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, upsample(x, taps, 2), rtol=0, atol=0)


@settings(deadline=None, max_examples=40)
@given(**ratios, radius=st.integers(0, 8))
def test_a_change_of_resolution_keeps_the_mean(up: int, down: int, radius: int) -> None:
    taps = histospline_ratio(up, down, radius)
    assert taps.shape == (up, down + 2 * radius)
    expected = np.zeros(down + 2 * radius)
    expected[radius : radius + down] = 1 / down
    np.testing.assert_allclose(taps.mean(axis=0), expected, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(**ratios, radius=st.integers(1, 8))
def test_a_change_of_resolution_keeps_constants_and_ramps(up: int, down: int, radius: int) -> None:
    centres = (np.arange(up) + 0.5) * down / up
    for taps, reach in ((histospline_ratio(up, down, radius), radius), (linear_ratio(up, down), 1)):
        np.testing.assert_allclose(taps.sum(axis=1), 1, atol=1e-12)
        pixels = np.arange(-reach, down + reach) + 0.5
        np.testing.assert_allclose(taps @ pixels, centres, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(**ratios)
def test_linear_weights_are_never_negative(up: int, down: int) -> None:
    taps = linear_ratio(up, down)
    assert taps.shape == (up, down + 2)
    assert taps.min() >= 0


@settings(deadline=None, max_examples=30)
@given(up=st.integers(1, 20), radius=st.integers(1, 12))
def test_the_ratio_to_one_is_the_histospline(up: int, radius: int) -> None:
    np.testing.assert_array_equal(histospline_ratio(up, 1, radius), histospline(up, radius))


@pytest.mark.parametrize(("up", "down"), [(3, 2), (5, 4), (3, 4), (1, 2), (2, 6)])
def test_a_ratio_is_the_histospline_and_then_means(up: int, down: int) -> None:
    """To a common multiple, and back: the running sum is interpolated only once."""
    values = np.random.default_rng(0).normal(size=down + 24)
    fine = np.concatenate([histospline(up, 12) @ values[k : k + 25] for k in range(down)])
    found = histospline_ratio(up, down, 12) @ values
    np.testing.assert_allclose(found, fine.reshape(up, down).mean(axis=1), atol=1e-5)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of one network for three scales."""
    path = tmp_path_factory.mktemp("scales") / "hills.safetensors"
    spec = ModelSpec(
        name="hills",
        architecture="terrain",
        scale=16,
        context=Local(HALO, tile=12),
        options=OPTIONS,
        inputs=BANDS,
        border="odd",
        scales=dict.fromkeys(SCALES, 0.0),
    )
    xdemsr.save_model(awake(0), path, spec)
    return path


def test_operations_are_counted_at_every_scale(saved: Path) -> None:
    spec = read_spec(saved)
    assert list(spec.scales) == list(SCALES)
    assert spec.flops == spec.scales[16]
    assert 0 < spec.scales[2] < spec.scales[5] < spec.scales[16]
    for scale in SCALES:
        assert spec.at(scale).flops == spec.scales[scale]


def test_a_file_serves_the_scales_it_names(saved: Path) -> None:
    for scale in SCALES:
        for model in (saved, str(saved), read_spec(saved)):
            spec = find(model, scale)
            assert (spec.name, spec.scale) == (f"hills-x{scale}", scale)
            assert spec.options["scale"] == scale
            assert not spec.scales
            assert spec.weights == read_spec(saved).weights
        loaded = xdemsr.load_model(saved, scale=scale)
        x = ground(1)
        torch.testing.assert_close(loaded.module(x), awake(0, scale)(x), rtol=0, atol=0)
        assert find(loaded, scale) == loaded.spec
    assert find(saved).scale == 16


def test_scales_a_file_does_not_serve_are_met_with_those_it_does(saved: Path) -> None:
    for scale in (3, 17):
        with pytest.raises(ModelError, match=rf"made for scales? 2, 5, 16, not {scale}"):
            find(saved, scale)
    with pytest.raises(ModelError, match="made for scale 5, not 2"):
        find(find(saved, 5), 2)


def test_the_scales_of_a_file_are_different_models_in_a_graph(saved: Path) -> None:
    identities = {find(saved, scale).identity() for scale in SCALES}
    assert len(identities) == len(SCALES)
    plain = find(saved, 5)
    assert plain.identity() != plain.stating_error().identity()


def test_scales_need_an_architecture_that_has_them(tmp_path: Path) -> None:
    from networks import Ratio

    spec = ModelSpec(
        name="ratio",
        architecture="networks:Ratio",
        scale=1,
        context=Local(0, tile=8),
        inputs=(Band("a"), Band("b")),
        outputs=(Band("c"), Band("d")),
        scales={2: 0.0},
    )
    with pytest.raises(ModelError, match="does not take the options"):
        xdemsr.save_model(Ratio(), tmp_path / "ratio.safetensors", spec)


def plain_spec(**more: object) -> ModelSpec:
    values = {"name": "m", "architecture": "terrain", "scale": 16, "context": Local(3)}
    return ModelSpec(**{**values, **more})  # type: ignore[arg-type]


def test_scales_go_through_json() -> None:
    spec = plain_spec(options=OPTIONS, inputs=BANDS, scales={16: 3.0, 2: 1.5, 10: 2.0})
    found = ModelSpec.from_json(spec.to_json())
    assert found == spec
    assert all(type(scale) is int for scale in found.scales)
    stating = spec.stating_error()
    assert ModelSpec.from_json(stating.to_json()) == stating


def test_headers_of_the_first_format_are_read() -> None:
    values = json.loads(plain_spec().to_json())
    values["format"] = 1
    del values["scales"]
    assert ModelSpec.from_json(json.dumps(values)) == plain_spec()
    del values["format"]
    assert ModelSpec.from_json(json.dumps(values)) == plain_spec()


def test_headers_of_a_later_format_are_refused() -> None:
    values = json.loads(plain_spec().to_json())
    values["format"] += 1
    with pytest.raises(ModelError, match="newer xdemsr; upgrade"):
        ModelSpec.from_json(json.dumps(values))


@pytest.mark.parametrize("scales", [{"two": 1.0}, [2, 4], 4, {"2.5": 1.0}, {"0": 1.0}, {"-4": 1.0}])
def test_headers_with_impossible_scales_are_refused(scales: object) -> None:
    values = json.loads(plain_spec().to_json())
    values["scales"] = scales
    with pytest.raises(ModelError, match=r"not a model specification|scales"):
        ModelSpec.from_json(json.dumps(values))


@pytest.mark.parametrize("scales", [[2, 4], {"2": 0.0}, {2.0: 0.0}, {0: 0.0}, {True: 0.0}])
def test_impossible_scales_are_refused(scales: object) -> None:
    with pytest.raises(ModelError, match=r"scales must be .*found"):
        plain_spec(scales=scales)


def test_a_spec_at_a_scale_is_that_of_one_model() -> None:
    spec = plain_spec(options=OPTIONS, scales={4: 7.0, 16: 9.0}, flops=9.0)
    at = spec.at(4)
    assert (at.name, at.scale, at.flops, at.scales) == ("m-x4", 4, 7.0, {})
    assert at.options == {**OPTIONS, "scale": 4}
    assert spec.at().name == "m-x16"
    assert at.at(4) == at.at() == at
    assert spec.options["scale"] == 16
    alone = plain_spec()
    assert alone.at() == alone.at(16) == alone


def test_a_model_that_states_its_error_has_two_bands() -> None:
    spec = plain_spec(options=OPTIONS, inputs=BANDS, outputs=(Band("elevation", "ft"),))
    both = spec.stating_error()
    assert both.outputs == (Band("elevation", "ft"), Band(STANDARD_ERROR, "ft"))
    assert both.options == {**OPTIONS, "uncertainty": True}
    assert spec.options["uncertainty"] is False
    assert both.stating_error() == both
    assert replace(both, options=spec.options, outputs=spec.outputs) == spec


def test_a_model_that_does_not_states_so() -> None:
    for spec in (plain_spec(options={"scale": 16}), find("histospline", 4)):
        with pytest.raises(ModelError, match=rf"{spec.name!r} states no standard error.*'uncert"):
            spec.stating_error()


def test_shipped_models_go_by_name_and_scale() -> None:
    names = {n: spec for n, spec in shipped_models().items() if spec.architecture == "terrain"}
    scales = sorted(spec.scale for spec in names.values())
    assert {2, 4, 8, 16} <= set(scales)
    table = xdemsr.list_models()
    for name, spec in names.items():
        assert name == f"terrain-x{spec.scale}"
        assert find(name) == find(name, spec.scale) == find(None, spec.scale) == spec
        assert find(spec) == spec
        assert table.loc[name, "scale"] == str(spec.scale)
        assert table.loc[name, "inputs"] == "elevation, vertical_error"
        assert "uncertainty" in spec.options
    assert len({spec.weights for spec in names.values()}) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: find("terrain-x16", 4), r"'terrain-x16' is made for scale 16, not 4.*terrain-x4"),
        (lambda: find("terrain-x7"), r"'terrain-x7'. Nearest: terrain-x"),
        (lambda: find("terrain"), r"Nearest: terrain-x"),
        (lambda: find(None, 7), r"scale 7 is shipped \(there is one for 2, 3, 4.*16\)"),
        (lambda: find(None), "say the scale"),
        (lambda: find("bicubic"), "say the scale"),
    ],
)
def test_models_that_are_not_there_are_met_with_those_that_are(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        call()
