"""Batches of tiles: patches on a grid, as the papers train."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from xdemsr.training.dataset import PatchDataset, PatchStream, Sample
from xdemsr.training.fit import Batch


class Tiles:
    """Endless shuffled batches of patches, epoch after epoch.

    Parameters
    ----------
    patches : Patches
    error : float, optional
        Standard error of the inputs, which one more input band says.
    flips : bool
        Show each in one of eight flips and rotations.
    seed : int
    swap : (int, int), optional
        Two input bands that are exchanged in half of the patches, drawn at random.
    centred : bool, optional
        Give targets above their own mean in each patch.
    """

    def __init__(
        self,
        patches: PatchStream,
        *,
        flips: bool,
        seed: int,
        error: float | None = None,
        swap: tuple[int, int] | None = None,
        centred: bool = False,
    ) -> None:
        self.dataset = PatchDataset(patches, seed=seed)
        self.error, self.flips, self.seed = error, flips, seed
        self.swap, self.centred = swap, centred

    def batches(self, start: int, size: int) -> Iterator[Batch]:
        """The batches from the ``start``-th on."""
        samples = self._samples(start * size)
        while True:
            group = list(islice(samples, size))
            inputs = torch.stack([sample["inputs"] for sample in group])
            target = torch.stack([sample["target"] for sample in group])
            weight = torch.stack([sample["valid"] for sample in group]).float()
            if self.error is not None:
                inputs = torch.cat([inputs, torch.full_like(inputs[:, :1], self.error)], dim=1)
            yield {
                "inputs": inputs,
                "target": above_mean(target, weight) if self.centred else target,
                "weight": weight,
                "place": [sample["place"] for sample in group],
            }

    def _samples(self, index: int) -> Iterator[Sample]:
        epoch, position = divmod(index, len(self.dataset))
        self.dataset.set_epoch(epoch)
        state = {**self.dataset.state_dict(), "position": position}
        self.dataset.load_state_dict(state)
        while True:
            for sample in self.dataset:
                yield self._varied(sample, index)
                index += 1

    def _varied(self, sample: Sample, index: int) -> Sample:
        turn, flip, swap = np.random.default_rng([self.seed, index]).integers([4, 2, 2])

        def turned(plane: Tensor) -> Tensor:
            plane = torch.rot90(plane, int(turn), (-2, -1))
            return plane.flip(-1) if flip else plane

        if self.flips:
            sample = {
                name: turned(value) if isinstance(value, Tensor) else value
                for name, value in sample.items()
            }
        if self.swap is not None and swap:
            order = list(range(sample["inputs"].shape[0]))
            first, second = self.swap
            order[first], order[second] = second, first
            sample = {**sample, "inputs": sample["inputs"][order]}
        return sample


def above_mean(target: Tensor, weight: Tensor) -> Tensor:
    """Maps (n, bands, ny, nx) less their mean over pixels of positive weight (n, 1, ny, nx)."""
    known = (weight > 0).to(target.dtype)
    total = torch.where(weight > 0, target, 0.0).sum(dim=(2, 3), keepdim=True)
    return target - total / known.sum(dim=(2, 3), keepdim=True).clamp(min=1)
