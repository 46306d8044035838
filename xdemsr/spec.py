"""What a model is, in plain values: frozen, comparable, JSON both ways.

A ``ModelSpec`` travels in the header of the model's own ``.safetensors`` file and inside dask
graphs, so it knows neither torch nor xarray.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from typing import Any, Literal

from xdemsr.errors import InputError, ModelError

#: Of the specification's JSON. Raised when an older xdemsr could not read a newer one's.
_FORMAT = 3

Border = Literal["odd", "mirror", "edge"]

#: Optional input that the caller states instead of holding it in the raster.
VERTICAL_ERROR = "vertical_error"

#: Second output of models that say how far off they may be.
STANDARD_ERROR = "standard_error"


@dataclass(frozen=True, slots=True)
class Band:
    """One input or output layer.

    ``scale`` is how many of its pixels lie along one pixel of the model's input grid: 1 for the
    raster itself, 4 for a guide image of four times finer sampling.

    Examples
    --------
    >>> import xdemsr
    >>> xdemsr.Band("ortho", scale=4)
    Band(name='ortho', units='', scale=4)
    """

    name: str
    units: str = ""
    scale: int = 1


@dataclass(frozen=True, slots=True)
class Local:
    """A network that sees a finite neighbourhood: tile answers equal the whole-array answer.

    Attributes
    ----------
    halo : int
        Context the network needs around every pixel, in source pixels.
    multiple_of : int
        Stride of the network: tiles begin at multiples of it.
    tile : int
        Size of the core given to the network at once. It moves the last bit of the numbers, so it
        belongs to the model, not to the call.

    Examples
    --------
    >>> import xdemsr
    >>> xdemsr.Local(halo=20, multiple_of=4)
    Local(halo=20, multiple_of=4, tile=128)
    """

    halo: int
    multiple_of: int = 1
    tile: int = 128

    def __post_init__(self) -> None:
        whole = all(isinstance(n, int) for n in (self.halo, self.multiple_of, self.tile))
        if not whole or self.halo < 0 or self.multiple_of < 1 or self.tile < 1:
            raise ModelError(
                "Local context needs whole numbers, halo >= 0, multiple_of >= 1 and tile >= 1; "
                f"got {self}."
            )


@dataclass(frozen=True, slots=True)
class Windowed:
    """A network that uses statistics of its whole window, so it needs the size it was trained on.

    Windows of exactly ``size`` source pixels overlap by ``overlap`` and are blended with ramps that
    sum to one.

    Examples
    --------
    >>> import xdemsr
    >>> xdemsr.Windowed(size=256, overlap=64)
    Windowed(size=256, overlap=64)
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        whole = isinstance(self.size, int) and isinstance(self.overlap, int)
        if not whole or self.size < 1 or not 0 <= self.overlap < self.size:
            raise ModelError(
                f"Windowed context needs whole numbers, 0 <= overlap < size; got {self}."
            )


Context = Local | Windowed


#: Begins the location of a file that is shipped inside ``xdemsr``.
PACKAGE = "package:"


@dataclass(frozen=True, slots=True)
class Weights:
    """Where a model's parameters are, and how to know that they are the right ones.

    ``location`` is a path, or ``package:NAME`` for a file shipped inside ``xdemsr``.
    """

    location: str
    sha256: str
    size: int

    @property
    def shipped(self) -> bool:
        """Whether the file is one of xdemsr's own."""
        return self.location.startswith(PACKAGE)


