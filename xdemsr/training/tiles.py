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
        Of one elevation band.
    error : float
        Standard error of the inputs, which a second input band says.
    flips : bool
        Show each in one of eight flips and rotations.
    seed : int
    """

    def __init__(self, patches: PatchStream, *, error: float, flips: bool, seed: int) -> None:
        self.dataset = PatchDataset(patches, seed=seed)
        self.error, self.flips, self.seed = error, flips, seed

    def batches(self, start: int, size: int) -> Iterator[Batch]:
        """The batches from the ``start``-th on."""
        samples = self._samples(start * size)
        while True:
            group = list(islice(samples, size))
            inputs = torch.stack([sample["inputs"] for sample in group])
            yield {
                "inputs": torch.cat([inputs, torch.full_like(inputs, self.error)], dim=1),
                "target": torch.stack([sample["target"] for sample in group]),
                "weight": torch.stack([sample["valid"] for sample in group]).float(),
                "place": [sample["place"] for sample in group],
            }

    def _samples(self, index: int) -> Iterator[Sample]:
        epoch, position = divmod(index, len(self.dataset))
        self.dataset.set_epoch(epoch)
        state = {**self.dataset.state_dict(), "position": position}
        self.dataset.load_state_dict(state)
        while True:
            for sample in self.dataset:
                yield self._flipped(sample, index) if self.flips else sample
                index += 1

    def _flipped(self, sample: Sample, index: int) -> Sample:
        turn, flip = np.random.default_rng([self.seed, index]).integers([4, 2])

        def turned(plane: Tensor) -> Tensor:
            plane = torch.rot90(plane, int(turn), (-2, -1))
            return plane.flip(-1) if flip else plane

        return {
            name: turned(value) if isinstance(value, Tensor) else value
            for name, value in sample.items()
        }
