"""Windows that overlap: the weights they are blended with, and the levels that make them agree.

A network that claims relative heights alone gives each window a level of its own. Where two
windows overlap, the mean of their difference says how far one must be raised; all these together,
each with the weight that the two have where they are blended, are one least-squares problem.

Both windows have the same valid pixels where they overlap, so the mean of their difference is the
difference of two means, and each window's can be found without the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from xdemsr.blend import partition_of_unity
from xdemsr.spec import ModelSpec, Windowed
from xdemsr.tiles import make_tiling
from xdemsr.window import Span, Tiling

Sums = NDArray[np.float64]
Ramp = NDArray[np.float32]

#: Steps (along y, along x) to the windows that a window is compared with. What it shares with one
#: that lies aslant it shares with two of these, too.
_SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))
#: Numbers that are found of each window: a weight and a weighted sum of its answer, over the whole
#: of it, and over what it shares with each of those.
SUMS = 2 * (1 + len(_SIDES))


@dataclass(frozen=True)
class Blending:
    """The windows of an array, and the weights they are blended with.

    Attributes
    ----------
    tiling : Tiling
        In input pixels.
    y, x : tuple of ndarray
        Weights of each row and of each column of windows, along that axis; over all windows they
        sum to one at every pixel of the array.
    scale : int
        Output pixels per input pixel.
    """

    tiling: Tiling
    y: Sequence[Ramp]
    x: Sequence[Ramp]
    scale: int

    @classmethod
    def of(cls, spec: ModelSpec, shape: tuple[int, int]) -> Blending:
        """A model's windows on an array of this shape (ny, nx), in input pixels."""
        tiling = make_tiling(spec, shape)
        overlap = spec.context.overlap if isinstance(spec.context, Windowed) else 0
        y, x = (
            partition_of_unity(spans, overlap, length, spec.scale)
            for spans, length in zip((tiling.y, tiling.x), shape, strict=True)
        )
        return cls(tiling, y, x, spec.scale)

    def sums(self, index: tuple[int, int], answer: Ramp, valid: NDArray[np.bool_]) -> Sums:
        """Weights and weighted sums of a window's answer.

        Parameters
        ----------
        index : (int, int)
            Which window, along y and x.
        answer : ndarray, shape (ny * scale, nx * scale)
            Of the whole window.
        valid : ndarray of bool, shape (ny * scale, nx * scale)

        Returns
        -------
        ndarray, shape (SUMS,)
        """
        i, j = index
        heights = np.where(valid, answer, 0.0)
        found = [_summed(heights, valid, self.y[i], self.x[j])]
        for down, right in _SIDES:
            rows, y = _shared(self.tiling.y, self.y, i, i + down, self.scale)
            columns, x = _shared(self.tiling.x, self.x, j, j + right, self.scale)
            found.append(_summed(heights[rows, columns], valid[rows, columns], y, x))
        return np.concatenate(found)


def _shared(
    spans: Sequence[Span], ramps: Sequence[Ramp], own: int, other: int, scale: int
) -> tuple[slice, Ramp]:
    """What two windows share along an axis, within the first; and the product of their weights."""
    if not 0 <= other < len(spans):
        return slice(0, 0), ramps[own][:0]
    shared = spans[own].intersect(spans[other])
    mine, its = (shared.refine(scale).within(spans[k].refine(scale)) for k in (own, other))
    return mine, ramps[own][mine] * ramps[other][its]


def _summed(heights: Sums, valid: NDArray[np.bool_], y: Ramp, x: Ramp) -> Sums:
    # No matrix product: it may round differently on another number of threads.
    weights = (y[:, None] * x.astype(np.float64)) * valid
    return np.array([weights.sum(), (weights * heights).sum()])


def levels(sums: Sums) -> NDArray[np.float32]:
    """What must be added to each window so that they agree best where they are blended.

    Where voids part the windows, each part has levels of its own. The mean of the blended answer is
    zero, over each part.

    Parameters
    ----------
    sums : ndarray, shape (SUMS, rows of windows, columns of windows)

    Returns
    -------
    ndarray of float32, shape (rows of windows, columns of windows)
    """
    shape = sums.shape[1:]
    count = sums[0].size
    first, second, weights, rises = (
        np.concatenate(part) for part in zip(*_steps(sums), strict=True)
    )
    number = np.arange(len(first))
    ends = np.concatenate([second, first]), np.concatenate([number, number])
    signs = np.repeat([1.0, -1.0], len(number))
    steps = coo_array((signs, ends), shape=(count, len(number))).tocsr()
    weighted = steps @ diags_array(weights, shape=(len(number), len(number)))
    equations = (weighted @ steps.T).tocsc()
    parts, part = connected_components(equations, directed=False)
    # The first window of each part stays where it is; the others are found relative to it.
    _, fixed = np.unique(part, return_index=True)
    free = np.setdiff1d(np.arange(count), fixed)
    found = np.zeros(count)
    if len(free):
        # The last bits may depend on the number of threads; rounding to float32 drops them.
        solver = splu(equations[free][:, free], permc_spec="MMD_AT_PLUS_A")
        found[free] = solver.solve((weighted @ rises)[free])
    own, total = sums[0].ravel(), sums[1].ravel()
    known = np.bincount(part, own, parts)
    mean = np.bincount(part, total + own * found, parts) / np.where(known > 0, known, 1.0)
    raised: NDArray[np.float32] = (found - mean[part]).astype(np.float32).reshape(shape)
    return raised


def _steps(sums: Sums) -> list[tuple[NDArray[np.intp], NDArray[np.intp], Sums, Sums]]:
    """From window to window: the first, the second, a weight, and how far the second must rise."""
    ny, nx = sums.shape[1:]
    number = np.arange(ny * nx).reshape(ny, nx)
    weight, total = sums[2::2], sums[3::2]
    steps = []
    for side, (down, right) in enumerate(_SIDES):
        if down + right < 0:
            continue
        here = slice(0, ny - down), slice(0, nx - right)
        there = slice(down, None), slice(right, None)
        shared = weight[side][here] > 0
        weights = weight[side][here][shared]
        rises = (total[side][here][shared] - total[side + 1][there][shared]) / weights
        steps.append((number[here][shared], number[there][shared], weights, rises))
    return steps
