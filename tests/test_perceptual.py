"""The perceptual loss: its laws, its published network, and pixels that must not count."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from xdemsr.errors import InputError, WeightsError
from xdemsr.training.perceptual import Perceptual, VGG16Features, read_vgg16

GARBAGE = [float("nan"), float("inf"), -9999.0, 1e30]


def made(batch_norm: bool = True, seed: int = 0) -> VGG16Features:
    """Parameters as drawn, statistics that are not those of nothing."""
    torch.manual_seed(seed)
    network = VGG16Features(batch_norm)
    for layer in network:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def vgg() -> VGG16Features:
    return made()


@pytest.fixture(scope="module")
def loss(vgg: VGG16Features) -> Perceptual:
    return Perceptual(features=vgg)


def images(seed: int = 0, bands: int = 3, shape: tuple[int, int] = (32, 48)) -> list[Tensor]:
    """An answer, a target and the weights of all of it."""
    generator = torch.Generator().manual_seed(seed)
    answer, target = torch.rand(2, 2, bands, *shape, generator=generator) * 0.3
    return [answer, target, torch.ones(2, 1, *shape)]


def test_vgg16_is_as_published() -> None:
    def count(network: nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    with torch.device("meta"):
        plain, normed = VGG16Features(False), VGG16Features()
    assert count(plain) == 14_714_688
    assert count(normed) == 14_723_136
    # Where torchvision's have their poolings.
    for network, places in ((plain, [4, 9, 16, 23, 30]), (normed, [6, 13, 23, 33, 43])):
        pools = [k for k, layer in enumerate(network) if isinstance(layer, nn.MaxPool2d)]
        assert pools == places
        assert all(isinstance(network[k - 1], nn.ReLU) for k in pools)


def test_the_loss_is_that_of_the_lesson(vgg: VGG16Features, loss: Perceptual) -> None:
    """Written out anew, with hooks on torchvision's numbers, on a photograph's values."""
    answer, target, weight = images()
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    kept: list[Tensor] = []
    hooks = [
        vgg[k].register_forward_hook(lambda module, given, out: kept.append(out))
        for k in (22, 32, 42)
    ]
    first, second = ((image / 0.3 - mean) / std for image in (answer, target))
    vgg(first)
    vgg(second)
    for hook in hooks:
        hook.remove()

    def gram(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, c, h * w) @ x.reshape(n, c, h * w).transpose(1, 2) / (c * h * w)

    expected = functional.l1_loss(first, second)
    for k, w in enumerate((5, 15, 2)):
        expected += w * functional.l1_loss(kept[k], kept[k + 3])
        expected += w**2 * 5e3 * functional.l1_loss(gram(kept[k]), gram(kept[k + 3]))
    torch.testing.assert_close(loss(answer, target, weight), expected, rtol=1e-5, atol=0)


def test_every_part_has_its_weight(vgg: VGG16Features) -> None:
    given = images()
    whole = Perceptual(features=vgg, factors=(5, 15, 2), style=3.0, pixel=7.0)(*given)
    parts = [
        Perceptual(features=vgg, factors=(0, 0, 0), pixel=7.0)(*given),
        *(
            Perceptual(features=vgg, blocks=[block], factors=[factor], style=3.0, pixel=0)(*given)
            for block, factor in ((3, 5), (4, 15), (5, 2))
        ),
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)
    assert all(part > 0 for part in parts)


def test_only_the_named_bands_count(vgg: VGG16Features) -> None:
    answer, target, weight = images(bands=4)
    loss = Perceptual(features=vgg, bands=(2, 1, 0))
    expected = Perceptual(features=vgg)(answer[:, [2, 1, 0]], target[:, [2, 1, 0]], weight)
    answer[:, 3] += 5
    torch.testing.assert_close(loss(answer, target, weight), expected, rtol=0, atol=0)


def test_a_range_is_a_matter_of_units(vgg: VGG16Features, loss: Perceptual) -> None:
    answer, target, weight = images()
    counts = Perceptual(features=vgg, low=1000.0, high=4000.0)
    found = counts(answer * 1e4 + 1000, target * 1e4 + 1000, weight)
    torch.testing.assert_close(found, loss(answer, target, weight), rtol=1e-3, atol=0)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_the_target_holds_where_it_is_unknown_counts_for_nothing(
    loss: Perceptual, garbage: float
) -> None:
    answer, target, weight = images()
    weight[0, 0, 3:17, 5:20] = 0
    weight[1, 0, :, -9:] = 0
    found = []
    for truth in (target, torch.where(weight > 0, target, garbage)):
        given = answer.clone().requires_grad_(True)
        value = loss(given, truth, weight)
        value.backward()
        found.append((value.detach(), given.grad))
    for clean, dirty in zip(*found, strict=True):
        torch.testing.assert_close(dirty, clean, rtol=0, atol=0)
    gradient = found[0][1]
    unknown = (weight == 0).expand_as(gradient)
    assert bool((gradient[unknown] == 0).all())
    assert bool((gradient[~unknown] != 0).any())


def test_what_is_right_where_it_is_known_is_right(loss: Perceptual) -> None:
    answer, target, weight = images()
    weight[:, :, 10:20] = 0
    answer = torch.where(weight > 0, target, answer)
    assert float(loss(answer, target, weight)) == 0


def test_nothing_known_is_no_loss(loss: Perceptual) -> None:
    answer, target, weight = images()
    answer.requires_grad_(True)
    value = loss(answer, target * torch.nan, 0 * weight)
    value.backward()
    assert float(value.detach()) == 0
    assert not answer.grad.any()


def test_pixels_count_by_those_that_are_known(vgg: VGG16Features) -> None:
    loss = Perceptual(features=vgg, factors=(0, 0, 0))
    answer, target, weight = images()
    target = answer + 0.01
    expected = loss(answer, target, weight)
    weight[:, :, :, 7:] = 0
    torch.testing.assert_close(loss(answer, target, weight), expected)


def test_the_gradient_leads_to_the_target_and_vgg_stays_as_it_is(
    vgg: VGG16Features, loss: Perceptual
) -> None:
    before = {name: value.clone() for name, value in vgg.state_dict().items()}
    answer, target, weight = images()
    given = answer.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([given], 0.01)
    values = []
    for _ in range(12):
        optimiser.zero_grad()
        value = loss(given, target, weight)
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.5 * values[0]
    assert not any(parameter.requires_grad for parameter in vgg.parameters())
    for name, value in vgg.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_mixed_precision_changes_nothing(loss: Perceptual) -> None:
    answer, target, weight = images()
    expected = loss(answer, target, weight)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(answer, target, weight), expected, rtol=0, atol=0)
        halves = loss(answer.bfloat16().requires_grad_(True), target, weight)
        halves.backward()
    torch.testing.assert_close(halves.detach(), expected, rtol=0.02, atol=0)


@pytest.mark.parametrize("kind", ["bare.safetensors", "whole.pth"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_parameters_are_read_from_a_file(kind: str, batch_norm: bool, tmp_path: Path) -> None:
    network = made(batch_norm, seed=3)
    tensors = dict(network.state_dict())
    path = tmp_path / kind
    if kind.startswith("bare"):
        save_file(tensors, path)
    else:
        # As torchvision's older files: numbered under features, no counts, a classifier.
        kept = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
        whole = {f"features.{k}": v for k, v in kept.items()}
        torch.save({**whole, "classifier.0.weight": torch.zeros(3, 2)}, path)
    given = images()
    found = Perceptual(path)(*given)
    torch.testing.assert_close(found, Perceptual(features=network)(*given), rtol=0, atol=0)


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_file({"0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="does not hold VGG16"):
        read_vgg16(tmp_path / "other.safetensors")
    torch.save({"model": nn.Linear(2, 3)}, tmp_path / "code.pth")
    with pytest.raises(WeightsError, match="could run code"):
        read_vgg16(tmp_path / "code.pth")
    with pytest.raises(WeightsError, match="no weights file"):
        read_vgg16(tmp_path / "missing.pth")


def test_torchvision_is_asked_only_where_there_is_no_file(
    monkeypatch: pytest.MonkeyPatch, vgg: VGG16Features
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(InputError, match=r"pip install 'xdemsr\[unets\]'"):
        Perceptual()

    class Entry:
        def get_state_dict(self, *, progress: bool, check_hash: bool) -> dict[str, Tensor]:
            assert check_hash
            return {f"features.{name}": value for name, value in vgg.state_dict().items()}

    models = types.ModuleType("torchvision.models")
    models.VGG16_BN_Weights = types.SimpleNamespace(IMAGENET1K_V1=Entry())
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    given = images()
    torch.testing.assert_close(Perceptual()(*given), Perceptual(features=vgg)(*given))


def test_importing_asks_nobody() -> None:
    code = "import sys, xdemsr.training.perceptual; assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"bands": (0, 1)}, "three bands"),
        ({"low": 0.3, "high": 0.3}, "lower first"),
        ({"blocks": (6,), "factors": (1.0,)}, "1 to 5"),
        ({"blocks": (3, 4)}, "a factor for each"),
        ({"blocks": (), "factors": ()}, "a factor for each"),
    ],
)
def test_impossible_options_are_named(
    vgg: VGG16Features, options: dict[str, object], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        Perceptual(features=vgg, **options)


def test_images_must_have_the_bands_and_the_size(loss: Perceptual) -> None:
    for image in (torch.zeros(1, 2, 32, 48), torch.zeros(1, 3, 15, 48)):
        with pytest.raises(InputError, match="found"):
            loss(image, image, torch.ones_like(image[:, :1]))
