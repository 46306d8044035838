"""Pieces shared by the networks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def upsample(x: Tensor, taps: Tensor, stride: int = 1) -> Tensor:
    """Separable sub-pixel convolution, written straight into its final layout.

    Parameters
    ----------
    x : Tensor, shape (n, c, ny * stride + 2r, nx * stride + 2r)
        Source pixels with ``r`` pixels of context on every side.
    taps : Tensor, shape (s, stride + 2r)
        Weights of the source pixels in each of the ``s`` sub-pixels of ``stride`` pixels (see
        :mod:`xdemsr.kernels`).
    stride : int, optional
        Source pixels that one set of sub-pixels stands for.

    Returns
    -------
    Tensor, shape (n, c, ny * s, nx * s)
    """
    # Heights stay in float32 where training runs in half precision.
    with torch.autocast(x.device.type, enabled=False):
        return _upsample(x, taps, stride)


def _upsample(x: Tensor, taps: Tensor, stride: int) -> Tensor:
    scale, width = taps.shape
    n, c, rows, columns = x.shape
    ny, nx = ((length - width) // stride + 1 for length in (rows, columns))
    by_x, step = _grouped(taps, nx, stride)
    # Copied by reshape: one large matrix product, where the overlapping view is one for each row.
    wide = torch.mm(x.unfold(-1, by_x.shape[1], step).reshape(-1, by_x.shape[1]), by_x.T)
    by_y, step = _grouped(taps, ny, stride)
    # Each group of output rows is a small matrix product with the rows around it, written where it
    # belongs. A table for each, though all are one, or matmul would copy the overlapping rows.
    around = wide.reshape(n * c, rows, nx * scale).unfold(1, by_y.shape[1], step)
    tables = by_y.expand(*around.shape[:2], *by_y.shape)
    answer = torch.matmul(tables, around.transpose(-1, -2))
    return answer.reshape(n, c, ny * scale, nx * scale)


def _grouped(taps: Tensor, length: int, stride: int) -> tuple[Tensor, int]:
    """A banded table that answers several neighbouring strides at once, and pixels per table.

    Matrix products with few rows are slow; sixteen are enough.
    """
    scale, width = taps.shape
    group = max(g for g in (1, 2, 4, 8) if g == 1 or (length % g == 0 and g * scale <= 16))
    table = taps.new_zeros(group * scale, width + (group - 1) * stride)
    for k in range(group):
        table[k * scale : (k + 1) * scale, k * stride : k * stride + width] = taps
    return table, group * stride


def extend_odd(x: Tensor, width: int) -> Tensor:
    """Continue a map beyond its border by point reflection about the outermost pixels.

    Where the map is narrower than ``width`` the reflection is repeated.
    """
    for dim in (-2, -1):
        missing = width
        while missing > 0 and x.shape[dim] > 1:
            step = min(missing, x.shape[dim] - 1)
            x = _reflect_odd(x, step, dim)
            missing -= step
        if missing > 0:
            first, last = x.narrow(dim, 0, 1), x.narrow(dim, -1, 1)
            repeats = [1] * x.ndim
            repeats[dim] = missing
            x = torch.cat([first.repeat(repeats), x, last.repeat(repeats)], dim)
    return x


def _reflect_odd(x: Tensor, step: int, dim: int) -> Tensor:
    length = x.shape[dim]
    before = 2 * x.narrow(dim, 0, 1) - x.narrow(dim, 1, step).flip(dim)
    after = 2 * x.narrow(dim, -1, 1) - x.narrow(dim, length - 1 - step, step).flip(dim)
    return torch.cat([before, x, after], dim)


def with_margin(x: Tensor, have: int, want: int) -> Tensor:
    """Crop or extend a map from ``have`` to ``want`` pixels of margin."""
    if want > have:
        return extend_odd(x, want - have)
    if want < have:
        cut = have - want
        return x[..., cut:-cut, cut:-cut]
    return x


def local_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over the (2 radius + 1) squared pixels around each; beyond the border, those there are.

    A tile-independent offset: unlike a tile's own mean it does not depend on where tiles lie.
    """
    for size, padding in (((1, 2 * radius + 1), (0, radius)), ((2 * radius + 1, 1), (radius, 0))):
        x = functional.avg_pool2d(x, size, stride=1, padding=padding, count_include_pad=False)
    return x
