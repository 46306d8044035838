"""Endless training patches of degraded terrain, at many spacings at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch.distributed
from numpy.typing import NDArray

from xdemsr.errors import InputError
from xdemsr.kernels import histospline
from xdemsr.sensor import Sensor
from xdemsr.training.mixture import Mixture
from xdemsr.training.places import Place, Sample

Plane = NDArray[np.float64]
Batch = dict[str, Any]

#: After so many patches with too little truth in a row, there are none to be had.
_MISSES = 10_000
#: Standard errors, in metres, that hide how a survey was gridded.
_CLEAR = 0.1
#: Spread of the logarithm of guesses at what sampling has done to a raster.
_GUESS = 0.4


@dataclass(frozen=True)
class PatchRecipe:
    """What patches are drawn.

    Attributes
    ----------
    step : int
        Fine blocks per coarse pixel along each axis.
    size : int
        Coarse pixels along a patch.
    blocks : tuple of int
        Fine pixels per fine block: terrain is self-similar, so a raster is sampled at several
        spacings at once. Drawn with odds of one over their size.
    half_share : float
        Share of the batches whose truth has half the step and the smallest blocks: coarse pixels
        that are too fine for the whole step.
    finest_exact : int
        Smallest block of patches whose input has next to no error. In a raster's own pixels, what
        is left to be learnt is how that survey was gridded, which is wrong for the next one.
    edge : int
        Outer coarse pixels that are not learnt from.
    min_valid : float
        Share of the inner pixels whose truth must be known.
    floor : float
        Least mean squared error of the classical answer, in square metres, that errors are
        measured by; keeps water and runways from counting as hard terrain.
    """

    step: int = 4
    size: int = 40
    blocks: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8)
    half_share: float = 0.0
    finest_exact: int = 2
    edge: int = 4
    min_valid: float = 0.3
    floor: float = 0.0004


class PatchSampler:
    """Draws batches of patches from places, flipped and turned, each through its own sensor.

    A batch depends on the seed and its index alone, so a run that is taken up again sees what it
    would have seen.

    Parameters
    ----------
    places : sequence of Place
    recipe : PatchRecipe
    mixture : Mixture
    seed : int
        Same seed, same patches.
    """

    def __init__(
        self, places: Sequence[Place], recipe: PatchRecipe, mixture: Mixture, *, seed: int = 0
    ) -> None:
        self.recipe, self.mixture, self.seed = recipe, mixture, seed
        smallest = recipe.step * min(recipe.blocks)
        self.places = [place for place in places if place.fits(recipe.size, smallest)]
        if not self.places:
            raise InputError(
                f"no raster holds a patch of {recipe.size} coarse pixels of {recipe.step} x "
                f"{min(recipe.blocks)} fine ones; give larger rasters or a smaller size."
            )
        shares = np.array([place.share for place in self.places])
        self.odds = shares / shares.sum()
        self._classical: dict[tuple[int, int, int], float] = {}

    def batch(self, index: int, size: int) -> Batch:
        """The batch of this index.

        Returns
        -------
        dict
            ``inputs``, float32 (n, 2, ny, nx): elevation above the patch's mean, and the standard
            error that is told of it. ``target``, float32 (n, 1, ny * step, nx * step).
            ``weight``, of each target pixel in the loss: one over what the histospline would do
            there, 0 where the truth is unknown. ``place``, list of str.
        """
        rng = np.random.default_rng([self.seed, index])
        step, blocks = self.recipe.step, self.recipe.blocks
        if rng.random() < self.recipe.half_share:
            step, blocks = step // 2, (min(blocks),)
        patches = [self._draw(rng, step, blocks) for _ in range(size)]
        batch: Batch = {
            name: np.stack([patch[name] for patch in patches]).astype(np.float32)
            for name in ("inputs", "target", "weight")
        }
        return {**batch, "place": [patch["place"] for patch in patches]}

    def batches(self, start: int, size: int) -> Iterator[Batch]:
        """Endless batches from the ``start``-th on; of several ranks, every one its own."""
        rank, ranks = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for index in count(start * ranks + rank, ranks):
            yield self.batch(index, size)

    def spacings(self, share: float = 0.98) -> tuple[float, float]:
        """Ground sampling distances of the coarse pixels, in metres, that hold most patches."""
        found = []
        for place, odds in zip(self.places, self.odds, strict=True):
            blocks, chances = self._fitting(place, self.recipe.step, self.recipe.blocks)
            found += [
                (place.gsd * self.recipe.step * b, odds * c)
                for b, c in zip(blocks, chances, strict=True)
            ]
        gsd, weight = np.array(sorted(found)).T
        below = np.cumsum(weight)
        low, high = np.searchsorted(below, [(1 - share) / 2, (1 + share) / 2])
        return float(gsd[low]), float(gsd[min(high, len(gsd) - 1)])

    def _fitting(self, place: Place, step: int, blocks: tuple[int, ...]) -> tuple[list[int], Plane]:
        """Block sizes that a place is sampled with, and their odds."""
        fitting = [b for b in blocks if place.fits(self.recipe.size, step * b)]
        chances = 1 / np.array(fitting)
        return fitting, chances / chances.sum()

    def _draw(self, rng: np.random.Generator, step: int, blocks: tuple[int, ...]) -> Batch:
        for _ in range(_MISSES):
            patch = self._try(rng, step, blocks)
            if patch is not None:
                return patch
        raise InputError(
            f"{_MISSES} patches in a row had less than {self.recipe.min_valid:.0%} of known truth. "
            "Fill small voids in the rasters, or lower min_valid."
        )

    def _try(self, rng: np.random.Generator, step: int, blocks: tuple[int, ...]) -> Batch | None:
        recipe = self.recipe
        sensor = self._sensor(rng, blocks)
        if _faithful(sensor):
            blocks = tuple(b for b in blocks if b >= recipe.finest_exact)
        index = int(rng.choice(len(self.places), p=self.odds))
        place = self.places[index]
        fitting, chances = self._fitting(place, step, blocks)
        if not fitting:
            return None
        block = int(rng.choice(fitting, p=chances))
        span = recipe.size * step * block
        y, x = (int(rng.integers(n - span + 1)) for n in place.shape)
        sample = place.sample(y, x, (recipe.size, recipe.size), step, block, sensor)
        inner = slice(recipe.edge, -recipe.edge or None)
        weight = np.zeros(sample.valid.shape)
        weight[inner, inner] = sample.valid[inner, inner]
        classical = self._classical_error(index, step, block)
        if sample.valid[inner, inner].mean() < recipe.min_valid or not np.isfinite(classical):
            return None
        coarse, told, true = _seen(sample, sensor, rng)
        weight = weight / (classical + true**2 / 4 + recipe.floor)
        turn, flip = int(rng.integers(4)), bool(rng.integers(2))
        coarse, fine, weight = (
            _turned(plane, turn, flip) for plane in (coarse, sample.fine, weight)
        )
        mean = coarse.mean()
        return {
            "inputs": np.stack([coarse - mean, np.full_like(coarse, told)]),
            "target": (fine - mean)[None],
            "weight": weight.repeat(step, axis=0).repeat(step, axis=1)[None],
            "place": place.name,
        }

    def _sensor(self, rng: np.random.Generator, blocks: tuple[int, ...]) -> Sensor:
        """A sensor of the mixture; one with errors, where the blocks are too small for others."""
        for _ in range(_MISSES):
            sensor = self.mixture.draw(rng)
            if not _faithful(sensor) or max(blocks) >= self.recipe.finest_exact:
                return sensor
        raise InputError(
            f"blocks {blocks} are smaller than finest_exact={self.recipe.finest_exact}, and the "
            "mixture draws no sensor with errors. Give larger blocks, or lower finest_exact."
        )

    def _classical_error(self, index: int, step: int, block: int) -> float:
        """Mean squared error of the histospline on a place, which errors are measured by."""
        key = (index, step, block)
        if key not in self._classical:
            sample = self.places[index].whole(step, block)
            self._classical[key] = _classical_error(sample, step)
        return self._classical[key]


def _faithful(sensor: Sensor) -> bool:
    """Whether what it sees still shows how a survey was gridded."""
    return sensor.sampling == "mean" and sensor.error < _CLEAR


def _seen(sample: Sample, sensor: Sensor, rng: np.random.Generator) -> tuple[Plane, float, float]:
    """What the sensor sees of a patch, the standard error that is told of it, and the true one.

    Noise, stripes and rounding are known to whoever has the raster. What blurring or picking out
    pixels does is known roughly; were it never told, smooth terrain would be taken for blurred.
    """
    ny, nx = sample.coarse.shape
    # Where the grid of the rounding lies is chance: heights are relative in training.
    origin = rng.uniform(0, sensor.step) if sensor.step else 0.0
    white, stripe = rng.standard_normal((ny, nx)), rng.standard_normal((ny, 1))
    coarse = sensor.disturbed(sample.sampled + origin, white, stripe) - origin
    sampling = float(np.sqrt(np.mean((sample.sampled - sample.coarse) ** 2)))
    guessed = sampling * float(np.exp(rng.normal(0, _GUESS)))
    return coarse, float(np.hypot(guessed, sensor.error)), float(np.hypot(sampling, sensor.error))


def _classical_error(sample: Sample, step: int) -> float:
    taps = histospline(step)
    radius = taps.shape[1] // 2
    if min(sample.coarse.shape) <= radius or sample.valid.sum() < 20:
        return float("nan")
    padded = np.pad(sample.coarse, radius, mode="reflect", reflect_type="odd")
    windows = np.lib.stride_tricks.sliding_window_view
    ny, nx = sample.coarse.shape
    wide = (windows(padded, taps.shape[1], axis=1) @ taps.T).reshape(padded.shape[0], -1)
    answer = np.einsum("yxt,kt->ykx", windows(wide, taps.shape[1], axis=0), taps)
    error = (answer.reshape(ny * step, nx * step) - sample.fine) ** 2
    valid = sample.valid.repeat(step, axis=0).repeat(step, axis=1)
    return float(error[valid].mean())


def _turned(plane: Plane, turn: int, flip: bool) -> Plane:
    turned = np.rot90(plane, turn)
    return turned[:, ::-1] if flip else turned
