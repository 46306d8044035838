"""Training on places with several rasters each: refinement, elevation from imagery, imagery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xdemsr import grid
from xdemsr.degradation import degrade
from xdemsr.errors import InputError
from xdemsr.folders import Pair, read_pairs
from xdemsr.inference import apply, upscale
from xdemsr.learning.fitting import fit_network
from xdemsr.metrics import evaluate
from xdemsr.patchset import Patches
from xdemsr.sampling import patches
from xdemsr.sensor import Sensor
from xdemsr.spec import ModelSpec
from xdemsr.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from xdemsr.training.patch_scores import Baseline

#: Patches that a network's constants are taken from, at most.
_SAMPLES = 256
_MEASURES = ("mae", "rmse", "psnr", "ssim")


@dataclass(frozen=True)
class Rasters:
    """The places of a run.

    Attributes
    ----------
    recipe : Recipe
    train, validation : dict of str to Pair
    """

    recipe: Recipe
    train: dict[str, Pair]
    validation: dict[str, Pair]

    @classmethod
    def read(cls, recipe: Recipe) -> Rasters:
        """Read and check them all.

        Raises
        ------
        InputError
            If a place is learnt from and validated on, or has not the bands that were named, in
            their order.
        GridError
            If the rasters of a place are not on one grid.
        """
        asked = recipe.data
        train, validation = (
            _whole(read_pairs(folder, asked.target, asked.inputs, coarsen=asked.coarsen), recipe)
            for folder in (asked.train, asked.validation)
        )
        _check_apart(train, validation)
        for name, pair in {**train, **validation}.items():
            _check_bands(name, pair.target, "outputs", recipe.model.outputs)
            _check_bands(name, _inputs(pair), "inputs", recipe.model.inputs)
            _check_order(name, pair, list(recipe.model.inputs))
        return cls(recipe, train, validation)

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """Places learnt from and validated on."""
        return {"train": list(self.train), "validation": list(self.validation)}

    @property
    def score_meaning(self) -> str:
        """What the scores in the header are."""
        if self.recipe.patches.centred:
            return "mean absolute error in patches, over that of a constant in each"
        of = {
            "bicubic": "bicubic interpolation",
            "first": "the first input bands, as many as there are outputs",
            "mean": "a constant",
        }
        return f"of whole validation places, beside those of {of[self.baseline]} (of_baseline)"

    @property
    def baseline(self) -> Baseline:
        """What a network must beat."""
        asked = self.recipe.model
        given, wanted = list(asked.inputs.values()), list(asked.outputs.values())
        # What is above its own mean is not to be compared with what is not.
        if self.recipe.patches.centred or given[: len(wanted)] != wanted:
            return "mean"
        if asked.scale > 1:
            return "bicubic"
        return "first" if all(wanted) else "mean"

    def fit(self, network: nn.Module, folder: Path, progress: bool) -> tuple[float, float] | None:
        """Fit the network; returns the spacings of its inputs in metres, where they are known."""
        from xdemsr.training.patch_scores import PatchScores
        from xdemsr.training.tiles import Tiles

        recipe = self.recipe
        learnt = self._patches(self.train, _sensors(recipe))
        adapt: Any = getattr(network, "adapt", None)
        if adapt is not None and not recipe.model.start:
            adapt(_sample(learnt, recipe.run.seed))
        source = Tiles(
            learnt, flips=recipe.patches.flips, seed=recipe.run.seed,
            swap=_swapped(recipe), centred=recipe.patches.centred,
        )  # fmt: skip
        judged = self._patches(self.validation, [recipe.sensor])
        bands = len(recipe.model.inputs)
        scores = PatchScores(
            judged, recipe.model.scale, self.baseline, bands, recipe.patches.centred
        )
        fit_network(network, recipe, source, scores, folder, progress)
        return self._spacings()

    def teach_uncertainty(self, network: nn.Module, spec: ModelSpec, folder: Path) -> ModelSpec:
        """There is no second stage."""
        return spec

    def score(self, model: Path) -> dict[str, float]:
        """Errors of a model file on whole validation places, and those of the baseline.

        Keys are ``place/mae`` and ``place/mae_of_baseline``; of networks that answer relative
        heights, ``ratio`` alone, from patches.
        """
        if self.recipe.patches.centred:
            return self._score_patches(model)
        scores: dict[str, float] = {}
        for name, pair in self.validation.items():
            inputs = self._source(pair, self.recipe.sensor)
            answer = self._answered(model, inputs)
            # Judged where the network is: it has no answer where any input band is void.
            known = answer[0].notnull().data
            simple = self._simple(pair, inputs)
            simple = simple.where(xr.DataArray(known, dims=simple.dims[1:]))
            for suffix, found in (("", answer), ("_of_baseline", simple)):
                table = evaluate(found, pair.target)
                scores |= {
                    f"{name}/{measure}{suffix}": round(float(table[measure]), 5)
                    for measure in _MEASURES
                }
        return scores

    def _score_patches(self, model: Path) -> dict[str, float]:
        from xdemsr.loading import load_model
        from xdemsr.training.patch_scores import PatchScores

        asked = self.recipe.model
        judged = self._patches(self.validation, [self.recipe.sensor])
        scores = PatchScores(judged, asked.scale, self.baseline, len(asked.inputs), True)
        return {"ratio": round(scores.score(load_model(model).module)["score"], 4)}

    def _answered(self, model: Path, inputs: xr.DataArray) -> xr.DataArray:
        asked = self.recipe.model
        inputs = inputs.assign_coords(band=list(asked.inputs))
        if len(asked.inputs) == 1:
            inputs = inputs.isel(band=0, drop=True)
        answer = upscale(inputs, asked.scale, model) if asked.scale > 1 else apply(inputs, model)
        return answer if "band" in answer.dims else answer.expand_dims("band")

    def _simple(self, pair: Pair, inputs: xr.DataArray) -> xr.DataArray:
        if self.baseline == "bicubic":
            return upscale(inputs[: len(pair.target)], self.recipe.model.scale, "bicubic")
        if self.baseline == "first":
            return inputs[: len(pair.target)]
        mean = pair.target.mean(dim=pair.target.dims[1:])
        return mean.broadcast_like(pair.target).transpose(*pair.target.dims)

    def _patches(self, pairs: Mapping[str, Pair], sensors: Sequence[Sensor]) -> Patches:
        """The recipe's tiles of all places, as each of some sensors saw them."""
        asked, scale = self.recipe.patches, self.recipe.model.scale
        targets: dict[str, xr.DataArray] = {}
        sources: dict[str, xr.DataArray] = {}
        for name, pair in pairs.items():
            if min(pair.target.shape[-2:]) < asked.size * scale:
                continue
            for k, sensor in enumerate(sensors):
                label = name if len(sensors) == 1 else f"{name}-{k}"
                targets[label] = _answerable(pair)
                sources[label] = self._source(pair, sensor, k)
        if not targets:
            raise InputError(
                f"no place holds a tile of {asked.size} source pixels of {scale} x {scale} fine "
                f"ones: {', '.join(pairs)}. Give larger rasters or smaller tiles."
            )
        return patches(
            targets, asked.size, scale,
            coarse=sources, stride=asked.stride or None, min_valid=asked.min_valid,
        )  # fmt: skip

    def _source(self, pair: Pair, sensor: Sensor, k: int = 0) -> xr.DataArray:
        """What is learnt from: rasters of its own, or the target as a sensor sees it."""
        if pair.inputs is not None:
            return pair.inputs
        options: dict[str, Any] = {**asdict(sensor), "seed": self.recipe.run.seed + k}
        return degrade(pair.target, self.recipe.model.scale, **options)

    def _spacings(self) -> tuple[float, float] | None:
        found = [grid.of(_inputs(pair)).gsd() for pair in self.train.values()]
        known = [gsd * self._ratio for gsd in found if gsd is not None]
        return (min(known), max(known)) if len(known) == len(found) else None

    @property
    def _ratio(self) -> int:
        """Pixels of the rasters that were read to one of the network's input."""
        return 1 if self.recipe.data.inputs else self.recipe.model.scale


