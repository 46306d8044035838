"""pix2pix: a U-Net from imagery to elevation, or from elevation to imagery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from xdemsr.errors import ModelError
from xdemsr.models.imagery import ELEVATION, SLOPE, Norm, Numbers, Units, draw_weights, make_norm
from xdemsr.models.network import Network
from xdemsr.models.patchgan import PatchGAN

#: Channels grow up to so many times the first layer's.
_WIDEST = 8
#: Decoder layers, from the innermost, that have dropout in training.
_DROPPED = 3


class Pix2Pix(Network):
    """U-Net generator of pix2pix, as ImageToDEM uses it, in physical units.

    Parameters
    ----------
    bands, outputs : sequence of str
        Names of what goes in and what comes out. Bands called ``elevation``, on either side, are
        heights relative to the mean of their window.
    features : int
        Channels of the first layer; up to eight times as many deeper down.
    depth : int
        Layers that halve the size, and as many that double it. Windows are multiples of
        ``2 ** depth`` pixels.
    norm : {"batch", "instance", "group"}
        Normalisation of features.
    dropout : float
        Share of features that the first three decoder layers lose, in training alone.
    tanh : bool
        End in a hyperbolic tangent, so that no answer is farther than ``output_scale`` from
        ``output_mean``; or in a linear layer.
    original : bool
        Batch normalisation on the innermost layer as well, as the authors have it.
    input_mean, input_scale, output_mean, output_scale : float or sequence of float
        Of each band, in its own unit: what is 0 inside the network, and what is 1. Means of
        elevations are not used. By default what an 8-bit image has.

    Raises
    ------
    ModelError
        If there are fewer than two layers, no such normalisation, or numbers do not fit the bands.

    Notes
    -----
    The answer depends on the whole window, so the context is ``Windowed(size, overlap)`` with a
    multiple of ``2 ** depth``; ``Windowed(256, 128)`` is the usual one. Where it gives elevations,
    each window's have a level of their own: say ``relative=True`` in its specification.

    ``original=True`` with nothing else said is the authors' network: 54,421,761 parameters with
    the statistics of batch normalisation, 54,410,881 of them trained. On its innermost layer, where
    a window of 256 is a single pixel, normalising by the statistics of a batch of one gives zero
    whatever the input: nothing global is learnt (torch refuses to train so; take batches of two).
    By default there is no normalisation there (54,409,857 trained). Answers were made in training
    mode, with dropout; here dropout and statistics of the batch are for training alone.

    References
    ----------
    Isola, P., Zhu, J.-Y., Zhou, T. and Efros, A. A. (2017). Image-to-image translation with
    conditional adversarial networks. CVPR. arXiv:1611.07004.

    Panagiotou, E., Chochlakis, G., Grammatikopoulos, L. and Charou, E. (2020). Generating elevation
    surface from a single RGB remotely sensed image using deep learning. Remote Sens. 12(12), 2002.

    Examples
    --------
    >>> import torch
    >>> network = Pix2Pix(["red", "green", "blue", "nir"], features=4, depth=5).eval()
    >>> network(torch.rand(1, 4, 32, 64) * 255).shape
    torch.Size([1, 1, 32, 64])
    """

    def __init__(
        self,
        bands: Sequence[str] = ("red", "green", "blue"),
        outputs: Sequence[str] = (ELEVATION,),
        *,
        features: int = 64,
        depth: int = 8,
        norm: Norm = "batch",
        dropout: float = 0.5,
        tanh: bool = True,
        original: bool = False,
        input_mean: Numbers = 127.5,
        input_scale: Numbers = 127.5,
        output_mean: Numbers = 127.5,
        output_scale: Numbers = 127.5,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ModelError(f"pix2pix needs a depth of 2 or more; got {depth}.")
        self._opponent = partial(
            PatchGAN,
            bands,
            outputs,
            features=features,
            norm=norm,
            input_mean=input_mean,
            input_scale=input_scale,
            output_mean=output_mean,
            output_scale=output_scale,
        )
        self.inputs = Units(bands, input_mean, input_scale)
        self.answers = Units(outputs, output_mean, output_scale)
        self.bands = tuple(bands)
        self.border = "odd" if bands[0] == ELEVATION else "mirror"
        self.multiple, self.tanh = 2**depth, tanh
        widths = [features * min(2**level, _WIDEST) for level in range(depth)]
        self.down, width = nn.ModuleList(), len(bands)
        for level, wide in enumerate(widths):
            bare = level == 0 or (level == depth - 1 and not original)
            self.down.append(_halving(width, wide, None if bare else norm))
            width = wide
        self.up = nn.ModuleList()
        for level, wide in enumerate(reversed(widths[:-1])):
            self.up.append(_doubling(width, wide, norm, dropout if level < _DROPPED else 0.0))
            # Beside it lies what the encoder had at this size, as wide.
            width = 2 * wide
        self.last = nn.ConvTranspose2d(width, len(outputs), 4, stride=2, padding=1)
        draw_weights(self)

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        ny, nx = x.shape[-2:]
        if ny % self.multiple or nx % self.multiple:
            raise ModelError(
                f"this pix2pix takes windows of whole multiples of {self.multiple} pixels; got "
                f"{ny} x {nx}. Say so in its context: Windowed({self.multiple}, "
                f"{self.multiple // 2}); or choose a smaller depth."
            )
        # Heights, and what becomes heights, stay in float32 where training is in mixed precision.
        with torch.autocast(x.device.type, enabled=False):
            features = self.down[0](self.inputs.inside(x))
        inner = next(self.down[1].parameters()).dtype
        skips = [features.to(dtype=inner, memory_format=torch.channels_last)]
        for layer in self.down[1:]:
            skips.append(layer(skips[-1]))
        features = skips.pop()
        for layer in self.up:
            features = torch.cat([layer(features), skips.pop()], dim=1)
        with torch.autocast(x.device.type, enabled=False):
            raw = self.last(features.to(x.dtype))
            answer = self.answers.outside(torch.tanh(raw) if self.tanh else raw)
        return answer[..., halo : ny - halo, halo : nx - halo]

    def discriminator(self) -> PatchGAN:
        """A fresh opponent for adversarial training, as wide as the generator."""
        return self._opponent()

    def trunk_parts(self) -> Iterator[nn.Module]:
        # Normalisation stays in float32: its statistics are not to be rounded.
        for part in (*self.down[1:], *self.up):
            yield from (m for m in part.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))


def _halving(width: int, wide: int, norm: Norm | None) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(width, wide, 4, stride=2, padding=1, bias=False)]
    if norm is not None:
        layers.append(make_norm(norm, wide))
    return nn.Sequential(*layers, nn.LeakyReLU(SLOPE))


def _doubling(width: int, wide: int, norm: Norm, dropout: float) -> nn.Sequential:
    layers = [
        nn.ConvTranspose2d(width, wide, 4, stride=2, padding=1, bias=False),
        make_norm(norm, wide),
    ]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.ReLU())
