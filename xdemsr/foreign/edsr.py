"""EDSR checkpoints: EDSR-PyTorch by the authors, and BasicSR."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from xdemsr.errors import ModelError
from xdemsr.foreign.ranges import limits
from xdemsr.foreign.told import Found, Told
from xdemsr.spec import Local

Tensors = dict[str, Tensor]

#: Means of DIV2K by which both projects centre three bands, of a range of one.
_DIV2K = (0.4488, 0.4371, 0.4040)
_BYTE = 255.0

#: What the notes of trainers call the factor on a residual branch.
_RESIDUAL_SCALE = ("residual_scale", "res_scale")


@dataclass(frozen=True)
class _Style:
    """How a project names the layers, and in which range its networks see the bands."""

    kind: str
    block: str
    stage: str
    names: Callable[[int, int], Iterator[tuple[str, str]]]
    shifts: tuple[str, ...]
    full: float


def recognise_edsr(tensors: Tensors, told: Told, notes: Mapping[str, Any]) -> Found | None:
    """EDSR of either project, or None."""
    for style in _STYLES:
        blocks = _count(tensors, style.block)
        # Every other one is a shuffle, which has no parameters.
        stages = _count(tensors, style.stage, step=2)
        renamed = {
            f"{theirs}.{leaf}": f"{ours}.{leaf}"
            for ours, theirs in style.names(blocks, stages)
            for leaf in ("weight", "bias")
        }
        rest = tensors.keys() - renamed.keys()
        if blocks and stages and renamed.keys() <= tensors.keys() and rest <= set(style.shifts):
            ours = {new: tensors[old] for old, new in renamed.items()}
            return _found(style, tensors, ours, (blocks, stages), told, notes)
    return None


def _found(
    style: _Style,
    theirs: Tensors,
    ours: Tensors,
    size: tuple[int, int],
    told: Told,
    notes: Mapping[str, Any],
) -> Found:
    blocks, stages = size
    features, bands = ours["head.weight"].shape[:2]
    last = ours[f"tail.{2 * stages}.weight"]
    if last.shape[0] != bands:
        raise ModelError(
            f"this EDSR answers {bands} bands with {last.shape[0]}: xdemsr's answers with as many "
            "as it takes."
        )
    grown = (ours[f"tail.{2 * i}.weight"].shape[0] for i in range(stages))
    scale = math.prod(math.isqrt(channels // features) for channels in grown)
    mean, std = _constants(style, theirs, bands, told)
    options: dict[str, Any] = {
        "scale": scale,
        "bands": bands,
        "blocks": blocks,
        "features": features,
        # 0.1 where the published networks are wide enough to need it.
        "residual_scale": next(
            (float(notes[key]) for key in _RESIDUAL_SCALE if isinstance(notes.get(key), Real)),
            0.1 if features >= 256 else 1.0,
        ),
        "mean": mean,
        "std": std,
        **told.options,
    }
    for name in ("mean", "std"):
        if isinstance(options[name], Sequence) and len(options[name]) != bands:
            raise ModelError(
                f"options: {name!r} must be one number, or one for each of the {bands} "
                f"band{'s' * (bands != 1)}; found {options[name]}."
            )
    return Found(
        kind=style.kind,
        architecture="edsr",
        options=options,
        scale=scale,
        inputs=bands,
        outputs=bands,
        tensors=ours,
        context=Local(2 * blocks + 4),
        constants=("mean", "std"),
    )


def _constants(
    style: _Style, theirs: Tensors, bands: int, told: Told
) -> tuple[list[float], list[float]]:
    """Mean and std in the raster's own units, from those in the range the network sees."""
    if style.shifts and style.shifts[0] in theirs:
        mean, std = _shift(theirs, bands)
    elif bands == 3 and not style.shifts:
        mean, std = [_BYTE * m for m in _DIV2K], [1.0] * 3
    elif not style.shifts and not {"mean", "std"} <= told.options.keys():
        raise ModelError(
            f"BasicSR keeps the mean and the range of an EDSR outside its checkpoint, and this one "
            f"has {bands} band{'s' * (bands != 1)}, so they cannot be DIV2K's. Say them, for a "
            "network that takes (x - mean) / std: options={'mean': ..., 'std': ...}."
        )
    else:
        mean, std = [0.0] * bands, [1.0] * bands
    low, high = limits(told.value_range or (0.0, style.full), bands)
    units = [(top - bottom) / _BYTE for bottom, top in zip(low, high, strict=True)]
    return (
        [bottom + m * unit for bottom, m, unit in zip(low, mean, units, strict=True)],
        [s * unit for s, unit in zip(std, units, strict=True)],
    )


