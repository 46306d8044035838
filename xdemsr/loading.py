"""Loaded models: read, built, checked, saved; one of each per process and device."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xdemsr.catalog import ModelLike, find
from xdemsr.errors import ModelError
from xdemsr.foreign import adopt, fill, is_foreign, tensors_for
from xdemsr.foreign.checkpoint import read
from xdemsr.foreign.told import Told
from xdemsr.listing import as_html
from xdemsr.models import build
from xdemsr.models.context import verify_context
from xdemsr.models.network import Network
from xdemsr.spec import Band, Local, ModelSpec, Weights
from xdemsr.weights import describe, is_ours, read_tensors, write

if TYPE_CHECKING:
    from torch import Tensor

_KEPT = 4
_cache: OrderedDict[tuple[tuple[str, str], str, str], nn.Module] = OrderedDict()
_guard = threading.Lock()
_thread = threading.local()


@dataclass(frozen=True, repr=False)
class Model:
    """A network with its specification.

    ``upscale`` and ``apply`` take the specification and read the weights from its file: a network
    that was changed in memory must be saved first.

    Attributes
    ----------
    spec : ModelSpec
        What is known of it.
    module : torch.nn.Module
        In evaluation mode, float32, on the CPU. Takes (n, bands, ny, nx) in physical units.

    Examples
    --------
    >>> import xdemsr
    >>> model = xdemsr.load_model("terrain-x4")
    >>> model.parameters, model.spec.licence
    (155632, 'CC-BY-4.0')
    """

    spec: ModelSpec
    module: nn.Module

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def __repr__(self) -> str:
        spec = self.spec
        bands = ", ".join(band.name for band in spec.inputs)
        return (
            f"<xdemsr.Model {spec.name!r} version {spec.version}: {spec.task} x{spec.scale}, "
            f"{self.parameters:,} parameters, inputs ({bands}), {spec.context}>"
        )

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each line, for people."""
        spec = self.spec
        scales = ", ".join(f"x{scale}" for scale in spec.scales) or f"x{spec.scale}"
        found = {
            "model": f"{spec.name} (version {spec.version})",
            "summary": spec.summary,
            "task": spec.task,
            "scale": scales,
            "inputs": _bands(spec.inputs),
            "outputs": _bands(spec.outputs),
            "context": str(spec.context),
            "trained on": f"pixels of {spec.gsd[0]:g} to {spec.gsd[1]:g} m" if spec.gsd else "",
            "architecture": spec.architecture,
            "parameters": f"{self.parameters:,}",
            "sha256": spec.weights.sha256 if spec.weights else "",
            "licence": spec.licence,
        }
        return [(name, value) for name, value in found.items() if value]

    def _repr_html_(self) -> str:
        return as_html("xdemsr.Model", self.rows())


def _bands(bands: tuple[Band, ...]) -> str:
    return ", ".join(f"{band.name} ({band.units})" if band.units else band.name for band in bands)


def load_model(
    model: ModelLike, *, scale: int | None = None, spec: ModelSpec | None = None
) -> Model:
    """Read a model's parameters and build its network.

    Parameters
    ----------
    model : str, Path or ModelSpec
        A shipped name, an interpolation (say ``scale``), the path of a ``.safetensors`` file, or of
        another project's checkpoint (see :func:`xdemsr.convert`).
    scale : int, optional
        For interpolations.
    spec : ModelSpec, optional
        What the file is, where it does not say so itself and is not recognised: a bare
        ``.safetensors``, or a ``.pt``/``.pth``/``.ckpt`` with a state dict in it.

    Returns
    -------
    Model
        The network on the CPU, and its specification.

    Raises
    ------
    ModelError
        If there is no such model, its tensors do not fit, or its declared context is false.
    WeightsError
        If the file is of a kind that could run code, or is not recognised.

    Examples
    --------
    >>> import xdemsr
    >>> xdemsr.load_model("histospline", scale=4).spec.context
    Local(halo=12, multiple_of=1, tile=256)
    """
    if spec is None and isinstance(model, str | Path) and is_foreign(str(model)):
        weights = describe(str(model))
        found, module = adopt(weights, Told())
        return Model(find(replace(found, weights=weights), scale), module)
    if spec is None:
        spec = find(model, scale)
    elif isinstance(model, str | Path):
        spec = replace(spec, weights=describe(str(model)))
    return Model(spec, _build(spec))


