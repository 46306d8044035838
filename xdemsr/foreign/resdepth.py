"""Checkpoints of ResDepth, as its repository writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from xdemsr.errors import ModelError
from xdemsr.foreign.told import Found, Told, bands
from xdemsr.models import build
from xdemsr.spec import Band, Local, ModelSpec

#: Tiles of about as many pixels as ResDepth was trained on, in whole strides.
_TILE = 256

_FIRST = "encoder.0.0.0.weight"
_WITHIN = "unet."

#: What its checkpoint leaves to files beside it.
_CONSTANTS = ("height_scale", "mean", "std")


def recognise_resdepth(
    tensors: dict[str, Tensor], told: Told, notes: Mapping[str, Any]
) -> Found | None:
    """ResDepth's U-Net with additive skips, in its published form, or None."""
    del notes
    if _FIRST not in tensors or "last_layer.weight" not in tensors:
        return None
    features, channels = (int(n) for n in tensors[_FIRST].shape[:2])
    widths = list(_widths(tensors))
    names = bands(told.inputs) if told.count == channels else _guides(channels)
    options = {
        "bands": [band.name for band in names],
        "depth": len(widths),
        "features": features,
        "most": max(widths),
        "norm": "encoder.0.0.1.running_mean" in tensors,
        "last_bias": "last_layer.bias" in tensors,
        **told.options,
    }
    with torch.device("meta"):
        twin: Any = build(ModelSpec("resdepth", "resdepth", 1, Local(0), options=options))
    ours = {_WITHIN + name: tensor for name, tensor in tensors.items()}
    wanted = {name: value.shape for name, value in twin.state_dict().items()}
    expected = {name: shape for name, shape in wanted.items() if name not in _CONSTANTS}
    if expected != {name: tensor.shape for name, tensor in ours.items()}:
        # Other activations or interpolated decoders, which ResDepth's code can build too.
        return None
    if told.value_range is not None:
        raise ModelError(
            "ResDepth takes metres, and images as its constants say: leave value_range away, and "
            "say constants={'height_scale': ..., 'mean': ..., 'std': ...}."
        )
    # Without images there is nothing to say of them.
    empty = [name for name in _CONSTANTS if wanted[name].numel() == 0]
    ours.update({name: torch.zeros(wanted[name]) for name in empty})
    return Found(
        kind="ResDepth",
        architecture="resdepth",
        options=options,
        scale=1,
        inputs=channels,
        outputs=1,
        tensors=ours,
        context=Local(twin.radius, multiple_of=twin.stride, tile=_TILE),
        border="odd",
        names=names,
        needs=tuple(name for name in _CONSTANTS if name not in empty),
        task="refinement",
    )


def _widths(tensors: Mapping[str, Tensor]) -> Iterator[int]:
    """Channels of each level of the encoder."""
    level = 0
    while (name := f"encoder.{level}.0.0.weight") in tensors:
        yield int(tensors[name].shape[0])
        level += 1


def _guides(channels: int) -> tuple[Band, ...]:
    """The surface model and its images, under the names that the network's class gives them."""
    images = ["left", "right"] if channels == 3 else [str(i) for i in range(1, channels)]
    return (Band("dsm", "m"), *(Band(f"ortho_{image}") for image in images))
