"""Endless training patches of degraded terrain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdemsr.errors import InputError
from xdemsr.training.places import Place, Raster, Sample

Plane = NDArray[np.float64]

#: After so many patches with too little truth in a row, there are none to be had.
_MISSES = 10_000


@dataclass(frozen=True)
class Mixture:
    """How the coarse input of a patch is made imperfect.

    A third of the patches is exact, a third rounded, a third noisy.

    Attributes
    ----------
    steps : (float, float)
        Rounding steps, in metres, drawn evenly; a third of the rounded patches has whole metres.
    noise : (float, float)
        Standard deviations of white noise, in metres, drawn evenly.
    """

    steps: tuple[float, float] = (0.05, 1.05)
    noise: tuple[float, float] = (0.0, 0.5)

    def degrade(self, coarse: Plane, rng: np.random.Generator) -> tuple[Plane, float]:
        """The imperfect input and its standard error."""
        kind = rng.integers(3)
        if kind == 0:
            return coarse, 0.0
        if kind == 1:
            step = 1.0 if rng.random() < 1 / 3 else rng.uniform(*self.steps)
            # Where the step's grid lies is chance: heights are relative in training.
            origin = rng.uniform(0, step)
            return np.round((coarse + origin) / step) * step - origin, step / 12**0.5
        error = rng.uniform(*self.noise)
        return coarse + rng.normal(0, error, coarse.shape), error


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
    blocks: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    edge: int = 4
    min_valid: float = 0.3
    floor: float = 0.0004


@dataclass(frozen=True)
class Patch:
    """One training patch.

    Attributes
    ----------
    inputs : ndarray of float32, shape (2, size, size)
        Elevation above the patch's mean, and its standard error, in metres.
    target : ndarray of float32, shape (size * step, size * step)
        Block means.
    weight : ndarray of float32, shape (size, size)
        Of each coarse pixel in the loss: one over the place's classical error, 0 where the truth
        is unknown and at the edge.
    """

    inputs: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]


class PatchSampler:
    """Draws patches from places: by the square root of their area, flipped and turned.

    Parameters
    ----------
    rasters : sequence of Raster
    recipe : PatchRecipe
    mixture : Mixture
    variants : int
        Turned and stretched copies of each raster beside itself.
    extra : sequence of Raster
        Coarser rasters (30 m and the like) that add variety.
    extra_share : float
        Share of the patches that come from those.
    seed : int
        Same seed, same patches.
    """

    def __init__(
        self,
        rasters: Sequence[Raster],
        recipe: PatchRecipe,
        mixture: Mixture,
        *,
        variants: int = 0,
        extra: Sequence[Raster] = (),
        extra_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.recipe, self.mixture, self.seed = recipe, mixture, seed
        self.rng = np.random.default_rng(seed)
        fine = _places(rasters, recipe, variants, self.rng)
        coarse = _places(extra, recipe, variants, self.rng)
        self.places = [place for place, _ in fine + coarse]
        if not self.places:
            raise InputError(
                f"no raster holds a patch of {recipe.size} coarse pixels of {recipe.step} x "
                f"{min(recipe.blocks)} fine ones; give larger rasters or a smaller size."
            )
        share = extra_share if coarse and fine else float(bool(coarse))
        self.odds = np.concatenate([_odds(fine) * (1 - share), _odds(coarse) * share])
        self._classical: dict[tuple[int, int], float] = {}

    def __iter__(self) -> Iterator[Patch]:
        misses = 0
        while misses < _MISSES:
            patch = self._draw()
            misses = 0 if patch is not None else misses + 1
            if patch is not None:
                yield patch
        raise InputError(
            f"{_MISSES} patches in a row had less than {self.recipe.min_valid:.0%} of known truth. "
            "Fill small voids in the rasters, or lower min_valid."
        )

    def go_on(self, step: int) -> None:
        """Draw other patches than those of the steps before ``step``, always the same ones."""
        self.rng = np.random.default_rng((self.seed, step))

    def spacings(self, share: float = 0.98) -> tuple[float, float]:
        """Ground sampling distances of the coarse pixels, in metres, that hold most patches."""
        found = []
        for place, odds in zip(self.places, self.odds, strict=True):
            blocks, chances = self._blocks(place)
            found += [
                (place.gsd * self.recipe.step * b, odds * c)
                for b, c in zip(blocks, chances, strict=True)
            ]
        gsd, weight = np.array(sorted(found)).T
        below = np.cumsum(weight)
        low, high = np.searchsorted(below, [(1 - share) / 2, (1 + share) / 2])
        return float(gsd[low]), float(gsd[min(high, len(gsd) - 1)])

    def _blocks(self, place: Place) -> tuple[list[int], Plane]:
        """Block sizes that a place is sampled with, and their odds."""
        blocks = [b for b in self.recipe.blocks if place.fits(self.recipe.size, b)]
        chances = 1 / np.array(blocks)
        return blocks, chances / chances.sum()

    def _draw(self) -> Patch | None:
        recipe, rng = self.recipe, self.rng
        index = int(rng.choice(len(self.places), p=self.odds))
        place = self.places[index]
        blocks, chances = self._blocks(place)
        block = int(rng.choice(blocks, p=chances))
        span = recipe.size * recipe.step * block
        y, x = (int(rng.integers(n - span + 1)) for n in place.shape)
        sample = place.sample(y, x, (recipe.size, recipe.size), block)
        inner = slice(recipe.edge, -recipe.edge or None)
        weight = np.zeros(sample.valid.shape)
        weight[inner, inner] = sample.valid[inner, inner]
        classical = self._classical_error(index, block)
        if sample.valid[inner, inner].mean() < recipe.min_valid or not np.isfinite(classical):
            return None
        return self._finished(sample, weight, classical)

    def _finished(self, sample: Sample, weight: Plane, classical: float) -> Patch:
        turn, flip = int(self.rng.integers(4)), bool(self.rng.integers(2))
        coarse, fine, weight = (
            _turned(plane, turn, flip) for plane in (sample.coarse, sample.fine, weight)
        )
        mean = coarse.mean()
        coarse, error = self.mixture.degrade(coarse - mean, self.rng)
        weight = weight / (classical + error**2 / 4 + self.recipe.floor)
        return Patch(
            np.stack([coarse, np.full_like(coarse, error)]).astype(np.float32),
            (fine - mean).astype(np.float32),
            weight.astype(np.float32),
        )

    def _classical_error(self, index: int, block: int) -> float:
        """Mean squared error of the histospline on a place, which errors are measured by."""
        key = (index, block)
        if key not in self._classical:
            self._classical[key] = _classical_error(self.places[index].whole(block), self.recipe)
        return self._classical[key]


def _places(
    rasters: Sequence[Raster], recipe: PatchRecipe, variants: int, rng: np.random.Generator
) -> list[tuple[Place, float]]:
    """Places that hold a patch, with their odds: a raster's are shared among its variants."""
    found = []
    for raster in rasters:
        copies = [raster, *(raster.turned(rng, (0.75, 1.8)) for _ in range(variants))]
        places = [Place(copy, recipe.step) for copy in copies]
        fitting = [p for p in places if p.fits(recipe.size, min(recipe.blocks)) and p.area]
        found += [(place, place.area**0.5 / len(fitting)) for place in fitting]
    return found