def save_model(
    model: Model | nn.Module, path: str | Path, spec: ModelSpec | None = None
) -> ModelSpec:
    """Write a network and its specification into one ``.safetensors`` file.

    The declared context is checked by disturbing pixels, the network that will be built from the
    file is compared with the one given, and its operations per pixel are counted.

    Parameters
    ----------
    model : Model or torch.nn.Module
        The network, with its parameters.
    path : str or Path
        Ends in ``.safetensors``.
    spec : ModelSpec, optional
        Needed where ``model`` is a bare module. Its ``architecture`` and ``options`` must build the
        module again: ``"package.module:Class"`` for a network of your own.

    Returns
    -------
    ModelSpec
        The specification as written, with weights; give it, or the path, to ``upscale``.

    Raises
    ------
    ModelError
        If the module is not what the specification builds, or the declared context is false.

    Examples
    --------
    >>> import tempfile
    >>> import xdemsr
    >>> from xdemsr.models.edsr import EDSR
    >>> from xdemsr.spec import Local
    >>> spec = xdemsr.ModelSpec(
    ...     name="my-edsr", architecture="edsr", scale=2, context=Local(halo=8),
    ...     options={"scale": 2, "blocks": 2, "features": 8},
    ... )
    >>> path = tempfile.mkdtemp() + "/my-edsr.safetensors"
    >>> saved = xdemsr.save_model(EDSR(**spec.options), path, spec)
    >>> saved.name
    'my-edsr'
    """
    if isinstance(model, Model):
        module, spec = model.module, spec or model.spec
    else:
        module = model
    if spec is None:
        raise ModelError(
            "save_model of a bare network needs its specification: spec=ModelSpec(...)."
        )
    tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}
    twin = fill(build(spec), tensors, spec)
    verify_context(module, spec)
    spec = replace(spec, flops=_compared(module, twin, spec))
    if spec.scales:
        operations = {scale: _operations(twin, spec, scale) for scale in spec.scales}
        spec = replace(spec, scales=operations)
    return write(Path(path), tensors, spec)


def _compared(module: nn.Module, twin: nn.Module, spec: ModelSpec) -> float:
    """Operations per input pixel of a tile's core, halo included, found while comparing.

    The twin is what will be built when the file is read: it must answer as the network does.
    """
    size = spec.context.tile if isinstance(spec.context, Local) else spec.context.size
    halo = spec.context.halo if isinstance(spec.context, Local) else 0
    padded = size + 2 * halo
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for scale in sorted({band.scale for band in spec.inputs}):
        bands = sum(band.scale == scale for band in spec.inputs)
        shape = (1, bands, padded * scale, padded * scale)
        inputs.append(torch.randn(shape, generator=generator).abs())
    answers = []
    # Copies: in training mode a network would learn from the noise.
    for network in (copy.deepcopy(module).cpu().float().eval(), twin.eval()):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            given = {"halo": halo} if isinstance(network, Network) else {}
            answers.append(network(*inputs, **given))
    expected, found = answers
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise ModelError(
            f"model {spec.name!r}: the network and what {spec.architecture!r} with options "
            f"{dict(spec.options)} builds give different answers. Put into options what the "
            "network was made with."
        )
    wanted = size + (0 if isinstance(twin, Network) else 2 * halo)
    if tuple(found.shape) != (1, len(spec.outputs), wanted * spec.scale, wanted * spec.scale):
        raise ModelError(
            f"model {spec.name!r} answers {tuple(inputs[0].shape)} with {tuple(found.shape)}: that "
            f"does not fit its {len(spec.outputs)} output bands and its scale of {spec.scale}."
        )
    return float(counter.get_total_flops()) / size**2


def _operations(twin: nn.Module, spec: ModelSpec, scale: int) -> float:
    """Operations per input pixel at one of the scales that a network serves."""
    other = fill(build(spec.at(scale)), twin.state_dict(), spec)
    return _compared(other, other, replace(spec, scale=scale))


def load_module(spec: ModelSpec, device: torch.device, precision: torch.dtype) -> nn.Module:
    """The network of a specification, ready on a device; loaded once per process and device.

    A network of the library's own is shared by all threads. A user's may keep what it computes on
    itself, so each thread has a copy, with the same parameters.
    """
    key = (spec.identity(), str(device), str(precision))
    with _guard:
        module = _cache.get(key)
        if module is None:
            module = _build(spec).to(device=device)
            if isinstance(module, Network):
                module.set_precision(precision)
            _cache[key] = module
            while len(_cache) > _KEPT:
                _cache.popitem(last=False)
        _cache.move_to_end(key)
    return module if isinstance(module, Network) else _own_copy(module)


def _own_copy(module: nn.Module) -> nn.Module:
    copies: dict[int, tuple[nn.Module, nn.Module]] = _thread.__dict__.setdefault("copies", {})
    original, own = copies.get(id(module), (None, None))
    if original is not module or own is None:
        shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
        own = copy.deepcopy(module, shared)
        while len(copies) >= _KEPT:
            copies.pop(next(iter(copies)))
        copies[id(module)] = (module, own)
    return own


def _build(spec: ModelSpec) -> nn.Module:
    module = build(spec)
    if spec.weights is not None:
        fill(module, _tensors(spec.weights, spec, module), spec)
        if not spec.weights.shipped:
            verify_context(module, spec)
    elif module.state_dict():
        raise ModelError(
            f"model {spec.name!r} has parameters, but its specification names no weights. Write "
            "them first: spec = xdemsr.save_model(network, path, spec)."
        )
    return module.eval().requires_grad_(False)


def _tensors(weights: Weights, spec: ModelSpec, module: nn.Module) -> dict[str, Tensor]:
    if is_ours(weights.location):
        return read_tensors(weights)
    return tensors_for(read(weights), spec, module)
