"""A recipe: one repeatable training run, as plain values and as TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xdemsr.errors import InputError
from xdemsr.sensor import Sensor
from xdemsr.training.mixture import Mixture
from xdemsr.training.parts import (
    Data,
    Network,
    Optimiser,
    Patches,
    Perceptual,
    Run,
    Schedule,
    Uncertainty,
)
from xdemsr.training.tables import from_table

#: Where the recipes that come with xdemsr are.
SHIPPED = Path(__file__).parent / "recipes"

#: Values that are paths.
_PATHS = {
    "data": ("train", "validation", "extra"),
    "model": ("start",),
    "perceptual": ("weights",),
}


@dataclass(frozen=True)
class Recipe:
    """One repeatable run: data, patches, degradation, network, loss, optimiser, schedule, seed.

    Attributes
    ----------
    name : str
        Of the model that comes out.
    model : Network
        The architecture and its options, and weights to start from.
    data : Data
        Folders to learn from and to be validated on, and what of them is read.
    patches : Patches
        Their kind, size and number.
    sensor : Sensor
        Of tiles.
    mixture : Mixture
        Of spacings.
    loss : mapping of str to float
        Names of ``xdemsr.training.losses.LOSSES``, ``perceptual`` or ``adversarial``, and their
        weights.
    perceptual : Perceptual
        Features of VGG16 that the loss of that name compares.
    optimiser : Optimiser
        Its name and learning rate.
    schedule : Schedule
        How the learning rate changes.
    run : Run
        Steps, batches, seed, precision and devices.
    uncertainty : Uncertainty
        The second stage, which learns the standard error.

    Examples
    --------
    >>> from xdemsr.training import Recipe
    >>> recipe = Recipe.named("dsrcnn-x16")
    >>> recipe.optimiser.name, recipe.loss
    ('adam', {'mse': 1.0})
    """

    name: str
    model: Network
    data: Data = field(default_factory=Data)
    patches: Patches = field(default_factory=Patches)
    sensor: Sensor = field(default_factory=Sensor)
    mixture: Mixture = field(default_factory=Mixture)
    loss: Mapping[str, float] = field(default_factory=lambda: {"mse": 1.0})
    perceptual: Perceptual = field(default_factory=Perceptual)
    optimiser: Optimiser = field(default_factory=Optimiser)
    schedule: Schedule = field(default_factory=Schedule)
    run: Run = field(default_factory=Run)
    uncertainty: Uncertainty = field(default_factory=Uncertainty)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """The recipe of a TOML file; data folders are relative to it.

        Raises
        ------
        InputError
            If it cannot be read, or has a key that means nothing.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"cannot read the recipe {str(path)!r}: {error}.") from error
        recipe = cls.from_dict(values)
        return recipe.with_paths(path.parent)

    @classmethod
    def named(cls, name: str) -> Recipe:
        """A recipe that comes with xdemsr.

        Raises
        ------
        InputError
            If there is none of that name; those that there are, are listed.
        """
        return cls.from_dict(tomllib.loads(cls.text(name)))

    @classmethod
    def find(cls, recipe: str | Path) -> Recipe:
        """The recipe of a file ending in ``.toml``, or the shipped one of that name."""
        return cls.read(recipe) if str(recipe).endswith(".toml") else cls.named(str(recipe))

    @staticmethod
    def text(name: str) -> str:
        """The TOML of a recipe that comes with xdemsr, to be changed and kept."""
        if name not in shipped_recipes():
            raise InputError(
                f"no recipe is called {name!r}. There are {', '.join(shipped_recipes())}; one of "
                "your own is given as the path of a .toml file."
            )
        return (SHIPPED / f"{name}.toml").read_text(encoding="utf-8")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe of nested mappings, as TOML and :meth:`to_dict` give them."""
        recipe: Recipe = from_table(cls, values, "")
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Plain values, all defaults written out."""
        return asdict(self)

    def with_paths(self, folder: Path) -> Recipe:
        """The same with relative data paths taken from a folder."""
        return self._with_each_path(lambda path: str(folder / path))

    def without_folders(self) -> Recipe:
        """The same with the bare names of its data: fit to be shown to others."""
        return self._with_each_path(lambda path: Path(path).name)

    def _with_each_path(self, change: Callable[[str], str]) -> Recipe:
        values = self.to_dict()
        for part, keys in _PATHS.items():
            for key in keys:
                if values[part][key]:
                    values[part][key] = change(values[part][key])
        return Recipe.from_dict(values)

    def replaced(self, **parts: Mapping[str, Any]) -> Recipe:
        """The same with some values changed: ``recipe.replaced(run={"steps": 100})``.

        Losses are added to those there are, or weighted anew; the model's options are given whole.
        """
        values = self.to_dict()
        for part, changes in parts.items():
            known: Any = values.get(part)
            merged = isinstance(known, dict) and isinstance(changes, Mapping)
            values[part] = {**known, **changes} if merged else changes
        return Recipe.from_dict(values)


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with xdemsr.

    Returns
    -------
    list of str
        As ``Recipe.named`` takes them.

    Examples
    --------
    >>> from xdemsr.training import shipped_recipes
    >>> "terrain" in shipped_recipes()
    True
    """
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))
