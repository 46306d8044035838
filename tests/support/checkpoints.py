"""Networks of other projects, written anew with the names and the arithmetic of the originals."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class MeanShift(nn.Conv2d):
    """EDSR-PyTorch: a fixed 1 x 1 layer that takes the mean colour off, or puts it back."""

    def __init__(self, mean: list[float], sign: int) -> None:
        bands = len(mean)
        super().__init__(bands, bands, 1)
        with torch.no_grad():
            self.weight.copy_(torch.eye(bands).reshape(bands, bands, 1, 1))
            self.bias.copy_(sign * 255 * torch.tensor(mean))


class AuthorsBlock(nn.Module):
    def __init__(self, features: int, res_scale: float) -> None:
        super().__init__()
        layers = [nn.Conv2d(features, features, 3, padding=1) for _ in range(2)]
        self.body = nn.Sequential(layers[0], nn.ReLU(), layers[1])
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mul(self.res_scale) + x


def growth(scale: int, features: int) -> nn.Sequential:
    """Sub-pixel stages: one of three, or as many of two as it takes."""
    factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
    layers: list[nn.Module] = []
    for factor in factors:
        grow = nn.Conv2d(features, features * factor**2, 3, padding=1)
        layers += [grow, nn.PixelShuffle(factor)]
    return nn.Sequential(*layers)


class AuthorsEDSR(nn.Module):
    """EDSR as in EDSR-PyTorch: bands of 0 to 255."""

    def __init__(
        self,
        scale: int = 2,
        blocks: int = 3,
        features: int = 8,
        mean: tuple[float, ...] = (0.4488, 0.4371, 0.4040),
        res_scale: float = 1.0,
    ) -> None:
        super().__init__()
        bands = len(mean)
        self.sub_mean, self.add_mean = MeanShift(list(mean), -1), MeanShift(list(mean), 1)
        self.head = nn.Sequential(nn.Conv2d(bands, features, 3, padding=1))
        blocks_ = [AuthorsBlock(features, res_scale) for _ in range(blocks)]
        self.body = nn.Sequential(*blocks_, nn.Conv2d(features, features, 3, padding=1))
        last = nn.Conv2d(features, bands, 3, padding=1)
        self.tail = nn.Sequential(growth(scale, features), last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.sub_mean(x))
        return self.add_mean(self.tail(self.body(x) + x))


class BasicBlock(nn.Module):
    def __init__(self, features: int, res_scale: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x))) * self.res_scale


class BasicEDSR(nn.Module):
    """EDSR as in BasicSR: bands of 0 to 1; mean and range are not in its state dict."""

    def __init__(
        self,
        scale: int = 4,
        blocks: int = 2,
        features: int = 8,
        mean: tuple[float, ...] = (0.4488, 0.4371, 0.4040),
        img_range: float = 255.0,
    ) -> None:
        super().__init__()
        bands = len(mean)
        self.mean, self.img_range = torch.tensor(mean).reshape(1, bands, 1, 1), img_range
        self.conv_first = nn.Conv2d(bands, features, 3, padding=1)
        self.body = nn.Sequential(*(BasicBlock(features, 1.0) for _ in range(blocks)))
        self.conv_after_body = nn.Conv2d(features, features, 3, padding=1)
        self.upsample = growth(scale, features)
        self.conv_last = nn.Conv2d(features, bands, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_first((x - self.mean) * self.img_range)
        x = x + self.conv_after_body(self.body(x))
        return self.conv_last(self.upsample(x)) / self.img_range + self.mean


class TheirResDepth(nn.Module):
    """The U-Net of ResDepth: a normalised DSM and orthoimages to the normalised DSM, corrected."""

    def __init__(self, channels: int = 3, depth: int = 2, start: int = 4, most: int = 8) -> None:
        super().__init__()
        widths = [min(start * 2**i, most) for i in range(depth)]
        self.encoder = nn.ModuleList(
            nn.Sequential(norm_block(a, b), nn.MaxPool2d(2))
            for a, b in zip([channels, *widths], widths, strict=False)
        )
        self.bottleneck = norm_block(widths[-1], widths[-1])
        up = widths[::-1]
        self.decoder = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a, a, 2, stride=2), norm_block(a, b))
            for a, b in pairwise(up)
        )
        self.decoder.append(nn.ConvTranspose2d(up[-1], up[-1], 2, stride=2))
        self.last_layer = nn.Conv2d(start, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        skips, y = [], x
        for level in self.encoder:
            skips.append(level[0](y))
            y = level[1](skips[-1])
        y = self.bottleneck(y)
        for level in self.decoder[:-1]:
            y = level[1](skips.pop() + level[0](y))
        y = self.last_layer(skips.pop() + self.decoder[-1](y))
        return x[:, :1] + y


def norm_block(before: int, after: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


class Stretch(nn.Module):
    """What is exported: three local layers and a sub-pixel one, on images of 0 to 1."""

    def __init__(self, channels: int = 1, scale: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.second = nn.Conv2d(6, channels * scale**2, 3, padding=1)
        self.grow = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.grow(self.second(torch.relu(self.first(x))))


class Blocky(nn.Module):
    """Adds a little of what each block of 4 x 4 pixels holds, much less where that is much."""

    def forward(self, x: Tensor) -> Tensor:
        block = nn.functional.avg_pool2d(x, 4)
        return x + 1e-3 * torch.tanh(nn.functional.interpolate(block, scale_factor=4))
