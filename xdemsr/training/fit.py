"""Fitting a terrain network with Lightning."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from xdemsr.models.terrain import Terrain
from xdemsr.training.patches import PatchSampler
from xdemsr.training.validation import Validation

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class FitRecipe:
    """How a network is fitted.

    Attributes
    ----------
    steps : int
        Optimiser steps.
    batch : int
        Patches a step.
    learning_rate : float
        At its highest, after ``warm_up`` steps; then half a cosine down to zero.
    warm_up : int
    weight_decay : float
    clip : float
        Largest norm of the gradient.
    average : float
        Decay of the exponential moving average of the weights, which is what is kept.
    validate_every : int
        Steps.
    precision : str
        Lightning's word for it.
    """

    steps: int = 100_000
    batch: int = 16
    learning_rate: float = 1e-3
    warm_up: int = 300
    weight_decay: float = 1e-4
    clip: float = 1.0
    average: float = 0.999
    validate_every: int = 2_000
    precision: str = "bf16-mixed"


class _Patches(IterableDataset[Batch]):
    """Batches, made where they are used: a patch costs less than a process would."""

    def __init__(self, sampler: PatchSampler, batch: int) -> None:
        super().__init__()
        self.sampler, self.batch = sampler, batch

    def __iter__(self) -> Iterator[Batch]:
        patches = iter(self.sampler)
        while True:
            group = [next(patches) for _ in range(self.batch)]
            yield (
                torch.from_numpy(np.stack([patch.inputs for patch in group])),
                torch.from_numpy(np.stack([patch.target for patch in group])[:, None]),
                torch.from_numpy(np.stack([patch.weight for patch in group])[:, None]),
            )


class TerrainFit(pl.LightningModule):
    """A terrain network with its loss: squared error of block means over the classical one."""

    def __init__(self, network: Terrain, recipe: FitRecipe, validation: Validation) -> None:
        super().__init__()
        self.network, self.recipe, self.validation = network, recipe, validation

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Weighted mean squared error of one batch."""
        inputs, target, weight = batch
        answer = self.network.block_means(inputs)
        step = self.network.detail_scale
        fine = weight.repeat_interleave(step, dim=-2).repeat_interleave(step, dim=-1)
        loss = (fine * torch.square(answer.float() - target)).sum() / (fine > 0).sum().clamp(min=1)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of step {self.global_step} is {float(loss)}.")
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: object, index: int) -> None:
        """Ratios to the best classical answer; ``score`` is the mean of the three kinds."""
        with torch.autocast(self.device.type, enabled=False):
            scores = self.validation.score(self.network)
        for name, value in scores.items():
            self.log(name, value, prog_bar="/" not in name)
        self.log("score", float(np.mean([scores[k] for k in ("clean", "metres", "noise")])))

    def configure_optimizers(self) -> Any:
        """AdamW, a linear warm-up and half a cosine."""
        recipe = self.recipe

        def factor(step: int) -> float:
            warm = min(1.0, (step + 1) / recipe.warm_up)
            return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.steps)))

        optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def fit(
    network: Terrain,
    sampler: PatchSampler,
    validation: Validation,
    recipe: FitRecipe,
    folder: str | Path,
) -> dict[str, float]:
    """Fit a network in place; the weights that score best are loaded into it at the end.

    Parameters
    ----------
    network : Terrain
    sampler : PatchSampler
    validation : Validation
    recipe : FitRecipe
    folder : str or Path
        For checkpoints, and a ``metrics.csv`` for each start. A run that was
        stopped goes on from its last checkpoint.

    Returns
    -------
    dict of str to float
        Scores of the weights that were kept.
    """
    folder = Path(folder)
    task = TerrainFit(network, recipe, validation)
    best = ModelCheckpoint(
        folder, "best", monitor="score", save_last=True, enable_version_counter=False
    )
    trainer = pl.Trainer(
        max_steps=recipe.steps,
        precision=recipe.precision,  # type: ignore[arg-type]
        gradient_clip_val=recipe.clip,
        val_check_interval=min(recipe.validate_every, recipe.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[
            EMAWeightAveraging(decay=recipe.average),
            best,
            LearningRateMonitor("step"),
        ],
        logger=CSVLogger(folder, name="log"),
        log_every_n_steps=50,
        enable_model_summary=False,
    )
    last = folder / "last.ckpt"
    if last.exists():
        sampler.go_on(torch.load(last, weights_only=True)["global_step"])
    with warnings.catch_warnings():
        # Going on in a folder that is not empty is what is wanted.
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        trainer.fit(
            task,
            DataLoader(_Patches(sampler, recipe.batch), batch_size=None),
            # One empty batch: the rasters are the validation's own.
            DataLoader(TensorDataset(torch.zeros(1)), batch_size=None),
            ckpt_path=last if last.exists() else None,
        )
    kept = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    task.load_state_dict(kept)
    network.eval()
    return validation.score(network)
