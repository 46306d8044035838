"""Recipes as values and as TOML, and the sensors they draw."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr.errors import InputError
from xdemsr.sensor import Sensor, fwhm_of_mtf
from xdemsr.spec import Local, ModelSpec
from xdemsr.training import Mixture, Recipe, shipped_recipes
from xdemsr.training.parts import Data, Network, Optimiser, Patches, Run, Schedule, Uncertainty

NAMES = shipped_recipes()

MINIMAL: dict[str, Any] = {"name": "m", "model": {"architecture": "terrain", "scale": 4}}


def with_value(path: str, value: object) -> dict[str, Any]:
    """The smallest recipe, with one value more."""
    values = json.loads(json.dumps(MINIMAL))
    *parts, key = path.split(".")
    table = values
    for part in parts:
        table = table.setdefault(part, {})
    table[key] = value
    return values


def test_there_are_recipes() -> None:
    assert {"terrain", "terrain-large", "dsrcnn-x16", "effnetv2-dem-x16"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_are_called_what_they_make(name: str) -> None:
    recipe = Recipe.named(name)
    assert recipe.name == name
    assert Recipe.find(name) == recipe
    assert recipe.model.summary
    assert recipe.run.steps >= recipe.run.validate_every


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_build_their_network(name: str) -> None:
    import torch

    from xdemsr.models import build

    asked = Recipe.named(name).model
    spec = ModelSpec(
        name=name,
        architecture=asked.architecture,
        options=asked.options,
        scale=asked.scale,
        context=Local(0),
    )
    # Shapes without numbers: the largest network would take gigabytes with its gradients.
    with torch.device("meta"):
        network = build(spec)
    assert getattr(network, "scale", asked.scale) == asked.scale
    assert sum(parameter.numel() for parameter in network.parameters()) > 1000


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_have_losses_optimisers_and_schedules_that_exist(name: str) -> None:
    import torch

    from xdemsr.training.losses import LOSSES, WeightedSum
    from xdemsr.training.optimisation import make_optimiser, make_schedule

    recipe = Recipe.named(name)
    others = {"perceptual": LOSSES["l1"]}  # The loss itself would read VGG16.
    assert WeightedSum({k: w for k, w in recipe.loss.items() if k != "adversarial"}, others)
    optimiser = make_optimiser([torch.nn.Parameter(torch.ones(2))], recipe)
    schedule = make_schedule(optimiser, recipe)
    assert (schedule is None) == (recipe.schedule.name == "constant")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_recipes_survive_json(name: str) -> None:
    recipe = Recipe.named(name)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_the_text_of_a_recipe_is_a_start_for_ones_own(name: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(Recipe.text(name), encoding="utf-8")
    assert Recipe.find(path) == Recipe.find(str(path)) == Recipe.named(name)


sizes = st.integers(1, 1000)
shares = st.floats(0, 1)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=9)
recipes = st.builds(
    Recipe,
    name=words,
    model=st.builds(
        Network,
        architecture=words,
        scale=st.just(5),
        options=st.dictionaries(
            words.filter(lambda key: key != "scale"), st.integers() | st.booleans() | words
        ),
        tile=sizes,
    ),
    data=st.builds(Data, train=words, extra_share=shares, variants=sizes),
    patches=st.builds(
        Patches,
        kind=st.sampled_from(["tiles", "spacings"]),
        size=sizes,
        flips=st.booleans(),
        blocks=st.lists(sizes, min_size=1, max_size=4).map(tuple),
    ),
    sensor=st.builds(Sensor, sampling=st.sampled_from(["mean", "nearest"]), noise=shares),
    mixture=st.builds(Mixture, noise=st.tuples(shares, st.floats(1, 3)), mixed=shares),
    loss=st.dictionaries(words, shares),
    optimiser=st.builds(Optimiser, learning_rate=shares, clip=shares),
    schedule=st.builds(Schedule, warm=shares, patience=sizes),
    run=st.builds(Run, steps=sizes, minutes=shares),
    uncertainty=st.builds(Uncertainty, scales=st.lists(sizes, min_size=1, max_size=3).map(tuple)),
)


@settings(max_examples=20, deadline=None)
@given(recipe=recipes)
def test_any_recipe_survives_its_plain_values(recipe: Recipe) -> None:
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_defaults_need_not_be_said() -> None:
    recipe = Recipe.from_dict(MINIMAL)
    assert recipe == Recipe("m", Network("terrain", 4))
    assert recipe.loss == {"mse": 1.0}


def test_whole_numbers_are_numbers() -> None:
    recipe = Recipe.from_dict(with_value("optimiser.learning_rate", 1))
    assert isinstance(recipe.optimiser.learning_rate, float)
    recipe = Recipe.from_dict(with_value("loss", {"mse": 2}))
    assert isinstance(recipe.loss["mse"], float)
    recipe = Recipe.from_dict(with_value("mixture.noise", [0, 1]))
    assert recipe.mixture.noise == (0.0, 1.0)
    assert all(isinstance(bound, float) for bound in recipe.mixture.noise)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("optimizer", "'optimizer' means nothing. Did you mean 'optimiser'?"),
        ("model.arcitecture", "'model.arcitecture' means nothing. Did you mean 'architecture'?"),
        ("data.trian", "'data.trian' means nothing. Did you mean 'train'?"),
        ("patches.sise", "'patches.sise' means nothing. Did you mean 'size'?"),
        ("sensor.strips", "'sensor.strips' means nothing. Did you mean 'stripes'?"),
        ("mixture.noisey", "'mixture.noisey' means nothing. Did you mean 'noisy'?"),
        ("optimiser.lr", "There are name, learning_rate, momentum, weight_decay, clip."),
        ("schedule.patiense", "Did you mean 'patience'?"),
        ("run.step", "Did you mean 'steps'?"),
        ("uncertainty.scale", "Did you mean 'scales'?"),
    ],
)
def test_keys_that_mean_nothing_are_named_with_a_hint(path: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Recipe.from_dict(with_value(path, 1))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", 3, "name = 3 must be str"),
        ("model", "terrain", "[model] must be a table, found 'terrain'"),
        ("model.scale", "16", "model.scale = '16' must be int"),
        ("model.scale", 16.0, "model.scale = 16.0 must be int"),
        ("model.options", 3, "[model.options] must be a table"),
        ("data.variants", True, "data.variants = True must be int"),
        ("data.train", ["a"], "data.train = ['a'] must be str"),
        ("patches.kind", "strips", "patches.kind = 'strips' is not one of ('tiles', 'spacings')"),
        ("patches.kind", ["tiles"], "is not one of"),
        ("patches.blocks", 4, "patches.blocks = 4 must be a list"),
        ("patches.blocks", "12", "patches.blocks = '12' must be a list"),
        ("patches.blocks", [], "patches.blocks = () must be one or more"),
        ("patches.blocks", [1, "2"], "patches.blocks = '2' must be int"),
        ("patches.blocks", [1.5], "patches.blocks = 1.5 must be int"),
        ("patches.flips", 1, "patches.flips = 1 must be bool"),
        ("sensor.noise", "loud", "sensor.noise = 'loud' must be float"),
        ("sensor.noise", False, "sensor.noise = False must be float"),
        ("sensor.sampling", "cubic", "sensor.sampling = 'cubic' is not one of"),
        ("mixture.noise", [0.1], "mixture.noise = [0.1] must be a list of 2"),
        ("mixture.noise", [0, 1, 2], "must be a list of 2"),
        ("mixture.fwhm", ["a", "b"], "mixture.fwhm = 'a' must be float"),
        ("loss", "mse", "[loss] must be a table, found 'mse'"),
        ("loss", {"mse": "much"}, "loss.mse = 'much' must be float"),
        ("loss", {"mse": True}, "loss.mse = True must be float"),
        ("optimiser.name", "lion", "optimiser.name = 'lion' is not one of"),
        ("schedule", [], "[schedule] must be a table, found []"),
        ("uncertainty.scales", 4, "uncertainty.scales = 4 must be a list"),
    ],
)
def test_values_of_a_wrong_type_are_named(path: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Recipe.from_dict(with_value(path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("run.steps", 0, "run.steps = 0 must be positive"),
        ("run.batch", -1, "run.batch = -1 must be positive"),
        ("run.validate_every", 0, "run.validate_every"),
        ("run.devices", 0, "run.devices"),
        ("model.scale", 0, "model.scale = 0 must be positive"),
        ("model.options", {"scale": 16}, "model.scale = 4, but model.options.scale = 16"),
        ("schedule.warm", 1.5, "schedule.warm = 1.5 must lie between 0 and 1"),
        ("sensor.noise", -0.5, "noise=-0.5 must be 0 or more"),
        ("mixture.noise", [0.5, 0.1], "noise=(0.5, 0.1) must be (smallest, largest)"),
        ("mixture.fwhm", [0.0, 0.1], "fwhm=(0.0, 0.1) must be (smallest, largest)"),
        ("mixture.exact", -1, "odds of a mixture must be 0 or more"),
    ],
)
def test_values_that_cannot_be_are_refused(path: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Recipe.from_dict(with_value(path, value))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "m"}, r"it is not complete: .*'model'"),
        ({"model": {"architecture": "terrain", "scale": 4}}, r"it is not complete: .*'name'"),
        ({"name": "m", "model": {"architecture": "terrain"}}, r"model is not complete: .*'scale'"),
    ],
)
def test_what_is_missing_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe.from_dict(values)


def test_recipes_that_are_not_there_are_met_with_those_that_are() -> None:
    for call in (Recipe.named, Recipe.find, Recipe.text):
        for name in ("terain", "../recipes/terrain", ""):
            with pytest.raises(InputError, match=r"There are .*terrain.*path of a \.toml file"):
                call(name)


def not_toml(path: Path) -> None:
    path.write_text("name = ")


def not_text(path: Path) -> None:
    path.write_bytes(b"name = '\xff\xfe'")


@pytest.mark.parametrize("make", [not_toml, not_text, Path.mkdir, lambda path: None])
def test_files_that_cannot_be_read_are_named(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "a.toml"
    make(path)
    with pytest.raises(InputError, match=r"cannot read the recipe '.*a\.toml'"):
        Recipe.find(path)


def test_folders_are_relative_to_the_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    absolute = tmp_path / "elsewhere"
    (folder / "a.toml").write_text(
        "name = 'm'\n[model]\narchitecture = 'terrain'\nscale = 4\nstart = 'first.safetensors'\n"
        f"[data]\ntrain = '../lidar'\nvalidation = '{absolute.as_posix()}'\n"
    )
    recipe = Recipe.read(folder / "a.toml")
    assert Path(recipe.data.train).resolve() == tmp_path / "lidar"
    assert Path(recipe.data.validation) == absolute
    assert Path(recipe.model.start) == folder / "first.safetensors"
    assert recipe.data.extra == ""


def test_some_values_are_changed_and_the_rest_kept() -> None:
    recipe = Recipe.named("terrain")
    changed = recipe.replaced(run={"steps": 7}, data={"train": "here"}, loss={"l1": 0.5})
    assert (changed.run.steps, changed.data.train) == (7, "here")
    assert changed.loss == {"mse": 1.0, "l1": 0.5}
    assert changed.run.batch == recipe.run.batch
    assert changed.replaced(run={"steps": recipe.run.steps}).run == recipe.run
    assert recipe == Recipe.named("terrain")
    model = recipe.replaced(model={"scale": 4, "options": {"scale": 4, "blocks": 1}}).model
    assert model.options == {"scale": 4, "blocks": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": {"stepz": 7}}, "Did you mean 'steps'"),
        ({"runs": {"steps": 7}}, "Did you mean 'run'"),
        ({"run": 7}, r"\[run\] must be a table"),
        ({"model": {"scale": 4}}, r"model\.options\.scale = 16"),
    ],
)
def test_changes_are_checked_as_files_are(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe.named("terrain").replaced(**changes)


def test_a_network_for_another_scale_is_met_before_it_is_trained(tmp_path: Path) -> None:
    """An architecture that is not told the scale has one of its own."""
    recipe = Recipe.from_dict({**MINIMAL, "data": {"train": "a", "validation": "b"}})
    with pytest.raises(
        InputError, match=r"for scale 4, and its network for 16.*options\.scale = 4"
    ):
        xdemsr.train(recipe, tmp_path / "m.safetensors")


def test_plain_values_are_the_callers_own() -> None:
    recipe = Recipe.named("terrain")
    recipe.to_dict()["model"]["options"]["features"] = 1
    assert recipe.model.options["features"] == 32


def test_recipes_are_read_without_torch() -> None:
    code = """
