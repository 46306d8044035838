"""Training on bare-earth elevation rasters: super-resolution at one scale or at many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xdemsr.benchmarking import benchmark
from xdemsr.degradation import degrade
from xdemsr.errors import InputError
from xdemsr.learning.fitting import fit_network
from xdemsr.lidar import as_array, check_apart, read_rasters
from xdemsr.patchset import Patches
from xdemsr.sampling import patches
from xdemsr.spec import ModelSpec
from xdemsr.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from xdemsr.training.patches import PatchSampler
    from xdemsr.training.places import Raster
    from xdemsr.training.validation import Validation

#: How the input of a validation place is made imperfect, for the scores in the header.
KINDS: dict[str, dict[str, float]] = {"clean": {}, "metres": {"step": 1.0}, "noise": {"noise": 0.3}}

#: Turned copies of each place, at most, in the second stage, which learns little.
_VARIANTS = 3


@dataclass(frozen=True)
class Elevations:
    """The rasters of a run.

    Attributes
    ----------
    recipe : Recipe
    train, extra, validation : list of Raster
    scores : dict of int to Validation
        By the scales that the model is scored at.
    samplers : list of PatchSampler
        What the second stage is shown, at each of its scales; none where there is none.
    """

    recipe: Recipe
    train: list[Raster]
    extra: list[Raster]
    validation: list[Raster]
    scores: dict[int, Validation]
    samplers: list[PatchSampler]

    score_meaning = "MSE over the better of spline and histospline, continuous protocol"

    @classmethod
    def read(cls, recipe: Recipe, network: nn.Module) -> Elevations:
        """Read and check them all."""
        from xdemsr.training.validation import Validation

        asked = recipe.data
        train, validation = read_rasters(asked.train), read_rasters(asked.validation)
        extra = read_rasters(asked.extra) if asked.extra else []
        check_apart([*train, *extra], validation)
        spacings = recipe.patches.kind == "spacings" and hasattr(network, "at")
        scales = {recipe.model.scale, *(recipe.uncertainty.scales if spacings else ())}
        scores = {scale: Validation(validation, scale) for scale in sorted(scales)}
        # Made before the first stage: it should not fail after hours of that.
        samplers = _uncertainty_samplers(recipe, train)
        return cls(recipe, train, extra, validation, scores, samplers)

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """Places learnt from and validated on."""
        parts = {"train": self.train, "extra": self.extra, "validation": self.validation}
        return {part: [raster.name for raster in rasters] for part, rasters in parts.items()}

    def fit(self, network: nn.Module, folder: Path, progress: bool) -> tuple[float, float]:
        """Fit the network; returns the spacings of its inputs in metres."""
        if hasattr(network, "spread"):
            network.spread.requires_grad_(False)  # Learnt in the second stage.
        fit = _fit_tiles if self.recipe.patches.kind == "tiles" else _fit_spacings
        return fit(network, self.recipe, self, folder, progress)

    def teach_uncertainty(self, network: Any, spec: ModelSpec, folder: Path) -> ModelSpec:
        """Teach a fitted network its standard errors, where the recipe asks for it."""
        from xdemsr.training.uncertainty import calibrate, fit_uncertainty

        if not self.samplers:
            return spec
        network.uncertainty = True
        fit_uncertainty(network, self.samplers, self.recipe, folder)
        factors = calibrate(network, self.scores)
        network.uncertainty = False
        options = {**spec.options, "uncertainty": False, "calibration": factors}
        return replace(spec, options=options)

    def score(self, model: Path) -> dict[str, float]:
        """As :func:`score`, at all scales of the run."""
        return score(model, self.validation, list(self.scores))


def score(model: str | Path, rasters: Sequence[Raster], scales: Sequence[int]) -> dict[str, float]:
    """MSE over the better of spline and histospline, by the benchmark: means and places.

    Keys are ``x16/clean/place``, and ``x16/clean`` for the mean over places; kinds are exact block
    means, whole metres, and 0.3 m of noise.
    """
    scores: dict[str, float] = {}
    for scale in sorted(set(scales)):
        for kind, degradation in KINDS.items():
            ratios = {}
            for raster in rasters:
                table = benchmark(as_array(raster), scale, [model], **degradation)  # type: ignore[arg-type]
                ratios[raster.name] = float(table["of_best_classical"].iloc[0])
            scores[f"x{scale}/{kind}"] = round(float(np.mean(list(ratios.values()))), 4)
            scores |= {f"x{scale}/{kind}/{name}": round(r, 4) for name, r in ratios.items()}
    return scores


def _fit_tiles(
    network: nn.Module, recipe: Recipe, data: Elevations, folder: Path, progress: bool
) -> tuple[float, float]:
    """Fit on tiles; returns the spacings of the inputs."""
    from xdemsr.training.tiles import Tiles
    from xdemsr.training.validation import TileValidation

    scale = recipe.model.scale
    source = Tiles(
        _tiles(data.train, recipe),
        error=recipe.sensor.error,
        flips=recipe.patches.flips,
        seed=recipe.run.seed,
    )
    scores = TileValidation(_tiles(data.validation, recipe), scale, recipe.sensor.error)
    fit_network(network, recipe, source, scores, folder, progress)
    gsd = [raster.gsd * scale for raster in data.train]
    return min(gsd), max(gsd)


def _tiles(rasters: Sequence[Raster], recipe: Recipe) -> Patches:
    """The recipe's tiles of all rasters that hold one."""
    asked, scale = recipe.patches, recipe.model.scale
    fine = {raster.name: as_array(raster) for raster in rasters}
    fine = {name: dem for name, dem in fine.items() if min(dem.shape) >= asked.size * scale}
    if not fine:
        raise InputError(
            f"no raster holds a tile of {asked.size} source pixels of {scale} x {scale} fine ones: "
            f"{', '.join(raster.name for raster in rasters)}. Give larger rasters or smaller tiles."
        )
    coarse = {name: degrade(dem, scale, **_keywords(recipe)) for name, dem in fine.items()}
    return patches(
        fine,
        asked.size,
        scale,
        coarse=coarse,
        stride=asked.stride or None,
        min_valid=asked.min_valid,
    )


