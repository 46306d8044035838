"""D-SRCNN: three convolutions on the interpolated DEM."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from xdemsr.errors import ModelError
from xdemsr.kernels import bicubic
from xdemsr.models.layers import local_mean, upsample, with_margin
from xdemsr.models.network import Network

#: Output pixels that the three convolutions (9, 1 and 5 wide) see on each side.
_REACH = 4 + 0 + 2
#: Source pixels that bicubic interpolation sees on each side.
_SKIP_RADIUS = 2


class DSRCNN(Network):
    """Super-resolution convolutional neural network for DEMs (8,129 parameters).

    Features of the interpolated DEM, mixed and put together again: layers 9, 1 and 5 pixels wide
    with 64, 32 and 1 channels.

    Parameters
    ----------
    scale : int
        Output pixels per input pixel along each axis; 2 or more.
    relief : float
        Metres that one unit inside the network stands for.
    centre_radius : int
        The input's local mean over (2 r + 1) squared pixels is taken off before the first layer.

    Raises
    ------
    ModelError
        If the scale is not a whole number of at least 2, or ``centre_radius`` less than 1.

    Notes
    -----
    Halo: ``(5 * scale + 10) // (2 * scale)`` pixels (2 at x16, 3 at x4 and x8, 5 at x2), and
    ``centre_radius`` more.

    All layers run at output resolution, where a tile of 128 source pixels is 2048 pixels wide at
    x16 and its 64 features take 1 GiB. Prefer ``Local(halo, tile=32)``.

    The paper describes three layers on the interpolated DEM and gives no residual; widths and
    channels are those of Dong et al., which it follows. Here the layers give what is added to the
    bicubic surface, and the last starts at zero: a fresh network is bicubic interpolation.

    References
    ----------
    Chen, Z., Wang, X., Xu, Z. and Hou, W. (2016). Convolutional neural network based DEM super
    resolution. ISPRS Archives XLI-B3, 247-250.

    Dong, C., Loy, C. C., He, K. and Tang, X. (2016). Image super-resolution using deep
    convolutional networks. IEEE Trans. PAMI 38(2), 295-307. arXiv:1501.00092.

    Examples
    --------
    >>> import torch
    >>> network = DSRCNN(4).eval()
    >>> network.radius
    11
    >>> network(torch.zeros(1, 1, 5, 7)).shape
    torch.Size([1, 1, 20, 28])
    """

    border = "odd"
    skip_taps: Tensor

    def __init__(self, scale: int = 16, *, relief: float = 10.0, centre_radius: int = 8) -> None:
        super().__init__()
        if not isinstance(scale, int) or scale < 2:
            raise ModelError(f"D-SRCNN needs a whole-number scale of 2 or more; got {scale!r}.")
        if centre_radius < 1:
            raise ModelError(f"D-SRCNN needs a centre_radius of 1 or more; got {centre_radius}.")
        self.scale = scale
        self.relief = relief
        self.centre_radius = centre_radius
        table = torch.from_numpy(bicubic(scale)).to(torch.float32)
        self.register_buffer("skip_taps", table, persistent=False)
        self.first = nn.Conv2d(1, 64, 9)
        self.second = nn.Conv2d(64, 32, 1)
        self.third = nn.Conv2d(32, 1, 5)
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for parameter in self.third.parameters():
            nn.init.zeros_(parameter)

    @property
    def radius(self) -> int:
        """Halo with which tiles are exact, in source pixels."""
        return (5 * self.scale + 10) // (2 * self.scale) + self.centre_radius

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        margin = -(-_REACH // self.scale)
        # Elevations are interpolated in float32 even where training is in mixed precision.
        with torch.autocast(x.device.type, enabled=False):
            surface = upsample(with_margin(x, halo, _SKIP_RADIUS), self.skip_taps)
            centred = self._centred(x, halo, margin + _SKIP_RADIUS)
            fine = upsample(centred, self.skip_taps)
        # Convolutions are unpadded: each computes only what the next one needs.
        fine = with_margin(fine, margin * self.scale, _REACH)
        features = functional.relu_(self.first(fine)).to(
            dtype=self.second.weight.dtype, memory_format=torch.channels_last
        )
        detail: Tensor = self.third(functional.relu_(self.second(features))).to(x.dtype)
        return surface + detail * self.relief

    def _centred(self, x: Tensor, halo: int, margin: int) -> Tensor:
        """Heights over their local mean, in units of the network, with ``margin`` pixels around."""
        around = margin + self.centre_radius
        x = with_margin(x, halo, around)
        centred = x - local_mean(x, self.centre_radius)
        return with_margin(centred, around, margin).div(self.relief)

    def trunk_parts(self) -> Iterator[nn.Module]:
        yield from (self.second, self.third)
