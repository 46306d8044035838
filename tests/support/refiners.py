"""A network of several bands, which tests of refinement bring from outside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Weighted(nn.Module):
    """The first band, and of each further one a 3 x 3 mean times a factor of its own."""

    def __init__(self, factors: Sequence[float] = (10.0, 100.0)) -> None:
        super().__init__()
        weight = torch.zeros(1, len(factors) + 1, 3, 3)
        weight[0, 0, 1, 1] = 1.0
        for k, factor in enumerate(factors, 1):
            weight[0, k] = factor / 9
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, padding=1)
