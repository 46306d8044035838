"""The published networks for DEMs: their sizes, how far they see, where they start."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from xdemsr import Local, ModelSpec, measure_context
from xdemsr.errors import ModelError
from xdemsr.models import build
from xdemsr.models.dpgn import DPGN, differences, integrate
from xdemsr.models.dsrcnn import DSRCNN
from xdemsr.models.dsrgan import DSRGAN, Discriminator
from xdemsr.models.effnetv2_dem import EfficientNetV2DEM
from xdemsr.models.interpolation import Interpolation
from xdemsr.models.network import Network

SMALL_GROUPS = [[8, 1, 1], [8, 4, 2]]

#: Small ones, and their scales and halos.
NETWORKS: dict[str, tuple[Callable[[], Network], int, int]] = {
    "dsrcnn-x2": (lambda: DSRCNN(2, centre_radius=3), 2, 8),
    "dsrcnn-x3": (lambda: DSRCNN(3, centre_radius=1), 3, 5),
    "dsrcnn-x4": (lambda: DSRCNN(4, centre_radius=2), 4, 5),
    "dpgn-x2": (lambda: DPGN(2, blocks=4, features=4), 2, 16),
    "dpgn-x3": (lambda: DPGN(3, blocks=3, features=4), 3, 14),
    "dpgn-x4": (lambda: DPGN(4, blocks=2, features=4), 4, 13),
    "dpgn-x6": (lambda: DPGN(6, blocks=1, features=4), 6, 12),
    "dpgn-x5-direct": (lambda: DPGN(5, blocks=3, features=4, tail="direct"), 5, 14),
    "dsrgan-x2": (lambda: DSRGAN(2, blocks=2, features=4), 2, 16),
    "dsrgan-x3": (lambda: DSRGAN(3, blocks=1, features=4, centre_radius=1), 3, 7),
    "dsrgan-x4": (lambda: DSRGAN(4, blocks=1, features=4, centre_radius=2), 4, 8),
    "dsrgan-x8": (lambda: DSRGAN(8, blocks=1, features=4, centre_radius=2), 8, 8),
}
SLOW_TO_MEASURE = ("dsrcnn-x4", "dsrgan-x8")
SIXTEENFOLD: dict[str, Callable[[], Network]] = {
    "dsrcnn": lambda: DSRCNN(centre_radius=2),
    "dpgn": lambda: DPGN(blocks=1, features=4),
    "dsrgan": lambda: DSRGAN(blocks=1, features=4),
}


def awake(network: Network, seed: int = 0) -> Network:
    """A network whose zero-initialised layers do something, as after training."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=1 / parameter[0].numel() ** 0.5)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
    return network.eval().requires_grad_(False)


def ground(ny: int, nx: int, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 1, ny, nx, generator=generator) * 20 + 300


