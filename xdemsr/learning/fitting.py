"""A fit as the recipe's loss wants it: alone, or against a discriminator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdemsr.errors import InputError
from xdemsr.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from xdemsr.training.fit import Scores, Source


def fit_network(
    network: nn.Module,
    recipe: Recipe,
    source: Source,
    scores: Scores,
    folder: Path,
    progress: bool,
) -> None:
    """Fit a network in place.

    Raises
    ------
    InputError
        If the loss is adversarial and the network has no opponent.
    """
    from xdemsr.training.adversarial import AdversarialFit
    from xdemsr.training.fit import Fit, fit

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
