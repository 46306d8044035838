"""Networks that spandrel knows by the names of their tensors: ESRGAN, SwinIR and many more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xdemsr.errors import InputError, ModelError
from xdemsr.foreign.ranges import Ranges, band_by_band, fitted, range_options
from xdemsr.foreign.told import Found, Told, ValueRange

_WITHIN = "network."


class SpandrelNetwork(nn.Module):
    """A network that spandrel builds from its tensors.

    It runs in float32, whatever is asked for, and its answers are not clipped.

    Parameters
    ----------
    bands, answers : int
        Layers in and out. Where a network of one or three channels is given another number of
        bands it answers them one by one.
    value_range, output_range : (low, high), or one such pair for each band, optional
        What the network's 0 and 1 stand for, going in and coming out.
    """

    def __init__(
        self,
        bands: int = 3,
        answers: int = 3,
        *,
        value_range: ValueRange | None = None,
        output_range: ValueRange | None = None,
    ) -> None:
        super().__init__()
        self.channels = bands
        self.network: nn.Module | None = None
        self._call: Callable[[nn.Module, Tensor], Tensor]
        self.given = Ranges(value_range, bands)
        self.answered = Ranges(output_range, answers)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Build the network that these tensors are of, and load them."""
        inside = {name.removeprefix(_WITHIN): tensor for name, tensor in state_dict.items()}
        descriptor = _describe(inside)
        if descriptor is None:
            raise RuntimeError("spandrel knows no network with these names")
        network = self.network = descriptor.model
        # Some are called with more than the image, or answer with more. The public call would also
        # clip the answer.
        self._call = descriptor._call_fn
        self.channels = int(descriptor.input_channels)
        # Older names, which spandrel may have translated, are left behind.
        named = {_WITHIN + name: value for name, value in network.state_dict().items()}
        return super().load_state_dict(named, strict, assign)

    def forward(self, x: Tensor) -> Tensor:
        if self.network is None:
            raise ModelError("a network of spandrel is built from its tensors; load them first.")
        with torch.autocast(x.device.type, enabled=False):
            y = band_by_band(self.given.enter(x), self.channels, partial(self._call, self.network))
        return self.answered.leave(y)


def recognise_spandrel(
    tensors: dict[str, Tensor], told: Told, notes: Mapping[str, Any]
) -> Found | None:
    """One of the networks that spandrel knows, or None; also where it is not installed."""
    del notes
    try:
        descriptor = _describe(tensors)
    except InputError:
        return None
    if descriptor is None:
        return None
    kind = f"{descriptor.architecture.name} of spandrel"
    bands, answers = fitted(told.count, descriptor.input_channels, descriptor.output_channels, kind)
    return Found(
        kind=kind,
        architecture="spandrel",
        options={**range_options(told, bands, answers), **told.options},
        scale=int(descriptor.scale),
        inputs=bands,
        outputs=answers,
        tensors={_WITHIN + name: tensor for name, tensor in tensors.items()},
        stride=descriptor.size_requirements.multiple_of,
        task="super-resolution" if descriptor.scale > 1 else "restoration",
    )


def _describe(tensors: Mapping[str, Tensor]) -> Any:
    """What spandrel says these tensors are; None where it does not know them."""
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except (ImportError, RuntimeError) as error:
        # torchvision beside another build of torch raises RuntimeError.
        raise InputError(
            "this network needs spandrel, and a torch that torchvision was built for: pip install "
            f"'xdemsr[spandrel]'. ({error})"
        ) from error
    try:
        descriptor = ModelLoader("cpu").load_from_state_dict(dict(tensors))
    except UnsupportedModelError:
        return None
    if not isinstance(descriptor, ImageModelDescriptor):
        raise ModelError(
            f"{descriptor.architecture.name} of spandrel takes a mask beside the image, which "
            "xdemsr cannot give it."
        )
    descriptor.model.float().eval()
    return descriptor
