"""The second stage: a network that has learnt the terrain learns how far off it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xdemsr.training.losses import gaussian_nll
from xdemsr.training.patches import PatchSampler
from xdemsr.training.recipe import Recipe
from xdemsr.training.validation import Validation

#: Share of errors that a standard error is made to cover. Their tails are heavier than a normal
#: distribution's, so a little more than its 68 %, to leave as little as it does beyond two.
_WITHIN = 0.72
_STATE = "uncertainty.ckpt"
_SAVE_EVERY = 200


def fit_uncertainty(
    network: Any, samplers: Sequence[PatchSampler], recipe: Recipe, folder: str | Path
) -> None:
    """Learn the standard error of each pixel; nothing else of the network changes.

    Parameters
    ----------
    network : Terrain
        Fitted, with ``uncertainty=True``.
    samplers : sequence of PatchSampler
        One for each of the recipe's scales, at that step.
    recipe : Recipe
    folder : str or Path
        For a checkpoint; a stage that was killed goes on from it.
    """
    asked, state = recipe.uncertainty, Path(folder) / _STATE
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device)
    twins = [network.at(scale) for scale in asked.scales]
    network.requires_grad_(False)
    network.spread.requires_grad_(True)
    optimiser = torch.optim.Adam(network.spread.parameters(), lr=asked.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, asked.steps)
    parts = {"spread": network.spread, "optimiser": optimiser, "schedule": schedule}
    run = _fingerprint(network, recipe)
    done = _restored(state, run, parts)
    for index in range(done, asked.steps):
        turn = index % len(twins)
        batch = samplers[turn].batch(index, asked.batch)
        inputs, target, weight = (
            torch.as_tensor(batch[name]).to(device) for name in ("inputs", "target", "weight")
        )
        answer = twins[turn](inputs)
        loss = gaussian_nll(answer[:, :1], answer[:, 1:], target, weight > 0)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.spread.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (index + 1) % _SAVE_EVERY == 0:
            _save(state, run, parts, index + 1)
    network.requires_grad_(True).cpu()


def calibrate(network: Any, validations: Mapping[int, Validation]) -> dict[str, float]:
    """Factors that make stated errors cover what they should, on places not learnt from.

    For every scale the factor is the one that brings 72 % of all errors within one standard error.

    Parameters
    ----------
    network : Terrain
        With ``uncertainty=True`` and no calibration yet.
    validations : mapping of scale to Validation

    Returns
    -------
    dict of str to float
        Scale to factor.
    """
    factors = {}
    for scale, validation in validations.items():
        ratios = np.concatenate(list(_ratios(network.at(scale), validation)))
        factors[str(scale)] = float(np.quantile(ratios, _WITHIN))
    return factors


def _ratios(network: nn.Module, validation: Validation) -> Iterator[np.ndarray[Any, Any]]:
    """Errors over stated errors, as many of each place and kind."""
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        for case in validation.cases:
            answer: Tensor = network(case.inputs, halo=case.halo)[0].double()
            error = validation.errors(case, answer[None, :1])
            stated = answer[1].numpy()[validation.mask(case)]
            chosen = rng.integers(len(error), size=200_000)
            yield np.abs(error[chosen]) / np.maximum(stated[chosen], 1e-9)


def _fingerprint(network: Any, recipe: Recipe) -> str:
    """Of what this stage depends on: the fitted network and the recipe."""
    digest = hashlib.sha256(repr((recipe.uncertainty, recipe.mixture)).encode())
    for name, tensor in network.state_dict().items():
        if not name.startswith("spread."):
            digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _restored(path: Path, run: str, parts: dict[str, Any]) -> int:
    """Load this run's checkpoint, where there is one, and say how many steps it had done."""
    saved = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {}
    if saved.get("run") != run:
        return 0
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return int(saved["done"])


def _save(path: Path, run: str, parts: dict[str, Any], done: int) -> None:
    """Write a checkpoint beside the old one and put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"run": run, "done": done, **states}, fresh)
    fresh.replace(path)
