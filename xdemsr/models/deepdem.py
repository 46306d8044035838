"""DeepDEM: a U-Net with a ResNet encoder that refines stereo surface models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from xdemsr.errors import InputError
from xdemsr.models.refinement import Refinement, as_trunk, check_shape, whole_strides

#: Halvings of the encoder, and source pixels it and the decoder see on either side, at most.
_STRIDE = 32
_RADIUS = {"resnet18": 320, "resnet34": 576, "resnet50": 576}


class DeepDEM(Refinement):
    """Residual U-Net of segmentation-models-pytorch, for a surface model and any guides.

    Needs the extra ``unets``.

    Parameters
    ----------
    bands : sequence of str
        Input bands; the first is the surface model. By default DeepDEM's.
    encoder : {"resnet18", "resnet34", "resnet50"}
    pretrained : bool
        Start from ImageNet's weights, which are downloaded; :func:`xdemsr.train` leaves it out of
        the model file, which has weights of its own.
    centre_radius, openings, base
        See :class:`~xdemsr.models.refinement.Refinement`.

    Notes
    -----
    14,337,617, 24,445,777 and 32,530,513 parameters with six bands.

    Raises
    ------
    InputError
        If segmentation-models-pytorch is not installed.

    References
    ----------
    Venkataramani, K. et al. (2024). DeepDEM. doi:10.5281/zenodo.14270049.
    """

    #: Options that say how training starts.
    training_options = ("pretrained",)

    def __init__(
        self,
        bands: Sequence[str] = (
            "dsm",
            "ortho_left",
            "ortho_right",
            "ndvi",
            "nodata_mask",
            "triangulation_error",
        ),
        *,
        encoder: Literal["resnet18", "resnet34", "resnet50"] = "resnet18",
        pretrained: bool = False,
        centre_radius: int = 64,
        openings: Sequence[int] = (),
        base: str = "",
    ) -> None:
        super().__init__(bands, centre_radius, openings, base)
        self.stride = _STRIDE
        self.radius = whole_strides(_RADIUS[encoder] + self.reach, _STRIDE)
        self.unet = _unet()(
            encoder,
            encoder_weights="imagenet" if pretrained else None,
            in_channels=self.channels,
            activation=None,
        )

    def correction(self, x: Tensor) -> Tensor:
        check_shape(x, _STRIDE, "DeepDEM")
        stages = self.unet.encoder(as_trunk(x, self.unet.encoder))
        features: Tensor = self.unet.decoder(stages)
        # Metres of correction are counted in float32.
        answer: Tensor = self.unet.segmentation_head(features.float())
        return answer

    def trunk_parts(self) -> Iterator[nn.Module]:
        yield from (self.unet.encoder, self.unet.decoder)


def _unet() -> Any:
    try:
        from segmentation_models_pytorch import Unet
    except (ImportError, RuntimeError) as error:
        # torchvision beside another build of torch raises RuntimeError.
        raise InputError(
            "architecture 'deepdem' needs segmentation-models-pytorch, and a torch that "
            f"torchvision was built for: pip install 'xdemsr[unets]'. ({error})"
        ) from error
    return Unet
