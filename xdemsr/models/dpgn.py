"""DPGN: gradients of the fine DEM from a residual network, and heights from the gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from xdemsr.errors import ModelError
from xdemsr.kernels import SPLINE_RADIUS, histospline
from xdemsr.models.edsr import EDSR
from xdemsr.models.layers import upsample, with_margin
from xdemsr.models.network import Network

#: Source pixels on each side of which the mean of what was learnt is taken off. A histospline cut
#: at any radius has the means it is given.
_MEAN_RADIUS = 2
#: Iterations of the integration, in multiples of the scale: so many source pixels it sees.
_SWEEPS = 2
#: Waves longer than about twice a source pixel are the coarse DEM's, and need not converge.
_LOWEST_WAVE = 3.0


class DPGN(Network):
    """Deep gradient prior network: learnt gradients, and the heights that fit them best.

    A residual network (EDSR) maps the gradients of the coarse DEM x to what the gradients of the
    fine DEM have beyond those of its histospline H(x). With e the heights that have these
    gradients and D the block mean, the answer is

        H(x) + e - H(D e)

    whose block means are the coarse DEM's, whatever was learnt.

    Parameters
    ----------
    scale : int
        Output pixels per input pixel along each axis; 2 or more.
    blocks, features : int
        Residual blocks and channels.
    tail : {"stages", "direct"}
        As in :class:`~xdemsr.models.edsr.EDSR`; ``"stages"`` takes scales that are products of 2
        and 3, ``"direct"`` any, and costs a fraction at large scales.
    relief : float
        Metres of height from one source pixel to the next that one unit inside the network stands
        for.

    Raises
    ------
    ModelError
        If the scale is not a whole number of at least 2, or not one that the tail can build.

    Notes
    -----
    Halo: ``2 * blocks + 9`` pixels (41 by default), one less at scales 2 and 3 and with
    ``tail="direct"``; but at least the 12 that H sees.

    The last stage and the integration run at output resolution; at x16 prefer
    ``Local(halo, tile=64)`` or smaller: 64 features of 64 source pixels take 0.4 GiB.

    The abstract of the paper gives the method: a network trained on gradient maps of images and
    then of DEMs, and a DEM reconstructed under the constraints of its gradients and of the coarse
    DEM. Its layers were not available to us: an EDSR of 16 blocks of 64 channels is the likeliest
    reading (1,811,842 parameters at x16). The reconstruction here solves the normal equations of
    the gradients by a fixed number of Chebyshev iterations, ``2 * scale``, so that it is local;
    true gradients of fractal terrain gave back its detail to 2 %. The paper's loss is on
    :meth:`gradients`; one on the heights can be used as well.

    A fresh network is histospline interpolation.

    References
    ----------
    Xu, Z., Chen, Z., Yi, W., Gui, Q., Hou, W. and Ding, M. (2019). Deep gradient prior network for
    DEM super-resolution: transfer learning from image to DEM. ISPRS J. Photogramm. Remote Sens.
    150, 80-90.

    Lim, B. et al. (2017). Enhanced deep residual networks for single image super-resolution.
    CVPR Workshops. arXiv:1707.02921.

    Examples
    --------
    >>> import torch
    >>> network = DPGN(4, blocks=2, features=8).eval()
    >>> network.radius
    13
    >>> network(torch.zeros(1, 1, 5, 7)).shape
    torch.Size([1, 1, 20, 28])
    >>> network.gradients(torch.zeros(1, 1, 5, 7)).shape
    torch.Size([1, 2, 20, 28])
    """

    border = "odd"
    skip_taps: Tensor
    mean_taps: Tensor

    def __init__(
        self,
        scale: int = 16,
        *,
        blocks: int = 16,
        features: int = 64,
        tail: Literal["stages", "direct"] = "stages",
        relief: float = 10.0,
    ) -> None:
        super().__init__()
        if not isinstance(scale, int) or scale < 2:
            raise ModelError(f"DPGN needs a whole-number scale of 2 or more; got {scale!r}.")
        self.scale = scale
        self.prior = EDSR(scale, 2, blocks=blocks, features=features, tail=tail, std=relief)
        last = [layer for layer in self.prior.tail if isinstance(layer, nn.Conv2d)][-1]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        for name, radius in (("skip_taps", SPLINE_RADIUS), ("mean_taps", _MEAN_RADIUS)):
            table = torch.from_numpy(histospline(scale, radius)).to(torch.float32)
            self.register_buffer(name, table, persistent=False)
        # Two sub-pixel stages in a row see one pixel more than one does.
        several_stages = tail == "stages" and scale > 3
        self.radius = max(SPLINE_RADIUS, 2 * blocks + 8 + several_stages)

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        around = _MEAN_RADIUS + _SWEEPS
        learnt = integrate(self._learnt(x, halo, around), self.scale)
        learnt = with_margin(learnt, around * self.scale, _MEAN_RADIUS * self.scale)
        means = functional.avg_pool2d(learnt, self.scale)
        # Elevations are interpolated in float32 even where training is in mixed precision.
        with torch.autocast(x.device.type, enabled=False):
            surface = upsample(with_margin(x, halo, SPLINE_RADIUS), self.skip_taps)
            surface = surface - upsample(means, self.mean_taps)
        return surface + with_margin(learnt, _MEAN_RADIUS * self.scale, 0)

    def gradients(self, x: Tensor, *, halo: int = 0) -> Tensor:
        """Gradients of the fine DEM, as predicted: what the paper's loss is put on.

        Parameters
        ----------
        x : Tensor, shape (n, 1, ny + 2 halo, nx + 2 halo)
            Elevation in metres.
        halo : int
            Context pixels of ``x``.

        Returns
        -------
        Tensor, shape (n, 2, ny * scale, nx * scale)
            Along y and along x, in metres from each output pixel to the next (see
            :func:`differences`).
        """
        with torch.autocast(x.device.type, enabled=False):
            surface = upsample(with_margin(x, halo, 1 + SPLINE_RADIUS), self.skip_taps)
        # One output pixel more than the core at its far ends.
        cut = slice(self.scale, 1 - self.scale)
        return differences(surface[..., cut, cut]) + self._learnt(x, halo, 0)

    def _learnt(self, x: Tensor, halo: int, margin: int) -> Tensor:
        """What the network adds to the gradients of H(x), with ``margin`` source pixels around.

        Where there is less context, nothing is added beyond it.
        """
        answered = min(halo, margin)
        slopes = differences(with_margin(x, halo, halo + 1)[..., 1:, 1:])
        # The network's unit is metres per source pixel, which is the same at all scales.
        learnt: Tensor = self.prior(slopes, halo=halo - answered) / self.scale
        return functional.pad(learnt, [(margin - answered) * self.scale] * 4)

    def trunk_parts(self) -> Iterator[nn.Module]:
        return self.prior.trunk_parts()


def differences(heights: Tensor) -> Tensor:
    """Height from each pixel to the next, along y and along x.

    Parameters
    ----------
    heights : Tensor, shape (n, 1, ny + 1, nx + 1)

    Returns
    -------
    Tensor, shape (n, 2, ny, nx)

    Examples
    --------
    >>> import torch
    >>> differences(torch.tensor([[[[1.0, 2.0, 4.0], [11.0, 12.0, 14.0]]]])).tolist()
    [[[[10.0, 10.0]], [[1.0, 2.0]]]]
    """
    here = heights[..., :-1, :-1]
    return torch.cat([heights[..., 1:, :-1] - here, heights[..., :-1, 1:] - here], dim=1)


def integrate(gradients: Tensor, scale: int) -> Tensor:
    """Heights whose differences are nearest to the given ones, in the sense of least squares.

    A height depends on gradients at most ``2 * scale`` pixels away. Shapes up to twice ``scale``
    pixels long are restored; longer ones are weakened more, the longer they are.

    Parameters
    ----------
    gradients : Tensor, shape (n, 2, ny, nx)
        Along y and x, as :func:`differences` gives them; zero outside.
    scale : int
        Pixels of a block, whose mean is known from elsewhere.

    Returns
    -------
    Tensor, shape (n, 1, ny, nx)
    """
    along_y, along_x = gradients[:, :1], gradients[:, 1:]
    rest = functional.pad(along_y, (0, 0, 1, 0))[..., :-1, :] - along_y
    rest = rest + functional.pad(along_x, (1, 0))[..., :-1] - along_x
    # Chebyshev iteration on the part of the Laplacian's spectrum that matters.
    lowest, highest = (_LOWEST_WAVE / scale) ** 2, 8.0
    middle, half = (highest + lowest) / 2, (highest - lowest) / 2
    momentum = half / middle
    step = rest / middle
    heights = step
    for _ in range(_SWEEPS * scale - 1):
        rest = rest - _laplacian(step)
        following = 1 / (2 * middle / half - momentum)
        step = following * momentum * step + 2 * following / half * rest
        heights = heights + step
        momentum = following
    return heights


def _laplacian(z: Tensor) -> Tensor:
    """Of a map that is zero outside. Slices: a convolution of one channel is slow on the CPU."""
    z = functional.pad(z, (1, 1, 1, 1))
    rows = z[..., :-2, 1:-1] + z[..., 2:, 1:-1]
    columns = z[..., 1:-1, :-2] + z[..., 1:-1, 2:]
    return 4 * z[..., 1:-1, 1:-1] - rows - columns