@dataclass(frozen=True)
class ModelSpec:
    """All that is known of a model without its parameters.

    Attributes
    ----------
    name, version : str
        What the answer's attributes will call it.
    architecture : str
        A name in ``xdemsr.models.ARCHITECTURES``, or ``package.module:Class`` for a user's own
        network.
    options : mapping
        Keyword arguments of the architecture.
    scale : int
        Output pixels per input pixel along each axis.
    inputs, outputs : tuple of Band
        Layers in the network's own order.
    context : Local or Windowed
        How much the network must see.
    border : {"odd", "mirror", "edge"}
        How the raster goes on beyond its outer border: point reflection about the last pixel
        (slopes go on; right for elevation), mirror image about the last pixel, or its value.
    gsd : (float, float) or None
        Smallest and largest ground sampling distance of the input, in metres, in training.
    relative : bool
        Whether the answer of each window has a level of its own: heights are relative. A mosaic of
        windows is then levelled (see ``xdemsr.levels``).
    flops : float
        Floating-point operations per input pixel of a tile, its halo's included.
    scales : mapping of int to float
        All scales that the same parameters serve, where that is more than one, and the operations
        per input pixel at each. The architecture's option ``scale`` chooses.
    task, summary, licence, citation : str
        For people.
    training : mapping
        Data, recipe and scores.
    weights : Weights or None
        None for models without parameters.

    Examples
    --------
    >>> import xdemsr
    >>> spec = xdemsr.load_model("terrain-x4").spec
    >>> spec.architecture, spec.context, [band.name for band in spec.inputs]
    ('terrain', Local(halo=23, multiple_of=1, tile=128), ['elevation', 'vertical_error'])
    """

    name: str
    architecture: str
    scale: int
    context: Context
    version: str = "1"
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Band, ...] = (Band("elevation", "m"),)
    outputs: tuple[Band, ...] = (Band("elevation", "m"),)
    border: Border = "edge"
    gsd: tuple[float, float] | None = None
    relative: bool = False
    flops: float = 0.0
    scales: Mapping[int, float] = field(default_factory=dict)
    task: str = "super-resolution"
    summary: str = ""
    licence: str = ""
    citation: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ModelError(f"a model needs a name, found {self.name!r}.")
        if not _is_scale(self.scale):
            raise ModelError(
                f"model {self.name!r}: scale must be a whole number of at least 1, found "
                f"{self.scale!r}."
            )
        if not isinstance(self.scales, Mapping) or not all(map(_is_scale, self.scales)):
            raise ModelError(
                f"model {self.name!r}: scales must be a mapping of whole numbers of at least 1 to "
                f"operations, found {self.scales!r}."
            )
        if not isinstance(self.context, Local | Windowed):
            raise ModelError(
                f"model {self.name!r}: context must be Local(...) or Windowed(...), found "
                f"{self.context!r}. Measure it: xdemsr.measure_context(module)."
            )
        bands = (*self.inputs, *self.outputs)
        if not all(isinstance(band, Band) for band in bands):
            raise ModelError(
                f"model {self.name!r}: inputs and outputs must be Band(...), found {bands}."
            )
        if not self.inputs or not self.outputs:
            raise ModelError(f"model {self.name!r} needs at least one input and one output band.")
        for side in (self.inputs, self.outputs):
            names = [band.name for band in side]
            if len(set(names)) < len(names):
                raise ModelError(
                    f"model {self.name!r}: bands are found by name, and {', '.join(names)} are not "
                    "all different."
                )
        if self.gsd is not None and not (
            isinstance(self.gsd, tuple) and len(self.gsd) == 2 and 0 < self.gsd[0] <= self.gsd[1]
        ):
            raise ModelError(
                f"model {self.name!r}: gsd must be (smallest, largest) in metres, found {self.gsd}."
            )
        if self.relative and not self._can_be_levelled:
            raise ModelError(
                f"model {self.name!r}: answers that are relative have one output band and windows "
                f"that overlap, Windowed(size, overlap); found {len(self.outputs)} and "
                f"{self.context}."
            )
        if self.border not in ("odd", "mirror", "edge"):
            raise ModelError(
                f"model {self.name!r}: border {self.border!r} is not 'odd', 'mirror' or 'edge'."
            )

    @property
    def _can_be_levelled(self) -> bool:
        overlaps = isinstance(self.context, Windowed) and self.context.overlap > 0
        return overlaps and len(self.outputs) == 1

    @property
    def raster_inputs(self) -> tuple[Band, ...]:
        """The bands a raster must bring: all inputs but the stated vertical error."""
        return tuple(band for band in self.inputs if band.name != VERTICAL_ERROR)

    @property
    def takes_vertical_error(self) -> bool:
        """Whether the network is told the standard error of the input elevations."""
        return any(band.name == VERTICAL_ERROR for band in self.inputs)

    def at(self, scale: int | None = None) -> ModelSpec:
        """The model for one of the scales it serves, its own by default, named after it."""
        scale = self.scale if scale is None else scale
        if scale not in self.scales:
            return self
        return replace(
            self,
            name=f"{self.name}-x{scale}",
            scale=scale,
            options={**self.options, "scale": scale},
            flops=self.scales[scale],
            scales={},
        )

    def stating_error(self) -> ModelSpec:
        """The same model with the standard error of each pixel as a second output.

        Raises
        ------
        ModelError
            If it has none: its architecture has no option ``uncertainty``, or was not taught it.
        """
        if "uncertainty" not in self.options:
            raise ModelError(
                f"model {self.name!r} states no standard error. The shipped terrain models do; one "
                "of your own needs an architecture with the option 'uncertainty', and that option "
                "among its specification's."
            )
        error = Band(STANDARD_ERROR, self.outputs[0].units)
        options = {**self.options, "uncertainty": True}
        return replace(self, options=options, outputs=(self.outputs[0], error))

    def identity(self) -> tuple[str, str]:
        """What makes two models the same in a dask graph: all that a worker reads, and weights."""
        return self.for_worker().to_json(), self.weights.sha256 if self.weights else ""

    def for_worker(self) -> ModelSpec:
        """The same model without what a worker does not read, so that tasks stay small."""
        return replace(self, training={}, summary="", citation="", licence="")

    def to_json(self) -> str:
        """One line of JSON; ``weights`` is left out, since a file cannot hold its own hash."""
        values = asdict(self)
        values.pop("weights")
        values["context"]["kind"] = "local" if isinstance(self.context, Local) else "windowed"
        values["format"] = _FORMAT
        try:
            return json.dumps(values, sort_keys=True)
        except TypeError as error:
            raise ModelError(
                f"model {self.name!r} cannot be written: {error}. Give options and training as "
                "plain numbers, texts, lists and mappings."
            ) from error

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """The spec written by :meth:`to_json`.

        Raises
        ------
        ModelError
            If the text is not such a spec; unknown or missing entries are named.
        """
        try:
            values = json.loads(text)
            if values.pop("format", _FORMAT) > _FORMAT:
                raise ModelError("the specification was written by a newer xdemsr; upgrade it.")
            context = dict(values.pop("context"))
            kind = {"local": Local, "windowed": Windowed}[context.pop("kind")]
            values["context"] = kind(**context)
            for side in ("inputs", "outputs"):
                values[side] = tuple(Band(**band) for band in values[side])
            values["gsd"] = tuple(values["gsd"]) if values["gsd"] else None
            values["scales"] = {int(s): flops for s, flops in values.get("scales", {}).items()}
            return cls(**values)
        except ModelError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ModelError(f"not a model specification of xdemsr: {error!r}.") from error


def _is_scale(scale: Any) -> bool:
    return isinstance(scale, int) and not isinstance(scale, bool) and scale >= 1


def whole_scale(scale: Any) -> int:
    """A scale as an int.

    Raises
    ------
    InputError
        If it is not a whole number of at least 1.
    """
    real = not isinstance(scale, bool) and isinstance(scale, Real)
    if not real or scale != scale // 1 or scale < 1:
        raise InputError(
            f"scale={scale!r} must be a whole number, 1 or more: fine pixels per coarse pixel."
        )
    return int(scale)
