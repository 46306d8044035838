"""Networks that claim relative heights alone: each window's have a level of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Relief(nn.Module):
    """Knows the truth, which is the mean of its bands, but for the mean of the window.

    ``tilt`` metres per pixel are added along x; ``offset`` times the window's first value, so that
    windows differ by much.
    """

    def __init__(self, bands: int = 3, tilt: float = 0.0, offset: float = 0.0) -> None:
        super().__init__()
        self.tilt, self.offset = tilt, offset
        self.weight = nn.Parameter(torch.full((1, bands, 1, 1), 1 / bands))

    def forward(self, x: Tensor) -> Tensor:
        heights = (x * self.weight).sum(dim=1, keepdim=True)
        level = heights.mean(dim=(-2, -1), keepdim=True) + self.offset * heights[..., :1, :1]
        along = torch.arange(x.shape[-1], dtype=x.dtype)
        return heights - level + self.tilt * along


class Painted(nn.Module):
    """Elevation to bands, relative to the window's mean: what :class:`Relief` undoes."""

    def __init__(self, bands: int = 3) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, bands)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return 100 + self.gain * (x - x.mean(dim=(-2, -1), keepdim=True))
