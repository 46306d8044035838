"""pix2pix and its adversary: sizes, units, windows, what training may and may not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import xdemsr
from xdemsr import Band, ModelSpec, Windowed
from xdemsr.errors import ModelError
from xdemsr.models import build
from xdemsr.models.patchgan import PatchGAN
from xdemsr.models.pix2pix import Pix2Pix

RGB = ["red", "green", "blue"]


def image(ny: int, nx: int, bands: int = 3, n: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, bands, ny, nx), generator=generator) * 255


def small(**more: object) -> Pix2Pix:
    torch.manual_seed(0)
    network = Pix2Pix(**{"features": 4, "depth": 4, **more})  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=2 / parameter[0].numel() ** 0.5)
    return network.eval().requires_grad_(False)


def sizes(network: nn.Module) -> tuple[int, int]:
    """Trained parameters, and these with the statistics of batch normalisation."""
    trained = sum(parameter.numel() for parameter in network.parameters())
    running = [b.numel() for name, b in network.named_buffers() if "running" in name]
    return trained, trained + sum(running)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Pix2Pix(original=True), (54_410_881, 54_421_761)),
        (lambda: Pix2Pix(outputs=RGB, original=True), (54_414_979, 54_425_859)),
        (lambda: Pix2Pix(), (54_409_857, 54_419_713)),
        (lambda: PatchGAN(), (2_766_593, 2_768_385)),
    ],
    ids=["original", "original three bands", "mended", "discriminator"],
)
def test_parameters_are_those_of_the_papers(
    make: Callable[[], nn.Module], expected: tuple[int, int]
) -> None:
    with torch.device("meta"):
        network = make()
    assert sizes(network) == expected


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_bands_and_windows(data: st.DataObject) -> None:
    depth = data.draw(st.integers(2, 5))
    tall, wide = data.draw(st.permutations([1, 2, 3]))[:2]
    bands = data.draw(st.integers(1, 5))
    outputs = data.draw(st.integers(1, 4))
    norm = data.draw(st.sampled_from(["batch", "instance", "group"]))
    network = Pix2Pix(
        [f"b{k}" for k in range(bands)],
        [f"o{k}" for k in range(outputs)],
        features=3,
        depth=depth,
        norm=norm,
    ).eval()
    ny, nx = tall * 2**depth, wide * 2**depth
    answer = network(image(ny, nx, bands))
    assert answer.shape == (1, outputs, ny, nx)
    assert torch.isfinite(answer).all()


@pytest.mark.parametrize("tanh", [True, False])
def test_heights_are_relative_to_their_window(tanh: bool) -> None:
    answer = small(tanh=tanh, output_scale=300.0)(image(32, 48, n=2))
    assert float(answer.abs().max()) > 30
    torch.testing.assert_close(answer.mean(dim=(-2, -1)), torch.zeros(2, 1), atol=1e-3, rtol=0)


def test_heights_are_in_the_unit_of_their_scale() -> None:
    x = image(32, 48)
    torch.testing.assert_close(small(output_scale=300.0)(x), 3 * small(output_scale=100.0)(x))
    bounded = small(output_scale=100.0)(100 * x)
    assert float(bounded.max() - bounded.min()) <= 200
    free = small(output_scale=100.0, tanh=False)(100 * x)
    assert float(free.max() - free.min()) > 200


def test_bands_are_in_their_own_units() -> None:
    """Reflectance with its statistics is what 8-bit numbers are with theirs."""
    x = image(32, 48)
    shifted = torch.stack([x[:, 0], x[:, 1] * 2 + 5, x[:, 2] / 255], dim=1)
    expected = small(input_mean=100.0, input_scale=[50.0, 60.0, 70.0])(x)
    found = small(input_mean=[100.0, 205.0, 100.0 / 255], input_scale=[50.0, 120.0, 70.0 / 255])(
        shifted
    )
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)


def test_imagery_depends_on_the_shape_of_terrain_not_on_its_level() -> None:
    network = small(bands=["elevation"], outputs=["red", "nir"], output_mean=[90.0, 1000.0])
    heights = image(32, 48, 1)
    torch.testing.assert_close(network(heights + 4000), network(heights), atol=2e-2, rtol=0)
    assert float((network(heights * 2) - network(heights)).abs().max()) > 1
    # Not the mean of the answer: what is 0 inside the network.
    network.last.weight.data.zero_()
    expected = torch.tensor([90.0, 1000.0])[:, None, None].expand(2, 32, 48)
    torch.testing.assert_close(network(heights)[0], expected)


def test_dropout_and_statistics_of_the_batch_are_for_training_alone() -> None:
    network, x = small(), image(32, 48, n=3)
    torch.testing.assert_close(network(x), network(x), atol=0, rtol=0)
    # Batches of other sizes round otherwise.
    torch.testing.assert_close(network(x)[:1], network(x[:1]), atol=1e-2, rtol=0)
    network.train()
    torch.manual_seed(0)
    first = network(x)
    assert float((first - network(x)).abs().max()) > 1
    still = small(dropout=0.0).train()
    torch.testing.assert_close(still(x), still(x), atol=0, rtol=0)


def bottleneck(network: Pix2Pix, x: Tensor) -> Tensor:
    found = []
    network.down[-1].register_forward_hook(lambda module, given, answer: found.append(answer))
    network.train()(x)
    return found[0]


def test_the_bottleneck_is_alive() -> None:
    """In the original, what two windows of a batch have in common is lost there, or all of it."""
    x = torch.cat([image(16, 16), image(16, 16)])
    assert float(bottleneck(small(), x).abs().max()) > 1
    assert float(bottleneck(small(original=True), x).abs().max()) < 1e-4
    torch.manual_seed(0)
    bottleneck(small(), image(16, 16))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        bottleneck(small(original=True), image(16, 16))


@pytest.mark.parametrize("outputs", [["elevation"], RGB])
def test_the_adversary_judges_pairs(outputs: list[str]) -> None:
    network = small(features=8, depth=5, outputs=outputs)
    critic = network.discriminator().eval().requires_grad_(False)
    assert critic.conditional
    x, answer = image(128, 160), image(128, 160, len(outputs), seed=1)
    logits = critic(x, answer)
    assert logits.shape == (1, 1, 14, 18)
    assert float((critic(image(128, 160, seed=2), answer) - logits).abs().max()) > 1e-4
    assert float((critic(x, image(128, 160, len(outputs), seed=3)) - logits).abs().max()) > 1e-4


def test_the_adversary_does_not_see_levels() -> None:
    critic = small().discriminator().eval().requires_grad_(False)
    x, heights = image(64, 96), image(64, 96, 1, seed=1)
    torch.testing.assert_close(critic(x, heights + 900), critic(x, heights), atol=1e-4, rtol=0)


def test_the_adversary_sees_seventy_pixels() -> None:
    # Instance normalisation would look at all of them; statistics of training do not.
    critic = PatchGAN(features=4).eval().requires_grad_(False)
    x, target = image(160, 160), torch.zeros(1, 1, 160, 160)
    before = critic(x, target)[0, 0]
    x[..., 80, 80] += 1e4
    changed = torch.nonzero((critic(x, target)[0, 0] - before).abs() > 0)
    # One pixel lies in as many patches as begin every eighth within seventy.
    span = changed.max(dim=0).values - changed.min(dim=0).values + 1
    assert set(span.tolist()) <= {8, 9}


def test_both_learn_from_each_other() -> None:
    torch.manual_seed(0)
    network = Pix2Pix(features=8, depth=5).train()
    critic = network.discriminator().train()
    x = image(64, 96, n=2)
    critic(x, network(x)).mean().backward()
    for part in (network, critic):
        assert all(p.grad is not None and bool(p.grad.any()) for p in part.parameters())


def test_it_learns_a_relief() -> None:
    """Heights that brightness tells, after a few steps."""
    torch.manual_seed(0)
    network = Pix2Pix(features=8, depth=4, norm="group", dropout=0.0, output_scale=50.0)
    x = nn.functional.avg_pool2d(image(48, 64, n=4), 5, 1, 2)
    target = x[:, 1:2] - x[:, 1:2].mean(dim=(-2, -1), keepdim=True)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    losses = []
    for _ in range(40):
        loss = (network(x) - target).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_half_precision_touches_the_trunk_alone(norm: str) -> None:
    network, x = small(norm=norm, output_scale=1000.0), image(32, 48)
    exact = network(x)
    network.set_precision(torch.bfloat16)
    rounded = network(x)
    assert rounded.dtype == torch.float32
    assert {p.dtype for p in network.last.parameters()} == {torch.float32}
    error = float((rounded - exact).abs().max())
    assert 0 < error < 0.1 * float(exact.abs().max())


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"multiples of 16 pixels; got 32 x 40.*Windowed\(16, 8\)"):
        small()(image(32, 40))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Pix2Pix(depth=1), "depth of 2 or more; got 1"),
        (lambda: Pix2Pix(norm="layer"), "batch, instance, group"),  # type: ignore[arg-type]
        (lambda: Pix2Pix(bands="red"), "list of one or more names"),
        (lambda: Pix2Pix([]), "list of one or more names"),
        (lambda: Pix2Pix(input_mean=[1.0, 2.0]), "2 numbers for the 3 bands red, green, blue"),
        (lambda: Pix2Pix(output_scale=0.0), "positive"),
    ],
)
def test_networks_that_cannot_be_built_say_why(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        make()


def test_units_travel_with_the_weights(tmp_path: Path) -> None:
    """A file's own units hold, whatever the options of its specification say."""
    options = {"bands": RGB, "features": 4, "depth": 4}
    spec = ModelSpec(
        name="m",
        architecture="pix2pix",
        scale=1,
        context=Windowed(16, 8),
        options=options,
        inputs=tuple(Band(name, "1") for name in RGB),
        relative=True,
        border="mirror",
    )
    torch.manual_seed(0)
    network = Pix2Pix(RGB, features=4, depth=4, input_mean=[90.0, 80.0, 70.0], output_scale=40.0)
    path = tmp_path / "m.safetensors"
    xdemsr.save_model(network, path, spec)
    loaded = xdemsr.load_model(path)
    assert loaded.spec.relative
    assert loaded.module.inputs.mean.flatten().tolist() == [90.0, 80.0, 70.0]
    torch.testing.assert_close(loaded.module(image(16, 32)), network.eval()(image(16, 32)))
    assert isinstance(build(spec), Pix2Pix)
