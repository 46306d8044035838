"""Losses between two surfaces: of heights, of slopes, of curvature.

Each takes (answer, target, weight), all (n, bands, ny, nx) but a weight of one band, and gives one
number. Weights are 0 where the truth is unknown; whatever the target holds there counts for
nothing. Slopes and curvature are differences of neighbouring pixels, in metres, so that every loss
has the unit of its heights, or its square.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from xdemsr.errors import InputError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

_CHARBONNIER = 1e-3


def mse(answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error."""
    return _mean(torch.square(_error(answer, target, weight)), weight)


def l1(answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error."""
    return _mean(_error(answer, target, weight).abs(), weight)


def charbonnier(answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error, rounded off within a millimetre.

    References
    ----------
    Charbonnier, P. et al. (1994). Two deterministic half-quadratic regularization algorithms for
    computed imaging. IEEE ICIP 2, 168-172.
    """
    squared = torch.square(_error(answer, target, weight))
    return _mean(torch.sqrt(squared + _CHARBONNIER**2), weight)


def slope(answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error of differences between neighbours."""
    return _over_axes(_error(answer, target, weight), weight, torch.square)


def slope_l1(answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error of differences between neighbours."""
    return _over_axes(_error(answer, target, weight), weight, torch.abs)


def curvature(answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean squared error of second differences (the discrete Laplacian's two parts)."""
    return _over_axes(_error(answer, target, weight), weight, torch.square, order=2)


def total_variation(answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference between neighbours of the answer; the target is not looked at."""
    return _over_axes(answer, weight, torch.abs)


#: Names that recipes use.
LOSSES: dict[str, Loss] = {
    "mse": mse,
    "l1": l1,
    "charbonnier": charbonnier,
    "slope": slope,
    "slope_l1": slope_l1,
    "curvature": curvature,
    "total_variation": total_variation,
}


class WeightedSum:
    """A sum of losses.

    Parameters
    ----------
    weights : mapping of str to float
        Names of :data:`LOSSES`, or of ``others``, and their weights.
    others : mapping of str to Loss, optional
        Losses that need more than a name.

    Raises
    ------
    InputError
        If a name is unknown, or there is none.
    """

    def __init__(
        self, weights: Mapping[str, float], others: Mapping[str, Loss] | None = None
    ) -> None:
        self.losses = {**LOSSES, **(others or {})}
        unknown = [name for name in weights if name not in self.losses]
        if unknown or not weights:
            raise InputError(
                f"no loss is called {', '.join(unknown) or '(none given)'}; there are "
                f"{', '.join(LOSSES)}, perceptual, adversarial."
            )
        self.weights = dict(weights)

    def __call__(self, answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        answer = answer.float()
        parts = [w * self.losses[name](answer, target, weight) for name, w in self.weights.items()]
        return torch.stack(parts).sum()


def gaussian_nll(answer: Tensor, spread: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Negative log-likelihood of errors with a stated standard error, but for a constant.

    Parameters
    ----------
    answer, spread, target : Tensor, shape (n, 1, ny, nx)
    known : Tensor of bool, same shape

    References
    ----------
    Nix, D. A. and Weigend, A. S. (1994). Estimating the mean and variance of the target probability
    distribution. IEEE International Conference on Neural Networks, 55-60.
    """
    variance = torch.square(spread) + _LEAST_ERROR**2
    weight = known.to(answer.dtype)
    squared = torch.square(_error(answer, target, weight)) + _LEAST_ERROR**2
    return _mean(0.5 * (torch.log(variance) + squared / variance), weight)


#: Metres: of level water nothing is unknown, and the logarithm of nothing has no bottom.
_LEAST_ERROR = 0.01


def _error(answer: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    # Chosen, not multiplied: nothing times a void is a void.
    return torch.where(weight > 0, answer - target, 0.0)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    known = (weight > 0).sum().clamp(min=1) * (values.shape[1] / weight.shape[1])
    return (values * weight).sum() / known


def _over_axes(
    values: Tensor, weight: Tensor, function: Callable[[Tensor], Tensor], *, order: int = 1
) -> Tensor:
    """Mean over both axes of differences between pixels that are all known."""
    total = values.new_zeros(())
    for along, known in ((values, weight), (values.mT, weight.mT)):
        for _ in range(order):
            along, known = along.diff(), torch.minimum(known[..., 1:], known[..., :-1])
        total = total + _mean(function(along), known)
    return total / 2
