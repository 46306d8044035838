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
from xdemsr.sensor import Sampling, Sensor, block_mean, fwhm_of_mtf
from xdemsr.spec import whole_scale
from xdemsr.window import Span, Window

Plane = NDArray[np.float64]

_NOISE_TILE = 256
#: Standard deviations after which the Gaussian is cut off.
_CUT = 4.0
#: Of the point-spread function's variance: keeps slopes at zero where nothing tells them.
_RIDGE = 1e-6


def degrade(
    obj: xr.DataArray,
    scale: int,
    *,
    sampling: Sampling = "mean",
    fwhm: float = 1.0,
    mtf: float | None = None,
    noise: float = 0.0,
    stripes: float = 0.0,
    step: float = 0.0,
    seed: int = 0,
) -> xr.DataArray:
    """Coarse pixels, then noise and stripes, then rounding: a coarse raster whose truth is known.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        Fine elevations. Rows and columns that do not fill a block at the end are cut off.
    scale : int
        Fine pixels per coarse pixel along each axis.
    sampling : {"mean", "gaussian", "bilinear", "nearest"}, optional
        What a coarse pixel holds of the fine ones. ``"mean"``: the mean of its block.
        ``"gaussian"``: the mean under a Gaussian point-spread function around its centre, which
        reaches into its neighbours and is cut off at 4 standard deviations. ``"bilinear"``: what
        interpolation at its centre gives, the mean of the two by two fine pixels around it (the
        middle one where ``scale`` is odd). ``"nearest"``: the fine pixel at its centre; where
        ``scale`` is even, the one after. The last two alias, and are what GDAL and torch make
        where they are not told to average.
    fwhm : float, optional
        Full width at half maximum of the Gaussian, in coarse pixels.
    mtf : float, optional
        Width of the Gaussian, said in another way: the contrast between 0 and 1 that it leaves at
        half a cycle per coarse pixel.
    noise : float, optional
        Standard deviation of white noise added to each coarse pixel, in the raster's unit.
    stripes : float, optional
        Standard deviation of an offset that all coarse pixels of a row share.
    step : float, optional
        Round to multiples of this; 1 gives whole metres.
    seed : int, optional
        Of noise and stripes, which depend on the pixel's place and nothing else.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        Void where any fine pixel of the block is, whatever the sampling. Lazy where the input is.

    Raises
    ------
    InputError
        If the raster is smaller than one block, an argument is out of its range, or a width is
        given to a sampling that has none.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((48, 64))
    >>> coarse = dem.demsr.degrade(16, step=1.0)
    >>> dict(coarse.sizes), bool((coarse % 1 == 0).all())
    ({'y': 3, 'x': 4}, True)
    >>> blurred = dem.demsr.degrade(4, sampling="gaussian", mtf=0.3)
    >>> bool(blurred.std() < dem.demsr.degrade(4).std())
    True
    """
    scale = whole_scale(scale)
    sensor = Sensor(sampling, _width(sampling, fwhm, mtf), noise, stripes, step)
    if seed < 0:
        raise InputError(f"seed={seed} must be 0 or more.")
    shape = grid.of(grid.single(obj)).shape
    if min(shape) < scale:
        raise InputError(f"a raster of {shape} pixels (ny, nx) has no block of {scale} x {scale}.")
    return map_function(
        obj,
        _degraded,
        "degrade",
        coarsen=scale,
        halo=_halo(sensor),
        scale=scale,
        sensor=sensor,
        seed=int(seed),
    )


def _width(sampling: Sampling, fwhm: float, mtf: float | None) -> float:
    """Full width at half maximum of the Gaussian, in coarse pixels."""
    if sampling != "gaussian" and (mtf is not None or fwhm != 1.0):
        raise InputError(
            f"sampling={sampling!r} has no width; got fwhm={fwhm} and mtf={mtf}. They belong to "
            "sampling='gaussian'."
        )
    if mtf is None:
        return fwhm
    if fwhm != 1.0:
        raise InputError(f"fwhm={fwhm} and mtf={mtf} say the same in two ways: give one.")
    return fwhm_of_mtf(mtf)


def _halo(sensor: Sensor) -> int:
    """Coarse pixels beside its own that a coarse pixel sees."""
    if sensor.sampling != "gaussian":
        return 0
    return max(math.ceil(_CUT * sensor.sigma - 0.5), 0)


def _degraded(z: Plane, core: Window, scale: int, sensor: Sensor, seed: int) -> Plane:
    white, stripe = np.zeros((1, 1)), np.zeros((1, 1))
    if sensor.noise:
        white = _white(core, seed)
    if sensor.stripes:
        stripe = _stripe(core.y, seed)
    return sensor.disturbed(_sampled(z, scale, sensor), white, stripe)