@pytest.mark.parametrize(
    ("make", "count"),
    [
        # 9 x 9 x 64 + 64, 64 x 32 + 32, 5 x 5 x 32 + 1.
        (lambda: DSRCNN(16), 8_129),
        # EDSR of 16 blocks of 64 with two bands in and out, and four stages; two; one layer.
        (lambda: DPGN(16), 1_811_842),
        (lambda: DPGN(4), 1_516_418),
        (lambda: DPGN(16, tail="direct"), 1_515_264),
        # Head 1,281, four blocks of 295,681, 147,585 after them, two stages of 590,337 at x4 and
        # 2,361,345 at x16, and 1,153.
        (lambda: DSRGAN(4), 2_513_417),
        (lambda: DSRGAN(16), 6_055_433),
        # 1,280, eight layers of 147,840 to 9,440,256, 9,438,208 and 9,217.
        (Discriminator, 37_627_009),
        (lambda: EfficientNetV2DEM(tail="C"), 40_190_825),
        (lambda: EfficientNetV2DEM(se="input", tail="C"), 22_070_459),
    ],
)
def test_parameter_counts(make: Callable[[], nn.Module], count: int) -> None:
    assert sum(parameter.numel() for parameter in make().parameters()) == count


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in SLOW_TO_MEASURE])
def test_halos_are_the_declared_ones(name: str) -> None:
    make, _, halo = NETWORKS[name]
    assert measure_context(awake(make())) == Local(halo)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_tile_with_its_halo_is_the_whole(name: str) -> None:
    make, scale, halo = NETWORKS[name]
    network = awake(make())
    assert network.radius == halo
    x = ground(51, 57)
    whole = network(x)
    core = network(x[..., 20 - halo : 31 + halo, 22 - halo : 35 + halo], halo=halo)
    assert core.shape == (1, 1, 11 * scale, 13 * scale)
    expected = whole[..., 20 * scale : 31 * scale, 22 * scale : 35 * scale]
    torch.testing.assert_close(core, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", list(SIXTEENFOLD))
def test_sixteenfold_tiles_are_parts_of_a_larger_one(name: str) -> None:
    network = awake(SIXTEENFOLD[name]())
    halo = int(network.radius)
    x = ground(9 + 2 * halo, 8 + 2 * halo)
    large = network(x, halo=halo)
    assert large.shape == (1, 1, 144, 128)
    small = network(x[..., 4:-2, 1:-3], halo=halo)
    torch.testing.assert_close(small, large[..., 64:-32, 16:-48], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("halo", [0, 1, 4])
def test_less_context_than_wanted_will_do(name: str, halo: int) -> None:
    make, scale, _ = NETWORKS[name]
    answer = awake(make())(ground(5 + 2 * halo, 7 + 2 * halo), halo=halo)
    assert answer.shape == (1, 1, 5 * scale, 7 * scale)
    assert bool(answer.isfinite().all())


@pytest.mark.parametrize("name", list(NETWORKS))
@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 99), constant=st.floats(-1000, 9000), halo=st.sampled_from([0, 3]))
def test_networks_know_no_datum(name: str, seed: int, constant: float, halo: int) -> None:
    network = awake(NETWORKS[name][0](), seed).double()
    x = ground(13, 16, seed=seed).double()
    before, after = network(x, halo=halo), network(x + constant, halo=halo)
    # In double, but for the tables of interpolation, whose sums are 1 to float32's last bit.
    torch.testing.assert_close(after, before + constant, atol=2e-7 * (abs(constant) + 500), rtol=0)


@pytest.mark.parametrize("scale", [2, 3, 4, 8, 16])
@pytest.mark.parametrize(
    ("network", "kernel"), [(DSRCNN, "bicubic"), (DPGN, "histospline"), (DSRGAN, "bicubic")]
)
def test_a_fresh_network_is_an_interpolation(
    network: type[Network], kernel: str, scale: int
) -> None:
    small = {} if network is DSRCNN else {"blocks": 1, "features": 4}
    x = ground(29, 31)
    found = network(scale, **small).eval()(x, halo=12)
    expected = Interpolation(kernel, scale)(x, halo=12)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("se", ["input", None])
def test_a_fresh_effnet_with_tail_c_is_bicubic_and_learns(se: str | None) -> None:
    torch.manual_seed(0)
    network = EfficientNetV2DEM(se=se, tail="C", groups=SMALL_GROUPS)
    x = ground(11, 14)
    found = network(x)
    expected = Interpolation("bicubic", 16)(x)
    inner = (..., slice(48, -48), slice(48, -48))
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-3, rtol=0)
    found.square().sum().backward()
    # Layer by layer: the last sub-pixel layer learns different things in different channels.
    gradient = network.tail[3].weight.grad
    assert gradient is not None
    assert float((gradient[0] - gradient[16]).abs().max()) > 0


