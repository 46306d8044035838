"""Missing pixels: found, bridged before the network, put back after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

Mask = NDArray[np.bool_]
F = TypeVar("F", np.float32, np.float64)

#: Void values of integer elevation rasters that do not declare theirs.
SENTINELS = (-9999, -32768, -32767)

_LARGEST = 1e30

#: Rings of a void, from its rim, into which slopes are carried on; little of them is left then.
SLOPING_RINGS = 4
# Of the step between the two pixels outside: how much is carried into the first ring, and how that
# fades from ring to ring. Chosen on the validation places (docs/accuracy.md).
_SLOPE, _FADING = 0.8, 0.6
_NEIGHBOURS = [
    (dy, dx, 1.0 if 0 in (dy, dx) else 0.5)
    for dy in (-1, 0, 1)
    for dx in (-1, 0, 1)
    if (dy, dx) != (0, 0)
]


def valid_pixels(block: NDArray[Any], voids: Sequence[float]) -> Mask:
    """True where there is data: finite, and none of the values that mean missing.

    Where a signed integer raster declares no void value, the customary ones (-9999, -32768 and
    -32767) are taken. No floating-point quantity is as large as the customary void values of that
    type (3.4e38), so these need not be declared.
    """
    if block.dtype.kind == "b":
        return np.ones(block.shape, dtype=bool)
    if np.issubdtype(block.dtype, np.integer):
        limits = np.iinfo(block.dtype)
        valid: Mask = np.ones(block.shape, dtype=bool)
        for void in voids or (SENTINELS if limits.min < 0 else ()):
            if limits.min <= void <= limits.max and float(void).is_integer():
                valid &= block != block.dtype.type(int(void))
        return valid
    with np.errstate(invalid="ignore"):
        valid = np.abs(block) <= min(_LARGEST, float(np.finfo(block.dtype).max))
    for void in voids:
        # Compared in the raster's own type: -3.4e38 in float32 is another number in float64.
        with np.errstate(over="ignore"):
            valid &= block != np.float64(void).astype(block.dtype)
    return valid


def bridge(values: NDArray[F], valid: Mask, reach: int) -> NDArray[F]:
    """Fill voids ring by ring from their rim inwards, carrying slopes on for the first few rings.

    A pixel takes the weighted mean of what its known neighbours say: the neighbour's own height,
    and part of the step from the pixel behind it. A flat fill would put the foot of a cliff at the
    rim of every void on a hillside, and a network that knows cliffs answers to it. The part fades
    inwards, so that noise is not carried far.

    What a pixel is filled with depends on known pixels within its distance from the rim and
    ``SLOPING_RINGS`` more, and on nothing else, so tiles that share a void fill it alike. Pixels
    farther than ``reach`` from any valid one take the mean of all valid pixels.

    Parameters
    ----------
    values : ndarray, shape (ny, nx)
    valid : ndarray of bool, shape (ny, nx)
        At least one must be True.
    reach : int
        How far from the rim the fill must be exact.
    """
    # Two pixels around, so that neighbours need no care at the edge. In float64, and not relative
    # to the mean of what is there, which would round otherwise in another window.
    filled = np.pad(np.where(valid, values, 0.0).astype(np.float64), 2)
    known = np.pad(valid, 2)
    inside = np.pad(np.ones_like(valid), 2)
    for ring in range(reach):
        rim = np.nonzero(binary_dilation(known, np.ones((3, 3)), mask=inside) & ~known)
        if not len(rim[0]):
            break
        slope = _SLOPE * _FADING**ring if ring < SLOPING_RINGS else 0.0
        filled[rim] = _carried_on(filled, known, rim, slope)
        known[rim] = True
    filled[~known] = values[valid].mean(dtype=np.float64)
    bridged: NDArray[F] = filled[2:-2, 2:-2].astype(values.dtype)
    bridged[valid] = values[valid]
    return bridged


def _carried_on(
    heights: NDArray[np.float64], known: Mask, rim: tuple[NDArray[np.intp], ...], slope: float
) -> NDArray[np.float64]:
    """Weighted mean, for each pixel of the rim, of the heights its known neighbours point to."""
    y, x = rim
    total, weights = np.zeros(len(y)), np.zeros(len(y))
    for dy, dx, weight in _NEIGHBOURS:
        near = (y + dy, x + dx)
        behind = (y + 2 * dy, x + 2 * dx)
        step = np.where(known[behind], heights[near] - heights[behind], 0.0)
        share = weight * known[near]
        total += share * (heights[near] + slope * step)
        weights += share
    carried: NDArray[np.float64] = total / weights
    return carried
