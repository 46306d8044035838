"""What a coarse sensor makes of fine terrain: how it samples, and how far off its heights are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from xdemsr.errors import InputError

Plane = NDArray[np.float64]
Sampling = Literal["mean", "gaussian", "bilinear", "nearest"]

#: Standard deviations in a Gaussian's full width at half maximum.
_FWHM = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True)
class Sensor:
    """A coarse sensor.

    Attributes
    ----------
    sampling : {"mean", "gaussian", "bilinear", "nearest"}
        What a coarse pixel holds of the fine ones: their mean; their mean weighted by a Gaussian
        point-spread function around the pixel's centre; the mean of the two by two (or the one)
        around its centre; the one nearest to its centre. The last two alias.
    fwhm : float
        Full width at half maximum of the Gaussian, in coarse pixels.
    noise : float
        Standard deviation of white noise, in the raster's unit.
    stripes : float
        Standard deviation of an offset that all pixels of a row share.
    step : float
        Heights are rounded to multiples of this; 0 leaves them.

    See Also
    --------
    xdemsr.degrade : Takes the same by name, and says more of each.

    Examples
    --------
    >>> import xdemsr
    >>> round(xdemsr.Sensor(noise=0.3, step=1.0).error, 3)
    0.416
    """

    sampling: Sampling = "mean"
    fwhm: float = 1.0
    noise: float = 0.0
    stripes: float = 0.0
    step: float = 0.0

    def __post_init__(self) -> None:
        if self.sampling not in get_args(Sampling):
            raise InputError(
                f"sampling={self.sampling!r} is not one of {', '.join(get_args(Sampling))}."
            )
        if not 0 < self.fwhm < math.inf:
            raise InputError(f"fwhm={self.fwhm} must be positive: coarse pixels.")
        for name in ("noise", "stripes", "step"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"{name}={value} must be 0 or more, in the raster's unit.")

    @property
    def sigma(self) -> float:
        """Standard deviation of the point-spread function, in coarse pixels."""
        return self.fwhm / _FWHM

    @property
    def error(self) -> float:
        """Standard error that noise, stripes and rounding give a coarse pixel."""
        return math.hypot(self.noise, self.stripes, self.step / math.sqrt(12))

    def disturbed(self, coarse: Plane, white: Plane, stripe: Plane) -> Plane:
        """Sampled heights with the sensor's errors.

        Parameters
        ----------
        coarse : ndarray, shape (ny, nx)
            Sampled heights.
        white : ndarray, shape (ny, nx)
            Noise of unit variance.
        stripe : ndarray, shape (ny, 1)
            Noise of unit variance, one number a row.
        """
        if self.noise:
            coarse = coarse + self.noise * white
        if self.stripes:
            coarse = coarse + self.stripes * stripe
        if self.step:
            coarse = np.round(coarse / self.step) * self.step
        return coarse


def fwhm_of_mtf(mtf: float) -> float:
    """Full width at half maximum of a Gaussian with this modulation transfer at Nyquist.

    Parameters
    ----------
    mtf : float
        Contrast that is left at half a cycle per coarse pixel, between 0 and 1.

    Returns
    -------
    float
        In coarse pixels.

    Examples
    --------
    >>> from xdemsr.sensor import fwhm_of_mtf
    >>> round(fwhm_of_mtf(0.3), 3)
    1.163
    """
    if not 0 < mtf < 1:
        raise InputError(f"mtf={mtf} must lie between 0 and 1: contrast left at Nyquist.")
    return _FWHM * math.sqrt(-2 * math.log(mtf)) / math.pi


def block_mean(z: Plane, scale: int) -> Plane:
    """Means of blocks of ``scale`` x ``scale`` pixels, always summed in the same order."""
    rows = z[::scale].copy()
    for k in range(1, scale):
        rows += z[k::scale]
    total: Plane = rows[:, ::scale].copy()
    for k in range(1, scale):
        total += rows[:, k::scale]
    return total / scale**2
