"""D-SRGAN: a residual generator with batch normalisation, and the discriminator to train it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from xdemsr.errors import ModelError
from xdemsr.kernels import bicubic
from xdemsr.models.layers import local_mean, upsample, with_margin
from xdemsr.models.network import Network

#: Factors of the two sub-pixel stages; small scales have one.
_STAGES = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 4), 16: (4, 4)}
#: Source pixels that the convolutions after the body see on each side.
_TAIL_MARGIN = 2
_SLOPE = 0.2
#: (channels in multiples of the first layer's, stride) of the discriminator's normalised layers.
_DISCRIMINATOR = ((1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2), (8, 2))


class DSRGAN(Network):
    """Generator of D-SRGAN.

    Parameters
    ----------
    scale : int
        Output pixels per input pixel along each axis: 2, 3, 4, 8 or 16.
    blocks, features : int
        Residual blocks and channels.
    relief : float
        Metres that one unit inside the network stands for.
    bound : float
        Largest detail that the final hyperbolic tangent lets through, in metres.
    centre_radius : int
        The input's local mean over (2 r + 1) squared pixels is taken off before the first layer.

    Raises
    ------
    ModelError
        If there are no sub-pixel stages for the scale, or ``centre_radius`` is less than 1.

    Notes
    -----
    Halo: ``2 * blocks + 4`` pixels, and ``centre_radius`` more (20 by default). In evaluation mode
    batch normalisation uses the statistics of training, so the network is local.

    The last stage runs at output resolution; at x16 prefer ``Local(halo, tile=32)``: 128 features
    of 32 source pixels take 0.13 GiB.

    From the paper's figure: four residual blocks, the long skip, two sub-pixel stages, a last
    convolution and a hyperbolic tangent. All kernels are read as 3 x 3. 128 channels are inferred
    from the discriminator, whose widths are twice those of Ledig et al. At x16 each of the two
    stages is fourfold. Parameters: 2,513,417 at x4, 6,055,433 at x16. The paper's network gives
    normalised heights; here it gives what is added to the bicubic surface, and its last layer
    starts at zero: a fresh network is bicubic interpolation.

    References
    ----------
    Demiray, B. Z., Sit, M. and Demir, I. (2021). D-SRGAN: DEM super-resolution with generative
    adversarial networks. SN Comput. Sci. 2, 48. arXiv:2004.04788.

    Ledig, C. et al. (2017). Photo-realistic single image super-resolution using a generative
    adversarial network. CVPR. arXiv:1609.04802.

    Examples
    --------
    >>> import torch
    >>> network = DSRGAN(4, blocks=1, features=8).eval()
    >>> network.radius
    14
    >>> network(torch.zeros(1, 1, 5, 7)).shape
    torch.Size([1, 1, 20, 28])
    """

    border = "odd"
    skip_taps: Tensor

    def __init__(
        self,
        scale: int = 16,
        *,
        blocks: int = 4,
        features: int = 128,
        relief: float = 10.0,
        bound: float = 100.0,
        centre_radius: int = 8,
    ) -> None:
        super().__init__()
        if scale not in _STAGES:
            known = ", ".join(map(str, _STAGES))
            raise ModelError(f"D-SRGAN is made for scales {known}; got {scale!r}.")
        if centre_radius < 1:
            raise ModelError(f"D-SRGAN needs a centre_radius of 1 or more; got {centre_radius}.")
        self.scale, self.features = scale, features
        self.relief, self.bound = relief, bound
        self.centre_radius = centre_radius
        self.radius = 2 * blocks + 4 + centre_radius
        table = torch.from_numpy(bicubic(scale)).to(torch.float32)
        self.register_buffer("skip_taps", table, persistent=False)
        self.head = nn.Sequential(nn.Conv2d(1, features, 3, padding=1), nn.PReLU())
        body = [_ResidualBlock(features) for _ in range(blocks)]
        self.body = nn.Sequential(*body, nn.Conv2d(features, features, 3, padding=1), nn.PReLU())
        stages: list[nn.Module] = []
        for factor in _STAGES[scale]:
            grow = nn.Conv2d(features, features * factor**2, 3, padding=1)
            stages += [grow, nn.PixelShuffle(factor), nn.PReLU()]
        last = nn.Conv2d(features, 1, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.tail = nn.Sequential(*stages, last)

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        head = self.head((x - local_mean(x, self.centre_radius)) / self.relief)
        features = head.to(dtype=self.tail[-1].weight.dtype, memory_format=torch.channels_last)
        features = features + self.body(features)
        margin = min(halo, _TAIL_MARGIN)
        raw = self.tail(with_margin(features, halo, margin)).to(x.dtype)
        raw = with_margin(raw, margin * self.scale, 0) * self.relief
        # Elevations are interpolated in float32 even where training is in mixed precision.
        with torch.autocast(x.device.type, enabled=False):
            around = self.skip_taps.shape[1] // 2
            surface = upsample(with_margin(x, halo, around), self.skip_taps)
        return surface + self.bound * torch.tanh(raw / self.bound)

    def discriminator(self) -> Discriminator:
        """A fresh opponent for adversarial training, as wide as the generator."""
        return Discriminator(self.features, relief=self.relief)

    def trunk_parts(self) -> Iterator[nn.Module]:
        # Batch normalisation stays in float32: its statistics are not to be rounded.
        for part in (self.body, self.tail):
            yield from (m for m in part.modules() if isinstance(m, nn.Conv2d | nn.PReLU))


class _ResidualBlock(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1),
            nn.BatchNorm2d(features),
            nn.PReLU(),
            nn.Conv2d(features, features, 3, padding=1),
            nn.BatchNorm2d(features),
        )

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch


class Discriminator(nn.Module):
    """Tells fine DEMs from generated ones: the adversary of :class:`DSRGAN` in training.

    Parameters
    ----------
    features : int
        Channels of the first layer; eight times as many in the last.
    relief : float
        Metres that one unit inside the network stands for.

    Notes
    -----
    A convolution, eight normalised ones of which five halve the size, and two more; all 3 x 3
    (37,627,009 parameters). The paper ends in a sigmoid; here logits are given, for
    ``torch.nn.functional.binary_cross_entropy_with_logits``, which is the same and does not
    overflow. There is one for each 32 x 32 pixels, each of which judges the ground around it.

    References
    ----------
    Demiray, B. Z., Sit, M. and Demir, I. (2021). D-SRGAN: DEM super-resolution with generative
    adversarial networks. SN Comput. Sci. 2, 48. arXiv:2004.04788.

    Examples
    --------
    >>> import torch
    >>> Discriminator(4)(torch.zeros(2, 1, 64, 96)).shape
    torch.Size([2, 1, 2, 3])
    """

    def __init__(self, features: int = 128, *, relief: float = 10.0) -> None:
        super().__init__()
        self.relief = relief
        layers: list[nn.Module] = [nn.Conv2d(1, features, 3, padding=1), nn.LeakyReLU(_SLOPE)]
        width = features
        for multiple, stride in _DISCRIMINATOR:
            wide = multiple * features
            layers += [
                nn.Conv2d(width, wide, 3, stride=stride, padding=1),
                nn.BatchNorm2d(wide),
                nn.LeakyReLU(_SLOPE),
            ]
            width = wide
        layers += [
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(width, 1, 3, padding=1),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, heights: Tensor) -> Tensor:
        """Judge patches.

        Parameters
        ----------
        heights : Tensor, shape (n, 1, ny, nx)
            Fine elevations in metres, true or generated. Each patch's own mean is taken off.

        Returns
        -------
        Tensor, shape (n, 1, ceil(ny / 32), ceil(nx / 32))
            Logits; positive where the ground looks true.
        """
        centred = heights - heights.mean(dim=(-2, -1), keepdim=True)
        logits: Tensor = self.layers(centred / self.relief)
        return logits