def _odds(places: Sequence[tuple[Place, float]]) -> Plane:
    odds = np.array([weight for _, weight in places])
    return odds / odds.sum() if len(odds) else odds


def _classical_error(sample: Sample, recipe: PatchRecipe) -> float:
    from xdemsr.kernels import histospline

    taps = histospline(recipe.step)
    radius = taps.shape[1] // 2
    if min(sample.coarse.shape) <= radius or sample.valid.sum() < 20:
        return float("nan")
    padded = np.pad(sample.coarse, radius, mode="reflect", reflect_type="odd")
    windows = np.lib.stride_tricks.sliding_window_view
    ny, nx = sample.coarse.shape
    wide = (windows(padded, taps.shape[1], axis=1) @ taps.T).reshape(padded.shape[0], -1)
    answer = np.einsum("yxt,kt->ykx", windows(wide, taps.shape[1], axis=0), taps)
    error = (answer.reshape(ny * recipe.step, nx * recipe.step) - sample.fine) ** 2
    valid = sample.valid.repeat(recipe.step, axis=0).repeat(recipe.step, axis=1)
    return float(error[valid].mean())


def _turned(plane: Plane, turn: int, flip: bool) -> Plane:
    turned = np.rot90(plane, turn)
    return turned[:, ::-1] if flip else turned
