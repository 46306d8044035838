"""What a recipe cannot ask for, said before anything is read."""

from __future__ import annotations

from typing import Any

from xdemsr.errors import InputError
from xdemsr.training.parts import Data, Patches, Schedule, Uncertainty
from xdemsr.training.recipe import Recipe

#: Keys of a recipe, and what they are by default: those of places with several rasters, those of
#: bare elevations, and those of inputs that are made of the target.
_PLACES = {
    "data.coarsen": Data.coarsen,
    "patches.sensors": Patches.sensors,
    "patches.centred": Patches.centred,
    "patches.swap": Patches.swap,
}
_ELEVATIONS = {
    "data.extra": Data.extra,
    "data.variants": Data.variants,
    "uncertainty.steps": Uncertainty.steps,
}
_MADE = {"patches.sensors": Patches.sensors}


def check_recipe(recipe: Recipe) -> None:
    """Refuse what would mean nothing, or go wrong later.

    Raises
    ------
    InputError
        If there is no data, a key is said that does nothing with it, or the loss does not go with
        the rest.
    """
    if not recipe.data.train or not recipe.data.validation:
        raise InputError(
            f"recipe {recipe.name!r} has no data. Say where it is: [data] train and validation in "
            "the file, recipe.replaced(data={...}), or --train and --validation."
        )
    if not recipe.data.target:
        _refuse(recipe, _PLACES, "without a data.target")
    else:
        _refuse(recipe, _ELEVATIONS, "with a data.target")
        if recipe.patches.kind != "tiles":
            raise InputError(
                f"recipe {recipe.name!r} has a data.target, and so several rasters a place: these "
                'are cut into tiles. Say [patches] kind = "tiles".'
            )
    if recipe.data.inputs:
        _refuse(recipe, _MADE, "with data.inputs, which are taken as they are")
    if "adversarial" in recipe.loss:
        _check_adversarial(recipe)


def check_bands(network: Any, recipe: Recipe) -> None:
    """Refuse bands in another order than the network's own.

    Raises
    ------
    InputError
    """
    own, named = list(getattr(network, "bands", ())), list(recipe.model.inputs)
    if named != own and sorted(named) == sorted(own):
        raise InputError(
            f"recipe {recipe.name!r} names the inputs {', '.join(named)}, and its network takes "
            f"{', '.join(own)}. Put model.inputs and model.options.bands into one order."
        )


def _refuse(recipe: Recipe, keys: dict[str, Any], where: str) -> None:
    said = []
    for key, default in keys.items():
        part, name = key.split(".")
        if getattr(getattr(recipe, part), name) != default:
            said.append(key)
    if said:
        raise InputError(
            f"recipe {recipe.name!r} says {', '.join(said)}, which means nothing {where}. Leave it "
            "out, or see xdemsr.training.parts for what it goes with."
        )


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
