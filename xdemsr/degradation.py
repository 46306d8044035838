"""How a coarse sensor would have seen a raster."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.mapping import map_function
from xdemsr.spec import whole_scale
from xdemsr.window import Span, Window

_NOISE_TILE = 256


def degrade(
    obj: xr.DataArray,
    scale: int,
    *,
    noise: float = 0.0,
    step: float = 0.0,
    seed: int = 0,
) -> xr.DataArray:
    """Block means, then noise, then rounding: a coarse raster whose truth is known.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        Fine elevations. Rows and columns that do not fill a block at the end are cut off.
    scale : int
        Fine pixels per coarse pixel along each axis.
    noise : float, optional
        Standard deviation of white noise added to each coarse pixel, in the raster's unit.
    step : float, optional
        Round to multiples of this; 1 gives whole metres.
    seed : int, optional
        Of the noise, which depends on the pixel's place and nothing else.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        Void where any fine pixel of the block is. Lazy where the input is.

    Raises
    ------
    InputError
        If the raster is smaller than one block, or an argument is negative.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((48, 64))
    >>> coarse = dem.demsr.degrade(16, step=1.0)
    >>> dict(coarse.sizes), bool((coarse % 1 == 0).all())
    ({'y': 3, 'x': 4}, True)
    """
    scale = whole_scale(scale)
    if not (0 <= noise < math.inf and 0 <= step < math.inf):
        raise InputError(f"degrade needs noise >= 0 and step >= 0; got {noise} and {step}.")
    shape = grid.of(grid.single(obj)).shape
    if min(shape) < scale:
        raise InputError(f"a raster of {shape} pixels (ny, nx) has no block of {scale} x {scale}.")
    return map_function(
        obj,
        _degraded,
        "degrade",
        coarsen=scale,
        scale=scale,
        noise=float(noise),
        step=float(step),
        seed=int(seed),
    )


def block_mean(z: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    """Means of blocks of ``scale`` x ``scale`` pixels, always summed in the same order."""
    rows = z[::scale].copy()
    for k in range(1, scale):
        rows += z[k::scale]
    total: NDArray[np.float64] = rows[:, ::scale].copy()
    for k in range(1, scale):
        total += rows[:, k::scale]
    return total / scale**2


def _degraded(
    z: NDArray[np.float64], core: Window, scale: int, noise: float, step: float, seed: int
) -> NDArray[np.float64]:
    means = block_mean(z, scale)
    if noise:
        means = means + noise * _white(core, seed)
    if step:
        means = np.round(means / step) * step
    return means


def _white(core: Window, seed: int) -> NDArray[np.float64]:
    """Noise of unit variance, drawn tile by tile of the whole raster's grid."""
    spans = (
        Span(core.y.start // _NOISE_TILE, -(-core.y.stop // _NOISE_TILE)),
        Span(core.x.start // _NOISE_TILE, -(-core.x.stop // _NOISE_TILE)),
    )
    field = np.empty(core.shape)
    for i, j in product(*(range(span.start, span.stop) for span in spans)):
        tile = Window(*(Span(k * _NOISE_TILE, (k + 1) * _NOISE_TILE) for k in (i, j)))
        drawn = np.random.default_rng([seed, i, j]).standard_normal(tile.shape)
        shared = tile.intersect(core)
        field[shared.within(core)] = drawn[shared.within(tile)]
    return field
