"""Networks: sizes as published, contexts as declared, physics as promised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Blur, Global, Guided, Strided
from torch import nn

from xdemsr import Band, Local, ModelSpec, Windowed, measure_context
from xdemsr.errors import ModelError
from xdemsr.models import build
from xdemsr.models.context import verify_context
from xdemsr.models.edsr import EDSR, icnr_
from xdemsr.models.effnetv2_dem import EfficientNetV2DEM
from xdemsr.models.interpolation import Interpolation
from xdemsr.models.layers import extend_odd, upsample, with_margin
from xdemsr.models.network import Network
from xdemsr.models.terrain import Terrain
from xdemsr.spec import VERTICAL_ERROR

TERRAIN_BANDS = (Band("elevation", "m"), Band(VERTICAL_ERROR, "m"))
SMALL_GROUPS = [[8, 1, 1], [8, 4, 2]]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def awake(network: Network, seed: int = 0) -> Network:
    """A network whose zero-initialised layers do something, as after training."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3 / parameter[0].numel() ** 0.5)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: EDSR(2, 3), 779_011),
        (lambda: EDSR(4, 3), 926_723),
        (lambda: EDSR(2, 4), 780_164),
        (lambda: EDSR(4, 4), 927_876),
        (lambda: EDSR(2, 1), 776_705),
        (lambda: EDSR(2, 3, norm_after_shuffle=True), 779_139),
        (lambda: EDSR(2, 3, blocks=16), 1_369_859),
        (lambda: EDSR(4, 3, blocks=16), 1_517_571),
        (lambda: EDSR(2, 3, blocks=32, features=256), 40_729_603),
        (lambda: EfficientNetV2DEM(), 39_608_642),
        (lambda: EfficientNetV2DEM(se="input"), 21_488_276),
        (lambda: EfficientNetV2DEM(se=None), 17_741_658),
        (lambda: Interpolation("spline", 16), 0),
    ],
)
def test_parameter_counts_are_the_published_ones(make: Callable[[], nn.Module], count: int) -> None:
    assert parameters(make()) == count


NETWORKS = {
    "terrain-x16": (lambda: Terrain(16, features=8, blocks=2), TERRAIN_BANDS, 11),
    "terrain-x8": (lambda: Terrain(8, features=8, blocks=1), TERRAIN_BANDS, 9),
    "terrain-x3": (lambda: Terrain(3, features=8, blocks=1), TERRAIN_BANDS, 9),
    "edsr-x4": (lambda: EDSR(4, blocks=2, features=8), (Band("a"),), 8),
    "edsr-x3": (
        lambda: EDSR(3, blocks=1, features=8, centre_radius=2, skip="bicubic"),
        (Band("a"),),
        8,
    ),
    "edsr-x5": (lambda: EDSR(5, blocks=1, features=8, tail="direct"), (Band("a"),), 6),
    "effnet": (lambda: EfficientNetV2DEM(se=None, groups=SMALL_GROUPS), (Band("a"),), 14),
    "histospline": (lambda: Interpolation("histospline", 4), (Band("a"),), 12),
    "bicubic": (lambda: Interpolation("bicubic", 5), (Band("a"),), 2),
    "nearest": (lambda: Interpolation("nearest", 5), (Band("a"),), 0),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_tile_with_its_halo_is_the_whole(name: str) -> None:
    make, bands, halo = NETWORKS[name]
    network = awake(make())
    x = torch.randn(1, len(bands), 71, 83) * 20 + 300
    x[:, 1:] = x[:, 1:].abs() / 300
    with torch.inference_mode():
        whole = network(x)
        cut = (slice(25, 25 + 17), slice(30, 30 + 20))
        tile = x[..., 25 - halo : 42 + halo, 30 - halo : 50 + halo]
        core = network(tile, halo=halo)
    scale = whole.shape[-1] // x.shape[-1]
    fine = tuple(slice(c.start * scale, c.stop * scale) for c in cut)
    assert core.shape[-2:] == (17 * scale, 20 * scale)
    torch.testing.assert_close(core, whole[..., fine[0], fine[1]], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_measured_contexts_are_the_known_ones(name: str) -> None:
    make, bands, halo = NETWORKS[name]
    found = measure_context(awake(make()), bands)
    assert isinstance(found, Local)
    assert found.multiple_of == 1
    assert halo - 1 <= found.halo <= halo


def test_terrain_knows_its_radius() -> None:
    assert Terrain(16).radius == 23
    assert Terrain(4, blocks=1).radius == 9


def test_strides_are_found() -> None:
    torch.manual_seed(0)
    found = measure_context(Strided())
    assert found == Local(halo=4, multiple_of=4)


def test_fresh_networks_are_not_taken_for_blind() -> None:
    network = EDSR(2, blocks=1, features=8)
    nn.init.zeros_(network.tail[-1].weight)
    assert measure_context(network).halo >= 5


def test_several_inputs_are_measured_together() -> None:
    torch.manual_seed(0)
    found = measure_context(Guided(), (Band("elevation"), Band("guide", "", 2)))
    assert found == Local(halo=1)


def test_global_networks_need_their_window() -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=r"window=\.\.\."):
        measure_context(Global(), limit=128)
    assert measure_context(Global(), window=32, limit=128) == Windowed(32, 8)


def spec_of(architecture: str, context: Local | Windowed, scale: int) -> ModelSpec:
    return ModelSpec(name="m", architecture=architecture, scale=scale, context=context)


@pytest.mark.parametrize(
    ("network", "context", "scale"),
    [
        (Blur, Local(1), 2),
        (Global, Local(20), 2),
        (Strided, Local(8, multiple_of=2), 1),
        (Strided, Local(0, multiple_of=4), 1),
    ],
)
def test_false_contexts_are_refused(network: type[nn.Module], context: Local, scale: int) -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=r"measure_context"):
        verify_context(network(), spec_of("networks:X", context, scale))


