"""Ramps that sum to one, for windows that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xdemsr.window import Span


@lru_cache(maxsize=256)
def partition_of_unity(
    spans: tuple[Span, ...], overlap: int, length: int, scale: int
) -> Sequence[NDArray[np.float32]]:
    """Weights of each span's pixels along one axis, on a grid ``scale`` times finer.

    Linear ramps over ``overlap`` source pixels, none at the array's own borders, divided by their
    sum. At every pixel of the array the weights of all spans sum to one.

    Parameters
    ----------
    spans : tuple of Span
        Sorted cores that cover ``[0, length)``.
    overlap : int
        Source pixels over which a span hands over to the next.
    length : int
        Source pixels of the array along this axis.
    scale : int
        Output pixels per source pixel.
    """
    total = np.zeros(length * scale)
    ramps = []
    for index, span in enumerate(spans):
        position = (np.arange(span.size * scale) + 0.5) / scale
        ramp = np.ones(span.size * scale)
        if overlap and index > 0:
            ramp = np.minimum(ramp, position / overlap)
        if overlap and index < len(spans) - 1:
            ramp = np.minimum(ramp, (span.size - position) / overlap)
        ramps.append(ramp)
        inside = span.clip(length)
        total[inside.start * scale : inside.stop * scale] += ramp[_cut(span, inside, scale)]
    weights = []
    for span, ramp in zip(spans, ramps, strict=True):
        inside = span.clip(length)
        cut = _cut(span, inside, scale)
        ramp[cut] /= total[inside.start * scale : inside.stop * scale]
        weights.append(ramp.astype(np.float32))
    return weights


def _cut(span: Span, inside: Span, scale: int) -> slice:
    return slice((inside.start - span.start) * scale, (inside.stop - span.start) * scale)
