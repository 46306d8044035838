"""Coarse sensors drawn at random: what real coarse elevation models are, in proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from xdemsr.errors import InputError
from xdemsr.sensor import Sensor

Range = tuple[float, float]

_KINDS = ("exact", "rounded", "noisy", "blurred", "thinned", "striped", "mixed")


@dataclass(frozen=True)
class Mixture:
    """How the coarse input of a training patch is made imperfect.

    Attributes
    ----------
    exact, rounded, noisy, blurred, thinned, striped, mixed : float
        Odds of exact block means; of heights rounded to steps (a third of them to whole metres);
        of white noise; of a Gaussian point-spread function; of single pixels picked out (nearest
        or bilinear); of stripes; and of blur, stripes, noise and rounding together.
    steps, noise, stripes : (float, float)
        Ranges in metres that are drawn from evenly.
    fwhm : (float, float)
        Of the point-spread function, in coarse pixels.

    Raises
    ------
    InputError
        If odds are negative or all zero, or a range is not (smallest, largest).

    Examples
    --------
    >>> from xdemsr.training import Mixture
    >>> Mixture(stripes=(0.1, 0.5)).stripes
    (0.1, 0.5)
    """

    exact: float = 0.28
    rounded: float = 0.18
    noisy: float = 0.18
    blurred: float = 0.05
    thinned: float = 0.16
    striped: float = 0.07
    mixed: float = 0.08
    steps: Range = (0.05, 1.05)
    noise: Range = (0.0, 0.5)
    stripes: Range = (0.05, 0.5)
    fwhm: Range = (0.6, 2.2)

    def __post_init__(self) -> None:
        odds = {kind: getattr(self, kind) for kind in _KINDS}
        if not all(0 <= value < math.inf for value in odds.values()) or not any(odds.values()):
            raise InputError(f"the odds of a mixture must be 0 or more, one of them more: {odds}.")
        for name in ("steps", "noise", "stripes", "fwhm"):
            low, high = getattr(self, name)
            if not 0 <= low <= high < math.inf or (name == "fwhm" and not low):
                raise InputError(
                    f"a mixture's {name}={(low, high)} must be (smallest, largest), not negative."
                )

    def draw(self, rng: np.random.Generator) -> Sensor:
        """One sensor."""
        odds = np.array([getattr(self, kind) for kind in _KINDS])
        kind = _KINDS[int(rng.choice(len(_KINDS), p=odds / odds.sum()))]
        mixed = kind == "mixed"
        options: dict[str, Any] = {}
        if kind == "blurred" or (mixed and rng.random() < 0.5):
            options = {"sampling": "gaussian", "fwhm": rng.uniform(*self.fwhm)}
        elif kind == "thinned":
            options = {"sampling": "nearest" if rng.random() < 0.5 else "bilinear"}
        return Sensor(
            **options,
            noise=rng.uniform(*self.noise) if kind == "noisy" or mixed else 0.0,
            stripes=rng.uniform(*self.stripes) if kind == "striped" or mixed else 0.0,
            step=self._step(rng) if kind == "rounded" or mixed else 0.0,
        )

    def _step(self, rng: np.random.Generator) -> float:
        return 1.0 if rng.random() < 1 / 3 else rng.uniform(*self.steps)
