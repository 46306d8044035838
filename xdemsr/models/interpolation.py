"""The classical baselines as networks without parameters."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from xdemsr.kernels import taps
from xdemsr.models.layers import upsample, with_margin
from xdemsr.models.network import Network


class Interpolation(Network):
    """Separable interpolation by a whole number.

    What it lacks of a halo it continues by point reflection; the engine gives it all of it.

    Parameters
    ----------
    kernel : {"nearest", "bilinear", "bicubic", "spline", "histospline"}
        See :mod:`xdemsr.kernels`.
    scale : int
        Output pixels per input pixel along each axis.
    """

    taps: Tensor

    def __init__(self, kernel: str, scale: int) -> None:
        super().__init__()
        table = torch.from_numpy(taps(kernel, scale)).to(torch.float32)
        self.register_buffer("taps", table, persistent=False)

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        radius = self.taps.shape[1] // 2
        return upsample(with_margin(x, halo, radius), self.taps)

    def trunk_parts(self) -> Iterator[nn.Module]:
        return iter(())
