"""Scores on whole rasters in the continuous protocol, as ratios to the best classical answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from xdemsr.kernels import CLASSICAL, KERNELS
from xdemsr.models.interpolation import Interpolation
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
    """Places that choose models and are not learnt from.

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

    def score(self, network: nn.Module) -> dict[str, float]:
        """Ratio for every place and kind, and the mean of each kind over places."""
        ratios = {}
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        with torch.inference_mode():
            for case in self.cases:
                answer = network(case.inputs.to(device), halo=case.halo)
                ratios[f"{case.kind}/{case.place}"] = self.ratio(case, answer)
        kinds = dict.fromkeys(case.kind for case in self.cases)
        means = {
            kind: float(np.mean([r for name, r in ratios.items() if name.startswith(kind + "/")]))
            for kind in kinds
        }
        return {**means, **ratios}

    def _add(self, raster: Raster) -> None:
        ny, nx = (n // self.scale * self.scale for n in raster.heights.shape)
        heights = raster.heights[:ny, :nx]
        coarse = heights.reshape(ny // self.scale, self.scale, -1, self.scale).mean(axis=(1, 3))
        known = np.isfinite(coarse)
        scored = ndimage.minimum_filter(known, size=2 * _BESIDE + 1, mode="nearest")
        scored[:_EDGE] = scored[-_EDGE:] = False
        scored[:, :_EDGE] = scored[:, -_EDGE:] = False
        if not scored.any():
            return
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
        self._best[place, kind] = min(errors)
        self.cases.append(case)

    def _mse(self, case: Case, answer: Tensor) -> float:
        truth, mask = self._truth[case.place]
        error = answer[0, 0].double().cpu().numpy() - truth
        return float(np.square(error[mask]).mean())


def _imperfect(coarse: Plane) -> Iterator[tuple[str, Plane, float]]:
    yield "clean", coarse, 0.0
    yield "metres", np.round(coarse), 1 / 12**0.5
    noise = np.random.default_rng(0).normal(0, _NOISE, coarse.shape)
    yield "noise", coarse + noise, _NOISE
