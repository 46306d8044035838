"""Optimisers and learning-rate schedules of recipes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from xdemsr.training.recipe import Recipe

_OPTIMISERS: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def make_optimiser(parameters: Iterable[nn.Parameter], recipe: Recipe) -> Optimizer:
    """The optimiser of a recipe."""
    asked = recipe.optimiser
    kind: Any = _OPTIMISERS[asked.name]
    options: dict[str, Any] = {"lr": asked.learning_rate, "weight_decay": asked.weight_decay}
    if asked.name != "sgd":
        options["betas"] = (asked.momentum, 0.999)
    optimiser: Optimizer = kind(list(parameters), **options)
    return optimiser


def make_schedule(optimiser: Optimizer, recipe: Recipe) -> dict[str, Any] | None:
    """The learning-rate schedule, as Lightning wants it; None where the rate is constant."""
    asked, run = recipe.schedule, recipe.run
    if asked.name == "plateau":
        return {
            "scheduler": lr_scheduler.ReduceLROnPlateau(
                optimiser, patience=asked.patience, factor=asked.factor
            ),
            "interval": "step",
            "frequency": run.interval,
            "monitor": "score",
        }
    if asked.name == "one-cycle":
        schedule: lr_scheduler.LRScheduler = lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=recipe.optimiser.learning_rate,
            # It is asked once more, after the last step.
            total_steps=run.whole_steps + 1,
            pct_start=asked.warm,
        )
        return {"scheduler": schedule, "interval": "step"}
    if asked.name == "constant" and not asked.warm_up:
        return None

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(asked.warm_up, 1))
        if asked.name == "constant":
            return warm
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / run.whole_steps)))

    return {"scheduler": lr_scheduler.LambdaLR(optimiser, factor), "interval": "step"}
