"""ResDepth: a U-Net that learns what is wrong with a surface model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from xdemsr.models.refinement import Refinement, as_trunk, check_shape, whole_strides


class ResDepth(Refinement):
    """Residual U-Net with additive skips, for a surface model and any guides.

    Parameters
    ----------
    bands : sequence of str
        Input bands; the first is the surface model. ResDepth's are a DSM and two orthoimages.
    depth : int
        Halvings; 5 in ResDepth, log2 of the chip (8) in DeepDEM's own ``unet``.
    features, most : int
        Channels of the first level, doubled from level to level up to ``most``.
    norm : bool
        Batch normalisation after each convolution but the last.
    last_bias : bool
        Whether the last convolution has one.
    centre_radius, openings, base
        See :class:`~xdemsr.models.refinement.Refinement`.

    Notes
    -----
    12,625,345 parameters with three bands in the published form, a bias on the last convolution
    counted, which the published code can leave away.

    References
    ----------
    Stucker, C. and Schindler, K. (2022). ResDepth: a deep residual prior for 3D reconstruction from
    high-resolution satellite images. ISPRS J. Photogramm. Remote Sens. 183, 560-580.
    """

    def __init__(
        self,
        bands: Sequence[str] = ("dsm", "ortho_left", "ortho_right"),
        *,
        depth: int = 5,
        features: int = 64,
        most: int = 512,
        norm: bool = True,
        last_bias: bool = True,
        centre_radius: int = 64,
        openings: Sequence[int] = (),
        base: str = "",
    ) -> None:
        super().__init__(bands, centre_radius, openings, base)
        self.stride = 2**depth
        # A pixel is told by four of the coarsest level's on either side, at most.
        self.radius = whole_strides(4 * self.stride + self.reach, self.stride)
        widths = [min(features * 2**level, most) for level in range(depth)]
        self.unet = _UNet(self.channels, widths, norm, last_bias)
        if base:
            # A good first guess is where to begin.
            for parameter in self.unet.last_layer.parameters():
                nn.init.zeros_(parameter)

    def correction(self, x: Tensor) -> Tensor:
        check_shape(x, self.stride, "ResDepth")
        features: Tensor = self.unet(as_trunk(x, self.unet.bottleneck))
        # Metres of correction are counted in float32.
        answer: Tensor = self.unet.last_layer(features.float())
        return answer

    def trunk_parts(self) -> Iterator[nn.Module]:
        yield from (self.unet.encoder, self.unet.bottleneck, self.unet.decoder)


class _UNet(nn.Module):
    """The network with its parts named as in the published checkpoints."""

    def __init__(self, channels: int, widths: Sequence[int], norm: bool, last_bias: bool) -> None:
        super().__init__()
        before = [channels, *widths[:-1]]
        self.encoder = nn.ModuleList(
            nn.Sequential(_block(n, m, norm), nn.MaxPool2d(2))
            for n, m in zip(before, widths, strict=True)
        )
        self.bottleneck = _block(widths[-1], widths[-1], norm)
        up = list(reversed(widths))
        self.decoder = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(n, n, 2, stride=2), _block(n, m, norm))
            for n, m in pairwise(up)
        )
        self.decoder.append(nn.ConvTranspose2d(up[-1], up[-1], 2, stride=2))
        self.last_layer = nn.Conv2d(widths[0], 1, 3, padding=1, bias=last_bias)

    def forward(self, x: Tensor) -> Tensor:
        """The features that the last layer takes."""
        encoder: Any = self.encoder
        *decoder, last = self.decoder
        skips = []
        for convolve, pool in encoder:
            skips.append(convolve(x))
            x = pool(skips[-1])
        x = self.bottleneck(x)
        part: Any
        for part in decoder:
            enlarge, convolve = part
            x = convolve(skips.pop() + enlarge(x))
        answer: Tensor = skips.pop() + last(x)
        return answer


def _block(before: int, after: int, norm: bool) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=not norm)
    return nn.Sequential(
        convolution, *([nn.BatchNorm2d(after)] if norm else []), nn.ReLU(inplace=True)
    )
