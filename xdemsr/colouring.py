"""What covers made terrain, and how bright that is in four bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]

BANDS = ("red", "green", "blue", "nir")
#: Reflectances under a sun that stands square to the ground, in the order of the bands.
_FOREST = (0.030, 0.052, 0.028, 0.300)
_MEADOW = (0.090, 0.120, 0.055, 0.420)
_SCREE = (0.210, 0.185, 0.150, 0.270)
_ROCK = (0.160, 0.150, 0.140, 0.200)
_SNOW = (0.820, 0.840, 0.860, 0.760)
#: The sky's share of the light on level ground.
_SKY = 0.22
#: Slopes in degrees where meadows give way to rock, and where snow slides off: none, all.
_BARE, _SLIDES = (28.0, 42.0), (35.0, 50.0)
#: Metres above and below a line in which what it parts is mixed.
_BELT = 150.0


def reflectance(
    heights: NDArray[Any],
    slopes: NDArray[Any],
    light: NDArray[Any],
    patches: NDArray[Any],
    treeline: float,
    snowline: float,
) -> NDArray[np.float32]:
    """Reflectance, shape (..., bands).

    Parameters
    ----------
    heights, slopes : ndarray, shape (...)
        In metres, NaN at voids; in degrees.
    light : ndarray, shape (...)
        Of the sun, relative to that on level ground.
    patches : ndarray, shape (...)
        Noise, most of it between 0 and 1.
    treeline, snowline : float
        In metres.
    """
    # The same lines for all would look drawn.
    uneven = heights + _BELT * (2 * patches - 1)
    alpine = _between(uneven, treeline - _BELT, treeline + _BELT)
    bare = _between(slopes + 10 * (patches - 0.5), *_BARE)
    lying = 1 - _between(slopes, *_SLIDES)
    snowy = _between(uneven, snowline - _BELT, snowline + _BELT) * lying
    # Forest keeps to slopes, and to the shady ones.
    shelter = 0.4 * (1 - light) + 0.01 * (slopes - 15)
    wooded = _between(patches + shelter, 0.38, 0.62) * (1 - alpine)
    bands = []
    for forest, meadow, scree, rock, snow in zip(
        _FOREST, _MEADOW, _SCREE, _ROCK, _SNOW, strict=True
    ):
        green = wooded * forest + (1 - wooded) * meadow
        stony = _mixed(green, scree, 0.7 * alpine)
        ground = _mixed(stony, rock, bare)
        # Neighbouring fields are not of one brightness.
        textured = ground * (0.85 + 0.3 * patches)
        bands.append(_mixed(textured, snow, snowy) * (_SKY + (1 - _SKY) * light))
    return np.clip(np.stack(bands, axis=-1), 0.0, 1.0).astype(np.float32)


def _between(values: NDArray[Any], low: float, high: float) -> Plane:
    """0 below, 1 above, and smooth between."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    smooth: Plane = t * t * (3 - 2 * t)
    return smooth


def _mixed(first: Any, second: Any, share: Plane) -> Plane:
    mixed: Plane = first + (second - first) * share
    return mixed
