"""EDSR, for any number of bands and any whole-number scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from xdemsr.errors import ModelError
from xdemsr.kernels import bicubic
from xdemsr.models.layers import local_mean, upsample, with_margin
from xdemsr.models.network import Network

#: Source pixels that the convolutions after the body see on each side, rounded up.
_TAIL_MARGIN = 2


class EDSR(Network):
    """Enhanced deep residual network for super-resolution.

    Parameters
    ----------
    scale : int
        Output pixels per input pixel along each axis.
    bands : int
        Layers in and out.
    blocks, features : int
        Residual blocks and channels; 8 and 64 as in Galar et al., 16 and 64 or 32 and 256 as in
        Lim et al.
    residual_scale : float
        Factor on each residual branch.
    tail : {"stages", "direct"}
        ``"stages"`` doubles (or triples) the size step by step at full width, as published;
        ``"direct"`` is one sub-pixel layer, the cheap choice for large scales.
    mean, std : float or sequence of float
        Per-band constants taken off before the first layer and put back after the last.
    centre_radius : int
        If positive, the input's local mean over (2 r + 1) squared pixels is taken off before the
        first layer, which makes the network indifferent to a constant height.
    skip : {"bicubic", None}
        Add the interpolated input to the answer; needed with ``centre_radius``.
    bias : bool
        Whether convolutions have one. Without, and with ``centre_radius``, the network answers
        ``a * z + c`` with ``a`` times its answer to ``z``, and ``c``: it does not matter whether
        reflectances come as shares or as digital numbers.
    norm_after_shuffle : bool
        Batch normalisation after the sub-pixel stages, as on the poster of Galar et al.

    Notes
    -----
    Halo: ``2 * blocks + 4`` pixels, and ``centre_radius`` more.

    References
    ----------
    Lim, B. et al. (2017). Enhanced deep residual networks for single image super-resolution.
    CVPR Workshops. arXiv:1707.02921.

    Galar, M. et al. (2019). Super-resolution for Sentinel-2 images. ISPRS Archives XLII-2/W16.
    """

    mean: Tensor
    std: Tensor
    skip_taps: Tensor | None

    def __init__(
        self,
        scale: int,
        bands: int = 1,
        *,
        blocks: int = 8,
        features: int = 64,
        residual_scale: float = 0.1,
        tail: Literal["stages", "direct"] = "stages",
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        centre_radius: int = 0,
        skip: Literal["bicubic"] | None = None,
        bias: bool = True,
        norm_after_shuffle: bool = False,
    ) -> None:
        super().__init__()
        if centre_radius and skip is None:
            raise ModelError("EDSR with centre_radius needs skip='bicubic' to restore the height.")
        self.scale = scale
        self.centre_radius = centre_radius
        for name, value in (("mean", mean), ("std", std)):
            constants = torch.as_tensor(value, dtype=torch.float32).expand(bands).clone()
            self.register_buffer(name, constants.reshape(1, bands, 1, 1))
        table = torch.from_numpy(bicubic(scale)).to(torch.float32) if skip else None
        self.register_buffer("skip_taps", table, persistent=False)
        self.head = nn.Conv2d(bands, features, 3, padding=1, bias=bias)
        body = [_ResidualBlock(features, residual_scale, bias) for _ in range(blocks)]
        self.body = nn.Sequential(*body, nn.Conv2d(features, features, 3, padding=1, bias=bias))
        self.tail = _tail(scale, features, bands, tail, norm_after_shuffle, bias)

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        offset = local_mean(x, self.centre_radius) if self.centre_radius else self.mean
        head = self.head((x - offset) / self.std)
        features = head.to(dtype=self.body[-1].weight.dtype, memory_format=torch.channels_last)
        features = features + self.body(features)
        margin = min(halo, _TAIL_MARGIN)
        answer = self.tail(with_margin(features, halo, margin)).to(x.dtype)
        answer = with_margin(answer, margin * self.scale, 0) * self.std
        if self.skip_taps is None:
            return answer + self.mean
        radius = self.skip_taps.shape[1] // 2
        return answer + upsample(with_margin(x, halo, radius), self.skip_taps)

    def trunk_parts(self) -> Iterator[nn.Module]:
        yield from (self.body, self.tail)


class _ResidualBlock(nn.Module):
    def __init__(self, features: int, residual_scale: float, bias: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1, bias=bias)
        self.second = nn.Conv2d(features, features, 3, padding=1, bias=bias)
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.second(functional.relu(self.first(x)))
        return x + branch * self.residual_scale


def icnr_(weight: Tensor, scale: int) -> None:
    """Initialise a sub-pixel convolution so that it starts as nearest-neighbour upsampling.

    References
    ----------
    Aitken, A. et al. (2017). Checkerboard artifact free sub-pixel convolution. arXiv:1707.02937.
    """
    kernel = torch.empty(weight.shape[0] // scale**2, *weight.shape[1:])
    nn.init.kaiming_normal_(kernel)
    with torch.no_grad():
        weight.copy_(kernel.repeat_interleave(scale**2, dim=0))


def _tail(
    scale: int, features: int, bands: int, kind: str, norm: bool, bias: bool
) -> nn.Sequential:
    if kind == "direct":
        layer = nn.Conv2d(features, bands * scale**2, 3, padding=1, bias=bias)
        icnr_(layer.weight, scale)
        return nn.Sequential(layer, nn.PixelShuffle(scale))
    if kind != "stages":
        raise ModelError(f"EDSR tail {kind!r} is not 'stages' or 'direct'.")
    layers: list[nn.Module] = []
    for factor in _factors(scale):
        grow = nn.Conv2d(features, features * factor**2, 3, padding=1, bias=bias)
        icnr_(grow.weight, factor)
        layers += [grow, nn.PixelShuffle(factor)]
    if norm:
        layers.append(nn.BatchNorm2d(features))
    return nn.Sequential(*layers, nn.Conv2d(features, bands, 3, padding=1, bias=bias))


def _factors(scale: int) -> list[int]:
    factors, rest = [], scale
    for factor in (2, 3):
        while rest % factor == 0:
            factors.append(factor)
            rest //= factor
    if rest > 1:
        raise ModelError(
            f"EDSR tail 'stages' builds scales from steps of 2 and 3; {scale} is not such a "
            "product. Use tail='direct'."
        )
    return factors
