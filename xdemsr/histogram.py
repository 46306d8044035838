"""Errors counted in bins 0.1 % wide: their quantiles and shares, in memory that does not grow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]
Counts = NDArray[np.int64]

#: Bins are even in asinh(error / unit): linear below a tenth of a millimetre, logarithmic above.
_UNIT = 1e-4
_BINS_PER_E = 1000
_HALF = 25 * _BINS_PER_E


def count(errors: Plane) -> Counts:
    """How many errors fall in each bin. Counts of two sets add up to those of both."""
    return np.bincount(_bins(errors), minlength=2 * _HALF + 1)


def bin_values() -> Plane:
    """The error in the middle of each bin."""
    values: Plane = np.sinh(np.arange(-_HALF, _HALF + 1) / _BINS_PER_E) * _UNIT
    return values


def quantile(values: Plane, counts: Counts, share: float) -> float:
    """The value that ``share`` of the counted are at or below; ``values`` is one for each bin."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(counts[order])
    return float(values[order][np.searchsorted(below, share * below[-1])])


def share_between(counts: Counts, low: float, high: float) -> float:
    """Share of the counted in the bins from that of ``low`` to that of ``high``."""
    first, last = _bins(np.array([low, high]))
    return float(counts[first : last + 1].sum() / counts.sum())


def _bins(errors: Plane) -> NDArray[np.int64]:
    position = np.rint(np.arcsinh(errors / _UNIT) * _BINS_PER_E)
    bins: NDArray[np.int64] = np.clip(position, -_HALF, _HALF).astype(np.int64) + _HALF
    return bins
