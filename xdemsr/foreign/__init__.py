"""Checkpoints of other projects: recognised by the names of their tensors, never by running them.

A checkpoint is read as plain tensors, each kind says whether it is one of its own, and the tensors
take the names of one of the library's architectures.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from xdemsr.errors import ModelError, WeightsError
from xdemsr.foreign.checkpoint import Checkpoint, read
from xdemsr.foreign.edsr import recognise_edsr
from xdemsr.foreign.onnx import recognise_onnx
from xdemsr.foreign.resdepth import recognise_resdepth
from xdemsr.foreign.spandrel import recognise_spandrel
from xdemsr.foreign.told import Found, Told, set_constants
from xdemsr.models import build
from xdemsr.models.context import measure_context
from xdemsr.spec import ModelSpec, Weights
from xdemsr.weights import FOREIGN, is_ours

#: In this order: spandrel knows many, and is not always there.
_KINDS = (recognise_onnx, recognise_edsr, recognise_resdepth, recognise_spandrel)

#: Characters of a trainer's notes in an error.
_LONGEST_NOTE = 400

_RECOGNISED = (
    "EDSR of EDSR-PyTorch and BasicSR, ResDepth, what spandrel knows (pip install "
    "'xdemsr[spandrel]'), ONNX"
)


def is_foreign(path: str) -> bool:
    """Whether this is the path of a checkpoint that does not say what it is."""
    ending = Path(path).suffix
    return ending in FOREIGN or (ending == ".safetensors" and not is_ours(path))


def adopt(
    checkpoint: Checkpoint | Weights, told: Told, spec: ModelSpec | None = None
) -> tuple[ModelSpec, nn.Module]:
    """The network of a foreign checkpoint, and what is known of it, without weights.

    Parameters
    ----------
    checkpoint : Checkpoint or Weights
        As it was read, or where it lies.
    told : Told
    spec : ModelSpec, optional
        What it is, where it is not to be recognised.

    Raises
    ------
    WeightsError
        If opening it could run code, or it is not recognised.
    ModelError
        If what was told does not fit, or is not enough.
    """
    if isinstance(checkpoint, Weights):
        checkpoint = read(checkpoint)
    if spec is not None:
        module = build(spec)
        tensors = tensors_for(checkpoint, spec, module)
        fill(module, set_constants(tensors, module, told.constants), spec)
        return spec, module.eval().requires_grad_(False)
    found = recognise(checkpoint, told)
    missing = [name for name in found.needs if name not in told.constants]
    if missing:
        raise ModelError(
            f"a checkpoint of {found.kind} does not hold its constants {', '.join(missing)}. Say "
            "them: xdemsr.convert(path, out, constants={...})."
        )
    spec = found.specification(checkpoint.name, told)
    module = build(spec)
    fill(module, set_constants(_completed(found, module), module, told.constants), spec)
    if told.context is None and found.context is None:
        context = measure_context(module, spec.inputs, window=told.window, stride=found.stride)
        spec = replace(spec, context=context)
    return spec, module.eval().requires_grad_(False)


def recognise(checkpoint: Checkpoint, told: Told) -> Found:
    """Which network a checkpoint is of, with its tensors under the library's names.

    Raises
    ------
    WeightsError
        If it is of no kind that is recognised; the first names are given.
    ModelError
        If it is, but something that only its user knows is missing.
    """
    for tensors in checkpoint.candidates():
        for kind in _KINDS:
            found = kind(tensors, told, checkpoint.notes)
            if found is not None:
                return found
    first = ", ".join(list(checkpoint.tensors)[:4])
    noted = str(dict(checkpoint.notes))[:_LONGEST_NOTE]
    notes = f" It says of itself: {noted}." if checkpoint.notes else ""
    raise WeightsError(
        f"{checkpoint.name} is a checkpoint without a specification of xdemsr, and its names "
        f"({first}, ...) are of none of the kinds that are recognised: {_RECOGNISED}.{notes} Say "
        "what it is: spec=xdemsr.ModelSpec(...), with the architecture that has these names."
    )


def tensors_for(checkpoint: Checkpoint, spec: ModelSpec, module: nn.Module) -> dict[str, Tensor]:
    """A checkpoint's tensors under the names that the specification's network has.

    Where no reading fits, they are given as they are, and will be refused by name.
    """
    wanted = module.state_dict()
    readings = list(checkpoint.candidates())
    for tensors in readings:
        if tensors.keys() == wanted.keys():
            return tensors
    told = Told(options=spec.options)
    for tensors in readings:
        for kind in _KINDS:
            found = kind(tensors, told, checkpoint.notes)
            if found is not None and found.architecture == spec.architecture:
                return _completed(found, module)
    return checkpoint.tensors


def _completed(found: Found, module: nn.Module) -> dict[str, Tensor]:
    """The tensors with those constants that the network has from its options."""
    built = module.state_dict()
    return {**found.tensors, **{name: built[name] for name in found.constants}}


def fill(module: nn.Module, tensors: dict[str, Tensor], spec: ModelSpec) -> nn.Module:
    """Load tensors into a network.

    Raises
    ------
    ModelError
        If they are not those that it has.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(
            f"the tensors of model {spec.name!r} do not fit {spec.architecture!r} with options "
            f"{dict(spec.options)}: {error}"
        ) from error
    return module