def _sampled(z: Plane, scale: int, sensor: Sensor) -> Plane:
    """What the coarse pixels hold, void where any fine pixel of their block is."""
    margin = _halo(sensor) * scale
    means = block_mean(z[margin : len(z) - margin, margin : z.shape[1] - margin], scale)
    if sensor.sampling == "mean":
        return means
    if sensor.sampling == "gaussian":
        sampled = _blurred(z, scale, sensor)
    else:
        width = 2 - scale % 2 if sensor.sampling == "bilinear" else 1
        first = (scale - width + 1) // 2
        sampled = np.zeros_like(means)
        for dy, dx in product(range(width), repeat=2):
            sampled += z[first + dy :: scale, first + dx :: scale]
        sampled /= width**2
    return np.where(np.isnan(means), np.nan, sampled)


def _blurred(z: Plane, scale: int, sensor: Sensor) -> Plane:
    """Means under the point-spread function."""
    offset, weight = _point_spread(scale, sensor)
    valid = np.isfinite(z)
    if valid.all():
        return _under(_under(z, weight, scale).T, weight, scale).T
    return _fitted(z, valid, [weight * offset**power for power in range(3)], scale, sensor)


def _point_spread(scale: int, sensor: Sensor) -> tuple[Plane, Plane]:
    """Places of fine pixels along an axis, from the middle in coarse pixels, and their weights."""
    halo = _halo(sensor)
    offset = (np.arange(scale * (2 * halo + 1)) + 0.5) / scale - 0.5 - halo
    nearest = np.abs(offset).min()
    weight = np.exp((nearest**2 - offset**2) / (2 * sensor.sigma**2))
    weight[np.abs(offset) > max(_CUT * sensor.sigma, nearest)] = 0.0
    return offset, weight / weight.sum()


def _fitted(
    z: Plane, valid: NDArray[np.bool_], powers: list[Plane], scale: int, sensor: Sensor
) -> Plane:
    """Height, in the middle, of the plane that fits best what is known under the function.

    The mean of what is known would lie off the middle beside voids, and be wrong on every slope.
    """
    shares = [_under(valid.astype(np.float64), taps, scale).T for taps in powers]
    heights = [_under(np.where(valid, z, 0.0), taps, scale).T for taps in powers[:2]]

    def moment(rows: list[Plane], dy: int, dx: int) -> Plane:
        total: Plane = _under(rows[dy], powers[dx], scale).T / share
        return total

    # Where nothing is known, nothing is told: such pixels are void.
    with np.errstate(invalid="ignore", divide="ignore"):
        share = _under(shares[0], powers[0], scale).T
        y, x, mean = moment(shares, 1, 0), moment(shares, 0, 1), moment(heights, 0, 0)
        ridge = _RIDGE * sensor.sigma**2
        yy, xx = moment(shares, 2, 0) - y * y + ridge, moment(shares, 0, 2) - x * x + ridge
        xy = moment(shares, 1, 1) - x * y
        zy, zx = moment(heights, 1, 0) - mean * y, moment(heights, 0, 1) - mean * x
        along_y, along_x = zy * xx - zx * xy, zx * yy - zy * xy
        middle: Plane = mean - (along_y * y + along_x * x) / (yy * xx - xy * xy)
    return middle


def _under(z: Plane, weight: Plane, scale: int) -> Plane:
    """Weighted sums of rows, one for each coarse row that ``weight`` fits around."""
    reach = len(z) - len(weight) + 1
    total = np.zeros((-(-reach // scale), z.shape[1]))
    for k in np.flatnonzero(weight):
        total += weight[k] * z[k : k + reach : scale]
    return total


def _white(core: Window, seed: int) -> Plane:
    """Noise of unit variance, drawn tile by tile of the whole raster's grid."""
    spans = _tiles(core.y), _tiles(core.x)
    field = np.empty(core.shape)
    for i, j in product(*spans):
        tile = Window(*(Span(k * _NOISE_TILE, (k + 1) * _NOISE_TILE) for k in (i, j)))
        drawn = np.random.default_rng([seed, i, j]).standard_normal(tile.shape)
        shared = tile.intersect(core)
        field[shared.within(core)] = drawn[shared.within(tile)]
    return field


def _stripe(rows: Span, seed: int) -> Plane:
    """One number of unit variance for each row, drawn as the noise is."""
    column = np.empty((rows.size, 1))
    for i in _tiles(rows):
        tile = Span(i * _NOISE_TILE, (i + 1) * _NOISE_TILE)
        # A fourth number, so that no tile of the noise begins with the same ones.
        drawn = np.random.default_rng([seed, i, 0, 1]).standard_normal((tile.size, 1))
        shared = tile.intersect(rows)
        column[shared.within(rows)] = drawn[shared.within(tile)]
    return column


def _tiles(span: Span) -> range:
    return range(span.start // _NOISE_TILE, -(-span.stop // _NOISE_TILE))
