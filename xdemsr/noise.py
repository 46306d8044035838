"""Gradient noise: a function of place and seed alone, so any part of it can be had by itself.

The lattice's gradients come from a hash of their place, not from a table that repeats. Nothing but
arithmetic that rounds alike everywhere is used, so a pixel is the same in whatever array it is
computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]
Hashes = NDArray[np.uint64]

#: Directions of the lattice's gradients, evenly around.
_ANGLES = 2 * np.pi * (np.arange(256) + 0.5) / 256
_DIRECTIONS = np.stack([np.sin(_ANGLES), np.cos(_ANGLES)])
#: Each octave is turned by so much, so that the lattices' axes do not show; tan is 3 / 4.
_TURN = math.atan2(3, 4)
#: Octaves of the field that bends another, and its wavelength relative to that.
_WARP_OCTAVES, _WARP_LENGTH = 3, 1.5
#: Where heights are sampled to learn their spread: so many places, so far apart in wavelengths.
_SAMPLES, _SPACING = 96, 0.618034


@dataclass(frozen=True)
class Fractal:
    """Octaves of gradient noise, and what they do to each other.

    Attributes
    ----------
    octaves : int
    persistence, lacunarity : float
        Amplitude and frequency of an octave, relative to those of the one before.
    ridges : float
        From 0, plain noise, to 1, its zeros folded to crests.
    erosion : float
        How much slopes weaken the octaves that follow.
    warp : float
        How far places are moved by another field, in wavelengths.
    turned : bool
        Turn each octave's lattice.
    """

    octaves: int
    persistence: float = 0.5
    lacunarity: float = 2.0
    ridges: float = 0.0
    erosion: float = 0.0
    warp: float = 0.0
    turned: bool = False

    def at(self, y: Plane, x: Plane, seed: int) -> Plane:
        """The field at places given in wavelengths; ``y`` and ``x`` are broadcast.

        References
        ----------
        Musgrave, F. K., Kolb, C. E. and Mace, R. S. (1989). The synthesis and rendering of eroded
        fractal terrains. SIGGRAPH Computer Graphics 23(3), 41-50.

        Quilez, I. (2008). Value noise derivatives. https://iquilezles.org/articles/morenoise
        """
        if self.warp:
            y, x = self._bent(y, x, seed)
        total: Plane | float = 0.0
        slope_y: Plane | float = 0.0
        slope_x: Plane | float = 0.0
        amplitude, frequency = 1.0, 1.0
        for k in range(self.octaves):
            turn = (k + 1) * _TURN if self.turned else 0.0
            cos, sin = math.cos(turn) * frequency, math.sin(turn) * frequency
            place = cos * y - sin * x, sin * y + cos * x
            if self.erosion:
                value, along_y, along_x = gradient_noise(*place, seed, k)
                # Slopes as they were before folding, since those of a crest are torn.
                slope_y = slope_y + amplitude * (cos * along_y + sin * along_x)
                slope_x = slope_x + amplitude * (cos * along_x - sin * along_y)
            else:
                value = plain_noise(*place, seed, k)
            folded = (1 - self.ridges) * value - 2 * self.ridges * np.abs(value)
            weaker = 1 + self.erosion * (slope_y * slope_y + slope_x * slope_x)
            total = total + amplitude * folded / weaker
            amplitude, frequency = amplitude * self.persistence, frequency * self.lacunarity
        return np.asarray(total)

    def spread(self, low: float, high: float) -> tuple[float, float]:
        """Quantiles of the field, from places that do not depend on where it is wanted."""
        # Irrational steps, so that the lattice is met at all phases.
        steps = np.arange(_SAMPLES, dtype=np.float64) * (_SPACING * math.e)
        heights = self.at(steps[:, None], steps[None, :] + 1000 * _SPACING, seed=-1)
        lowest, highest = np.quantile(heights, [low, high])
        return float(lowest), float(highest)

    def _bent(self, y: Plane, x: Plane, seed: int) -> tuple[Plane, Plane]:
        field = Fractal(_WARP_OCTAVES, turned=self.turned)
        near = y / _WARP_LENGTH, x / _WARP_LENGTH
        down, right = (field.at(*near, _derived(seed, k)) for k in (1, 2))
        return y + self.warp * down, x + self.warp * right


def gradient_noise(y: Plane, x: Plane, seed: int, octave: int) -> tuple[Plane, Plane, Plane]:
    """Perlin's noise and its derivatives along y and x, between about -0.7 and 0.7.

    References
    ----------
    Perlin, K. (2002). Improving noise. ACM Transactions on Graphics 21(3), 681-682.
    """
    cell = _Cell(y, x, seed, octave)
    (top_left, top_right), (bottom_left, bottom_right) = cell.ramps
    down = cell.across(bottom_left, bottom_right) - cell.across(top_left, top_right)
    right = cell.along(top_right, bottom_right) - cell.along(top_left, bottom_left)
    gy, gx = (cell.mixed(gradient) for gradient in cell.gradients)
    return cell.mixed(cell.ramps), gy + _rise(cell.v) * down, gx + _rise(cell.u) * right


def plain_noise(y: Plane, x: Plane, seed: int, octave: int) -> Plane:
    """The first of what :func:`gradient_noise` gives, in half the time."""
    cell = _Cell(y, x, seed, octave)
    return cell.mixed(cell.ramps)


class _Cell:
    """Where places lie between the four points of the lattice around, and what is there."""

    def __init__(self, y: Plane, x: Plane, seed: int, octave: int) -> None:
        low_y, low_x = np.floor(y), np.floor(x)
        self.v, self.u = y - low_y, x - low_x
        self._fade_v, self._fade_u = _fade(self.v), _fade(self.u)
        lattice = _Lattice(low_y, low_x, seed, octave)
        corners = [[lattice.gradients(i, j) for j in (0, 1)] for i in (0, 1)]
        self.gradients = [[[corner[k] for corner in row] for row in corners] for k in (0, 1)]
        self.ramps = [
            [gy * (self.v - i) + gx * (self.u - j) for j, (gy, gx) in enumerate(row)]
            for i, row in enumerate(corners)
        ]

    def mixed(self, corners: list[list[Plane]]) -> Plane:
        """What lies at the corners, interpolated with a quintic fade."""
        top, bottom = (self.across(*row) for row in corners)
        return self.along(top, bottom)

    def across(self, left: Plane, right: Plane) -> Plane:
        """Interpolated along x."""
        return left + self._fade_u * (right - left)

    def along(self, top: Plane, bottom: Plane) -> Plane:
        """Interpolated along y."""
        return top + self._fade_v * (bottom - top)


class _Lattice:
    """The gradients around places: one at each point of a lattice, by the hash of the point."""

    def __init__(self, low_y: Plane, low_x: Plane, seed: int, octave: int) -> None:
        self._seed = _derived(seed, octave)
        self._rows, self._columns = low_y.astype(np.int64), low_x.astype(np.int64)
        top, left = int(self._rows.min()), int(self._columns.min())
        height, width = int(self._rows.max()) + 2 - top, int(self._columns.max()) + 2 - left
        self._table: tuple[Plane, Plane] | None = None
        # Where places lie close together, each point is worked out once.
        if height * width <= low_y.size:
            rows, columns = np.arange(top, top + height), np.arange(left, left + width)
            self._table = _directions(_hash(rows[:, None], columns[None, :], self._seed).ravel())
            self._first = (self._rows - top) * width + (self._columns - left)
            self._width = width

    def gradients(self, i: int, j: int) -> tuple[Plane, Plane]:
        """Along y and x, at the corner ``i`` down and ``j`` right."""
        if self._table is None:
            return _directions(_hash(self._rows + i, self._columns + j, self._seed))
        point = self._first + (i * self._width + j)
        return self._table[0][point], self._table[1][point]


def _fade(t: Plane) -> Plane:
    faded: Plane = t * t * t * (t * (t * 6 - 15) + 10)
    return faded


def _rise(t: Plane) -> Plane:
    """Derivative of :func:`_fade`."""
    rise: Plane = 30 * t * t * (t * (t - 2) + 1)
    return rise


def _directions(hashes: Hashes) -> tuple[Plane, Plane]:
    index = (hashes >> np.uint64(56)).astype(np.intp)
    return _DIRECTIONS[0][index], _DIRECTIONS[1][index]


def _derived(seed: int, number: int) -> int:
    """A seed of its own for each number."""
    return int(_mixed(np.array([(seed * 1_000_003 + number) % 2**64], dtype=np.uint64))[0])


def _hash(rows: NDArray[np.int64], columns: NDArray[np.int64], seed: int) -> Hashes:
    return _mixed(columns.astype(np.uint64) ^ _mixed(rows.astype(np.uint64) ^ np.uint64(seed)))


def _mixed(z: Hashes) -> Hashes:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014), which wraps around on purpose."""
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
