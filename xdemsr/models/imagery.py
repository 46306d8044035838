"""What networks between imagery and elevation share: units, normalisation, first weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from xdemsr.errors import ModelError

Norm = Literal["batch", "instance", "group"]
#: One number for all bands, or one for each.
Numbers = float | Sequence[float]

#: Bands of this name are heights, relative to the mean of their window.
ELEVATION = "elevation"
#: Keras's leak, which the authors took; Isola et al. have 0.2.
SLOPE = 0.3
_GROUPS = 32
_SPREAD = 0.02


class Units(nn.Module):
    """Between physical units and the numbers inside a network, band by band.

    Parameters
    ----------
    bands : sequence of str
        Those called ``elevation`` are taken relative to the mean of their window.
    mean : float or sequence of float
        Of each other band, in its own unit.
    scale : float or sequence of float
        What one unit inside the network stands for, in the band's own unit.

    Raises
    ------
    ModelError
        If there are no bands, not as many numbers as bands, or a scale is not positive.
    """

    mean: Tensor
    scale: Tensor
    relative: Tensor

    def __init__(self, bands: Sequence[str], mean: Numbers, scale: Numbers) -> None:
        super().__init__()
        if isinstance(bands, str) or not bands:
            raise ModelError(f"bands are a list of one or more names; got {bands!r}.")
        self.register_buffer("mean", _by_band(mean, bands, "mean"))
        self.register_buffer("scale", _by_band(scale, bands, "scale", positive=True))
        relative = torch.tensor([band == ELEVATION for band in bands])[:, None, None]
        self.register_buffer("relative", relative, persistent=False)

    def inside(self, x: Tensor) -> Tensor:
        """The network's numbers of physical values, shape (n, bands, ny, nx)."""
        level = x.mean(dim=(-2, -1), keepdim=True)
        return (x - torch.where(self.relative, level, self.mean)) / self.scale

    def outside(self, x: Tensor) -> Tensor:
        """The physical values of a network's numbers, shape (n, bands, ny, nx)."""
        values = x * self.scale
        level = values.mean(dim=(-2, -1), keepdim=True)
        return values + torch.where(self.relative, -level, self.mean)


def _by_band(
    numbers: Numbers, bands: Sequence[str], what: str, *, positive: bool = False
) -> Tensor:
    values = [numbers] * len(bands) if isinstance(numbers, int | float) else list(numbers)
    if len(values) != len(bands):
        raise ModelError(
            f"{what}={numbers!r} has {len(values)} numbers for the {len(bands)} bands "
            f"{', '.join(bands)}: give one for each, or one for all."
        )
    if positive and min(values) <= 0:
        raise ModelError(f"{what}={numbers!r} must be positive: units of a band.")
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """A normalisation of features; batch normalisation has Keras's constants.

    Raises
    ------
    ModelError
        If there is no such kind.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, eps=1e-3, affine=True)
    if kind == "group":
        return _GroupNorm(math.gcd(_GROUPS, channels), channels, eps=1e-3)
    raise ModelError(f"norm={kind!r} is not one of {', '.join(get_args(Norm))}.")


class _GroupNorm(nn.GroupNorm):
    """In float32 whatever the features' type: torch has no other for them on every device."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


def draw_weights(network: nn.Module) -> None:
    """Draw a network's kernels from a narrow normal distribution, as pix2pix does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=_SPREAD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