@pytest.mark.parametrize("halo", [0, 9])
@pytest.mark.parametrize("scale", [2, 3, 16])
def test_block_means_of_dpgn_are_the_input(scale: int, halo: int) -> None:
    network = awake(DPGN(scale, blocks=1, features=4)).double()
    x = ground(25, 28).double()
    means = nn.functional.avg_pool2d(network(x, halo=halo), scale)
    core = x[..., halo : 25 - halo, halo : 28 - halo]
    torch.testing.assert_close(means, core, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scale", [2, 4, 16])
def test_gradients_of_a_surface_give_it_back(scale: int) -> None:
    """Shapes within a source pixel, which its mean does not show."""
    ny, nx = 9 * scale, 7 * scale
    y, x = torch.arange(ny + 1.0)[:, None] / scale, torch.arange(nx + 1.0) / scale
    window = torch.sin(torch.pi * y / 9) * torch.sin(torch.pi * x / 7)
    surface = (window * torch.sin(2 * torch.pi * (y + 0.3)) * torch.sin(torch.pi * x))[None, None]
    surface[..., -1:, :] = surface[..., :, -1:] = 0
    found = integrate(differences(surface), scale)
    error = found - surface[..., :-1, :-1]
    assert float(error.square().mean()) < 0.05**2 * float(surface.square().mean())


@pytest.mark.parametrize("halo", [0, 11])
def test_gradients_are_those_of_the_fine_dem(halo: int) -> None:
    x = ground(7 + 2 * halo, 9 + 2 * halo).double()
    network = DPGN(4, blocks=1, features=4).double()
    found = network.gradients(x, halo=halo)
    assert found.shape == (1, 2, 28, 36)
    expected = differences(network(x, halo=halo))
    torch.testing.assert_close(found[..., :-1, :-1], expected)


def test_gradients_can_be_learnt_from() -> None:
    torch.manual_seed(0)
    network = DPGN(2, blocks=1, features=4)
    target = differences(ground(15, 19))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = (network.gradients(ground(7, 9)) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["dsrcnn-x4", "dpgn-x4", "dsrgan-x4"])
def test_half_precision_touches_the_trunk_alone(name: str) -> None:
    make, scale, halo = NETWORKS[name]
    network = awake(make())
    x = ground(13 + 2 * halo, 15 + 2 * halo) / 10 + 8000
    exact = network(x, halo=halo)
    network.set_precision(torch.bfloat16)
    rounded = network(x, halo=halo)
    assert rounded.dtype == torch.float32
    # Half a metre would be lost at 100 m in bfloat16, 32 m here.
    detail = exact - Interpolation("bicubic", scale)(x, halo=halo)
    assert float((rounded - exact).abs().max()) < 0.1 * float(detail.abs().max())


def test_half_precision_keeps_the_statistics_of_dsrgan() -> None:
    network = DSRGAN(2, blocks=1, features=4)
    network.set_precision(torch.bfloat16)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {tensor.dtype for m in norms for tensor in m.parameters()} == {torch.float32}
    assert {m.running_var.dtype for m in norms} == {torch.float32}
    assert network.tail[-1].weight.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["dsrcnn-x4", "dpgn-x4", "dsrgan-x4"])
def test_mixed_precision_in_training_does_not_round_elevations(name: str) -> None:
    network = NETWORKS[name][0]().eval()
    x = ground(13, 15) + 5000
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(x)
    torch.testing.assert_close(mixed, network(x), atol=1e-2, rtol=0)


def test_detail_of_dsrgan_is_bounded() -> None:
    network = awake(DSRGAN(4, blocks=1, features=4, bound=5.0, relief=1000.0))
    x = ground(11, 12)
    detail = network(x) - Interpolation("bicubic", 4)(x)
    assert 4 < float(detail.abs().max()) < 5 + 1e-3


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 96), (2, 3)), ((65, 33), (3, 2)), ((20, 48), (1, 2))]
)
def test_the_discriminator_judges_patch_by_patch(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    discriminator = Discriminator(4).eval()
    heights = ground(*size)
    logits = discriminator(heights)
    assert logits.shape == (1, 1, *expected)
    torch.testing.assert_close(discriminator(heights + 500), logits, atol=1e-4, rtol=0)


def test_the_generator_learns_from_the_discriminator() -> None:
    torch.manual_seed(0)
    generator, discriminator = DSRGAN(4, blocks=1, features=4), Discriminator(4)
    logits = discriminator(generator(torch.cat([ground(16, 24), ground(16, 24, seed=1)])))
    loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    loss.backward()
    assert all(p.grad is not None for p in (*generator.parameters(), *discriminator.parameters()))
    assert float(generator.tail[-1].weight.grad.abs().max()) > 0
    assert float(discriminator.layers[0].weight.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("architecture", "network"), [("dsrcnn", DSRCNN), ("dpgn", DPGN), ("dsrgan", DSRGAN)]
)
def test_networks_are_built_by_name(architecture: str, network: type[Network]) -> None:
    spec = ModelSpec(
        name="m", architecture=architecture, scale=4, options={"scale": 4}, context=Local(50)
    )
    assert isinstance(build(spec), network)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DSRCNN(1), "scale of 2 or more; got 1"),
        (lambda: DSRCNN(2.5), "whole-number scale"),  # type: ignore[arg-type]
        (lambda: DSRCNN(2, centre_radius=0), "centre_radius"),
        (lambda: DPGN(0), "scale of 2 or more; got 0"),
        (lambda: DPGN(7), "tail='direct'"),
        (lambda: DPGN(2, tail="long"), "long"),  # type: ignore[arg-type]
        (lambda: DSRGAN(5), "scales 2, 3, 4, 8, 16; got 5"),
        (lambda: DSRGAN(2, centre_radius=0), "centre_radius"),
        (lambda: EfficientNetV2DEM(tail="D"), "tail='D'"),  # type: ignore[arg-type]
    ],
)
def test_networks_that_cannot_be_built_say_why(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        make()
