"""How far a network sees: measured by disturbing pixels, never guessed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xdemsr.errors import ModelError
from xdemsr.spec import VERTICAL_ERROR, Band, Context, Local, ModelSpec, Windowed

#: Widths that networks of most strides can be run on; the first that does is taken.
_STRIPS = (64, 96, 60, 70)
_STRIDES = (1, 2, 4, 8, 16, 32, 64, 3, 5, 6, 7, 10, 12, 24)
_DISTURBANCE = 1e3
#: A disturbance becomes one of a network's usual range of 1.
_FAINT = 1e-3
_ELEVATION = (Band("elevation", "m"),)


def measure_context(
    module: nn.Module,
    inputs: Sequence[Band] = _ELEVATION,
    *,
    window: int | None = None,
    limit: int = 512,
    stride: int = 1,
) -> Context:
    """Find whether a network is local, and with what halo and stride.

    One pixel of a strip is disturbed and the farthest changed answer is looked for, on longer and
    longer strips, in double precision and evaluation mode; strongly and faintly, since a network
    that normalises its features hardly notices how its windows lie beside a strong disturbance, and
    one that clips them sees only a faint one.

    Parameters
    ----------
    module : torch.nn.Module
        Maps (n, bands, ny, nx) to (n, bands', ny * scale, nx * scale).
    inputs : sequence of Band, optional
        Its input bands; one elevation band by default.
    window : int, optional
        Size the network was trained on, for networks that use statistics of their whole window.
    limit : int, optional
        Longest strip tried, in source pixels.
    stride : int, optional
        That the sides of its input must be multiples of, where its makers say so.

    Returns
    -------
    Local or Windowed
        ``Windowed(window, window // 4)`` where no finite halo was found.

    Raises
    ------
    ModelError
        If the network cannot be run, or sees as far as ``limit`` and no ``window`` was given.

    Examples
    --------
    >>> import torch
    >>> import xdemsr
    >>> xdemsr.measure_context(torch.nn.Conv2d(1, 1, 5, padding=2))
    Local(halo=2, multiple_of=1, tile=128)
    """
    probe = _Probe(module, inputs)
    found = [_measured(probe, faint, window, limit) for faint in (False, True)]
    for context in found:
        if isinstance(context, Windowed):
            return context
    seen = [context for context in found if isinstance(context, Local)]
    common = math.lcm(stride, *(context.multiple_of for context in seen))
    # A coarser stride was not seen by the other, nor how much farther its phases reach.
    reach = max(context.halo + common - context.multiple_of for context in seen)
    return Local(math.ceil(reach / common) * common, multiple_of=common)


def _measured(probe: _Probe, faint: bool, window: int | None, limit: int) -> Context:
    """What disturbances of one strength tell."""
    probe.faint = faint
    length = probe.strip
    while length <= limit:
        stride = probe.stride(length)
        if stride is not None:
            phases = {0, stride // 2, stride - 1}
            halo = stride * max(probe.reach(length, phase, stride) for phase in phases)
            # An influence that ends well before the strip does has ended.
            if halo < length // 2 - stride - 1:
                return Local(halo, multiple_of=stride)
        length *= 2
    if window is None:
        raise ModelError(
            f"the network's answer depends on pixels {limit // 2} away or more, so no halo makes "
            "its tiles agree. Give the size it was trained on: window=..., or a larger limit=."
        )
    return Windowed(window, window // 4)


def verify_context(module: nn.Module, spec: ModelSpec) -> None:
    """Refuse a model whose declared halo or stride is too small.

    What lies outside the declared context is replaced, and the answer must not move.

    Raises
    ------
    ModelError
        If it does.
    """
    if not isinstance(spec.context, Local):
        return
    halo, stride = spec.context.halo, spec.context.multiple_of
    core = stride * max(1, 8 // stride)
    edge = stride * max(1, 16 // stride)
    margin = halo + edge
    # Rounding is far below what is looked for, and double precision several times slower.
    probe = _Probe(module, spec.inputs, (torch.float32,))
    size = (core + 2 * margin, core + 2 * margin)
    first, second = probe.noise(size, seed=0), probe.noise(size, seed=1)
    inside = slice(edge, edge + core + 2 * halo)
    for band_set, others in zip(first, second, strict=True):
        # Another mean as well, for networks that look at nothing else far away.
        others.mul_(3).add_(5)
        k = band_set.shape[-1] // size[1]
        kept = slice(inside.start * k, inside.stop * k)
        others[..., kept, kept] = band_set[..., kept, kept]
    change = (probe(first) - probe(second)).abs()
    cut = slice(margin * spec.scale, (margin + core) * spec.scale)
    worst = float(change[..., cut, cut].max())
    # A network may round to single precision inside even when its parameters are double.
    if worst > 1e-4 * float(change.max()):
        raise ModelError(
            f"model {spec.name!r} declares a halo of {halo} px, but pixels farther away change its "
            f"answer (by {worst:.3g}). Find the true one with xdemsr.measure_context(module)."
        )
    if (probe.stride(core + 2 * margin) or stride) > stride:
        raise ModelError(
            f"model {spec.name!r} declares multiple_of={stride}, but its answer changes when the "
            "raster is moved by that. Find the true one with xdemsr.measure_context(module)."
        )


class _Probe:
    """A copy of a network, in the first precision it can be run in, and ways to disturb its input.

    Attributes
    ----------
    strip : int
        Pixels across the strips that it is run on.
    faint : bool
        Show it a thousandth of everything.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[Band],
        precisions: Sequence[torch.dtype] = (torch.float64, torch.float32),
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ModelError(
                f"expected a torch.nn.Module, got {type(module).__name__}. A loaded model has one: "
                "model.module."
            )
        self.module = copy.deepcopy(module).cpu().eval()
        self.faint = False
        self.inputs = inputs
        self.scales = sorted({band.scale for band in inputs})
        _wake(self.module)
        self.dtype, self.strip = self._runnable(precisions)

    def _runnable(self, precisions: Sequence[torch.dtype]) -> tuple[torch.dtype, int]:
        """The precision and the width that the network can be run with."""
        problems = []
        for dtype in precisions:
            self.module.to(dtype)
            self.dtype = dtype
            for strip in _STRIPS:
                try:
                    self(self.noise((strip, strip)))
                except ModelError as problem:
                    problems.append(problem)
                else:
                    return dtype, strip
        raise problems[len(_STRIPS)]

    def __call__(self, tensors: Sequence[Tensor]) -> Tensor:
        given = tuple(tensors[0].shape)
        if self.faint:
            tensors = [tensor * _FAINT for tensor in tensors]
        try:
            with torch.inference_mode():
                answer: object = self.module(*tensors)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise ModelError(
                f"the network cannot be run on {given} (n, bands, ny, nx): {error}"
            ) from error
        if not isinstance(answer, Tensor):
            raise ModelError(
                f"the network answered with {type(answer).__name__}; expected one tensor."
            )
        scales = {have / got for have, got in zip(answer.shape[2:], given[2:], strict=False)}
        if answer.ndim != 4 or len(scales) != 1 or not scales.pop().is_integer():
            raise ModelError(
                f"the network answered {given} with {tuple(answer.shape)}; expected (n, bands', "
                "ny * scale, nx * scale). Pad its convolutions."
            )
        return answer

    def noise(self, shape: tuple[int, int], seed: int = 0) -> list[Tensor]:
        """One tensor for each scale among the inputs; stated errors are positive."""
        generator = torch.Generator().manual_seed(seed)
        tensors = []
        for scale in self.scales:
            bands = [band for band in self.inputs if band.scale == scale]
            size = (1, len(bands), shape[0] * scale, shape[1] * scale)
            noise = torch.randn(size, generator=generator, dtype=torch.float64).to(self.dtype)
            for index, band in enumerate(bands):
                if band.name == VERTICAL_ERROR:
                    noise[:, index] = noise[:, index].abs()
            tensors.append(noise)
        return tensors

    def reach(self, length: int, phase: int, stride: int) -> int:
        """Strides between a disturbed pixel and the farthest answer that changes."""
        return max(self._reach_along(axis, length, phase, stride) for axis in (-2, -1))

    def _reach_along(self, axis: int, length: int, phase: int, stride: int) -> int:
        shape = (length, self.strip) if axis == -2 else (self.strip, length)
        centre = length // 2 // stride * stride + phase
        before = self.noise(shape)
        after = [tensor.clone() for tensor in before]
        for tensor, scale in zip(after, self.scales, strict=True):
            tensor.narrow(axis, centre * scale, scale).add_(_DISTURBANCE)
        change = (self(before) - self(after)).abs()
        along = change.amax(dim=[d for d in range(change.ndim) if d != change.ndim + axis])
        touched = torch.nonzero(along.reshape(length, -1).amax(dim=1)).flatten()
        apart = touched // stride - centre // stride
        return int(apart.abs().max()) if len(apart) else 0

    def stride(self, length: int) -> int | None:
        """Smallest shift of the input that merely shifts the answer; None where none is seen."""
        for stride in _STRIDES:
            if stride < length // 4 and all(
                self._shifts(axis, stride, length) for axis in (-2, -1)
            ):
                return stride
        return None

    def _shifts(self, axis: int, shift: int, length: int) -> bool:
        # A bump far from the border on a flat ground, here and `shift` pixels further on.
        answers = []
        for start in (length // 2 - 1, length // 2 - 1 + shift):
            bump = self._bump(axis, start, length)
            answers.append(self(bump) - self([torch.ones_like(tensor) for tensor in bump]))
        scale = answers[0].shape[axis] // length
        moved = torch.roll(answers[0], shift * scale, dims=axis)
        middle = (length // 4 * scale, length // 2 * scale)
        left = moved.narrow(axis, *middle)
        difference = (left - answers[1].narrow(axis, *middle)).abs().max()
        rounding = 1e-5 if self.dtype == torch.float64 else 1e-4
        return bool(difference <= rounding * answers[0].abs().max())

    def _bump(self, axis: int, start: int, length: int) -> list[Tensor]:
        shape = (length, self.strip) if axis == -2 else (self.strip, length)
        tensors = [torch.ones_like(tensor) for tensor in self.noise(shape)]
        for tensor, scale in zip(tensors, self.scales, strict=True):
            ramp = torch.linspace(1, 2, 3 * scale, dtype=self.dtype) * _DISTURBANCE
            view = [1] * tensor.ndim
            view[axis] = 3 * scale
            tensor.narrow(axis, start * scale, 3 * scale).add_(ramp.reshape(view))
        return tensors


def _wake(module: nn.Module) -> None:
    """Give all-zero weights, as fresh networks have, a value: what they would see counts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1 and not weight.any():
                noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                weight.copy_(noise / weight[0].numel() ** 0.5)
