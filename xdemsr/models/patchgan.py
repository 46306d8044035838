"""PatchGAN: tells true pairs of input and answer from made ones, patch by patch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xdemsr.models.imagery import ELEVATION, SLOPE, Norm, Numbers, Units, draw_weights, make_norm


class PatchGAN(nn.Module):
    """Discriminator that judges patches of 70 x 70 pixels: the adversary of :class:`Pix2Pix`.

    Parameters
    ----------
    bands, outputs : sequence of str
        Of the generator.
    features : int
        Channels of the first layer; eight times as many in the last but one.
    norm : {"batch", "instance", "group"}
        Normalisation of features.
    input_mean, input_scale, output_mean, output_scale : float or sequence of float
        As of the generator.

    Attributes
    ----------
    conditional : bool
        That it is given the generator's input, too.

    Notes
    -----
    Three convolutions that halve the size and two that do not, all 4 x 4. With three bands in and
    one out 2,768,385 parameters, statistics of batch normalisation included, of which 2,766,593
    are trained. Logits are given, for ``torch.nn.functional.binary_cross_entropy_with_logits``.

    References
    ----------
    Isola, P., Zhu, J.-Y., Zhou, T. and Efros, A. A. (2017). Image-to-image translation with
    conditional adversarial networks. CVPR. arXiv:1611.07004.

    Panagiotou, E., Chochlakis, G., Grammatikopoulos, L. and Charou, E. (2020). Generating elevation
    surface from a single RGB remotely sensed image using deep learning. Remote Sens. 12(12), 2002.

    Examples
    --------
    >>> import torch
    >>> critic = PatchGAN(features=4)
    >>> critic(torch.zeros(2, 3, 128, 256), torch.zeros(2, 1, 128, 256)).shape
    torch.Size([2, 1, 14, 30])
    """

    conditional = True

    def __init__(
        self,
        bands: Sequence[str] = ("red", "green", "blue"),
        outputs: Sequence[str] = (ELEVATION,),
        *,
        features: int = 64,
        norm: Norm = "batch",
        input_mean: Numbers = 127.5,
        input_scale: Numbers = 127.5,
        output_mean: Numbers = 127.5,
        output_scale: Numbers = 127.5,
    ) -> None:
        super().__init__()
        self.inputs = Units(bands, input_mean, input_scale)
        self.answers = Units(outputs, output_mean, output_scale)
        width = len(bands) + len(outputs)
        layers: list[nn.Module] = [
            nn.Conv2d(width, features, 4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(SLOPE),
        ]
        for multiple, stride in ((2, 2), (4, 2), (8, 1)):
            wide = multiple * features
            layers += [
                nn.Conv2d(wide // 2, wide, 4, stride=stride, padding=1, bias=False),
                make_norm(norm, wide),
                nn.LeakyReLU(SLOPE),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(8 * features, 1, 4, padding=1))
        draw_weights(self)

    def forward(self, inputs: Tensor, answer: Tensor) -> Tensor:
        """Judge pairs.

        Parameters
        ----------
        inputs : Tensor, shape (n, bands, ny, nx)
            What the generator was given, in physical units.
        answer : Tensor, shape (n, outputs, ny, nx)
            The truth, or what the generator made of it.

        Returns
        -------
        Tensor, shape (n, 1, ny // 8 - 2, nx // 8 - 2)
            Logits; positive where the pair looks true.
        """
        pair = torch.cat([self.inputs.inside(inputs), self.answers.inside(answer)], dim=1)
        logits: Tensor = self.layers(pair)
        return logits