def _keywords(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.to_dict()["sensor"], "seed": recipe.run.seed}


def _fit_spacings(
    network: nn.Module, recipe: Recipe, data: Elevations, folder: Path, progress: bool
) -> tuple[float, float]:
    """Fit on patches of many spacings; returns the spacings of the inputs."""
    from xdemsr.training.patches import PatchRecipe, PatchSampler
    from xdemsr.training.places import make_places
    from xdemsr.training.validation import ScaleValidation

    asked, scale = recipe.patches, recipe.model.scale
    rng = np.random.default_rng(recipe.run.seed)
    share = recipe.data.extra_share if data.extra else 0.0
    variants = recipe.data.variants
    places = make_places(data.train, variants, rng, 1 - share)
    places += make_places(data.extra, variants, rng, share)
    source = PatchSampler(
        places,
        PatchRecipe(
            asked.step if hasattr(network, "at") else scale,
            asked.size,
            asked.blocks,
            asked.half_share,
            asked.finest_exact,
            min_valid=asked.min_valid,
        ),
        recipe.mixture,
        seed=recipe.run.seed,
    )
    scores = ScaleValidation(data.scores) if hasattr(network, "at") else data.scores[scale]
    fit_network(network, recipe, source, scores, folder, progress)
    return source.spacings()


def _uncertainty_samplers(recipe: Recipe, train: Sequence[Raster]) -> list[PatchSampler]:
    """What the second stage is shown: patches at each of its scales; none where there is none."""
    from xdemsr.training.patches import PatchRecipe, PatchSampler
    from xdemsr.training.places import make_places

    asked = recipe.uncertainty
    if not asked.steps:
        return []
    rng = np.random.default_rng(recipe.run.seed)
    places = make_places(train, min(recipe.data.variants, _VARIANTS), rng)
    return [
        PatchSampler(
            places,
            PatchRecipe(
                scale, asked.size, (1, 2, 4), finest_exact=1, min_valid=recipe.patches.min_valid
            ),
            recipe.mixture,
            seed=recipe.run.seed + scale,
        )
        for scale in asked.scales
    ]
