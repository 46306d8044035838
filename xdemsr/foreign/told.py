"""What the user tells of a checkpoint, what is found in it, and the specification of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from xdemsr.errors import ModelError
from xdemsr.spec import Band, Border, Context, Local, ModelSpec

Value = float | Sequence[float]

#: One (low, high), or one for each band.
ValueRange = Sequence[float] | Sequence[Sequence[float]]

_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Told:
    """What a checkpoint does not say of itself; see :func:`xdemsr.convert`."""

    name: str | None = None
    inputs: Sequence[Band | str] | None = None
    outputs: Sequence[Band | str] | None = None
    context: Context | None = None
    window: int | None = None
    value_range: ValueRange | None = None
    border: Border | None = None
    gsd: tuple[float, float] | None = None
    summary: str = ""
    licence: str = ""
    citation: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Value] = field(default_factory=dict)

    @property
    def count(self) -> int | None:
        """How many input bands were told."""
        return len(bands(self.inputs)) or None


@dataclass(frozen=True)
class Found:
    """A checkpoint that was recognised.

    Attributes
    ----------
    kind : str
        For people.
    architecture : str
    options : mapping
    scale : int
    inputs, outputs : int
        Number of bands.
    tensors : dict of str to Tensor
        Under the architecture's names.
    context : Local, Windowed or None
        None is to be measured.
    stride : int
        That the sides of the input must be multiples of, where the context is measured.
    constants : tuple of str
        Buffers that the options fix, and that are not for the checkpoint to say.
    needs : tuple of str
        Buffers that nothing but ``Told.constants`` can fix.
    border : {"odd", "mirror", "edge"}
    names : tuple of Band
        The input bands, where the kind of network says which they are.
    task : str
    """

    kind: str
    architecture: str
    options: Mapping[str, Any]
    scale: int
    inputs: int
    outputs: int
    tensors: dict[str, Tensor]
    context: Context | None = None
    stride: int = 1
    constants: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    border: Border = "edge"
    names: tuple[Band, ...] = ()
    task: str = "super-resolution"

    def specification(self, source: str, told: Told) -> ModelSpec:
        """The specification, its context ``Local(0)`` where that must be measured.

        Raises
        ------
        ModelError
            If what was told does not fit what was found.
        """
        inputs = bands(told.inputs) or self.names or _default_bands(self.inputs)
        outputs = bands(told.outputs) or _default_outputs(self.outputs, inputs)
        for side, have, want in (
            ("takes", inputs, self.inputs),
            ("answers with", outputs, self.outputs),
        ):
            if len(have) != want:
                names = ", ".join(band.name for band in have)
                raise ModelError(
                    f"{source} is a network that {side} {want} band{'s' * (want != 1)}; told were "
                    f"{len(have)} ({names})."
                )
        stem = source.rpartition(".")[0] or source
        return ModelSpec(
            name=told.name or stem,
            architecture=self.architecture,
            options=dict(self.options),
            scale=self.scale,
            inputs=inputs,
            outputs=outputs,
            context=told.context or self.context or Local(0),
            border=told.border or self.border,
            gsd=told.gsd,
            task=self.task,
            summary=told.summary or f"{self.kind}, converted from {source}",
            licence=told.licence,
            citation=told.citation,
        )


def bands(told: Sequence[Band | str] | None) -> tuple[Band, ...]:
    """Bands that were told by name or in full; none where nothing was told."""
    if told is None:
        return ()
    if isinstance(told, str):
        told = (told,)
    return tuple(band if isinstance(band, Band) else Band(band) for band in told)


def set_constants(
    tensors: dict[str, Tensor], module: nn.Module, constants: Mapping[str, Value]
) -> dict[str, Tensor]:
    """The tensors with some of the network's constants as they were told.

    Raises
    ------
    ModelError
        If the network has no such constant, or of another size.
    """
    buffers = dict(module.named_buffers(recurse=False))
    told = {}
    for name, value in constants.items():
        if name not in buffers:
            raise ModelError(
                f"constants: the network has no constant {name!r}; it has "
                f"{', '.join(buffers) or 'none'}."
            )
        given, place = torch.as_tensor(value, dtype=torch.float32).flatten(), buffers[name]
        if given.numel() not in (1, place.numel()):
            raise ModelError(
                f"constants: {name!r} is {place.numel()} number{'s' * (place.numel() != 1)}, "
                f"found {given.numel()}."
            )
        told[name] = given.expand(place.numel()).reshape(place.shape).clone()
    return {**tensors, **told}


def _default_bands(count: int) -> tuple[Band, ...]:
    if count == 1:
        return (Band("elevation", "m"),)
    names = _COLOURS if count == 3 else [f"band_{i}" for i in range(1, count + 1)]
    return tuple(Band(name) for name in names)


def _default_outputs(count: int, inputs: tuple[Band, ...]) -> tuple[Band, ...]:
    """The bands that went in, where as many come out; the first, where one does."""
    if count == len(inputs) or count == 1:
        return tuple(Band(band.name, band.units) for band in inputs[:count])
    return _default_bands(count)
