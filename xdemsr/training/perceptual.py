"""Perceptual loss: how an image looks to a network that knows photographs.

Pixels, features and styles of the answer are compared with the target's, as in fast.ai's lesson on
super-resolution, which the poster of Galar et al. follows. VGG16 is written out here; its
parameters come from a file, or from torchvision where that is installed. Nothing is read or
fetched before a loss is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from xdemsr.errors import InputError, WeightsError
from xdemsr.weights import describe, read_tensors

#: Mean and standard deviation of red, green and blue that VGG16 was trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Channels of each block's convolutions; a block ends in max-pooling.
_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16Features(nn.Sequential):
    """The convolutions of VGG16; its layers are numbered as torchvision's ``features`` are.

    Parameters
    ----------
    batch_norm : bool
        Normalise after each convolution.

    Notes
    -----
    14,714,688 parameters, and 8,448 more with normalisation.

    References
    ----------
    Simonyan, K. and Zisserman, A. (2015). Very deep convolutional networks for large-scale image
    recognition. ICLR. arXiv:1409.1556.
    """

    def __init__(self, batch_norm: bool = True) -> None:
        layers: list[nn.Module] = []
        before = 3
        for block in _BLOCKS:
            for channels in block:
                layers.append(nn.Conv2d(before, channels, 3, padding=1))
                layers += [nn.BatchNorm2d(channels)] if batch_norm else []
                layers.append(nn.ReLU())
                before = channels
            layers.append(nn.MaxPool2d(2))
        super().__init__(*layers)

    def before_pools(self, x: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Features at the end of these blocks (1 to 5), before they are pooled.

        Parameters
        ----------
        x : Tensor, shape (n, 3, ny, nx)
            Red, green and blue, normalised.
        blocks : sequence of int
            In any order; features are given in theirs.
        """
        found: dict[int, Tensor] = {}
        block = 1
        for layer in self:
            if isinstance(layer, nn.MaxPool2d):
                found[block] = x
                block += 1
                if block > max(blocks):
                    break
            x = layer(x)
        return [found[number] for number in blocks]


def read_vgg16(weights: str | Path = "") -> VGG16Features:
    """VGG16's convolutions, trained, frozen.

    Parameters
    ----------
    weights : str or Path, optional
        torchvision's ``vgg16_bn-*.pth`` or ``vgg16-*.pth``, or the same tensors as
        ``.safetensors``; with or without the classifier, which is not used. By default what
        torchvision fetches for ``vgg16_bn``.

    Raises
    ------
    InputError
        If there is no file and no torchvision.
    WeightsError
        If the file could run code, or holds other tensors.
    """
    tensors = read_tensors(describe(str(weights))) if str(weights) else _fetched()
    prefix = "features."
    if any(name.startswith(prefix) for name in tensors):
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    network = VGG16Features(any(name.endswith("running_mean") for name in tensors))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(
            f"{str(weights) or 'what torchvision gave'} does not hold VGG16's convolutions: {error}"
        ) from error
    return network.requires_grad_(False).eval()


def _fetched() -> dict[str, Tensor]:
    try:
        from torchvision.models import VGG16_BN_Weights
    except ImportError as error:
        raise InputError(
            "a perceptual loss needs VGG16's parameters. Say where they are, [perceptual] "
            'weights = "vgg16_bn.pth" (torchvision\'s file of that name), or let torchvision fetch '
            "them: pip install 'xdemsr[unets]'."
        ) from error
    tensors: dict[str, Tensor] = VGG16_BN_Weights.IMAGENET1K_V1.get_state_dict(
        progress=False, check_hash=True
    )
    return tensors


