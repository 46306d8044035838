"""Small networks that the tests bring from outside, by import path."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn


class Blur(nn.Module):
    """A local network with a finite neighbourhood: two 3 x 3 layers and a nearest upsampling."""

    def __init__(self, scale: int = 2, bands: int = 1) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Conv2d(bands, 4, 3, padding=1)
        self.second = nn.Conv2d(4, bands, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        answer = x + self.second(torch.relu(self.first(x)))
        return answer.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)


class Strided(nn.Module):
    """A local network with a stride of four, as a U-Net has."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 3, 4, stride=4)
        self.middle = nn.Conv2d(3, 3, 3, padding=1)
        self.up = nn.ConvTranspose2d(3, 1, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(torch.relu(self.middle(self.down(x))))


class Global(nn.Module):
    """A network that uses the mean of its whole window."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.mix = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(-2, -1), keepdim=True)
        answer = mean + self.mix(x - mean) * torch.tanh(mean / 1000)
        return answer.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)


class Guided(nn.Module):
    """Elevation and a guide of twice its sampling; answers at the guide's."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, elevation: Tensor, guide: Tensor) -> Tensor:
        fine = elevation.repeat_interleave(2, -2).repeat_interleave(2, -1)
        return fine + self.mix(torch.cat([fine, guide], dim=1))


class Ratio(nn.Module):
    """Two bands in, their sum and difference out; knows nothing of its surroundings."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[[[1.0]], [[1.0]]], [[[1.0]], [[-1.0]]]]))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight)


class WrongSize(nn.Module):
    """Answers another size than it promises."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x[..., 1:-1, 1:-1] * self.weight


class Forgetful(nn.Module):
    """Keeps its input on itself while it works, and is slow about it."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(1, 1, 3, padding=1)
        self.kept = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        self.kept = x
        mixed = self.mix(x)
        time.sleep(0.002)
        return mixed + self.kept


def not_a_network() -> None:
    """What a malicious header might name."""


class Level(nn.Module):
    """A relative answer: the input's first band above its mean, times what is learnt."""

    conditional = True

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        band = x[:, :1]
        return (band - band.mean(dim=(2, 3), keepdim=True)) * self.factor

    def discriminator(self) -> nn.Module:
        return Judge()


class Judge(nn.Module):
    conditional = True

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 1, 1)

    def forward(self, inputs: Tensor, surface: Tensor) -> Tensor:
        both: Tensor = self.layer(torch.cat([inputs, surface], dim=1) / 100)
        return both
