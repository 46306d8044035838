"""A recipe: one repeatable training run, as plain values and as TOML."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from xdemsr.errors import InputError
from xdemsr.sensor import Sensor
from xdemsr.training.mixture import Mixture

#: Where the recipes that come with xdemsr are.
SHIPPED = Path(__file__).parent / "recipes"


def _check_positive(part: str, values: Any, *names: str) -> None:
    for name in names:
        if getattr(values, name) < 1:
            raise InputError(f"recipe: {part}.{name} = {getattr(values, name)!r} must be positive.")


@dataclass(frozen=True)
class Data:
    """Where elevations come from: folders of GeoTIFFs (``*.tif`` or ``*/dtm.tif``) or ``.npz``.

    Attributes
    ----------
    train, validation : str
        Learnt from; and what chooses among the weights on the way.
    extra : str
        Coarser rasters (30 m and the like) that add variety.
    extra_share : float
        Share of the patches that come from those.
    variants : int
        Turned and stretched copies of each raster beside itself.
    """

    train: str = ""
    validation: str = ""
    extra: str = ""
    extra_share: float = 0.2
    variants: int = 0


@dataclass(frozen=True)
class Patches:
    """What the network is shown.

    Attributes
    ----------
    kind : {"tiles", "spacings"}
        ``"tiles"``: the rasters cut into patches on a grid, degraded by ``[sensor]``, shuffled, as
        papers do. ``"spacings"``: patches drawn anywhere at several spacings at once, each degraded
        by a sensor of its own from ``[mixture]``.
    size : int
        Source pixels along a patch.
    stride : int
        Of the grid of tiles; 0 puts them side by side.
    min_valid : float
        Share of a patch that must be known.
    flips : bool
        Show tiles in eight flips and rotations; spacings always are.
    step, blocks, half_share, finest_exact : optional
        Of spacings: see :class:`xdemsr.training.patches.PatchRecipe`.
    """

    kind: Literal["tiles", "spacings"] = "tiles"
    size: int = 25
    stride: int = 0
    min_valid: float = 1.0
    flips: bool = True
    step: int = 4
    blocks: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8)
    half_share: float = 0.0
    finest_exact: int = 2


@dataclass(frozen=True)
class Network:
    """The model that comes out: architecture, options, scale, names.

    Attributes
    ----------
    architecture : str
        A name in ``xdemsr.models.ARCHITECTURES``, or ``package.module:Class``.
    scale : int
        Output pixels per input pixel along each axis.
    options : mapping
        Keyword arguments of the architecture, ``scale`` among them where it takes one.
    start : str
        A model file whose parameters training starts from.
    window : int
        Size the network is trained on, where it uses statistics of its whole window.
    tile : int
        Source pixels of a tile at inference.
    version, summary, licence, citation : str
    """

    architecture: str
    scale: int
    options: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    window: int = 0
    tile: int = 128
    version: str = "1"
    summary: str = ""
    licence: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        _check_positive("model", self, "scale", "tile")
        made_for = self.options.get("scale", self.scale)
        if made_for != self.scale:
            raise InputError(
                f"recipe: model.scale = {self.scale}, but model.options.scale = {made_for!r}. Give "
                "both the same."
            )


@dataclass(frozen=True)
class Optimiser:
    """Adam, AdamW, or plain stochastic gradient descent.

    Attributes
    ----------
    name : {"adam", "adamw", "sgd"}
    learning_rate : float
        At its highest.
    weight_decay : float
    clip : float
        Largest norm of the gradient; 0 leaves it.
    """

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes.

    Attributes
    ----------
    name : {"constant", "cosine", "plateau", "one-cycle"}
        ``"cosine"`` falls to zero over the run; ``"plateau"`` falls by ``factor`` when the score
        has not improved for ``patience`` validations; ``"one-cycle"`` rises for the share ``warm``
        of the run.
    warm_up : int
        Steps over which it rises linearly first (constant and cosine).
    patience, factor : int, float
    warm : float
    """

    name: Literal["constant", "cosine", "plateau", "one-cycle"] = "constant"
    warm_up: int = 0
    patience: int = 10
    factor: float = 0.1
    warm: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.warm <= 1:
            raise InputError(f"recipe: schedule.warm = {self.warm} must lie between 0 and 1.")