import sys
from xdemsr.training import Recipe, shipped_recipes
for name in shipped_recipes():
    Recipe.find(name).to_dict()
assert not {"torch", "lightning"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


KINDS = ("exact", "rounded", "noisy", "blurred", "thinned", "striped", "mixed")
NONE = dict.fromkeys(KINDS, 0.0)


def kind_of(sensor: Sensor) -> str:
    """Which kind of a mixture a sensor is, by what it does."""
    errors = [name for name in ("noise", "stripes", "step") if getattr(sensor, name)]
    if len(errors) == 3:
        return "mixed"
    if errors:
        return {"noise": "noisy", "stripes": "striped", "step": "rounded"}[errors[0]]
    return {"mean": "exact", "gaussian": "blurred"}.get(sensor.sampling, "thinned")


def drawn(mixture: Mixture, n: int, seed: int = 0) -> list[Sensor]:
    rng = np.random.default_rng(seed)
    return [mixture.draw(rng) for _ in range(n)]


def test_kinds_come_as_often_as_their_odds() -> None:
    n = 6000
    sensors = drawn(Mixture(), n)
    odds = {kind: getattr(Mixture(), kind) for kind in KINDS}
    for kind, share in odds.items():
        expected = share / sum(odds.values())
        found = sum(kind_of(sensor) == kind for sensor in sensors) / n
        assert abs(found - expected) < 4 * (expected / n) ** 0.5, kind


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1 << 40),
    low=st.floats(0.01, 5),
    width=st.floats(0, 5),
    kind=st.sampled_from(KINDS),
)
def test_what_is_drawn_lies_in_its_range(seed: int, low: float, width: float, kind: str) -> None:
    bounds = (low, low + width)
    mixture = Mixture(
        **{**NONE, kind: 0.5}, steps=bounds, noise=bounds, stripes=bounds, fwhm=bounds
    )
    for sensor in drawn(mixture, 12, seed):
        assert kind_of(sensor) == kind
        for name in ("noise", "stripes"):
            value = getattr(sensor, name)
            assert value == 0 or bounds[0] <= value <= bounds[1]
        assert sensor.step in (0, 1) or bounds[0] <= sensor.step <= bounds[1]
        if sensor.sampling == "gaussian":
            assert bounds[0] <= sensor.fwhm <= bounds[1]


