"""What chooses among the weights of networks on rasters of any kind: patches not learnt from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xdemsr.errors import InputError
from xdemsr.models.interpolation import Interpolation
from xdemsr.training.tiles import above_mean
from xdemsr.training.validation import device_of, evaluating

#: What a network must beat: the first input bands, as many as the target has, interpolated or as
#: they are; or the target's mean.
Baseline = Literal["bicubic", "first", "mean"]

_MARGIN = 2


class PatchScores:
    """The mean absolute error over patches, over that of a baseline.

    Parameters
    ----------
    patches : iterable
        With ``inputs`` (bands, ny, nx), ``target`` (bands', ny * scale, nx * scale) and ``valid``.
        Gone through anew at each validation, so that no more than one need be in memory.
    scale : int
    baseline : {"bicubic", "first", "mean"}
    bands : int
        Input bands that the network takes.
    centred : bool
        Whether targets are taken above their own mean, patch by patch.

    Raises
    ------
    InputError
        If the baseline is right everywhere, so that there is nothing to be gained.
    """

    def __init__(
        self, patches: Iterable[Any], scale: int, baseline: Baseline, bands: int, centred: bool
    ) -> None:
        self.scale, self.baseline, self.bands, self.centred = scale, baseline, bands, centred
        self.patches = patches
        self.of_baseline = sum(
            _absolute(self._simple(inputs, target, known), target, known)
            for inputs, target, known in self._cases()
        )
        if not self.of_baseline:
            raise InputError(
                f"on the validation patches the baseline ({baseline}) makes no error: there is "
                "nothing to learn there. Give other places."
            )

    def score(self, network: nn.Module) -> dict[str, float]:
        """``score``, the ratio."""
        device, total = device_of(network), 0.0
        with evaluating(network):
            for inputs, target, known in self._cases():
                answer = network(inputs[:, : self.bands].to(device))[:, : target.shape[1]]
                total += _absolute(answer.float().cpu(), target, known)
        return {"score": total / self.of_baseline}

    def _cases(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for patch in self.patches:
            inputs, target = (torch.from_numpy(a)[None] for a in (patch.inputs, patch.target))
            known = torch.from_numpy(patch.valid)[None]
            if self.centred:
                target = above_mean(target, known.float())
            yield inputs, target, known

    def _simple(self, inputs: Tensor, target: Tensor, known: Tensor) -> Tensor:
        if self.baseline == "mean":
            return target - above_mean(target, known.float())
        inputs = inputs[:, : target.shape[1]]
        if self.baseline == "bicubic":
            padded = nn.functional.pad(inputs, (_MARGIN,) * 4, mode="replicate")
            answer: Tensor = Interpolation("bicubic", self.scale)(padded, halo=_MARGIN)
            return answer
        return inputs


def _absolute(answer: Tensor, target: Tensor, known: Tensor) -> float:
    error = (answer - target).abs() * known
    return float(error.double().sum())
