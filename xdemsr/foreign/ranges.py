"""Networks made for images, given bands in physical units: their range and their channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from xdemsr.errors import InputError, ModelError
from xdemsr.foreign.told import Told, ValueRange

#: Channels of grey and of colour networks: what they do to one band can be asked band by band.
_IMAGES = (1, 3)


class Ranges(nn.Module):
    """Brings bands into the range that a network was made for, and its answers back.

    Parameters
    ----------
    value_range : (low, high), or one such pair for each band, or None
        What the network's 0 and 1 stand for. None leaves numbers as they are.
    bands : int
        How many there are.
    """

    low: Tensor
    span: Tensor

    def __init__(self, value_range: ValueRange | None, bands: int) -> None:
        super().__init__()
        self.identity = value_range is None
        low, high = limits(value_range or (0.0, 1.0), bands)
        spans = [top - bottom for bottom, top in zip(low, high, strict=True)]
        # The options hold them; so they are not stored a second time.
        for name, numbers in (("low", low), ("span", spans)):
            place = torch.tensor(numbers, dtype=torch.float32).reshape(1, bands, 1, 1)
            self.register_buffer(name, place, persistent=False)

    def enter(self, x: Tensor) -> Tensor:
        """From the raster's units to the network's."""
        return x if self.identity else (x - self.low) / self.span

    def leave(self, y: Tensor) -> Tensor:
        """From the network's units to the raster's."""
        return y if self.identity else y * self.span + self.low


def limits(value_range: ValueRange, bands: int) -> tuple[list[float], list[float]]:
    """Lowest and highest value of each band.

    Raises
    ------
    InputError
        If it is neither one pair of rising numbers nor one for each band.
    """
    single = all(isinstance(end, Real) for end in value_range)
    pairs = [value_range] * bands if single else list(value_range)
    fits = len(pairs) == bands and all(
        isinstance(pair, Sequence) and len(pair) == 2 and -math.inf < pair[0] < pair[1] < math.inf
        for pair in pairs
    )
    if not fits:
        raise InputError(
            f"value_range={value_range!r} must be (low, high), or one such pair for each of the "
            f"{bands} band{'s' * (bands != 1)}."
        )
    return [float(pair[0]) for pair in pairs], [float(pair[1]) for pair in pairs]  # type: ignore[index]


def fitted(bands: int | None, channels: int, answers: int, kind: str) -> tuple[int, int]:
    """Bands in and out of a network of so many channels, for a raster of so many bands.

    Raises
    ------
    ModelError
        If the raster has another number of bands, and the network does not map an image of one or
        three channels to another of as many.
    """
    if bands is None or bands == channels:
        return channels, answers
    if channels in _IMAGES and answers == channels:
        return bands, bands
    raise ModelError(
        f"this {kind} network takes {channels} bands and answers with {answers}; told were {bands}."
    )


def range_options(told: Told, bands: int, answers: int) -> dict[str, Any]:
    """Options of a network whose answers, where as many come out as go in, have the same range."""
    options: dict[str, Any] = {"bands": bands, "answers": answers}
    if told.value_range is not None:
        options["value_range"] = told.value_range
        if answers == bands:
            options["output_range"] = told.value_range
    return options


def band_by_band(x: Tensor, channels: int, network: Callable[[Tensor], Tensor]) -> Tensor:
    """Answer an image of any number of bands by a network of fixed ones.

    Where the numbers differ each band is given alone, in all the network's channels, and the mean
    of these is its answer.
    """
    n, bands, ny, nx = x.shape
    if bands == channels:
        return network(x)
    alone = x.reshape(n * bands, 1, ny, nx).expand(-1, channels, -1, -1)
    answer = network(alone.contiguous()).mean(dim=1)
    return answer.reshape(n, bands, *answer.shape[-2:])
