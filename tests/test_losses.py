"""Losses and learning rates: laws, known numbers, and pixels that must not count."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import lr_scheduler

from xdemsr.errors import InputError
from xdemsr.training.losses import LOSSES, WeightedSum, gaussian_nll
from xdemsr.training.optimisation import make_optimiser, make_schedule
from xdemsr.training.parts import Network, Optimiser, Run, Schedule
from xdemsr.training.recipe import Recipe

NAMES = list(LOSSES)
#: Power of the unit that a loss has.
DEGREES = {"mse": 2, "l1": 1, "slope": 2, "slope_l1": 1, "curvature": 2, "total_variation": 1}
GARBAGE = [math.nan, math.inf, -math.inf, -9999.0, 1e30]

losses = pytest.mark.parametrize("name", NAMES)


def surfaces(seed: int = 0, shape: tuple[int, int] = (7, 10)) -> tuple[Tensor, Tensor, Tensor]:
    """An answer, a target and the weights of all of it."""
    generator = torch.Generator().manual_seed(seed)
    answer, target = torch.randn(2, 3, 1, *shape, generator=generator, dtype=torch.float64)
    return answer, target, torch.ones_like(target)


def plane(dy: float, dx: float, shape: tuple[int, int] = (6, 9)) -> Tensor:
    y, x = (torch.arange(n, dtype=torch.float64) for n in shape)
    return (dy * y[:, None] + dx * x)[None, None]


@losses
def test_gradients_are_those_of_the_loss(name: str) -> None:
    answer, target, weight = surfaces()
    weight[:, :, 2:4, 3:5] = 0
    weight[:, :, 5] = 2.5
    answer.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda a: LOSSES[name](a, target, weight), answer)


def test_gradients_of_the_likelihood_are_right() -> None:
    answer, target, weight = surfaces()
    spread = (surfaces(1)[0].abs() + 0.1).requires_grad_(True)
    known = weight > 0
    known[..., 4:, :3] = False
    answer.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda a, s: gaussian_nll(a, s, target, known), (answer, spread)
    )


@losses
@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_the_target_holds_where_it_is_unknown_counts_for_nothing(
    name: str, garbage: float
) -> None:
    answer, target, weight = surfaces()
    weight[0, 0, 2:4, 3:5] = 0
    weight[1, 0, :, -1] = 0
    spoilt = torch.where(weight > 0, target, garbage)
    found, gradients = [], []
    for truth in (target, spoilt):
        given = answer.clone().requires_grad_(True)
        loss = LOSSES[name](given, truth, weight)
        loss.backward()
        found.append(loss.detach())
        gradients.append(given.grad)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)
    assert bool(torch.isfinite(gradients[1]).all())


@pytest.mark.parametrize("garbage", GARBAGE)
def test_the_likelihood_looks_at_known_pixels_alone(garbage: float) -> None:
    answer, target, weight = surfaces()
    known = torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) < 0.7
    spoilt = torch.where(known, target, garbage)
    results = []
    for truth in (target, spoilt):
        given = answer.clone().requires_grad_(True)
        spread = torch.full_like(answer, 0.5).requires_grad_(True)
        loss = gaussian_nll(given, spread, truth, known)
        loss.backward()
        results.append((loss.detach(), given.grad, spread.grad))
    for clean, dirty in zip(*results, strict=True):
        torch.testing.assert_close(dirty, clean, rtol=0, atol=0)


@losses
def test_nothing_known_is_no_loss(name: str) -> None:
    answer, target, weight = surfaces()
    answer.requires_grad_(True)
    loss = LOSSES[name](answer, torch.full_like(target, math.nan), 0 * weight)
    loss.backward()
    assert float(loss.detach()) == 0
    assert answer.grad is not None
    assert not answer.grad.any()
    known = torch.zeros_like(weight, dtype=torch.bool)
    assert float(gaussian_nll(answer, weight, target, known).detach()) == 0


@pytest.mark.parametrize("name", ["slope", "slope_l1", "curvature", "total_variation"])
def test_a_difference_counts_where_both_its_ends_are_known(name: str) -> None:
    answer, target, weight = surfaces()
    weight[..., 1::2] = 0
    weight[:, :, 1::2] = 0
    assert float(LOSSES[name](100 * answer, target, weight)) == 0


@pytest.mark.parametrize("name", DEGREES)
@settings(max_examples=15)
@given(factor=st.floats(0.01, 100), seed=st.integers(0, 50))
def test_losses_have_the_unit_of_heights_or_its_square(name: str, factor: float, seed: int) -> None:
    answer, target, weight = surfaces(seed, (3, 4))
    before = LOSSES[name](answer, target, weight)
    after = LOSSES[name](factor * answer, factor * target, weight)
    torch.testing.assert_close(after, factor ** DEGREES[name] * before)


@losses
@settings(max_examples=15)
@given(factor=st.floats(0.01, 100))
def test_losses_are_linear_in_their_weights(name: str, factor: float) -> None:
    answer, target, weight = surfaces(3, (4, 5))
    weight = weight * (1 + weight.cumsum(-1))
    before = LOSSES[name](answer, target, weight)
    torch.testing.assert_close(LOSSES[name](answer, target, factor * weight), factor * before)


@losses
@settings(max_examples=15)
@given(constant=st.floats(-1000, 9000), seed=st.integers(0, 20))
def test_losses_know_no_datum(name: str, constant: float, seed: int) -> None:
    answer, target, weight = surfaces(seed, (4, 5))
    moved = LOSSES[name](answer + constant, target + constant, weight)
    torch.testing.assert_close(moved, LOSSES[name](answer, target, weight), atol=1e-9, rtol=1e-9)


@losses
def test_a_perfect_answer_costs_nothing(name: str) -> None:
    target = plane(2.0, -1.0)
    cost = float(LOSSES[name](target, target, torch.ones_like(target)))
    expected = {"charbonnier": 1e-3, "total_variation": 1.5}
    assert cost == pytest.approx(expected.get(name, 0.0), abs=1e-12)


@settings(max_examples=30)
@given(dy=st.floats(-5, 5), dx=st.floats(-5, 5))
def test_slopes_and_curvature_of_planes_are_the_known_ones(dy: float, dx: float) -> None:
    tilted = plane(dy, dx)
    level, everywhere = torch.zeros_like(tilted), torch.ones_like(tilted)

    def cost(name: str) -> float:
        return float(LOSSES[name](tilted, level, everywhere))

    assert cost("slope") == pytest.approx((dy**2 + dx**2) / 2, abs=1e-9)
    assert cost("slope_l1") == pytest.approx((abs(dy) + abs(dx)) / 2, abs=1e-9)
    assert cost("total_variation") == cost("slope_l1")
    assert cost("curvature") == pytest.approx(0, abs=1e-9)


def test_curvature_of_a_bowl_is_constant() -> None:
    x = torch.arange(9, dtype=torch.float64)
    bowl = (1.5 * x**2).repeat(6, 1)[None, None]
    found = LOSSES["curvature"](bowl, torch.zeros_like(bowl), torch.ones_like(bowl))
    # Second differences of 3 along x and 0 along y.
    assert float(found) == pytest.approx(9 / 2)


@losses
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 1), (2, 5)])
def test_the_smallest_patches_have_a_loss(name: str, shape: tuple[int, int]) -> None:
    answer, target, weight = surfaces(0, shape)
    assert math.isfinite(float(LOSSES[name](answer, target, weight)))


def test_a_sum_weighs_its_parts() -> None:
    answer, target, weight = surfaces()
    both = WeightedSum({"mse": 2.0, "slope_l1": 0.25})(answer.float(), target.float(), weight)
    parts = [LOSSES[name](answer, target, weight) for name in ("mse", "slope_l1")]
    assert float(both) == pytest.approx(2 * float(parts[0]) + 0.25 * float(parts[1]), rel=1e-5)


def test_a_sum_is_taken_in_single_precision() -> None:
    answer, target, weight = (part.float() for part in surfaces())
    half = answer.to(torch.bfloat16)
    found = WeightedSum({"mse": 1.0})(half, target, weight)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, LOSSES["mse"](half.float(), target, weight))


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"mse": 1.0, "huber": 1.0, "ssim": 2.0}, r"huber, ssim; there are mse, l1"),
        ({}, r"none given.*there are mse"),
        ({"MSE": 1.0}, "no loss is called MSE"),
    ],
)
def test_losses_that_are_not_there_are_named(weights: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        WeightedSum(weights)


@settings(max_examples=20)
@given(true=st.floats(0.05, 20), seed=st.integers(0, 20))
def test_the_likelihood_is_best_at_the_true_spread(true: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    error = true * torch.randn(1, 1, 60, 70, generator=generator, dtype=torch.float64)
    level, known = torch.zeros_like(error), torch.ones_like(error, dtype=torch.bool)
    best = float(error.square().mean().sqrt())

    def cost(spread: float) -> float:
        return float(gaussian_nll(level, torch.full_like(error, spread), error, known))

    assert cost(best) < min(cost(best * 1.05), cost(best / 1.05))


def test_level_water_has_a_finite_likelihood() -> None:
    """Where nothing is unknown, claiming so is best, and is not rewarded without end."""
    level, known = torch.zeros(1, 1, 4, 5), torch.ones(1, 1, 4, 5, dtype=torch.bool)
    spread = torch.zeros_like(level).requires_grad_(True)
    cost = gaussian_nll(level, spread, level, known)
    cost.backward()
    assert math.isfinite(float(cost.detach()))
    assert spread.grad is not None
    assert bool(torch.isfinite(spread.grad).all())
    assert float(cost.detach()) < float(gaussian_nll(level, spread + 0.01, level, known).detach())


def recipe(schedule: Schedule, steps: int = 40, optimiser: Optimiser | None = None) -> Recipe:
    return Recipe(
        "made",
        Network("terrain", 4),
        optimiser=optimiser or Optimiser(learning_rate=0.5),
        schedule=schedule,
        run=Run(steps=steps, validate_every=8),
    )


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2, 3))]


def rates(asked: Recipe) -> list[float]:
    """Learning rate of each step, and the one after the last."""
    optimiser = make_optimiser(parameters(), asked)
    planned = make_schedule(optimiser, asked)
    assert planned is not None
    assert planned["interval"] == "step"
    found = []
    for _ in range(asked.run.steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        planned["scheduler"].step()
    return [*found, optimiser.param_groups[0]["lr"]]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_optimisers_are_those_asked_for(name: str, kind: type) -> None:
    asked = Optimiser(name, learning_rate=0.02, weight_decay=0.3)  # type: ignore[arg-type]
    found = make_optimiser(iter(parameters()), recipe(Schedule(), optimiser=asked))
    assert type(found) is kind
    (group,) = found.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    assert len(group["params"]) == 1


def test_a_constant_rate_needs_no_schedule() -> None:
    asked = recipe(Schedule("constant"))
    assert make_schedule(make_optimiser(parameters(), asked), asked) is None


def test_warm_up_is_linear_and_then_constant() -> None:
    found = rates(recipe(Schedule("constant", warm_up=8)))
    assert found[:8] == pytest.approx([0.5 * k / 8 for k in range(1, 9)])
    assert found[8:] == pytest.approx([0.5] * 33)


@pytest.mark.parametrize("warm_up", [0, 5])
def test_the_cosine_falls_to_zero_at_the_end_of_the_run(warm_up: int) -> None:
    found = rates(recipe(Schedule("cosine", warm_up=warm_up)))
    assert found[-1] == pytest.approx(0, abs=1e-12)
    assert found[20] == pytest.approx(0.25)
    after = found[warm_up:]
    assert all(high > low for high, low in itertools.pairwise(after))
    assert found[0] == pytest.approx(0.5 / max(warm_up, 1))


def test_a_warm_up_longer_than_the_run_is_no_error() -> None:
    found = rates(recipe(Schedule("cosine", warm_up=1000), steps=7))
    assert max(found) < 0.5 * 7 / 1000


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize(("steps", "warm"), [(40, 0.3), (40, 0.0), (40, 1.0), (1, 0.3), (2, 0.5)])
def test_one_cycle_rises_and_falls(name: str, steps: int, warm: float) -> None:
    optimiser = Optimiser(name, learning_rate=0.5)  # type: ignore[arg-type]
    found = rates(recipe(Schedule("one-cycle", warm=warm), steps, optimiser))[:-1]
    assert max(found) <= 0.5 + 1e-12
    if steps > 2:
        top = found.index(max(found))
        assert found[top] == pytest.approx(0.5, rel=0.01)
        assert abs(top - warm * steps) <= 1
        assert found[:top] == sorted(found[:top])
        assert found[top:] == sorted(found[top:], reverse=True)


def test_a_plateau_is_watched_once_a_validation() -> None:
    asked = recipe(Schedule("plateau", patience=2, factor=0.25))
    optimiser = make_optimiser(parameters(), asked)
    planned = make_schedule(optimiser, asked)
    assert planned is not None
    scheduler = planned.pop("scheduler")
    assert planned == {"interval": "step", "frequency": 8, "monitor": "score"}
    assert isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
    found = []
    for score in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0):
        scheduler.step(score)
        found.append(optimiser.param_groups[0]["lr"])
    assert found == [0.5, 0.5, 0.5, 0.5, 0.125, 0.125]


def test_a_run_shorter_than_its_validations_still_has_a_plateau() -> None:
    asked = recipe(Schedule("plateau"), steps=6)
    planned = make_schedule(make_optimiser(parameters(), asked), asked)
    assert planned is not None
    assert planned["frequency"] == 6


@pytest.mark.parametrize("name", ["constant", "cosine", "one-cycle"])
def test_schedules_go_on_where_they_stopped(name: str) -> None:
    asked = recipe(Schedule(name, warm_up=5))  # type: ignore[arg-type]
    whole = rates(asked)

    def scheduled() -> tuple[torch.optim.Optimizer, lr_scheduler.LRScheduler]:
        optimiser = make_optimiser(parameters(), asked)
        planned = make_schedule(optimiser, asked)
        assert planned is not None
        return optimiser, planned["scheduler"]

    optimiser, scheduler = scheduled()
    for _ in range(17):
        optimiser.step()
        scheduler.step()
    states = optimiser.state_dict(), scheduler.state_dict()
    optimiser, scheduler = scheduled()
    optimiser.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    optimiser.step()
    scheduler.step()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(whole[18])