@dataclass(frozen=True)
class Run:
    """How long, how large, how often.

    Attributes
    ----------
    steps : int
        Optimiser steps; rounded up to whole validations, since only validated weights are kept.
    minutes : float
        Stop after so long, if that is sooner; 0 for no limit.
    batch : int
        Patches a step.
    seed : int
    precision : str
        Lightning's word for it: ``"32-true"``, ``"bf16-mixed"``, ...
    average : float
        Decay of the exponential moving average of the weights, which is what is kept; 0 for none.
    validate_every : int
        Steps. A run that was killed goes on from its last validation.
    stop_after : int
        Validations without a better score that end the run; 0 for never.
    devices : int
        GPUs, or processes on the CPU.
    """

    steps: int = 10_000
    minutes: float = 0.0
    batch: int = 16
    seed: int = 0
    precision: str = "32-true"
    average: float = 0.0
    validate_every: int = 500
    stop_after: int = 0
    devices: int = 1

    def __post_init__(self) -> None:
        _check_positive("run", self, "steps", "batch", "validate_every", "devices")

    @property
    def interval(self) -> int:
        """Steps from one validation to the next."""
        return min(self.validate_every, self.steps)

    @property
    def whole_steps(self) -> int:
        """Steps up to the last validation."""
        return -(-self.steps // self.interval) * self.interval


@dataclass(frozen=True)
class Uncertainty:
    """The second stage, for networks that state a standard error: only that is learnt.

    Attributes
    ----------
    steps : int
        0 for no such stage.
    scales : tuple of int
        That are learnt, each in turn, and calibrated on the validation places.
    size, batch : int
        Of patches.
    learning_rate : float
    """

    steps: int = 0
    scales: tuple[int, ...] = (2, 4, 8, 16)
    size: int = 32
    batch: int = 8
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Recipe:
    """One repeatable run: data, patches, degradation, network, loss, optimiser, schedule, seed.

    Attributes
    ----------
    name : str
        Of the model that comes out.
    model : Network
    data : Data
    patches : Patches
    sensor : Sensor
        Of tiles.
    mixture : Mixture
        Of spacings.
    loss : mapping of str to float
        Names of ``xdemsr.training.losses.LOSSES``, or ``adversarial``, and their weights.
    optimiser : Optimiser
    schedule : Schedule
    run : Run
    uncertainty : Uncertainty

    Examples
    --------
    >>> from xdemsr.training import Recipe
    >>> recipe = Recipe.named("dsrcnn-x16")
    >>> recipe.optimiser.name, recipe.loss
    ('adam', {'mse': 1.0})
    """

    name: str
    model: Network
    data: Data = Data()
    patches: Patches = Patches()
    sensor: Sensor = field(default_factory=Sensor)
    mixture: Mixture = field(default_factory=Mixture)
    loss: Mapping[str, float] = field(default_factory=lambda: {"mse": 1.0})
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    run: Run = Run()
    uncertainty: Uncertainty = Uncertainty()

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
            If there is none of that name; those there are are listed.
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
        recipe: Recipe = _build(cls, values, "")
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Plain values, all defaults written out."""
        return asdict(self)

    def with_paths(self, folder: Path) -> Recipe:
        """The same with relative data paths taken from a folder."""
        values = self.to_dict()
        for part, keys in (("data", ("train", "validation", "extra")), ("model", ("start",))):
            for key in keys:
                if values[part][key]:
                    values[part][key] = str(folder / values[part][key])
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
    """Names of the recipes that come with xdemsr."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def _build(kind: Any, values: Any, where: str) -> Any:
    """A value of a dataclass or plain type from TOML's, every key accounted for."""
    if is_dataclass(kind):
        return _build_dataclass(kind, values, where)
    origin = get_origin(kind)
    if origin is Literal:
        if values not in get_args(kind):
            raise InputError(f"recipe: {where} = {values!r} is not one of {get_args(kind)}.")
        return values
    if origin is tuple:
        return _build_tuple(get_args(kind), values, where)
    if origin is Mapping:
        inner = get_args(kind)[1]
        _check_table(values, where)
        return {key: _build(inner, value, _join(where, key)) for key, value in values.items()}
    if kind is Any:
        return values
    if kind is float and isinstance(values, int) and not isinstance(values, bool):
        return float(values)
    if not isinstance(values, kind) or (kind is int and isinstance(values, bool)):
        raise InputError(f"recipe: {where} = {values!r} must be {kind.__name__}.")
    return values


def _build_tuple(kinds: tuple[Any, ...], values: Any, where: str) -> tuple[Any, ...]:
    wanted = "one or more" if ... in kinds else str(len(kinds))
    found = len(values) if isinstance(values, list | tuple) else 0
    if not found or (... not in kinds and found != len(kinds)):
        raise InputError(f"recipe: {where} = {values!r} must be a list of {wanted}.")
    return tuple(_build(kinds[0], value, where) for value in values)


def _build_dataclass(kind: Any, values: Any, where: str) -> Any:
    _check_table(values, where)
    known = [entry.name for entry in fields(kind)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known)}."
            raise InputError(f"recipe: {_join(where, key)!r} means nothing. {hint}")
    hints = get_type_hints(kind)
    built = {key: _build(hints[key], value, _join(where, key)) for key, value in values.items()}
    try:
        return kind(**built)
    except TypeError as error:
        raise InputError(f"recipe: {where or 'it'} is not complete: {error}.") from error


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _check_table(values: Any, where: str) -> None:
    if not isinstance(values, Mapping):
        raise InputError(f"recipe: [{where}] must be a table, found {values!r}.")
