"""The library's own terrain network: exact block means, no units, no offset, any scale.

With x the input, e its standard error and H the cubic histospline, the answer is

    R(H(x + d) + r)

where H goes to quarters of source pixels. The trunk gives d, a correction of the input of at most
three standard errors, and r, whose mean over every source pixel is zero. R, a histospline again,
goes from quarters to the scale that is asked for. So block means are the input's exactly where the
input is exact, and within three standard errors of it elsewhere; and what is learnt serves every
scale.

In each source pixel the pattern of r is taken relative to the patterns of the 5 x 5 source pixels
around: what is the same in pixel after pixel is no terrain but the trace of the coarse grid.

There are no biases, every non-linearity is positively homogeneous, and the first kernels on
elevation sum to zero: f(a z + c, a e) = a f(z, e) + c for a > 0. The standard error of the answer
is an amplitude, which has the unit, times a function of what has none: s(a z + c, a e) = a s(z, e).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from xdemsr.errors import ModelError
from xdemsr.kernels import Taps, histospline, histospline_ratio, linear_ratio
from xdemsr.models.layers import extend_odd, local_mean, upsample, with_margin
from xdemsr.models.network import Network
from xdemsr.spec import VERTICAL_ERROR

#: Parts that the trunk divides a source pixel into, along each axis.
STEP = 4

_SLOPE = 0.1
#: Largest correction of the input, in its standard errors.
_CORRECTION_BOUND = 3.0
#: Pixels on each side that a histospline sees. Beyond, its weights are some thousandths.
_RADIUS = 4
#: Source pixels around the core whose quarters the last step sees.
_MARGIN = _RADIUS // STEP
#: Source pixels on each side over which patterns of detail average to nothing.
_TRACE_RADIUS = 2
#: Of the amplitude around: patterns of smaller amplitude count less.
_FLOOR = 0.25
#: The standard error is at most so many times its amplitude, and at least that part of it.
_SPREAD_RANGE = 1000.0


class Terrain(Network):
    """Residual network on the mean-preserving histospline, for DEM super-resolution.

    Inputs are two bands: elevation and its standard error, in one unit.

    Parameters
    ----------
    scale : int
        Any whole number from 2. The parameters do not depend on it.
    features, blocks : int
        Channels and residual blocks of the trunk, which runs at source resolution.
    uncertainty : bool
        Answer two bands: elevation, and its standard error.
    calibration : mapping of str to float
        Scale (as text, as JSON has it) to a factor on the standard error, measured on places that
        were not learnt from. Scales between are interpolated.

    References
    ----------
    Boneva, L. I., Kendall, D. and Stefanov, I. (1971). Spline transformations. J. R. Stat. Soc. B
    33(1), 1-70.

    Lim, B. et al. (2017). Enhanced deep residual networks for single image super-resolution.
    CVPR Workshops. arXiv:1707.02921.

    Nix, D. A. and Weigend, A. S. (1994). Estimating the mean and variance of the target probability
    distribution. IEEE International Conference on Neural Networks, 55-60.
    """

    bands = ("elevation", VERTICAL_ERROR)
    border = "odd"
    step_taps: Tensor
    scale_taps: Tensor
    spread_taps: Tensor

    def __init__(
        self,
        scale: int = 16,
        *,
        features: int = 32,
        blocks: int = 8,
        uncertainty: bool = False,
        calibration: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if scale < 2:
            raise ModelError(f"the terrain network is made for scales from 2 on; got {scale}.")
        self.scale, self.uncertainty = scale, uncertainty
        self.calibration = dict(calibration or {})
        self.first = nn.Conv2d(2, features, 3, bias=False)
        self.blocks = nn.ModuleList([_ResidualBlock(features) for _ in range(blocks)])
        self.head = nn.Conv2d(features, STEP**2 + 1, 3, bias=False)
        self.spread = _Spread(features)
        nn.init.kaiming_normal_(self.first.weight, a=_SLOPE)
        nn.init.normal_(self.head.weight, std=1e-3)
        shared = math.gcd(scale, STEP)
        up, self.stride = scale // shared, STEP // shared
        self._table("step_taps", histospline(STEP, _RADIUS))
        self._table("scale_taps", histospline_ratio(up, self.stride, _RADIUS if up > 1 else 0))
        self._table("spread_taps", linear_ratio(up, self.stride))

    def _table(self, name: str, taps: Taps) -> None:
        self.register_buffer(name, torch.from_numpy(taps).to(torch.float32), persistent=False)

    def at(self, scale: int) -> Terrain:
        """The same network, parameters shared, for another scale."""
        twin = Terrain(
            scale,
            features=self.first.out_channels,
            blocks=len(self.blocks),
            uncertainty=self.uncertainty,
            calibration=self.calibration,
        )
        twin.first, twin.blocks = self.first, self.blocks
        twin.head, twin.spread = self.head, self.spread
        # Tables alone: what is shared stays as it is.
        for name, table in self.named_buffers():
            setattr(twin, name, getattr(twin, name).to(table))
        return twin.train(self.training)

    @property
    def radius(self) -> int:
        """Halo with which tiles are exact, in source pixels; the same for all scales."""
        return 2 * len(self.blocks) + 2 + _RADIUS + _MARGIN

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        quarters, features, answered = self._quarters(x, halo, _MARGIN)
        radius = (self.scale_taps.shape[1] - self.stride) // 2
        quarters = with_margin(quarters, _MARGIN * STEP, radius)
        elevation = upsample(quarters, self.scale_taps, self.stride)
        if not self.uncertainty:
            return elevation
        error = with_margin(x[:, 1:], halo, answered)
        spread = self.spread(features, error, answered, self.scale)
        spread = upsample(spread, self.spread_taps, self.stride) * self._factor()
        return torch.cat([elevation, spread], dim=1)

    def quarters(self, x: Tensor, *, halo: int = 0) -> Tensor:
        """Means of quarters of source pixels, which hold all that is learnt of elevation.

        Parameters
        ----------
        x : Tensor, shape (n, 2, ny + 2 halo, nx + 2 halo)
            Elevation and its standard error.
        halo : int
            Context pixels of ``x``.

        Returns
        -------
        Tensor, shape (n, 1, ny * 4, nx * 4)
        """
        return self._quarters(x, halo, 0)[0]

    def _quarters(self, x: Tensor, halo: int, margin: int) -> tuple[Tensor, Tensor, int]:
        """Quarters of the core and ``margin`` pixels more; features, and how far they reach."""
        elevation, error = x[:, :1], x[:, 1:]
        # The trunk answers as far out as H needs its correction, or as there is context. The
        # detail's own neighbourhood is smaller.
        reach = margin + _RADIUS
        answered = min(halo, reach)
        head, features = self._trunk(x, halo, answered)
        bound = _CORRECTION_BOUND * with_margin(error, halo, answered)
        correction = bound * torch.tanh(head[:, :1] / (bound + torch.finfo(bound.dtype).tiny))
        detail = functional.pixel_shuffle(_detail(head[:, 1:]), STEP)
        corrected = with_margin(elevation, halo, reach) + with_margin(correction, answered, reach)
        detail = with_margin(detail, answered * STEP, margin * STEP)
        return upsample(corrected, self.step_taps) + detail, features, answered

    def _trunk(self, x: Tensor, halo: int, answered: int) -> tuple[Tensor, Tensor]:
        """Head and features on the core and ``answered`` pixels around it.

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
            features = functional.conv2d(x.to(memory_format=torch.channels_last), weight)
        # What the blocks add up is rounded too: a fifth more error, for a quarter of the time.
        features = functional.leaky_relu(features, _SLOPE).to(dtype=self.head.weight.dtype)
        for block in self.blocks:
            features = block(features, context)
        padding = context.consume()
        head = functional.conv2d(features, self.head.weight, padding=padding)
        return head.to(x.dtype), with_margin(features, 1 - padding, 0)

    def _factor(self) -> float:
        """The calibration's factor at this scale; beyond the measured ones, that of the nearest."""
        if not self.calibration:
            return 1.0
        scales, factors = zip(
            *sorted((int(s), f) for s, f in self.calibration.items()), strict=True
        )
        return float(np.exp(np.interp(np.log(self.scale), np.log(scales), np.log(factors))))

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
        branch = functional.conv2d(x, self.first.weight, padding=paddings[0])
        branch = functional.leaky_relu_(branch, _SLOPE)
        branch = functional.conv2d(branch, self.second.weight, padding=paddings[1])
        kept = with_margin(x, 2 - sum(paddings), 0)
        # In mixed training branches are in half precision, and what they add up to is not.
        return branch.add_(kept) if branch.dtype == kept.dtype else kept + branch


