"""What chooses among weights: ratios to the best classical answer, on places not learnt from.

Whole rasters in the continuous protocol, at several scales for networks that serve several; or
tiles, each alone, as the papers have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from xdemsr.errors import InputError
from xdemsr.kernels import CLASSICAL, KERNELS
from xdemsr.models.interpolation import Interpolation
from xdemsr.models.layers import with_margin
from xdemsr.models.network import Network
from xdemsr.training.places import Raster

_EDGE, _BESIDE, _CONTEXT = 4, 3, 12
_NOISE = 0.3

Plane = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One input of one place: exact, rounded to whole metres, or with 0.3 m of noise.

    Attributes
    ----------
    place, kind : str
    inputs : Tensor, shape (1, 2, ny + 2 halo, nx + 2 halo)
        Elevation and its standard error, continued beyond the border.
    halo : int
    """

    place: str
    kind: str
    inputs: Tensor
    halo: int


class Validation:
    """Whole rasters at one scale.

    Parameters
    ----------
    rasters : sequence of Raster
    scale : int
        Fine pixels per coarse pixel along each axis.
    """

    def __init__(self, rasters: Sequence[Raster], scale: int) -> None:
        self.scale = scale
        self._truth: dict[str, tuple[Plane, NDArray[np.bool_]]] = {}
        self._best: dict[tuple[str, str], float] = {}
        self.cases: list[Case] = []
        for raster in rasters:
            self._add(raster)

    def ratio(self, case: Case, answer: Tensor) -> float:
        """MSE of an answer (1, 1, ny * scale, nx * scale) over the best classical one's."""
        return self._mse(case, answer) / self._best[case.place, case.kind]

    def mask(self, case: Case) -> NDArray[np.bool_]:
        """Which pixels of the answer are scored."""
        return self._truth[case.place][1]

    def errors(self, case: Case, answer: Tensor) -> Plane:
        """Errors of an answer (1, 1, ny * scale, nx * scale), of all scored pixels."""
        truth, mask = self._truth[case.place]
        error: Plane = (answer[0, 0].double().cpu().numpy() - truth)[mask]
        return error

    def score(self, network: nn.Module) -> dict[str, float]:
        """Ratio for every place and kind, and the mean of each kind over places."""
        ratios = {}
        device = device_of(network)
        with evaluating(network):
            for case in self.cases:
                inputs = case.inputs[:, : n_bands(network)].to(device)
                answer = _answered(network, inputs, case.halo)[:, :1]
                ratios[f"{case.kind}/{case.place}"] = self.ratio(case, answer)
        kinds = dict.fromkeys(case.kind for case in self.cases)
        means = {
            kind: float(np.mean([r for name, r in ratios.items() if name.startswith(kind + "/")]))
            for kind in kinds
        }
        return {**means, **ratios, "score": float(np.mean(list(means.values())))}

    def _add(self, raster: Raster) -> None:
        ny, nx = (n // self.scale * self.scale for n in raster.heights.shape)
        heights = raster.heights[:ny, :nx]
        coarse = heights.reshape(ny // self.scale, self.scale, -1, self.scale).mean(axis=(1, 3))
        known = np.isfinite(coarse)
        scored = ndimage.minimum_filter(known, size=2 * _BESIDE + 1, mode="nearest")
        scored[:_EDGE] = scored[-_EDGE:] = False
        scored[:, :_EDGE] = scored[:, -_EDGE:] = False
        if not scored.any():
            raise InputError(
                f"the validation raster {raster.name!r} of {raster.heights.shape} pixels has none "
                f"left to score at a scale of {self.scale}, without the outer {_EDGE} source "
                f"pixels and {_BESIDE} beside voids. Give a larger one."
            )
        centre = float(np.nanmean(coarse))
        mask = scored.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
        self._truth[raster.name] = (heights - centre, mask)
        if not known.all():
            nearest = ndimage.distance_transform_edt(
                ~known, return_distances=False, return_indices=True
            )
            coarse = coarse[tuple(nearest)]
        for kind, plane, error in _imperfect(coarse):
            self._add_case(raster.name, kind, plane - centre, error)

    def _add_case(self, place: str, kind: str, plane: Plane, error: float) -> None:
        halo = min(_CONTEXT, *(n - 1 for n in plane.shape))
        padded = np.pad(plane, halo, mode="reflect", reflect_type="odd")
        both = np.stack([padded, np.full_like(padded, error)])[None]
        case = Case(place, kind, torch.from_numpy(both).to(torch.float32), halo)
        errors = []
        for kernel in CLASSICAL:
            network = Interpolation(kernel, self.scale)
            odd = KERNELS[kernel][1] == "odd"
            around = padded if odd else np.pad(plane, halo, mode="reflect")
            inputs = torch.from_numpy(around[None, None]).to(torch.float32)
            errors.append(self._mse(case, network(inputs, halo=halo)))
        if not min(errors):
            raise InputError(f"the validation raster {place!r} is level: all answers are right.")
        self._best[place, kind] = min(errors)
        self.cases.append(case)

    def _mse(self, case: Case, answer: Tensor) -> float:
        return float(np.square(self.errors(case, answer)).mean())


class ScaleValidation:
    """Whole rasters at every scale that a network with ``at(scale)`` serves.

    Parameters
    ----------
    parts : mapping of int to Validation
        By scale.
    """

    def __init__(self, parts: Mapping[int, Validation]) -> None:
        self.parts = parts

    def score(self, network: Any) -> dict[str, float]:
        """As :meth:`Validation.score`, by scale; ``score`` is the mean over scales."""
        found = {scale: part.score(network.at(scale)) for scale, part in self.parts.items()}
        scores = {
            f"x{scale}/{name}": value
            for scale, part in found.items()
            for name, value in part.items()
            if name != "score"
        }
        return {**scores, "score": float(np.mean([part["score"] for part in found.values()]))}


class TileValidation:
    """Tiles, each alone: the mean squared error over that of bicubic interpolation.

    Parameters
    ----------
    tiles : iterable
        Patches with ``inputs`` (1, ny, nx), ``target`` and ``valid`` (1, ny * scale, nx * scale).
    scale : int
    error : float
        Standard error of the inputs, for networks that are told it.
    """

    def __init__(self, tiles: Iterable[Any], scale: int, error: float = 0.0) -> None:
        self.error = error
        self.cases = []
        bicubic = Interpolation("bicubic", scale)
        total = 0.0
        for tile in tiles:
            offset = float(np.nanmean(tile.inputs))
            inputs = torch.from_numpy(tile.inputs - offset)[None]
            target = torch.from_numpy(tile.target - offset)[None]
            known = torch.from_numpy(tile.valid)[None]
            self.cases.append((inputs, target, known))
            padded = nn.functional.pad(inputs, (2, 2, 2, 2), mode="replicate")
            total += self._squared(bicubic(padded, halo=2), target, known)
        self.bicubic = total

    def score(self, network: nn.Module) -> dict[str, float]:
        """``score``, the ratio."""
        total = 0.0
        device, bands = device_of(network), n_bands(network)
        with evaluating(network):
            for inputs, target, known in self.cases:
                both = torch.cat([inputs, torch.full_like(inputs, self.error)], dim=1)
                answer = network(both[:, :bands].to(device))[:, :1].float().cpu()
                total += self._squared(answer, target, known)
        return {"score": total / self.bicubic}

    @staticmethod
    def _squared(answer: Tensor, target: Tensor, known: Tensor) -> float:
        return float(torch.square(answer - target)[known].double().sum())


def n_bands(network: nn.Module) -> int:
    """How many input bands a network takes: those it names, or one."""
    return len(getattr(network, "bands", ("elevation",)))


def _answered(network: nn.Module, inputs: Tensor, halo: int) -> Tensor:
    """The core's answer, of the library's own networks and of others."""
    if isinstance(network, Network):
        return network(inputs, halo=halo)  # type: ignore[no-any-return]
    answer: Tensor = network(inputs)
    return with_margin(answer, halo * (answer.shape[-1] // inputs.shape[-1]), 0)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's parameters are."""
    return next((p.device for p in network.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Without gradients, and with the statistics that inference uses."""
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(training)


def _imperfect(coarse: Plane) -> Iterator[tuple[str, Plane, float]]:
    yield "clean", coarse, 0.0
    yield "metres", np.round(coarse), 1 / 12**0.5
    noise = np.random.default_rng(0).normal(0, _NOISE, coarse.shape)
    yield "noise", coarse + noise, _NOISE
