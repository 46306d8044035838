"""A recipe in, a model file out: the workshop, which knows both wings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xdemsr.benchmarking import benchmark
from xdemsr.degradation import degrade
from xdemsr.errors import InputError, ModelError
from xdemsr.lidar import as_array, check_apart, read_rasters
from xdemsr.patchset import Patches
from xdemsr.sampling import patches
from xdemsr.spec import VERTICAL_ERROR, Band, Context, Local, ModelSpec, Windowed
from xdemsr.training.recipe import Recipe, Schedule

if TYPE_CHECKING:
    from torch import nn

    from xdemsr.training.fit import Source
    from xdemsr.training.patches import PatchSampler
    from xdemsr.training.places import Raster
    from xdemsr.training.validation import Validation

#: How the input of a validation place is made imperfect, for the scores in the header.
KINDS: dict[str, dict[str, float]] = {"clean": {}, "metres": {"step": 1.0}, "noise": {"noise": 0.3}}

#: Scales that an architecture with ``at(scale)`` is shipped, and scored, for.
_SCALES = (2, 3, 4, 5, 6, 8, 10, 12, 16)

#: Turned copies of each place, at most, in the second stage, which learns little.
_VARIANTS = 3


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    folder: str | Path | None = None,
    progress: bool = True,
) -> ModelSpec:
    """Train a network by a recipe and write it as a model for :func:`xdemsr.upscale`.

    Parameters
    ----------
    recipe : Recipe, str or Path
        A recipe, the name of a shipped one, or the path of a ``.toml`` file. Its data folders hold
        bare-earth GeoTIFFs (``*.tif`` or ``*/dtm.tif``).
    out : str or Path
        The model file, ending in ``.safetensors``: weights, specification with the measured
        context, scores on the validation places, and the recipe.
    folder : str or Path, optional
        For checkpoints and logs; ``out`` without its ending by default. A run that was killed goes
        on from there, to the same weights.
    progress : bool, optional
        Show a bar.

    Returns
    -------
    ModelSpec
        As written; ``spec.training["scores"]`` says how good it is.

    Raises
    ------
    InputError
        If Lightning is not installed, the recipe has no data, its rasters hold no patch, or the
        loss stops being a number.

    Examples
    --------
    >>> import xdemsr
    >>> from xdemsr.training import Recipe
    >>> recipe = Recipe.named("terrain").replaced(
    ...     data={"train": "lidar/train", "validation": "lidar/validation"}, run={"steps": 60_000}
    ... )
    >>> model = xdemsr.train(recipe, "terrain.safetensors")  # doctest: +SKIP
    """
    import torch

    from xdemsr.loading import save_model
    from xdemsr.models import build

    if find_spec("lightning") is None:
        raise InputError("training needs Lightning: pip install 'xdemsr[train]'.")
    recipe, out = _recipe(recipe), Path(out)
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise InputError(f"{str(out)!r} must end in .safetensors, in a folder that exists.")
    folder = out.with_suffix("") if folder is None else Path(folder)
    torch.manual_seed(recipe.run.seed)
    spec = _specification(recipe)
    network = build(spec)
    if getattr(network, "scale", spec.scale) != spec.scale:
        raise InputError(
            f"recipe {recipe.name!r} is for scale {spec.scale}, and its network for "
            f"{network.scale}. Say it to the network too: [model] options.scale = {spec.scale}."
        )
    if recipe.model.start:
        _start_from(network, recipe.model.start)
    data = _Lidar.read(recipe, network)
    # What the second stage needs is made first: it should not fail after hours of the first.
    samplers = _uncertainty_samplers(recipe, data)
    fit_network = _fit_tiles if recipe.patches.kind == "tiles" else _fit_spacings
    gsd = fit_network(network, recipe, data, folder, progress)
    if not _leads():
        raise SystemExit  # A process that Lightning started beside this one is done.
    if samplers:
        spec = _teach_uncertainty(network, spec, recipe, data, samplers, folder)
    spec = _finished(spec, network, recipe, gsd, data)
    save_model(network, out, spec)
    scores = score(out, data.validation, list(data.scores))
    return save_model(network, out, replace(spec, training={**spec.training, "scores": scores}))


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


def _recipe(recipe: Recipe | str | Path) -> Recipe:
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.find(recipe)
    if not recipe.data.train or not recipe.data.validation:
        raise InputError(
            f"recipe {recipe.name!r} has no data. Say where it is: [data] train and validation in "
            "the file, recipe.replaced(data={...}), or --train and --validation."
        )
    if "adversarial" in recipe.loss:
        _check_adversarial(recipe)
    return recipe


def _check_adversarial(recipe: Recipe) -> None:
    if recipe.schedule != Schedule():
        raise InputError(
            f"recipe {recipe.name!r}: an adversarial loss goes with a constant learning rate from "
            "the first step; leave [schedule] out."
        )
    if recipe.patches.kind != "tiles" or recipe.patches.min_valid < 1:
        raise InputError(
            f"recipe {recipe.name!r}: an adversarial loss goes with tiles without voids, by which "
            'the truth would be told: [patches] kind = "tiles", min_valid = 1.0.'
        )


@dataclass(frozen=True)
class _Lidar:
    """The rasters of a run.

    Attributes
    ----------
    train, extra, validation : list of Raster
    scores : dict of int to Validation
        By the scales that the model is scored at.
    """

    train: list[Raster]
    extra: list[Raster]
    validation: list[Raster]
    scores: dict[int, Validation]

    @classmethod
    def read(cls, recipe: Recipe, network: nn.Module) -> _Lidar:
        """Read and check them all."""
        from xdemsr.training.validation import Validation

        asked = recipe.data
        train, validation = read_rasters(asked.train), read_rasters(asked.validation)
        extra = read_rasters(asked.extra) if asked.extra else []
        check_apart([*train, *extra], validation)
        spacings = recipe.patches.kind == "spacings" and hasattr(network, "at")
        scales = {recipe.model.scale, *(recipe.uncertainty.scales if spacings else ())}
        scores = {scale: Validation(validation, scale) for scale in sorted(scales)}
        return cls(train, extra, validation, scores)


def _specification(recipe: Recipe) -> ModelSpec:
    """What is known before training."""
    asked = recipe.model
    return ModelSpec(
        name=recipe.name,
        version=asked.version,
        architecture=asked.architecture,
        options=asked.options,
        scale=asked.scale,
        context=Local(0),
        summary=asked.summary,
        licence=asked.licence,
        citation=asked.citation,
    )


def _finished(
    spec: ModelSpec,
    network: nn.Module,
    recipe: Recipe,
    gsd: tuple[float, float],
    data: _Lidar,
) -> ModelSpec:
    """What is known after: context, bands, spacing, and where it all comes from."""
    bands = tuple(Band(name, "m") for name in getattr(network, "bands", ("elevation",)))
    low, high = gsd
    training = {
        "train": [raster.name for raster in data.train],
        "extra": [raster.name for raster in data.extra],
        "validation": [raster.name for raster in data.validation],
        "bands": [band.name for band in bands if band.name != VERTICAL_ERROR],
        "recipe": _without_folders(recipe),
        "score_meaning": "MSE over the better of spline and histospline, continuous protocol",
    }
    return replace(
        spec,
        context=_context(network, bands, recipe),
        inputs=bands,
        border=getattr(network, "border", "edge"),
        gsd=(round(low, 1), round(high, 1)),
        scales=dict.fromkeys(_SCALES, 0.0) if hasattr(network, "at") else {},
        training=training,
    )


def _context(network: nn.Module, bands: Sequence[Band], recipe: Recipe) -> Context:
    """How much the network must see: as it says of itself, which is checked later; or measured."""
    from xdemsr.models.context import measure_context

    asked = recipe.model
    if asked.window:
        return Windowed(asked.window, asked.window // 4)
    known = getattr(network, "radius", None)
    context = measure_context(network, bands) if known is None else Local(known)
    return replace(context, tile=asked.tile) if isinstance(context, Local) else context


def _without_folders(recipe: Recipe) -> dict[str, Any]:
    values = recipe.to_dict()
    for part, keys in (("data", ("train", "validation", "extra")), ("model", ("start",))):
        for key in keys:
            values[part][key] = Path(values[part][key]).name
    return values


def _leads() -> bool:
    import torch.distributed as ranks

    return not (ranks.is_available() and ranks.is_initialized()) or ranks.get_rank() == 0


def _start_from(network: nn.Module, path: str) -> None:
    from xdemsr.loading import load_model

    try:
        network.load_state_dict(load_model(path).module.state_dict())
    except RuntimeError as error:
        raise ModelError(f"training cannot start from {path}: {error}") from error


def _fit_tiles(
    network: nn.Module, recipe: Recipe, data: _Lidar, folder: Path, progress: bool
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
    _fit(network, recipe, source, scores, folder, progress)
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
    network: nn.Module, recipe: Recipe, data: _Lidar, folder: Path, progress: bool
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
    _fit(network, recipe, source, scores, folder, progress)
    return source.spacings()


def _fit(
    network: nn.Module,
    recipe: Recipe,
    source: Source,
    scores: Any,
    folder: Path,
    progress: bool,
) -> None:
    from xdemsr.training.adversarial import AdversarialFit
    from xdemsr.training.fit import Fit, fit

    if hasattr(network, "spread"):
        network.spread.requires_grad_(False)  # Learnt in the second stage.
    if "adversarial" not in recipe.loss:
        fit(Fit(network, recipe, scores), source, folder, progress=progress)
        return
    make: Any = getattr(network, "discriminator", None)
    if make is None:
        raise InputError(
            f"recipe {recipe.name!r} has an adversarial loss, and {recipe.model.architecture!r} no "
            "method discriminator() that makes its opponent."
        )
    fit(AdversarialFit(network, make(), recipe, scores), source, folder, progress=progress)


def _uncertainty_samplers(recipe: Recipe, data: _Lidar) -> list[PatchSampler]:
    """What the second stage is shown: patches at each of its scales; none where there is none."""
    from xdemsr.training.patches import PatchRecipe, PatchSampler
    from xdemsr.training.places import make_places

    asked = recipe.uncertainty
    if not asked.steps:
        return []
    rng = np.random.default_rng(recipe.run.seed)
    places = make_places(data.train, min(recipe.data.variants, _VARIANTS), rng)
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


def _teach_uncertainty(
    network: Any,
    spec: ModelSpec,
    recipe: Recipe,
    data: _Lidar,
    samplers: Sequence[PatchSampler],
    folder: Path,
) -> ModelSpec:
    """Teach a fitted network its standard errors; returns the specification that says so."""
    from xdemsr.training.uncertainty import calibrate, fit_uncertainty

    network.uncertainty = True
    fit_uncertainty(network, samplers, recipe, folder)
    factors = calibrate(network, data.scores)
    network.uncertainty = False
    options = {**spec.options, "uncertainty": False, "calibration": factors}
    return replace(spec, options=options)
