"""EfficientNetV2-DEM: sixteenfold DEM super-resolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from xdemsr.errors import ModelError
from xdemsr.kernels import bicubic
from xdemsr.models.layers import local_mean, upsample, with_margin
from xdemsr.models.network import Network

SqueezeExcitation = Literal["expanded", "input"] | None
Tail = Literal["B", "C"]

#: (channels, expansion, layers) of the six groups of the paper.
GROUPS = (
    (24, 1, 2),
    (48, 4, 4),
    (64, 4, 4),
    (128, 4, 6),
    (160, 6, 9),
    (256, 6, 15),
)
_SLOPE = 0.2
_TAIL_MARGIN = 2
_CENTRE_RADIUS = 8


class EfficientNetV2DEM(Network):
    """EfficientNetV2-S without batch normalisation or strides, with a sub-pixel tail (x16).

    Parameters
    ----------
    se : {"expanded", "input", None}
        Squeeze-and-excitation: squeezed to a quarter of the expanded width (MobileNetV3, the
        reading taken of the paper; 39,608,642 parameters), to a quarter of the block's input
        (EfficientNetV2; 21,488,276), or none (17,741,658), which makes the network local.
    tail : {"B", "C"}
        Sub-pixel layers: the second gives one channel, to which the interpolated DEM is added (the
        reading taken of the paper), or as many as the first, to each of which it is added
        (40,190,825 parameters; 22,070,459 with ``se="input"``).
    relief : float
        Metres that one unit inside the network stands for.
    groups : sequence of (channels, expansion, layers)
        Block groups; the paper's by default.

    Notes
    -----
    With squeeze-and-excitation the answer depends on the mean of the whole window, so the model
    runs on windows of the trained size (25 pixels): ``Windowed(25, overlap)``; the window's own
    mean is taken off first. Without, it is ``Local(51)`` and a local mean is taken off.

    The network starts as bicubic interpolation: the last sub-pixel layer is zero and the final
    convolution the identity.

    References
    ----------
    Demiray, B. Z., Sit, M. and Demir, I. (2021). DEM super-resolution with EfficientNetV2.
    Tackling Climate Change with Machine Learning, NeurIPS. arXiv:2109.09661.
    """

    scale = 16
    skip_taps: Tensor

    def __init__(
        self,
        *,
        se: SqueezeExcitation = "expanded",
        tail: Tail = "B",
        relief: float = 10.0,
        groups: Sequence[Sequence[int]] = GROUPS,
    ) -> None:
        super().__init__()
        if se not in ("expanded", "input", None):
            raise ModelError(f"se={se!r} is not 'expanded', 'input' or None.")
        if tail not in ("B", "C"):
            raise ModelError(f"tail={tail!r} is not 'B' or 'C'.")
        self.windowed = se is not None
        self.relief = relief
        table = torch.from_numpy(bicubic(self.scale)).to(torch.float32)
        self.register_buffer("skip_taps", table, persistent=False)
        width = groups[0][0]
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.activation = nn.LeakyReLU(_SLOPE)
        blocks = []
        for channels, expansion, layers in groups:
            for _ in range(layers):
                blocks.append(_InvertedResidual(width, channels, expansion, se))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        fine = 1 if tail == "B" else width // 4
        last = _zeroed(nn.Conv2d(width // 4, 16 * fine, 3, padding=1))
        self.tail = nn.Sequential(
            nn.Conv2d(width, 4 * width, 3, padding=1),
            nn.PixelShuffle(4),
            nn.LeakyReLU(_SLOPE),
            last,
            nn.PixelShuffle(4),
        )
        self.final = nn.Conv2d(fine, 1, 3, padding=1, padding_mode="replicate")
        _start_as_identity(self.final)

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        if self.windowed:
            offset = x.mean(dim=(-2, -1), keepdim=True).expand_as(x)
        else:
            offset = local_mean(x, _CENTRE_RADIUS)
        centred = x - offset
        features = self.activation(self.stem(centred / self.relief)).to(
            dtype=self.tail[0].weight.dtype, memory_format=torch.channels_last
        )
        margin = min(halo, _TAIL_MARGIN)
        detail = self.tail(with_margin(self.blocks(features), halo, margin)).to(x.dtype)
        around = margin + self.skip_taps.shape[1] // 2
        surface = upsample(_with_edge(centred, halo, around), self.skip_taps)
        # Heights, not features: they stay in float32 where training runs in half precision.
        with torch.autocast(x.device.type, enabled=False):
            answer = self.final(surface + detail * self.relief)
        answer = answer + upsample(_with_edge(offset, halo, around), self.skip_taps)
        return with_margin(answer, margin * self.scale, 0)

    def trunk_parts(self) -> Iterator[nn.Module]:
        yield from (self.blocks, self.tail)


class _InvertedResidual(nn.Module):
    """Expand, depthwise 3 x 3, squeeze and excite, project; the input added where widths agree."""

    def __init__(self, width: int, channels: int, expansion: int, se: SqueezeExcitation) -> None:
        super().__init__()
        expanded = width * expansion
        layers: list[nn.Module] = []
        if expanded != width:
            layers += [nn.Conv2d(width, expanded, 1), nn.LeakyReLU(_SLOPE)]
        layers += [
            nn.Conv2d(expanded, expanded, 3, padding=1, groups=expanded),
            nn.LeakyReLU(_SLOPE),
        ]
        if se == "expanded":
            layers.append(_SqueezeExcite(expanded, _divisible(expanded / 4)))
        elif se == "input":
            layers.append(_SqueezeExcite(expanded, max(1, width // 4)))
        project = nn.Conv2d(expanded, channels, 1)
        # Forty layers without normalisation: each residual starts small.
        nn.init.kaiming_normal_(project.weight, a=_SLOPE)
        with torch.no_grad():
            project.weight.mul_(0.1 if width == channels else 1.0)
        self.branch = nn.Sequential(*layers, project)
        self.adds_input = width == channels

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.adds_input else branch


class _SqueezeExcite(nn.Module):
    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, width, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(x)
        return x * gate


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _start_as_identity(layer: nn.Conv2d) -> None:
    """Give back a map that is the same in all channels.

    Weights that differ between channels, or none would ever learn anything of its own, and whose
    sum over channels is the identity.
    """
    noise = layer.weight.detach().clone()
    with torch.no_grad():
        _zeroed(layer).weight += noise - noise.mean(dim=1, keepdim=True)
        layer.weight[:, :, 1, 1] += 1 / noise.shape[1]


def _divisible(width: float, divisor: int = 8) -> int:
    """MobileNet's rounding: to a multiple of 8, never more than a tenth below."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


def _with_edge(x: Tensor, have: int, want: int) -> Tensor:
    if want <= have:
        return with_margin(x, have, want)
    return nn.functional.pad(x, [want - have] * 4, mode="replicate")
