"""The parts of a recipe: data, patches, network, loss, optimiser, schedule, run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xdemsr.errors import InputError


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
        Coarser rasters (30 m and the like) that add variety; not with a ``target``.
    extra_share : float
        Share of the patches that come from those.
    variants : int
        Turned and stretched copies of each raster beside itself; not with a ``target``.
    target : str
        What is to be learnt, where a place has several rasters: ``"dtm"`` is ``*/dtm.tif`` or
        ``*_dtm.tif``.
    inputs : tuple of str
        What it is learnt from, by the same names, all on the target's grid divided by the scale;
        none where the input is the target as a coarser sensor sees it.
    coarsen : int
        Work with pixels so many times larger than those of the files; only with a ``target``.
    """

    train: str = ""
    validation: str = ""
    extra: str = ""
    extra_share: float = 0.2
    variants: int = 0
    target: str = ""
    inputs: tuple[str, ...] = ()
    coarsen: int = 1

    def __post_init__(self) -> None:
        _check_positive("data", self, "coarsen")
        if self.inputs and not self.target:
            raise InputError(
                f"recipe: data.inputs = {self.inputs} are to be turned into what? Say data.target."
            )


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
    sensors : int
        Of tiles of a ``data.target`` without ``data.inputs``: so many copies of each raster, each
        degraded by a sensor drawn from ``[mixture]``, instead of one by ``[sensor]``.
    centred : bool
        Of tiles of a ``data.target``: learn it above its own mean in each patch.
    swap : (str, str)
        Of tiles of a ``data.target``: two inputs that are alike, exchanged in half of the patches:
        a left and a right orthoimage.
    step, blocks, half_share, finest_exact : optional
        Of spacings: see :class:`xdemsr.training.patches.PatchRecipe`.
    """

    kind: Literal["tiles", "spacings"] = "tiles"
    size: int = 25
    stride: int = 0
    min_valid: float = 1.0
    flips: bool = True
    sensors: int = 0
    centred: bool = False
    swap: tuple[str, ...] = ()
    step: int = 4
    blocks: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8)
    half_share: float = 0.0
    finest_exact: int = 2

    def __post_init__(self) -> None:
        if len(self.swap) not in (0, 2):
            raise InputError(f"recipe: patches.swap = {self.swap!r} must be two inputs, or none.")
        if not self.blocks:
            raise InputError(f"recipe: patches.blocks = {self.blocks!r} must be one or more.")


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
    task : str
        ``"super-resolution"``, ``"refinement"``, ``"elevation"`` or ``"imagery"``.
    inputs, outputs : mapping of str to str
        Bands and their units, in the network's order; elevations in metres by default.
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
    task: str = "super-resolution"
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=lambda: {"elevation": "m"})
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
    momentum : float
        Adam's first beta; one-cycle schedules have their own.
    weight_decay : float
    clip : float
        Largest norm of the gradient; 0 leaves it.
    """

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
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
class Perceptual:
    """The loss ``perceptual``; see :class:`xdemsr.training.perceptual.Perceptual`.

    Attributes
    ----------
    weights : str
        File of VGG16-BN's parameters; torchvision's, where it is empty.
    bands : tuple of int
        Which bands of the answer are red, green and blue.
    low, high : float
        Values that stand for 0 and 1.
    blocks, factors : tuple
        Blocks of VGG16 whose features are compared, and their weights.
    style, pixel : float
        Weights of the Gram matrices, and of the pixels themselves.
    """

    weights: str = ""
    bands: tuple[int, ...] = (0, 1, 2)
    low: float = 0.0
    high: float = 0.3
    blocks: tuple[int, ...] = (3, 4, 5)
    factors: tuple[float, ...] = (5.0, 15.0, 2.0)
    style: float = 5e3
    pixel: float = 1.0


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