def test_the_same_seed_draws_the_same_sensors() -> None:
    assert drawn(Mixture(), 50, 3) == drawn(Mixture(), 50, 3) != drawn(Mixture(), 50, 4)


def test_a_third_of_the_rounded_is_in_whole_metres() -> None:
    sensors = drawn(Mixture(**{**NONE, "rounded": 1.0}), 1500)
    assert abs(sum(sensor.step == 1 for sensor in sensors) / 1500 - 1 / 3) < 0.05


def test_what_is_drawn_is_plain_numbers() -> None:
    for sensor in drawn(Mixture(), 60):
        for name in ("fwhm", "noise", "stripes", "step"):
            assert type(getattr(sensor, name)) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (NONE, "one of them more"),
        ({"noisy": -0.1}, "odds"),
        ({"noisy": float("nan")}, "odds"),
        ({"steps": (1.0, 0.5)}, r"steps=\(1\.0, 0\.5\)"),
        ({"stripes": (-1.0, 0.5)}, "stripes"),
        ({"noise": (0.0, float("inf"))}, "noise"),
        ({"fwhm": (0.0, 1.0)}, "fwhm"),
    ],
)
def test_mixtures_that_cannot_be_drawn_from_are_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Mixture(**values)


@settings(max_examples=20, deadline=None)
@given(
    noise=st.floats(0, 3), stripes=st.floats(0, 3), step=st.floats(0.2, 3), seed=st.integers(0, 9)
)
def test_a_sensor_errs_by_what_it_says(
    noise: float, stripes: float, step: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    coarse = 300 + 1000 * rng.random((150, 40))
    sensor = Sensor(noise=noise, stripes=stripes, step=step)
    seen = sensor.disturbed(
        coarse, rng.standard_normal(coarse.shape), rng.standard_normal((150, 1))
    )
    assert np.sqrt(np.mean((seen - coarse) ** 2)) == pytest.approx(sensor.error, rel=0.3)
    np.testing.assert_allclose(seen / step, np.round(seen / step), atol=1e-6)


def test_a_perfect_sensor_changes_nothing() -> None:
    coarse = np.random.default_rng(0).random((4, 5))
    white, stripe = np.ones((4, 5)), np.ones((4, 1))
    np.testing.assert_array_equal(Sensor().disturbed(coarse, white, stripe), coarse)
    assert Sensor().error == 0


@given(st.floats(0.01, 0.99))
def test_a_contrast_at_nyquist_is_a_width(mtf: float) -> None:
    sigma = Sensor(fwhm=fwhm_of_mtf(mtf)).sigma
    assert np.exp(-((np.pi * sigma) ** 2) / 2) == pytest.approx(mtf)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampling": "cubic"}, "is not one of mean, gaussian, bilinear, nearest"),
        ({"fwhm": 0.0}, "fwhm"),
        ({"noise": float("nan")}, "noise"),
        ({"stripes": float("inf")}, "stripes"),
        ({"step": -1.0}, "step"),
    ],
)
def test_sensors_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sensor(**values)