def _shift(theirs: Tensors, bands: int) -> tuple[list[float], list[float]]:
    """Mean and std of the two MeanShift layers: one takes off what the other puts back."""
    weight, bias = (theirs[f"sub_mean.{leaf}"].double() for leaf in ("weight", "bias"))
    back, offset = (theirs[f"add_mean.{leaf}"].double() for leaf in ("weight", "bias"))
    shape = (bands, bands, 1, 1)
    if tuple(weight.shape) != shape or tuple(back.shape) != shape:
        raise ModelError(
            f"this EDSR's sub_mean is {tuple(weight.shape)} and its add_mean {tuple(back.shape)}; "
            f"expected {shape}, for its {bands} band{'s' * (bands != 1)}."
        )
    slope = weight.reshape(bands, bands).diagonal()
    undone = back.reshape(bands, bands) @ weight.reshape(bands, bands)
    rest = back.reshape(bands, bands) @ bias + offset
    diagonal = torch.equal(weight.reshape(bands, bands), torch.diag(slope))
    if (
        not diagonal
        or not torch.allclose(undone, torch.eye(bands, dtype=undone.dtype), atol=1e-6)
        or not torch.allclose(rest, torch.zeros_like(rest), atol=1e-3)
    ):
        raise ModelError(
            "this EDSR's add_mean does not undo its sub_mean band by band, which xdemsr's EDSR "
            "takes for granted. Give the class it was made with: spec=xdemsr.ModelSpec(...)."
        )
    return (-bias / slope).tolist(), (1 / slope).tolist()


def _count(tensors: Tensors, pattern: str, step: int = 1) -> int:
    n = 0
    while pattern.format(step * n) + ".weight" in tensors:
        n += 1
    return n


def _authors(blocks: int, stages: int) -> Iterator[tuple[str, str]]:
    yield "head", "head.0"
    for i in range(blocks):
        yield f"body.{i}.first", f"body.{i}.body.0"
        yield f"body.{i}.second", f"body.{i}.body.2"
    yield f"body.{blocks}", f"body.{blocks}"
    for i in range(stages):
        yield f"tail.{2 * i}", f"tail.0.{2 * i}"
    yield f"tail.{2 * stages}", "tail.1"


def _basicsr(blocks: int, stages: int) -> Iterator[tuple[str, str]]:
    yield "head", "conv_first"
    for i in range(blocks):
        yield f"body.{i}.first", f"body.{i}.conv1"
        yield f"body.{i}.second", f"body.{i}.conv2"
    yield f"body.{blocks}", "conv_after_body"
    for i in range(stages):
        yield f"tail.{2 * i}", f"upsample.{2 * i}"
    yield f"tail.{2 * stages}", "conv_last"


_STYLES = (
    _Style(
        kind="EDSR of EDSR-PyTorch",
        block="body.{}.body.0",
        stage="tail.0.{}",
        names=_authors,
        shifts=("sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias"),
        full=_BYTE,
    ),
    _Style(
        kind="EDSR of BasicSR",
        block="body.{}.conv1",
        stage="upsample.{}",
        names=_basicsr,
        shifts=(),
        full=1.0,
    ),
)
