"""What networks that correct a surface model have in common: centring, scaling, the outer skip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xdemsr.errors import ModelError
from xdemsr.models.layers import with_margin
from xdemsr.models.network import Network

#: Where these pixels are 0, other bands have no data: they are left out of the regional mean.
MASK = "nodata_mask"

#: A smaller share of valid pixels says nothing of their mean.
_FEW = 1e-4


class Refinement(Network):
    """A surface model in metres, and guides beside it, to a corrected one: ``dsm + correction``.

    The surface is taken relative to its own regional mean, over valid pixels and falling off with
    distance, and divided by ``height_scale``. Unlike the mean of a tile, which DeepDEM and ResDepth
    take off, it changes smoothly across the map and does not depend on where tiles lie.

    Parameters
    ----------
    bands : sequence of str
        Input bands; the first is the surface model.
    centre_radius : int
        Half the reach of the regional mean, in pixels: a box of ``2 r + 1`` pixels, twice.
    openings : sequence of int
        Widths in pixels, odd, of morphological openings of the surface model. How far it rises
        above each is one more input to the network.
    base : str
        Another band of heights that is a better first guess than the surface model: the correction
        is added to that one, and heights are relative to its regional mean.

    Attributes
    ----------
    height_scale : Tensor
        Spread of heights about their regional mean, in metres.
    mean, std : Tensor
        Of the other bands, one each.

    References
    ----------
    Stucker, C. and Schindler, K. (2022). ResDepth: a deep residual prior for 3D reconstruction from
    high-resolution satellite images. ISPRS J. Photogramm. Remote Sens. 183, 560-580.

    Venkataramani, K. et al. (2024). DeepDEM. doi:10.5281/zenodo.14270049.
    """

    border = "odd"
    height_scale: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        bands: Sequence[str],
        centre_radius: int,
        openings: Sequence[int] = (),
        base: str = "",
    ) -> None:
        super().__init__()
        if any(width < 3 or width % 2 == 0 for width in openings):
            raise ModelError(f"openings {tuple(openings)} must be odd widths of 3 pixels or more.")
        if base and base not in bands[1:]:
            raise ModelError(f"base {base!r} is no guide; these are {', '.join(bands[1:])}.")
        self.bands = tuple(bands)
        self.base = self.bands.index(base) if base else 0
        self.centre_radius, self.openings = centre_radius, tuple(openings)
        guides = len(self.bands) - 1
        self.register_buffer("height_scale", torch.ones(()))
        self.register_buffer("mean", torch.zeros(1, guides, 1, 1))
        self.register_buffer("std", torch.ones(1, guides, 1, 1))

    @property
    def channels(self) -> int:
        """What the inner network takes: the bands, and the surface above its openings."""
        return len(self.bands) + len(self.openings)

    @property
    def reach(self) -> int:
        """Pixels of context that centring and openings need."""
        return max(2 * self.centre_radius, *(width - 1 for width in self.openings), 0)

    def correction(self, x: Tensor) -> Tensor:
        """The inner network: (n, channels, ny, nx) to (n, 1, ny, nx), both without a unit."""
        raise NotImplementedError

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            scaled = self._scaled(x)
        correction = self.correction(scaled).float()
        answer = x[:, [self.base]] + correction * self.height_scale
        return with_margin(answer, halo, 0)

    def adapt(self, inputs: Tensor) -> None:
        """Take the constants from samples (n, bands, ny, nx) of what will be learnt from.

        ``height_scale`` is the mean standard deviation in a sample of the centred surface (where
        there is a base: of the surface above that, which is what must be learnt), over the samples
        between the 5th and the 95th percentile of it.
        """
        base = inputs[:, [self.base]]
        heights = inputs[:, :1] - base if self.base else self._centred(inputs)
        self.height_scale.fill_(_typical(heights.flatten(1).std(dim=1).double().numpy()))
        guides = inputs[:, 1:].double()
        if not guides.shape[1]:
            return
        self.mean.copy_(guides.mean(dim=(0, 2, 3), keepdim=True))
        std = guides.std(dim=(0, 2, 3), keepdim=True)
        self.std.copy_(torch.where(std > 0, std, 1.0))
        # 0 and 1 of a mask mean something, and heights are scaled as heights.
        for band, name in enumerate(self.bands[1:], 1):
            if name == MASK or band == self.base:
                self.mean[:, band - 1], self.std[:, band - 1] = 0.0, 1.0

    def _scaled(self, x: Tensor) -> Tensor:
        dsm = x[:, :1]
        guides = (x[:, 1:] - self.mean) / self.std
        if self.base:
            above = (dsm - x[:, [self.base]]) / self.height_scale
            guides = torch.cat([guides[:, : self.base - 1], above, guides[:, self.base :]], dim=1)
        parts = [self._centred(x) / self.height_scale, guides]
        parts += [(dsm - opening(dsm, width)) / self.height_scale for width in self.openings]
        return torch.cat(parts, dim=1)

    def _centred(self, x: Tensor) -> Tensor:
        heights = x[:, [self.base]]
        mean = self._regional(heights)
        if MASK in self.bands:
            known = (x[:, [self.bands.index(MASK)]] > 0.5).to(x.dtype)
            share = self._regional(known)
            # Where nothing around is known, the fill of voids is all there is.
            mean = torch.where(
                share > _FEW, self._regional(heights * known) / share.clamp(min=_FEW), mean
            )
        return heights - mean

    def _regional(self, x: Tensor) -> Tensor:
        return _box(_box(x, self.centre_radius), self.centre_radius)


def _typical(spreads: NDArray[np.float64]) -> float:
    """Their mean, without those below the 5th and above the 95th percentile."""
    low, high = np.quantile(spreads, (0.05, 0.95))
    return float(spreads[(spreads >= low) & (spreads <= high)].mean()) or 1.0


def opening(x: Tensor, width: int) -> Tensor:
    """Grey opening by a square: the highest surface below ``x`` that such a square fits under."""
    low = -_highest(-x, width)
    return _highest(low, width)


def _highest(x: Tensor, width: int) -> Tensor:
    r = width // 2
    rows = functional.max_pool2d(x, (width, 1), stride=1, padding=(r, 0))
    return functional.max_pool2d(rows, (1, width), stride=1, padding=(0, r))


def _box(x: Tensor, radius: int) -> Tensor:
    """Mean over a square; beyond the border, of the pixels there are."""
    width = 2 * radius + 1
    for kernel, padding in (((width, 1), (radius, 0)), ((1, width), (0, radius))):
        x = functional.avg_pool2d(x, kernel, 1, padding, count_include_pad=False)
    return x


def whole_strides(pixels: int, stride: int) -> int:
    """The least multiple of ``stride`` that is no less than ``pixels``."""
    return -(-pixels // stride) * stride


def check_shape(x: Tensor, stride: int, name: str) -> None:
    """Refuse maps that cannot be halved as often as the network does.

    Raises
    ------
    ModelError
    """
    ny, nx = x.shape[-2:]
    if ny % stride or nx % stride:
        raise ModelError(
            f"{name} takes maps whose sides are multiples of {stride}, found {ny} x {nx}. Use "
            f"patches of such a size, and a context with multiple_of={stride}."
        )


def as_trunk(x: Tensor, part: nn.Module) -> Tensor:
    """A map in the dtype of a part's parameters, channels last."""
    dtype = next(part.parameters()).dtype
    return x.to(dtype=dtype, memory_format=torch.channels_last)