@pytest.mark.parametrize(
    ("network", "context", "scale"),
    [
        (Blur, Local(2), 2),
        (Blur, Local(9), 2),
        (Global, Windowed(20, 4), 2),
        (Strided, Local(4, multiple_of=4), 1),
        (Strided, Local(16, multiple_of=8), 1),
    ],
)
def test_true_contexts_pass(
    network: type[nn.Module], context: Local | Windowed, scale: int
) -> None:
    torch.manual_seed(0)
    assert verify_context(network(), spec_of("networks:X", context, scale)) is None


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    factor=st.floats(0.01, 100),
    constant=st.floats(-1000, 9000),
    error=st.sampled_from([0.0, 0.3, 5.0]),
    scale=st.sampled_from([4, 16]),
)
def test_terrain_knows_no_unit_and_no_datum(
    seed: int, factor: float, constant: float, error: float, scale: int
) -> None:
    network = awake(Terrain(scale, features=8, blocks=2), seed).double()
    z = torch.randn(1, 1, 14, 19, dtype=torch.float64) * 30
    e = torch.full_like(z, error)
    before = network(torch.cat([z, e], 1))
    after = network(torch.cat([factor * z + constant, factor * e], 1))
    # In double, but for the tables of H, whose sums are 1 to float32's last bit.
    rounding = 2e-7 * (abs(constant) + 100 * factor)
    torch.testing.assert_close(after, factor * before + constant, atol=rounding, rtol=0)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    error=st.floats(0, 3),
    halo=st.integers(0, 14),
    scale=st.sampled_from([2, 3, 4, 8, 16]),
)
def test_block_means_are_the_input_within_three_standard_errors(
    seed: int, error: float, halo: int, scale: int
) -> None:
    network = awake(Terrain(scale, features=8, blocks=2), seed)
    z = torch.randn(1, 1, 40, 43) * 30
    x = torch.cat([z, torch.full_like(z, error)], 1)
    answer = network(x, halo=halo)
    means = nn.functional.avg_pool2d(answer.double(), scale)
    core = z[..., halo : 40 - halo, halo : 43 - halo].double()
    assert float((means - core).abs().max()) <= 3 * error + 2e-4


@pytest.mark.parametrize("scale", [4, 16])
def test_no_trace_of_the_coarse_grid_on_a_plane(scale: int) -> None:
    """Whatever was learnt, on even ground no sub-pixel is higher than the next."""
    network = awake(Terrain(scale, features=8, blocks=2)).double()
    ny, nx, halo = 17, 20, 11
    y = torch.arange(ny + 2 * halo, dtype=torch.float64)[:, None]
    x = torch.arange(nx + 2 * halo, dtype=torch.float64)
    plane = (100 + 3 * y - 2 * x)[None, None]
    answer = network(torch.cat([plane, torch.full_like(plane, 0.5)], 1), halo=halo)[0, 0]
    rows, columns = ((torch.arange(n * scale).double() + 0.5) / scale for n in (ny, nx))
    expected = 3 * rows[:, None] - 2 * columns
    offset = answer - expected
    assert float((offset - offset.mean()).abs().max()) < 1e-3


def test_half_precision_touches_the_trunk_alone() -> None:
    network = awake(Terrain(16, features=8, blocks=2))
    network.set_precision(torch.bfloat16)
    assert network.first.weight.dtype == torch.float32
    assert network.head.weight.dtype == torch.bfloat16
    z = torch.full((1, 1, 20, 21), 8848.86)
    answer = network(torch.cat([z, torch.zeros_like(z)], 1))
    assert answer.dtype == torch.float32
    # A plane stays a plane to float32's own rounding, however high.
    assert float((answer - 8848.86).abs().max()) < 5e-3


