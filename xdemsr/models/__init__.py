"""Architectures: one network, one file. Built by name, or by the import path of a user's class."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from xdemsr.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

    from xdemsr.spec import ModelSpec

#: Name of an architecture, and where its class is.
ARCHITECTURES = {
    "interpolation": "xdemsr.models.interpolation:Interpolation",
    "edsr": "xdemsr.models.edsr:EDSR",
    "effnetv2_dem": "xdemsr.models.effnetv2_dem:EfficientNetV2DEM",
    "terrain": "xdemsr.models.terrain:Terrain",
    "dsrcnn": "xdemsr.models.dsrcnn:DSRCNN",
    "dpgn": "xdemsr.models.dpgn:DPGN",
    "dsrgan": "xdemsr.models.dsrgan:DSRGAN",
    "pix2pix": "xdemsr.models.pix2pix:Pix2Pix",
    "resdepth": "xdemsr.models.resdepth:ResDepth",
    "deepdem": "xdemsr.models.deepdem:DeepDEM",
    "spandrel": "xdemsr.foreign.spandrel:SpandrelNetwork",
    "onnx": "xdemsr.foreign.onnx:OnnxNetwork",
}


def build(spec: ModelSpec) -> nn.Module:
    """The network of a specification, with parameters as initialised.

    Raises
    ------
    ModelError
        If there is no such architecture, it is not a ``torch.nn.Module`` class, or does not take
        the specification's options.
    """
    from torch import nn

    path = ARCHITECTURES.get(spec.architecture, spec.architecture)
    module_name, colon, class_name = path.partition(":")
    if not colon:
        raise ModelError(
            f"model {spec.name!r}: no architecture {spec.architecture!r}. There are "
            f"{', '.join(ARCHITECTURES)}; your own is given as 'package.module:Class'."
        )
    try:
        network = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"model {spec.name!r} needs the class {path!r}, which cannot be imported here: {error}."
        ) from error
    # A header may come from anyone: nothing but a network is ever called.
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise ModelError(f"model {spec.name!r}: {path!r} is not a torch.nn.Module class.")
    try:
        return network(**spec.options)
    except TypeError as error:
        raise ModelError(
            f"model {spec.name!r}: {class_name} does not take the options {dict(spec.options)}: "
            f"{error}."
        ) from error