class Perceptual:
    """Distance of pixels, of VGG16's features, and of the styles of these.

    The sum of the mean absolute error of normalised pixels, of the features before the last three
    poolings, weighted, and of their Gram matrices (each divided by its number of features and
    pixels), weighted by the squares of the same weights and by ``style``.

    Parameters
    ----------
    weights : str or Path, optional
        File of VGG16's parameters; see :func:`read_vgg16`.
    features : VGG16Features, optional
        The network itself, instead.
    bands : (int, int, int), optional
        Which bands of the image are red, green and blue. Others are not looked at.
    low, high : float, optional
        Values of the image that a photograph would have as black and white: reflectance is mostly
        below 0.3. Nothing is cut off beyond them.
    blocks : sequence of int, optional
        Of VGG16, whose last features are compared.
    factors : sequence of float, optional
        Weight of each.
    style : float, optional
        Weight of the Gram matrices.
    pixel : float, optional
        Weight of the pixels; 0 where another loss looks at them.

    Raises
    ------
    InputError
        If numbers are out of their range, or VGG16's parameters cannot be had.

    Notes
    -----
    Called as ``loss(answer, target, weight)``, as all losses are. Pixels of no weight are the
    answer's own on both sides, and no gradient reaches them; the pixels' mean is over those that
    count, features' means are over all of them. Works in float32 under automatic mixed precision.

    Where the poster says L1, it is that of pixels in units of a photograph's standard deviation:
    with ``high=0.3``, an error of 0.01 in reflectance counts as 0.15.

    References
    ----------
    Johnson, J., Alahi, A. and Fei-Fei, L. (2016). Perceptual losses for real-time style transfer
    and super-resolution. ECCV. arXiv:1603.08155.

    Howard, J. et al. (2019). Practical deep learning for coders, lesson 7: super-resolution. The
    weights are from there.

    Galar, M. et al. (2019). Super-resolution for Sentinel-2 images. ISPRS Archives XLII-2/W16,
    95-102.

    Examples
    --------
    >>> import torch
    >>> from xdemsr.training.perceptual import Perceptual, VGG16Features
    >>> loss = Perceptual(features=VGG16Features())  # untrained: give weights="vgg16_bn.pth"
    >>> image = torch.rand(1, 3, 32, 48) * 0.3
    >>> float(loss(image, image, torch.ones(1, 1, 32, 48)))
    0.0
    """

    def __init__(
        self,
        weights: str | Path = "",
        *,
        features: VGG16Features | None = None,
        bands: Sequence[int] = (0, 1, 2),
        low: float = 0.0,
        high: float = 0.3,
        blocks: Sequence[int] = (3, 4, 5),
        factors: Sequence[float] = (5.0, 15.0, 2.0),
        style: float = 5e3,
        pixel: float = 1.0,
    ) -> None:
        if len(bands) != 3 or not low < high:
            raise InputError(
                f"a perceptual loss looks at three bands between two values, the lower first; got "
                f"bands={tuple(bands)}, low={low}, high={high}."
            )
        known = set(range(1, len(_BLOCKS) + 1))
        if not blocks or len(blocks) != len(factors) or not set(blocks) <= known:
            raise InputError(
                f"a perceptual loss needs blocks of VGG16 (1 to {len(_BLOCKS)}) and a factor for "
                f"each; got blocks={tuple(blocks)}, factors={tuple(factors)}."
            )
        self.bands, self.blocks, self.factors = list(bands), tuple(blocks), tuple(factors)
        self.style, self.pixel = style, pixel
        self.network = features if features is not None else read_vgg16(weights)
        self.network.requires_grad_(False).eval()
        # The image's values, shifted and stretched to a photograph's, normalised: one line.
        centre, spread = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
        self.offset, self.unit = low + centre * (high - low), spread * (high - low)

    def __call__(self, answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """One number from images (n, bands, ny, nx) and weights (n, 1, ny, nx)."""
        self._check(answer)
        self._move(answer.device)
        with torch.autocast(answer.device.type, enabled=False):
            known = weight > 0
            # What the answer has there, on both sides: its own error must not count.
            given = answer.detach().float()
            first, second = (
                self._normalised(torch.where(known, image.float(), given))
                for image in (answer, target)
            )
            with torch.no_grad():
                wanted = self.network.before_pools(second, self.blocks)
            found = self.network.before_pools(first, self.blocks)
            share = known.sum().clamp(min=1) / known.numel()
            total = self.pixel * functional.l1_loss(first, second) / share
            for own, its, factor in zip(found, wanted, self.factors, strict=True):
                total = total + factor * functional.l1_loss(own, its)
                styles = functional.l1_loss(_gram(own), _gram(its))
                total = total + self.style * factor**2 * styles
        return total

    def _check(self, answer: Tensor) -> None:
        least = 2 ** (max(self.blocks) - 1)
        if answer.shape[1] <= max(self.bands) or min(answer.shape[-2:]) < least:
            raise InputError(
                f"a perceptual loss of bands {self.bands} needs images of {max(self.bands) + 1} "
                f"bands or more and {least} pixels along each axis; found {tuple(answer.shape)}."
            )

    def _move(self, device: torch.device) -> None:
        if self.offset.device != device:
            self.network = self.network.to(device)
            self.offset, self.unit = self.offset.to(device), self.unit.to(device)

    def _normalised(self, image: Tensor) -> Tensor:
        return (image[:, self.bands] - self.offset) / self.unit


def _gram(features: Tensor) -> Tensor:
    """Products of all features with each other, over all pixels: what a texture is made of."""
    flat = features.flatten(2)
    return flat @ flat.mT / (flat.shape[1] * flat.shape[2])
