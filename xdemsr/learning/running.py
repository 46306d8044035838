"""Training by a recipe, from the first check to the model file."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xdemsr.errors import InputError, ModelError
from xdemsr.learning.checks import check_bands, check_recipe
from xdemsr.learning.elevations import Elevations
from xdemsr.learning.rasters import Rasters
from xdemsr.spec import VERTICAL_ERROR, Band, Context, Local, ModelSpec, Windowed
from xdemsr.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

#: Scales that an architecture with ``at(scale)`` is shipped, and scored, for.
_SCALES = (2, 3, 4, 5, 6, 8, 10, 12, 16)


class Data(Protocol):
    """The rasters of a run, and what can be done with them."""

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """Places learnt from and validated on."""
        ...

    @property
    def score_meaning(self) -> str:
        """What the scores in the header are."""
        ...

    def fit(self, network: nn.Module, folder: Path, progress: bool) -> tuple[float, float] | None:
        """Fit the network; returns the spacings of its inputs in metres, where they are known."""
        ...

    def teach_uncertainty(self, network: nn.Module, spec: ModelSpec, folder: Path) -> ModelSpec:
        """The second stage, where the recipe has one; returns the specification that says so."""
        ...

    def score(self, model: Path) -> dict[str, float]:
        """How good a model file is on the validation places."""
        ...


def train(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    folder: str | Path | None = None,
    progress: bool = True,
) -> ModelSpec:
    """Train a network by a recipe and write it as a model for the accessor's methods.

    Parameters
    ----------
    recipe : Recipe, str or Path
        A recipe, the name of a shipped one, or the path of a ``.toml`` file. Its data folders hold
        bare-earth GeoTIFFs (``*.tif`` or ``*/dtm.tif``); or, where it has a ``data.target``, a
        folder for each place with the rasters that it names.
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
        If Lightning is not installed, the recipe has no data or asks for what does not go together,
        places are learnt from and validated on, rasters hold no patch or not the bands that were
        named, or the loss stops being a number.
    GridError
        If the rasters of a place are not on one grid, or inputs not on the target's divided by the
        scale.
    ModelError
        If the network does not fit the weights it is to start from, or does not answer in the
        target's shape.
    WeightsError
        If files of weights could run code, or hold other tensors.

    Examples
    --------
    >>> import xdemsr
    >>> from xdemsr.training import Recipe
    >>> recipe = Recipe.named("terrain").replaced(
    ...     data={"train": "lidar/train", "validation": "lidar/validation"}, run={"steps": 60_000}
    ... )
    >>> model = xdemsr.train(recipe, "terrain.safetensors")  # doctest: +SKIP
    """
    if find_spec("lightning") is None:
        raise InputError("training needs Lightning: pip install 'xdemsr[train]'.")
    recipe, out = _recipe(recipe), Path(out)
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise InputError(f"{str(out)!r} must end in .safetensors, in a folder that exists.")
    folder = out.with_suffix("") if folder is None else Path(folder)
    try:
        return _trained(recipe, out, folder, progress)
    finally:
        # Lightning's objects hold each other, and with them the patches: gigabytes, for minutes.
        gc.collect()


def _trained(recipe: Recipe, out: Path, folder: Path, progress: bool) -> ModelSpec:
    import torch

    from xdemsr.loading import save_model
    from xdemsr.models import build

    torch.manual_seed(recipe.run.seed)
    spec = _specification(recipe)
    network = build(spec)
    if getattr(network, "scale", spec.scale) != spec.scale:
        raise InputError(
            f"recipe {recipe.name!r} is for scale {spec.scale}, and its network for "
            f"{network.scale}. Say it to the network too: [model] options.scale = {spec.scale}."
        )
    check_bands(network, recipe)
    if recipe.model.start:
        _start_from(network, recipe.model.start)
    data: Data
    data = Rasters.read(recipe) if recipe.data.target else Elevations.read(recipe, network)
    gsd = data.fit(network, folder, progress)
    if not _leads():
        raise SystemExit  # A process that Lightning started beside this one is done.
    spec = data.teach_uncertainty(network, spec, folder)
    spec = _finished(spec, network, recipe, gsd, data)
    save_model(network, out, spec)
    scores = data.score(out)
    return save_model(network, out, replace(spec, training={**spec.training, "scores": scores}))


def _recipe(recipe: Recipe | str | Path) -> Recipe:
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.find(recipe)
    check_recipe(recipe)
    return recipe


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
        outputs=tuple(Band(name, units) for name, units in asked.outputs.items()),
        task=asked.task,
        summary=asked.summary,
        licence=asked.licence,
        citation=asked.citation,
    )


def _finished(
    spec: ModelSpec,
    network: nn.Module,
    recipe: Recipe,
    gsd: tuple[float, float] | None,
    data: Data,
) -> ModelSpec:
    """What is known after: context, bands, spacing, and where it all comes from."""
    named = recipe.model.inputs or dict.fromkeys(getattr(network, "bands", ("elevation",)), "m")
    bands = tuple(Band(name, units) for name, units in named.items())
    training = {
        **data.names,
        "bands": [band.name for band in bands if band.name != VERTICAL_ERROR],
        "recipe": recipe.without_folders().to_dict(),
        "score_meaning": data.score_meaning,
    }
    # Weights that training started from are not to be fetched again with each reading.
    start = getattr(network, "training_options", ())
    return replace(
        spec,
        options={name: value for name, value in spec.options.items() if name not in start},
        context=_context(network, bands, recipe),
        inputs=bands,
        border=getattr(network, "border", "edge"),
        relative=recipe.patches.centred,
        gsd=(round(gsd[0], 1), round(gsd[1], 1)) if gsd else None,
        scales=dict.fromkeys(_SCALES, 0.0) if hasattr(network, "at") else {},
        training=training,
    )


def _context(network: nn.Module, bands: Sequence[Band], recipe: Recipe) -> Context:
    """How much the network must see: as it says of itself, which is checked later; or measured."""
    from xdemsr.models.context import measure_context

    asked = recipe.model
    if asked.window:
        # Levels of relative heights are told by what windows share.
        return Windowed(asked.window, asked.window // (2 if recipe.patches.centred else 4))
    radius, stride = getattr(network, "radius", None), getattr(network, "stride", 1)
    context = measure_context(network, bands) if radius is None else Local(radius, stride)
    return replace(context, tile=asked.tile) if isinstance(context, Local) else context


def _leads() -> bool:
    import torch.distributed as ranks

    return not (ranks.is_available() and ranks.is_initialized()) or ranks.get_rank() == 0


def _start_from(network: nn.Module, path: str) -> None:
    from xdemsr.loading import load_model

    try:
        network.load_state_dict(load_model(path).module.state_dict())
    except RuntimeError as error:
        raise ModelError(f"training cannot start from {path}: {error}") from error
