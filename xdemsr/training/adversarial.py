"""Fitting a generator against a discriminator that tells its answers from the truth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from xdemsr.training.fit import Batch, Fit, Scores
from xdemsr.training.optimisation import make_optimiser
from xdemsr.training.recipe import Recipe


class AdversarialFit(Fit):
    """A fit whose loss has a part from a discriminator, which is fitted in turn.

    Parameters
    ----------
    network : torch.nn.Module
        The generator.
    discriminator : torch.nn.Module
        Maps answers (n, bands, ny, nx) to logits of their being true; takes the inputs before them
        where its attribute ``conditional`` is true.
    recipe : Recipe
        Its loss has an ``adversarial`` weight.
    validation : Scores

    References
    ----------
    Goodfellow, I. et al. (2014). Generative adversarial nets. NeurIPS 27.

    Demiray, B. Z., Sit, M. and Demir, I. (2021). D-SRGAN: DEM super-resolution with generative
    adversarial networks. SN Computer Science 2, 48. arXiv:2004.04788.
    """

    def __init__(
        self,
        network: nn.Module,
        discriminator: nn.Module,
        recipe: Recipe,
        validation: Scores,
    ) -> None:
        super().__init__(network, recipe, validation)
        self.discriminator = discriminator
        self._conditional = getattr(discriminator, "conditional", False)
        self.automatic_optimization = False

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One step of the discriminator, one of the generator."""
        optimisers: Any = self.optimizers()
        generator, critic = optimisers
        answer, target = self.answer(batch), batch["target"]
        true, made = self._judged(batch, target), self._judged(batch, answer.detach())
        told = _cross_entropy(true, 1.0) + _cross_entropy(made, 0.0)
        self._step(critic, self.discriminator, told)

        content = self.loss(answer, target, batch["weight"])
        weight = self.recipe.loss["adversarial"]
        loss = content + weight * _cross_entropy(self._judged(batch, answer), 1.0)
        self._step(generator, self.network, loss)
        self.log("discriminator", told.detach())
        self.note(batch, loss)
        return loss

    def configure_optimizers(self) -> Any:
        """One optimiser each, by the recipe; the rate is constant."""
        return [
            make_optimiser(part.parameters(), self.recipe)
            for part in (self.network, self.discriminator)
        ]

    def _judged(self, batch: Batch, surface: Tensor) -> Tensor:
        given = (batch["inputs"][:, : self.bands],) if self._conditional else ()
        logits: Tensor = self.discriminator(*given, surface)
        return logits

    def _step(self, optimiser: Any, part: nn.Module, loss: Tensor) -> None:
        optimiser.zero_grad()
        self.manual_backward(loss)
        if self.recipe.optimiser.clip:
            nn.utils.clip_grad_norm_(part.parameters(), self.recipe.optimiser.clip)
        optimiser.step()


def _cross_entropy(logits: Tensor, truth: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(
        logits.float(), torch.full_like(logits, truth, dtype=torch.float32)
    )