def test_a_fresh_effnet_is_bicubic() -> None:
    network = EfficientNetV2DEM(groups=SMALL_GROUPS).eval()
    x = torch.randn(1, 1, 25, 25) * 20 + 300
    with torch.inference_mode():
        found = network(x)[..., 48:-48, 48:-48]
        expected = Interpolation("bicubic", 16)(x)[..., 48:-48, 48:-48]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_icnr_starts_as_nearest_neighbour() -> None:
    layer = nn.Conv2d(3, 2 * 9, 3, padding=1, bias=False)
    icnr_(layer.weight, 3)
    with torch.no_grad():
        fine = nn.functional.pixel_shuffle(layer(torch.randn(1, 3, 5, 7)), 3)
    blocks = fine.reshape(1, 2, 5, 3, 7, 3)
    assert float((blocks - blocks[:, :, :, :1, :, :1]).abs().max()) == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EDSR(7), "tail='direct'"),
        (lambda: EDSR(2, tail="long"), "long"),
        (lambda: EDSR(2, centre_radius=2), "skip"),
        (lambda: EfficientNetV2DEM(se="all"), "se="),
        (lambda: Terrain(1), "scales"),
        (lambda: build(spec_of("resnet", Local(1), 2)), "There are interpolation, edsr"),
        (lambda: build(spec_of("nowhere:Net", Local(1), 2)), "cannot be imported"),
        (lambda: build(spec_of("networks:Nobody", Local(1), 2)), "cannot be imported"),
        (lambda: build(spec_of("networks:not_a_network", Local(1), 2)), "not a torch.nn.Module"),
        (lambda: build(spec_of("os:system", Local(1), 2)), "not a torch.nn.Module"),
        (lambda: build(spec_of("edsr", Local(1), 2)), "does not take the options"),
    ],
)
def test_networks_that_cannot_be_built_say_why(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        make()


@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 20))
def test_odd_extension_is_that_of_numpy(ny: int, nx: int, width: int) -> None:
    values = np.random.default_rng(0).normal(size=(ny, nx))
    found = extend_odd(torch.from_numpy(values)[None, None], width)[0, 0].numpy()
    expected = np.pad(values, width, mode="reflect", reflect_type="odd")
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_margins_are_cropped_and_extended() -> None:
    x = torch.randn(2, 3, 9, 11)
    assert with_margin(x, 2, 2) is x
    torch.testing.assert_close(with_margin(x, 2, 0), x[..., 2:-2, 2:-2])
    torch.testing.assert_close(with_margin(with_margin(x, 0, 3), 3, 0), x)


@pytest.mark.parametrize("channels", [1, 3])
def test_upsample_is_two_matrix_products(channels: int) -> None:
    x = torch.randn(2, channels, 8, 11, dtype=torch.float64)
    taps = torch.randn(3, 5, dtype=torch.float64)
    found = upsample(x, taps)
    assert found.shape == (2, channels, 12, 21)
    for i, j in ((0, 0), (5, 13), (11, 20)):
        patch = x[:, :, i // 3 : i // 3 + 5, j // 3 : j // 3 + 5]
        expected = torch.einsum("ncyx,y,x->nc", patch, taps[i % 3], taps[j % 3])
        torch.testing.assert_close(found[:, :, i, j], expected)


class Hazy(nn.Module):
    """Local, but for a breath of the mean of all it is given."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.mix = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(x) + self.share * x.mean(dim=(-2, -1), keepdim=True)


@pytest.mark.parametrize("share", [1e-2, 1e-3])
def test_a_breath_of_a_global_mean_is_found(share: float) -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="pixels farther away"):
        verify_context(Hazy(share), spec_of("networks:X", Local(16), 1))


class Steps(nn.Module):
    """A network of any stride, in single precision inside."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 2, stride, stride=stride)
        self.up = nn.ConvTranspose2d(2, 1, stride, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(x.float()))


@pytest.mark.parametrize("stride", [3, 5, 6, 7, 10, 12, 24])
def test_unusual_strides_and_precisions_are_measured(stride: int) -> None:
    torch.manual_seed(0)
    found = measure_context(Steps(stride))
    assert isinstance(found, Local)
    assert found.multiple_of == stride


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Conv2d(1, 1, 3), "Pad its convolutions"),
        (nn.Conv2d(3, 1, 3, padding=1), "cannot be run"),
        (nn.LSTM(64, 64), "cannot be run"),
        (nn.Linear(64, 32), "Pad its convolutions"),
        (object(), r"torch\.nn\.Module"),
    ],
)
def test_networks_that_cannot_be_measured_say_why(network: nn.Module, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        measure_context(network)
