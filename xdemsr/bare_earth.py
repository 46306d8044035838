"""The ground under a surface model, by morphology alone; and voids filled from their rims."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.mapping import map_function
from xdemsr.voids import SLOPING_RINGS, Mask, bridge
from xdemsr.window import Window

Plane = NDArray[np.float64]
#: Pixels along y and x on both sides of a pixel.
Half = tuple[int, int]


def ground_filter(
    obj: xr.DataArray,
    *,
    window: float = 17.0,
    slope: float = 0.1,
    threshold: float = 0.1,
    max_threshold: float = 3.0,
) -> xr.DataArray:
    """Take trees and buildings off a surface model: a progressive morphological filter.

    The surface is opened with squares that double in width, from 3 pixels to ``window``. A pixel
    that one of these openings lowers by more than that width's threshold is no ground. What is left
    is ground as it stands; the gaps are filled from their rims, and what lies farther than
    ``window`` from any ground takes the last opening.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        Surface elevations in metres, in pixels much smaller than what is to be taken off. On
        geographic grids pixel sizes are taken in metres at the raster's middle latitude; without a
        CRS coordinates are taken to be metres.
    window : float, optional
        Width in metres of the largest square: somewhat more than the widest building or crown that
        hides the ground entirely. Larger ones shave off ridges.
    slope : float, optional
        How fast thresholds grow with the width of the square: metres per metre. About the steepest
        slope, where nothing but buildings is to be taken off; far less in forest.
    threshold : float, optional
        Of the smallest square, in metres: roughness of the ground, and noise.
    max_threshold : float, optional
        Of any square, in metres.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        Void where the input is. Lazy where the input is; the same numbers whatever its chunks.

    Raises
    ------
    InputError
        If a parameter is negative or not finite, or the window is narrower than 3 pixels.

    Notes
    -----
    This is the baseline that a trained network has to beat, and no more: it keeps boulders and cars
    up to a threshold, and cuts what is sharper than its squares, cliffs and narrow ridges above
    all. The defaults had the least mean absolute error on first returns of lidar at 1 m, of wooded
    hills and small towns in Kentucky; surfaces from stereo images are rougher and want a larger
    ``threshold``, and large buildings a larger ``window``.

    References
    ----------
    Zhang, K. et al. (2003). A progressive morphological filter for removing nonground measurements
    from airborne LIDAR data. IEEE Trans. Geosci. Remote Sens. 41(4), 872-882.

    Examples
    --------
    >>> import xdemsr
    >>> ground = xdemsr.synthetic.terrain((48, 64), gsd=1.0, relief=5.0)
    >>> surface = ground.copy()
    >>> surface[20:27, 30:41] += 6.0
    >>> bare = xdemsr.ground_filter(surface)
    >>> float(abs(surface - ground).max()), bool(abs(bare - ground).max() < 1)
    (6.0, True)
    """
    height, width = grid.of(grid.single(obj)).metres()
    for name, value in {
        "window": window,
        "slope": slope,
        "threshold": threshold,
        "max_threshold": max_threshold,
    }.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name}={value} must be a finite number, 0 or more.")
    pixel = min(height, width)
    if not 3 * pixel <= window:
        raise InputError(
            f"window={window} is narrower than three pixels of {pixel:.6g} m; give more, in metres."
        )
    squares, thresholds = [], []
    radii = _radii((window - pixel) / 2, pixel)
    for radius, before in zip(radii, (0.0, *radii), strict=False):
        squares.append((round(radius / height), round(radius / width)))
        grown = threshold + (slope * 2 * (radius - before) if squares[1:] else 0.0)
        thresholds.append(min(grown, max_threshold))
    reach = 2 * max(squares[-1])
    return map_function(
        obj,
        _ground,
        "ground",
        # An opening looks as far as its square is wide; a bridge looks at what openings have left.
        halo=2 * reach + SLOPING_RINGS,
        squares=tuple(squares),
        thresholds=tuple(thresholds),
        reach=reach,
    )


def fill_voids(obj: xr.DataArray, *, reach: int = 16) -> xr.DataArray:
    """Fill voids from their rims inwards, slopes carried on for a few pixels.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        What lacks pixels: elevations or any other raster.
    reach : int, optional
        How far from the nearest valid pixel, in pixels, is filled. What lies deeper inside a large
        void stays void.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        Valid pixels as they were. Lazy where the input is; the same numbers whatever its chunks.

    Raises
    ------
    InputError
        If ``reach`` is not a whole number of at least 1.

    Notes
    -----
    Models need no filled input: the engine fills what their networks see, and puts the voids back.
    This is for other uses of a raster.

    Examples
    --------
    >>> import numpy as np, xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32))
    >>> dem[8:12, 10:20] = np.nan
    >>> int(dem.isnull().sum()), int(xdemsr.fill_voids(dem).isnull().sum())
    (40, 0)
    """
    if isinstance(reach, bool) or not isinstance(reach, int | np.integer) or reach < 1:
        raise InputError(f"reach={reach!r} must be a whole number of pixels, 1 or more.")
    return map_function(obj, _filled, "fill", halo=int(reach) + SLOPING_RINGS, reach=int(reach))


def _radii(largest: float, pixel: float) -> list[float]:
    """Half widths in metres that double from one pixel on, and the largest."""
    count = math.ceil(math.log2(largest / pixel)) if largest > pixel else 0
    return [*(pixel * 2.0**k for k in range(count)), largest]


def _ground(
    z: Plane,
    core: Window,
    squares: tuple[Half, ...],
    thresholds: tuple[float, ...],
    reach: int,
) -> Plane:
    valid = np.isfinite(z)
    surface = np.where(valid, z, 0.0)
    ground, before = valid.copy(), surface
    for half, threshold in zip(squares, thresholds, strict=True):
        opened = np.where(valid, _opened(z, valid, half), 0.0)
        ground &= before - opened <= threshold
        before = opened
    filled = np.where(_near(ground, reach), bridge(surface, ground, reach), before)
    return _core(np.where(valid, filled, np.nan), core)


def _filled(z: Plane, core: Window, reach: int) -> Plane:
    valid = np.isfinite(z)
    if valid.all():
        return _core(z, core)
    return _core(np.where(_near(valid, reach), bridge(z, valid, reach), np.nan), core)


def _opened(z: Plane, valid: Mask, half: Half) -> Plane:
    """The highest surface of rectangles below ``z``; voids stand in no one's way."""
    low = np.where(valid, z, np.inf)
    for axis, r in enumerate(half):
        low = minimum_filter1d(low, 2 * r + 1, axis=axis, mode="constant", cval=np.inf)
    # A square that holds nothing but voids lifts nothing.
    high = np.where(np.isfinite(low), low, -np.inf)
    for axis, r in enumerate(half):
        high = maximum_filter1d(high, 2 * r + 1, axis=axis, mode="constant", cval=-np.inf)
    return high


def _near(known: Mask, reach: int) -> Mask:
    """Pixels at most ``reach`` rows and columns from a known one."""
    near = known.astype(np.uint8)
    for axis in (0, 1):
        near = maximum_filter1d(near, 2 * reach + 1, axis=axis, mode="constant")
    return near > 0


def _core(z: Plane, core: Window) -> Plane:
    """The middle of a padded plane."""
    y, x = ((long - short) // 2 for long, short in zip(z.shape, core.shape, strict=True))
    return z[y : y + core.shape[0], x : x + core.shape[1]]