def _sensors(recipe: Recipe) -> list[Sensor]:
    """Those that training inputs are seen by."""
    if not recipe.patches.sensors or recipe.data.inputs:
        return [recipe.sensor]
    rng = np.random.default_rng(recipe.run.seed)
    return [recipe.mixture.draw(rng) for _ in range(recipe.patches.sensors)]


def _inputs(pair: Pair) -> xr.DataArray:
    return pair.target if pair.inputs is None else pair.inputs


def _whole(pairs: Mapping[str, Pair], recipe: Recipe) -> dict[str, Pair]:
    """Targets without the last rows and columns that no whole pixel of the input answers for."""
    scale, whole = recipe.model.scale, {}
    for name, pair in pairs.items():
        ny, nx = (n // scale * scale for n in pair.target.shape[-2:])
        whole[name] = pair._replace(target=pair.target[:, :ny, :nx])
    return whole


def _check_apart(train: Mapping[str, Pair], validation: Mapping[str, Pair]) -> None:
    twins = [
        name if name == other else f"{name} ({other})"
        for name, pair in train.items()
        for other, judged in validation.items()
        if name == other or pair.target.equals(judged.target)
    ]
    if twins:
        raise InputError(
            f"{', '.join(twins)} are learnt from and validated on. Keep places apart: what is "
            "learnt from cannot say how good a network is."
        )


def _answerable(pair: Pair) -> xr.DataArray:
    """The target where the first input has data; elsewhere there will be no answer."""
    if pair.inputs is None or pair.inputs.shape[1:] != pair.target.shape[1:]:
        return pair.target
    known = xr.DataArray(pair.inputs[0].notnull().data, dims=pair.target.dims[1:])
    return pair.target.where(known)


def _check_bands(name: str, raster: xr.DataArray, side: str, bands: Mapping[str, str]) -> None:
    if raster.sizes["band"] != len(bands):
        raise InputError(
            f"place {name!r} has {raster.sizes['band']} bands for the network's {side}, and the "
            f"recipe names {', '.join(bands) or 'none'}. Name each with its unit, in order: "
            f"[model] {side} = {{ ... }}."
        )


def _check_order(name: str, pair: Pair, bands: Sequence[str]) -> None:
    """Rasters that are called as a band is are that band."""
    wrong = [
        (found, band)
        for found, band in zip(pair.names, bands, strict=False)
        if found != band and (found in bands or band in pair.names)
    ]
    if wrong:
        raise InputError(
            f"the inputs of place {name!r} are bands of {', '.join(pair.names)}, in this order; "
            f"the recipe calls {wrong[0][0]!r} {wrong[0][1]!r}: [model] inputs = {{ ... }} has the "
            f"order {', '.join(bands)}. Put it, or data.inputs, into the other's."
        )


def _sample(learnt: Patches, seed: int) -> Any:
    """Some patches' inputs, as a tensor (n, bands, ny, nx)."""
    import torch

    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(learnt))[:_SAMPLES]
    return torch.from_numpy(np.stack([learnt[int(k)].inputs for k in sorted(chosen)]))


def _swapped(recipe: Recipe) -> tuple[int, int] | None:
    if not recipe.patches.swap:
        return None
    names = list(recipe.model.inputs)
    missing = [name for name in recipe.patches.swap if name not in names]
    if missing:
        raise InputError(
            f"recipe: patches.swap names {', '.join(missing)}; the inputs are {', '.join(names)}."
        )
    first, second = (names.index(name) for name in recipe.patches.swap)
    return first, second
