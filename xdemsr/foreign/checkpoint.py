"""A checkpoint as plain tensors, whatever it is wrapped in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from xdemsr.errors import WeightsError
from xdemsr.foreign.onnx import read_program
from xdemsr.spec import Weights
from xdemsr.weights import FOREIGN, checked, read_tensors, read_torch

#: Where trainers put the state dict, the first that is there; averaged weights before others.
_NESTS = (
    "params_ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "net",
    "generator",
)

#: What wrappers put before every name: Lightning's modules, DataParallel, torch.compile.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "generator.", "netG.")

#: Where trainers note what the network was made with.
_NOTES = ("hyper_parameters", "hparams", "config")

_DEEPEST = 3


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes
    ----------
    name : str
        Of the file.
    tensors : dict of str to Tensor
    notes : mapping
        What the trainer noted of the network: Lightning's ``hyper_parameters``.
    """

    name: str
    tensors: dict[str, Tensor]
    notes: Mapping[str, Any] = field(default_factory=dict)

    def candidates(self) -> Iterator[dict[str, Tensor]]:
        """The tensors as they are, then without what wrappers put before their names."""
        return _unwrapped(self.tensors, _DEEPEST)


def read(weights: Weights, *, gather: bool = False) -> Checkpoint:
    """Read a checkpoint without running anything in it, after its sha256 was checked.

    Parameters
    ----------
    weights : Weights
        Of a file that ends in ``.pt``, ``.pth``, ``.ckpt``, ``.bin``, ``.safetensors`` or
        ``.onnx``.
    gather : bool, optional
        Take in what an ONNX file keeps in files beside it.

    Raises
    ------
    WeightsError
        If opening it could run code, or there is no state dict in it.
    """
    path = checked(weights)
    if path.suffix == ".onnx":
        return Checkpoint(path.name, read_program(path, gather))
    if path.suffix not in FOREIGN:
        return Checkpoint(path.name, read_tensors(weights))
    content = read_torch(path)
    tensors = _state_dict(content, _DEEPEST)
    if tensors is None:
        held = list(content) if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(
            f"{path.name} holds no state dict: expected names and tensors, found {held}. Save "
            "model.state_dict() alone."
        )
    return Checkpoint(path.name, tensors, _notes(content))


def _state_dict(content: object, depth: int) -> dict[str, Tensor] | None:
    """The state dict in a checkpoint, looked for where trainers put it."""
    if not isinstance(content, Mapping) or not content or depth == 0:
        return None
    named = all(isinstance(name, str) for name in content)
    if named and all(isinstance(value, Tensor) for value in content.values()):
        return {name: value.detach() for name, value in content.items()}
    for nest in _NESTS:
        inside = _state_dict(content.get(nest), depth - 1)
        if inside is not None:
            return inside
    return None


def _notes(content: object) -> Mapping[str, Any]:
    if isinstance(content, Mapping):
        for key in _NOTES:
            if isinstance(content.get(key), Mapping) and content[key]:
                return dict(content[key])
    return {}


def _unwrapped(tensors: dict[str, Tensor], depth: int) -> Iterator[dict[str, Tensor]]:
    yield tensors
    for prefix in _PREFIXES if depth else ():
        inside = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        if inside:
            yield from _unwrapped(inside, depth - 1)
