"""Slope and hillshade: lazy, void-safe, the same whatever the chunks."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.mapping import map_function
from xdemsr.window import Window

Plane = NDArray[np.float64]


def slope(obj: xr.DataArray) -> xr.DataArray:
    """Steepest slope in degrees.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        Elevations in metres. On geographic grids pixel sizes are taken in metres at the raster's
        middle latitude; without a CRS coordinates are taken to be metres.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        Degrees from horizontal, 0 to 90.

    References
    ----------
    Horn, B. K. P. (1981). Hill shading and the reflectance map. Proc. IEEE 69(1), 14-47.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32))
    >>> bool((dem.demsr.slope() >= 0).all())
    True
    """
    height, width = grid.of(grid.single(obj)).metres()
    answer = map_function(obj, _slope, "slope", halo=1, bridged=True, height=height, width=width)
    answer.attrs = {"units": "degree", "long_name": "slope"}
    return answer.rename("slope")


def hillshade(
    obj: xr.DataArray,
    *,
    azimuth: float = 315.0,
    altitude: float = 45.0,
    exaggeration: float = 1.0,
) -> xr.DataArray:
    """Brightness of the terrain under a distant light.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        Elevations in metres, as in :func:`xdemsr.slope`.
    azimuth : float, optional
        Where the light comes from, in degrees clockwise from north.
    altitude : float, optional
        Height of the light above the horizon, in degrees.
    exaggeration : float, optional
        Factor on the elevations.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        0 (dark) to 1 (facing the light).

    References
    ----------
    Horn, B. K. P. (1981). Hill shading and the reflectance map. Proc. IEEE 69(1), 14-47.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32))
    >>> shade = dem.demsr.hillshade(azimuth=300)
    >>> bool(shade.min() >= 0), bool(shade.max() <= 1)
    (True, True)
    """
    if not all(map(math.isfinite, (azimuth, altitude, exaggeration))):
        raise InputError(
            "hillshade needs finite numbers; got "
            f"azimuth={azimuth}, altitude={altitude}, exaggeration={exaggeration}."
        )
    found = grid.of(grid.single(obj))
    height, width = found.metres()
    affine = found.geobox.affine
    answer = map_function(
        obj,
        _hillshade,
        "hillshade",
        halo=1,
        bridged=True,
        # Signed, so that north is up and east is right whichever way the axes run.
        height=np.copysign(height, affine.e),
        width=np.copysign(width, affine.a),
        azimuth=azimuth,
        altitude=altitude,
        exaggeration=exaggeration,
    )
    answer.attrs = {"units": "1", "long_name": "hillshade"}
    return answer.rename("hillshade")


def gradient(z: Plane, height: float, width: float) -> tuple[Plane, Plane]:
    """Horn's gradient (dz/dy, dz/dx) inside a one-pixel border."""
    rows = z[:-2] + 2 * z[1:-1] + z[2:]
    columns = z[:, :-2] + 2 * z[:, 1:-1] + z[:, 2:]
    dx = (rows[:, 2:] - rows[:, :-2]) / (8 * width)
    dy = (columns[2:] - columns[:-2]) / (8 * height)
    return dy, dx


def slope_degrees(z: Plane, height: float, width: float) -> Plane:
    """Slope inside a one-pixel border, in degrees."""
    steepness: Plane = np.degrees(np.arctan(np.hypot(*gradient(z, height, width))))
    return steepness


def _slope(z: Plane, core: Window, height: float, width: float) -> Plane:
    return slope_degrees(z, height, width)


def _hillshade(
    z: Plane,
    core: Window,
    height: float,
    width: float,
    azimuth: float,
    altitude: float,
    exaggeration: float,
) -> Plane:
    north, east = gradient(z * exaggeration, height, width)
    toward, up = np.radians(azimuth), np.radians(altitude)
    light = (np.cos(up) * np.sin(toward), np.cos(up) * np.cos(toward), np.sin(up))
    # The surface's normal is (-east, -north, 1), normalised.
    shade = (light[2] - light[0] * east - light[1] * north) / np.sqrt(1 + east**2 + north**2)
    bright: Plane = np.clip(shade, 0.0, 1.0)
    return bright
