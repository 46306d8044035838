"""The library's own terrain network: exact block means, no units, no offset.

With x the input, e its standard error and H the cubic histospline, the answer is

    H(H(x + d) + r)

on grids four times finer at each step, where the trunk gives d, a correction of the input of at
most three standard errors, and r, whose mean over every source pixel is zero. So block means are
the input's exactly where the input is exact, and within three standard errors of it elsewhere.

In each source pixel the pattern of r is taken relative to the patterns of the 5 x 5 source pixels
around: what is the same in pixel after pixel is no terrain but the trace of the coarse grid.

There are no biases, every non-linearity is positively homogeneous, and the first kernels on
elevation sum to zero: f(a z + c, a e) = a f(z, e) + c for a > 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from xdemsr.errors import ModelError
from xdemsr.kernels import histospline
from xdemsr.models.layers import extend_odd, local_mean, upsample, with_margin
from xdemsr.models.network import Network

_SLOPE = 0.1
#: Largest correction of the input, in its standard errors.
_CORRECTION_BOUND = 3.0
#: Source pixels on each side that H sees. Beyond, its weights are below one in ten thousand.
_RADIUS = 4
#: Source pixels on each side over which patterns of detail average to nothing.
_TRACE_RADIUS = 2
#: Of the amplitude around: patterns of smaller amplitude count less.
_FLOOR = 0.25


class Terrain(Network):
    """Residual network on the mean-preserving histospline, for DEM super-resolution.

    Inputs are two bands: elevation and its standard error, in one unit.

    Parameters
    ----------
    scale : int
        2, 3, 4, or four times one of these (8, 12, 16).
    features, blocks : int
        Channels and residual blocks of the trunk, which runs at source resolution.

    References
    ----------
    Boneva, L. I., Kendall, D. and Stefanov, I. (1971). Spline transformations. J. R. Stat. Soc. B
    33(1), 1-70.

    Lim, B. et al. (2017). Enhanced deep residual networks for single image super-resolution.
    CVPR Workshops. arXiv:1707.02921.
    """

    detail_taps: Tensor
    smooth_taps: Tensor | None

    def __init__(self, scale: int = 16, *, features: int = 32, blocks: int = 8) -> None:
        super().__init__()
        self.detail_scale, self.smooth_scale = _steps(scale)
        self.first = nn.Conv2d(2, features, 3, bias=False)
        self.blocks = nn.ModuleList([_ResidualBlock(features) for _ in range(blocks)])
        self.head = nn.Conv2d(features, self.detail_scale**2 + 1, 3, bias=False)
        nn.init.kaiming_normal_(self.first.weight, a=_SLOPE)
        nn.init.normal_(self.head.weight, std=1e-3)
        taps = torch.from_numpy(histospline(self.detail_scale, _RADIUS)).to(torch.float32)
        self.register_buffer("detail_taps", taps, persistent=False)
        taps = torch.from_numpy(histospline(self.smooth_scale, _RADIUS)).to(torch.float32)
        self.register_buffer(
            "smooth_taps", taps if self.smooth_scale > 1 else None, persistent=False
        )

    @property
    def radius(self) -> int:
        """Halo with which tiles are exact, in source pixels."""
        return 2 * len(self.blocks) + 2 + _RADIUS + self._margin

    @property
    def _margin(self) -> int:
        """Source pixels of the first step's answer that the second step sees on each side."""
        return 0 if self.smooth_taps is None else -(-_RADIUS // self.detail_scale)

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        if self.smooth_taps is None:
            return self.block_means(x, halo=halo)
        means = self.block_means(x, halo=halo, margin=self._margin)
        have = self._margin * self.detail_scale
        return upsample(with_margin(means, have, _RADIUS), self.smooth_taps)

    def block_means(self, x: Tensor, *, halo: int = 0, margin: int = 0) -> Tensor:
        """The answer after the first step, which holds all that is learnt.

        Parameters
        ----------
        x : Tensor, shape (n, 2, ny + 2 halo, nx + 2 halo)
            Elevation and its standard error.
        halo : int
            Context pixels of ``x``.
        margin : int
            How many of them to answer as well.

        Returns
        -------
        Tensor, shape (n, 1, (ny + 2 margin) * step, (nx + 2 margin) * step)
            Elevations on a grid finer by the first step: by 4 for scales 4, 8 and 16.
        """
        elevation, error = x[:, :1], x[:, 1:]
        # The trunk answers as far out as H needs its correction, or as there is context. The
        # detail's own neighbourhood is smaller.
        reach = margin + _RADIUS
        answered = min(halo, reach)
        features = self._trunk(x, halo, answered)
        bound = _CORRECTION_BOUND * with_margin(error, halo, answered)
        correction = bound * torch.tanh(features[:, :1] / (bound + torch.finfo(bound.dtype).tiny))
        detail = functional.pixel_shuffle(_detail(features[:, 1:]), self.detail_scale)
        corrected = with_margin(elevation, halo, reach) + with_margin(correction, answered, reach)
        return upsample(corrected, self.detail_taps) + with_margin(
            detail, answered * self.detail_scale, margin * self.detail_scale
        )

    def _trunk(self, x: Tensor, halo: int, answered: int) -> Tensor:
        """Features on the core and ``answered`` pixels around it.

        Convolutions are unpadded while there is context left to consume and zero-padded after, so
        tiles with a full halo are exact and nothing is computed twice as wide as needed.
        """
        context = _Context(min(halo - answered, 2 * len(self.blocks) + 2))
        x = with_margin(x, halo, answered + context.left)
        # Heights are continued by point reflection: a border of zeros would be a cliff.
        x = extend_odd(x, context.consume())
        weight = self.first.weight
        slopes = weight[:, :1] - weight[:, :1].mean(dim=(2, 3), keepdim=True)
        # Elevation meets the first layer in float32: half a metre is lost in bfloat16 at 100 m.
        with torch.autocast(x.device.type, enabled=False):
            weight = torch.cat([slopes, weight[:, 1:]], dim=1)
            features = functional.conv2d(x, weight)
        # What the blocks add up stays in float32; only what they multiply is rounded.
        features = functional.leaky_relu(features, _SLOPE).to(memory_format=torch.channels_last)
        for block in self.blocks:
            features = block(features, context)
        features = features.to(self.head.weight.dtype)
        head: Tensor = functional.conv2d(features, self.head.weight, padding=context.consume())
        return head.to(x.dtype)

    def trunk_parts(self) -> Iterator[nn.Module]:
        yield from (self.blocks, self.head)


def _detail(raw: Tensor) -> Tensor:
    """Sub-pixels of the detail, as channels: an amplitude times a pattern, pixel by pixel.

    The pattern has no mean, and is taken relative to the patterns around: what is the same in pixel
    after pixel is no terrain but the trace of the coarse grid. Amplitudes do not take part in that,
    or a cliff would leave its trace, inverted, on the plain below.
    """
    raw = raw - raw.mean(dim=1, keepdim=True)
    amplitude = raw.abs().mean(dim=1, keepdim=True)
    # Where there is hardly any detail its pattern is chance: it counts less.
    floor = _FLOOR * local_mean(amplitude, _TRACE_RADIUS) + torch.finfo(raw.dtype).tiny
    around = local_mean(raw / (amplitude + floor), _TRACE_RADIUS)
    return raw - (1 + _FLOOR) * amplitude * around


class _Context:
    """How many pixels of real context are left on each side."""

    def __init__(self, left: int) -> None:
        self.left = left

    def consume(self) -> int:
        """Padding of the next 3 x 3 convolution: 0 while there is context, then 1."""
        self.left -= 1
        return 0 if self.left >= 0 else 1


class _ResidualBlock(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, bias=False)
        self.second = nn.Conv2d(features, features, 3, bias=False)
        nn.init.kaiming_normal_(self.first.weight, a=_SLOPE)
        nn.init.kaiming_normal_(self.second.weight, a=_SLOPE)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor, context: _Context) -> Tensor:
        paddings = context.consume(), context.consume()
        branch = x.to(self.first.weight.dtype)
        branch = functional.conv2d(branch, self.first.weight, padding=paddings[0])
        branch = functional.leaky_relu_(branch, _SLOPE)
        branch = functional.conv2d(branch, self.second.weight, padding=paddings[1])
        return with_margin(x, 2 - sum(paddings), 0) + branch


def _steps(scale: int) -> tuple[int, int]:
    """The learnt step and the smooth one that follows it."""
    if scale in (2, 3, 4):
        return scale, 1
    if scale in (8, 12, 16):
        return 4, scale // 4
    raise ModelError(f"the terrain network is made for scales 2, 3, 4, 8, 12 and 16; got {scale}.")
