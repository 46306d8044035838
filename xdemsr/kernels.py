"""Classical interpolation kernels as sub-pixel taps.

Every kernel here is separable. For a whole-number scale ``s`` and radius ``r`` it is a table of
shape (s, 2r + 1): row ``k`` holds the weights of the source pixels ``i - r ... i + r`` in sub-pixel
``k`` of source pixel ``i``. Pixels are areas (half-pixel centres), as in GDAL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from xdemsr.errors import ModelError
from xdemsr.spec import Border

Taps = NDArray[np.float64]

#: Pixels after which a cubic spline's influence is below one part in 10 million.
SPLINE_RADIUS = 12


def nearest(scale: int) -> Taps:
    """Each sub-pixel takes its pixel's value."""
    return np.ones((scale, 1))


def bilinear(scale: int) -> Taps:
    """Linear between pixel centres."""
    return _sampled(scale, 1, lambda t: np.maximum(1 - np.abs(t), 0))


def bicubic(scale: int) -> Taps:
    """Cubic convolution with a = -0.5, the kernel of GDAL and PIL.

    References
    ----------
    Keys, R. (1981). Cubic convolution interpolation for digital image processing. IEEE Trans. ASSP
    29(6), 1153-1160.
    """

    def keys(t: NDArray[np.float64]) -> NDArray[np.float64]:
        t = np.abs(t)
        near = (1.5 * t - 2.5) * t * t + 1
        far = ((-0.5 * t + 2.5) * t - 4) * t + 2
        return np.where(t < 1, near, np.where(t < 2, far, 0.0))

    return _sampled(scale, 2, keys)


def spline(scale: int) -> Taps:
    """Interpolating cubic B-spline, ``skimage.transform.resize(order=3)``: the papers' bicubic."""
    radius = SPLINE_RADIUS
    length = 4 * radius + 1
    impulse = np.zeros(length)
    impulse[length // 2] = 1.0
    cardinal = make_interp_spline(np.arange(length), impulse, k=3)
    return _sampled(scale, radius, lambda t: cardinal(t + length // 2))


def histospline(scale: int, radius: int = SPLINE_RADIUS) -> Taps:
    """Cubic histospline: the smoothest surface of its kind whose block means are the input.

    The running sum along an axis is interpolated by a cubic spline and differenced, so the mean of
    the ``scale`` sub-pixels of a pixel is that pixel. Cutting the kernel at any radius keeps the
    means; constants and straight lines are then restored exactly.

    References
    ----------
    Boneva, L. I., Kendall, D. and Stefanov, I. (1971). Spline transformations: three new diagnostic
    aids for the statistical data-analyst. J. R. Stat. Soc. B 33(1), 1-70.

    Tobler, W. R. (1979). Smooth pycnophylactic interpolation for geographical regions. J. Am. Stat.
    Assoc. 74(367), 519-530.
    """
    return histospline_ratio(scale, 1, radius)


def histospline_ratio(up: int, down: int, radius: int = SPLINE_RADIUS) -> Taps:
    """The histospline from ``down`` pixels to ``up``: a change of resolution by any ratio.

    Returns
    -------
    ndarray, shape (up, down + 2 radius)
        Weights of the ``down`` pixels, and of ``radius`` more on both sides, in each of the ``up``
        pixels that cover the same stretch. The mean over the stretch is kept.
    """
    first, last = -radius, down + radius
    margin = 2 * max(radius, SPLINE_RADIUS)
    edges = np.arange(up + 1) * down / up + margin
    taps = np.empty((up, last - first))
    for column, pixel in enumerate(range(first, last)):
        running_sum = (np.arange(down + 2 * margin + 1) > pixel + margin).astype(np.float64)
        smooth = make_interp_spline(np.arange(len(running_sum)), running_sum, k=3)
        taps[:, column] = np.diff(smooth(edges)) * up / down
    # What cutting off has taken from constants and straight lines is given back where it leaves
    # the mean of the stretch as it is: to all of its pixels alike, and to its two neighbours.
    taps[:, radius : radius + down] += (1 - taps.sum(axis=1, keepdims=True)) / down
    if radius:
        centres = (np.arange(up) + 0.5) * down / up
        lacking = centres - taps @ (np.arange(first, last) + 0.5)
        taps[:, radius + down] += lacking / (down + 1)
        taps[:, radius - 1] -= lacking / (down + 1)
    return taps


def linear_ratio(up: int, down: int) -> Taps:
    """Linear interpolation from ``down`` pixels to ``up``, shape (up, down + 2); never negative."""
    centres = (np.arange(up) + 0.5) * down / up
    distance = centres[:, None] - (np.arange(-1, down + 1) + 0.5)
    weights = np.maximum(1 - np.abs(distance), 0)
    taps: Taps = weights / weights.sum(axis=1, keepdims=True)
    return taps


#: Kernel, and how it continues the raster beyond its border. The spline's is scikit-image's own.
KERNELS: dict[str, tuple[Callable[[int], Taps], Border]] = {
    "nearest": (nearest, "edge"),
    "bilinear": (bilinear, "edge"),
    "bicubic": (bicubic, "edge"),
    "spline": (spline, "mirror"),
    "histospline": (histospline, "odd"),
}


#: The better of these two, place by place, is the best that needs no training.
CLASSICAL = ("spline", "histospline")


def taps(kernel: str, scale: int) -> Taps:
    """The table of a kernel by name.

    Raises
    ------
    ModelError
        If there is no kernel of this name.
    """
    try:
        function, _ = KERNELS[kernel]
    except KeyError:
        raise ModelError(f"no kernel {kernel!r}; there are {', '.join(KERNELS)}.") from None
    return function(scale)


def _sampled(scale: int, radius: int, function: Callable[[Any], Any]) -> Taps:
    position = (np.arange(scale) + 0.5) / scale - 0.5
    offset = np.arange(-radius, radius + 1)
    return np.asarray(function(position[:, None] - offset[None, :]), dtype=np.float64)
