"""Fitting a network with Lightning, by a recipe."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from xdemsr.errors import InputError, ModelError
from xdemsr.training.losses import WeightedSum
from xdemsr.training.optimisation import make_optimiser, make_schedule
from xdemsr.training.recipe import Recipe
from xdemsr.training.validation import n_bands

Batch = dict[str, Any]

#: Of a checkpoint: batches that its run had seen.
_SEEN = "batches_seen"


class Source(Protocol):
    """Where batches come from."""

    def batches(self, start: int, size: int) -> Iterator[Batch]:
        """Endless batches from the ``start``-th on, the same ones every time.

        Each is a mapping with ``inputs`` (n, bands, ny, nx), ``target`` (n, bands', ny * ratio,
        nx * ratio), ``weight`` (one band) of the same size, and ``place``, a list of names.
        """
        ...


class Scores(Protocol):
    """What says how good a network is."""

    def score(self, network: nn.Module) -> dict[str, float]:
        """Figures by name, among them ``score``: lower is better."""
        ...


class Fit(pl.LightningModule):
    """A network, its loss, and what is logged on the way."""

    def __init__(self, network: nn.Module, recipe: Recipe, validation: Scores) -> None:
        super().__init__()
        self.network, self.recipe, self.validation = network, recipe, validation
        self.loss = make_loss(recipe)
        self.bands = len(recipe.model.inputs) or n_bands(network)
        self.seen = 0
        self._twins: dict[int, nn.Module] = {}

    def answer(self, batch: Batch) -> Tensor:
        """The network's answer at the scale of the batch's target."""
        inputs, target = batch["inputs"], batch["target"]
        network = self._at(target.shape[-1] // inputs.shape[-1])
        answer: Tensor = network(inputs[:, : self.bands])[:, : target.shape[1]].float()
        if answer.shape != target.shape:
            raise ModelError(
                f"the network answers {tuple(inputs.shape)} (n, bands, ny, nx) with "
                f"{tuple(answer.shape)}; what is to be learnt is {tuple(target.shape)}. Check the "
                "recipe's model.outputs, model.scale and model.options."
            )
        return answer

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """What is drawn while training (dropout) depends on the batch, not on what came before."""
        entropy = (self.recipe.run.seed, self.seen, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of one batch."""
        loss = self.loss(self.answer(batch), batch["target"], batch["weight"])
        self.note(batch, loss)
        return loss

    def note(self, batch: Batch, loss: Tensor) -> None:
        """Count and log a batch; stop where its loss is no number."""
        if not torch.isfinite(loss):
            places = ", ".join(sorted(set(batch["place"])))
            raise InputError(
                f"the loss of batch {self.seen} is {float(loss.detach())}. Its patches are from "
                f"{places}: look for impossible values there. Otherwise lower the learning rate, "
                "or clip the gradient."
            )
        self.seen += 1
        self.log("loss", loss.detach(), prog_bar=True)

    def validation_step(self, batch: object, index: int) -> None:
        """Log the scores."""
        with torch.autocast(self.device.type, enabled=False):
            scores = self.validation.score(self.network)
        for name, value in scores.items():
            self.log(name, value, prog_bar=name == "score", sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule."""
        optimiser = make_optimiser(self.network.parameters(), self.recipe)
        schedule = make_schedule(optimiser, self.recipe)
        return {"optimizer": optimiser, **({"lr_scheduler": schedule} if schedule else {})}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember where in the data the run is."""
        checkpoint[_SEEN] = self.seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        self.seen = checkpoint[_SEEN]

    def _at(self, ratio: int) -> nn.Module:
        """The network for this ratio of target to input; parameters are shared."""
        if ratio == getattr(self.network, "scale", ratio):
            return self.network
        if ratio not in self._twins:
            at: Any = getattr(self.network, "at", None)
            if at is None:
                raise InputError(
                    f"the network is made for scale {self.network.scale}, and the batch's target "
                    f"is {ratio} times finer than its input."
                )
            self._twins[ratio] = at(ratio)
        return self._twins[ratio].train(self.network.training)


def make_loss(recipe: Recipe) -> WeightedSum:
    """The loss of a recipe, but for what a discriminator adds to it."""
    from xdemsr.training.perceptual import Perceptual

    weights = {name: w for name, w in recipe.loss.items() if name != "adversarial"}
    asked = (
        {"perceptual": Perceptual(**asdict(recipe.perceptual))} if "perceptual" in weights else {}
    )
    return WeightedSum(weights, asked)


def fit(
    task: Fit, source: Source, folder: str | Path, *, progress: bool = True
) -> dict[str, float]:
    """Fit a network in place; the weights that score best are loaded into it at the end.

    Parameters
    ----------
    task : Fit
        The network, the recipe and the validation.
    source : Source
        Of training batches.
    folder : str or Path
        For checkpoints and logs (``log/``: CSV, and TensorBoard where that is installed). A run
        that was killed goes on from its last checkpoint, to the same weights as if it had not been.
    progress : bool, optional
        Show a bar.

    Returns
    -------
    dict of str to float
        Scores of the weights that were kept.

    Raises
    ------
    InputError
        If the loss stops being a number (the places of the batch are named), or the folder holds a
        run of another recipe.
    """
    folder, recipe = Path(folder), task.recipe
    _claim(folder, recipe)
    best = ModelCheckpoint(
        folder, "best", monitor="score", save_last=True, enable_version_counter=False
    )
    last = folder / "last.ckpt"
    start = _load(last)[_SEEN] if last.exists() else 0
    trainer = _trainer(recipe, folder, [best, *_callbacks(recipe)], task, progress)
    with warnings.catch_warnings():
        # Going on in a folder that is not empty is what is wanted.
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        # In a folder that was moved, the best so far is judged anew.
        warnings.filterwarnings("ignore", "The dirpath has changed from")
        # Patches are made where they are used: one costs less than a process would.
        warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
        trainer.fit(
            task,
            DataLoader(_Batches(source, start, recipe.run.batch), batch_size=None),
            # One empty batch: the validation has its own rasters.
            DataLoader(TensorDataset(torch.zeros(1)), batch_size=None),
            ckpt_path=last if last.exists() else None,
        )
    task.load_state_dict(_load(folder / "best.ckpt")["state_dict"])
    task.network.eval()
    return task.validation.score(task.network)


def _claim(folder: Path, recipe: Recipe) -> None:
    """Write the recipe into the folder, or see that it is the one that is there.

    How long it runs, and on what, may change.
    """
    values = recipe.to_dict()
    for free in ("steps", "minutes", "devices"):
        values["run"].pop(free)
    values.pop("uncertainty")
    path, text = folder / "recipe.json", json.dumps(values, indent=2, sort_keys=True)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{folder} holds a run of another recipe ({path.name} there). Give this one a folder "
            "of its own, or remove that."
        )


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _trainer(
    recipe: Recipe, folder: Path, callbacks: list[Callback], task: Fit, progress: bool
) -> pl.Trainer:
    run = recipe.run
    automatic = task.automatic_optimization
    return pl.Trainer(
        # Without automatic optimisation every step of either optimiser counts.
        max_steps=run.whole_steps * (1 if automatic else 2),
        max_time=timedelta(minutes=run.minutes) if run.minutes else None,
        precision=run.precision,  # type: ignore[arg-type]
        gradient_clip_val=(recipe.optimiser.clip or None) if automatic else None,
        val_check_interval=run.interval,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=_loggers(folder),
        log_every_n_steps=min(50, run.interval),
        enable_model_summary=False,
        enable_progress_bar=progress,
        devices=run.devices,
        # A discriminator's loss does not reach the generator.
        strategy="auto" if automatic or run.devices == 1 else "ddp_find_unused_parameters_true",
    )


def _callbacks(recipe: Recipe) -> list[Callback]:
    callbacks: list[Callback] = [LearningRateMonitor("step")]
    if recipe.run.average:
        callbacks.append(EMAWeightAveraging(decay=recipe.run.average))
    if recipe.run.stop_after:
        callbacks.append(EarlyStopping("score", patience=recipe.run.stop_after))
    return callbacks


def _loggers(folder: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(folder, name="log")]
    with suppress(ModuleNotFoundError):  # TensorBoard is optional.
        loggers.append(TensorBoardLogger(folder, name="log"))
    return loggers


class _Batches(IterableDataset[Batch]):
    """A source's batches as tensors, in the process that uses them."""

    def __init__(self, source: Source, start: int, size: int) -> None:
        super().__init__()
        self.source, self.start, self.size = source, start, size

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.source.batches(self.start, self.size):
            yield {
                name: value if name == "place" else torch.as_tensor(value)
                for name, value in batch.items()
            }