class _Spread(nn.Module):
    """Standard error of the quarters of source pixels.

    The features' own amplitude has the unit of elevation; relative to it they have none, and any
    function of them is allowed.
    """

    def __init__(self, features: int, hidden: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(features + 2, hidden, 1)
        self.second = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, STEP**2, 1)

    def forward(self, features: Tensor, error: Tensor, margin: int, scale: int) -> Tensor:
        """Answer the core's quarters and one more on each side, shape (n, 1, 4 ny + 2, 4 nx + 2).

        Parameters
        ----------
        features, error : Tensor, shape (n, c, ny + 2 margin, nx + 2 margin)
        margin : int
        scale : int
            The answer's: a pixel's error depends on its size.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(error.dtype)
            amplitude = local_mean(features.abs().mean(dim=1, keepdim=True), 1) + error
            kept = min(margin, 1)
            features, error, amplitude = (
                with_margin(part, margin, kept) for part in (features, error, amplitude)
            )
            unit = amplitude + torch.finfo(amplitude.dtype).tiny
            size = torch.full_like(error, math.log2(scale))
            x = torch.cat([features / unit, error / unit, size], dim=1)
            x = functional.leaky_relu(self.first(x), _SLOPE)
            x = functional.leaky_relu(self.second(x), _SLOPE)
            limit = math.log(_SPREAD_RANGE)
            spread = amplitude * torch.exp(limit * torch.tanh(self.last(x) / limit))
        spread = functional.pixel_shuffle(spread, STEP)
        if kept:
            return with_margin(spread, STEP, 1)
        # Repeated, not reflected: a standard error is never negative.
        return functional.pad(spread, (1, 1, 1, 1), mode="replicate")
