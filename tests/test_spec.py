"""Specifications as values."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from xdemsr import Band, Local, ModelSpec, Windowed
from xdemsr.errors import InputError, ModelError
from xdemsr.execution import Execution


def spec(**more: object) -> ModelSpec:
    values = {
        "name": "m",
        "architecture": "edsr",
        "scale": 2,
        "context": Local(20, 4, 96),
        "options": {"scale": 2, "groups": [[1, 2]]},
        "inputs": (Band("red", "1"), Band("guide", "1", 4)),
        "gsd": (10.0, 20.0),
        "training": {"data": ["a"]},
    }
    return ModelSpec(**{**values, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("context", [Local(3), Local(32, 32, 64), Windowed(25, 8)])
def test_json_both_ways(context: Local | Windowed) -> None:
    original = spec(context=context)
    assert ModelSpec.from_json(original.to_json()) == original


@pytest.mark.parametrize(
    "damage",
    [
        lambda v: v.pop("name"),
        lambda v: v.update(colour="red"),
        lambda v: v["context"].update(kind="endless"),
        lambda v: v.pop("context"),
        lambda v: v["inputs"].append({"name": "b", "unit": "m"}),
    ],
)
def test_other_json_is_refused(damage: object) -> None:
    values = json.loads(spec().to_json())
    damage(values)  # type: ignore[operator]
    with pytest.raises(ModelError, match="not a model specification"):
        ModelSpec.from_json(json.dumps(values))


def test_not_json_is_refused() -> None:
    with pytest.raises(ModelError, match="not a model specification"):
        ModelSpec.from_json("{")
    with pytest.raises(ModelError, match="not a model specification"):
        ModelSpec.from_json("[]")


def test_a_worker_gets_a_small_spec() -> None:
    large = spec(training={"log": "x" * 100_000}, summary="long" * 1000)
    assert len(pickle.dumps(large.for_worker())) < 2_000
    assert large.for_worker().options == large.options


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Local(-1), "halo"),
        (lambda: Local(1, 0), "multiple_of"),
        (lambda: Windowed(8, 8), "overlap"),
        (lambda: Windowed(0, 0), "size"),
        (lambda: spec(scale=0), "scale"),
        (lambda: spec(inputs=()), "band"),
        (lambda: spec(border="torus"), "border"),
        (lambda: Local(1.5), "whole numbers"),  # type: ignore[arg-type]
        (lambda: Windowed(8.0, 2), "whole numbers"),  # type: ignore[arg-type]
        (lambda: spec(scale=2.5), "scale"),
        (lambda: spec(scale="2"), "scale"),
        (lambda: spec(context=None), "measure_context"),
        (lambda: spec(inputs=("elevation",)), "Band"),
        (lambda: spec(gsd=30), "gsd"),
        (lambda: spec(gsd=(30.0, 10.0)), "gsd"),
        (lambda: spec(name=""), "name"),
        (lambda: spec(options={"scale": np.int64(2)}).to_json(), "plain numbers"),
    ],
)
def test_impossible_values_are_refused(make: object, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        make()  # type: ignore[operator]


def test_precision_has_two_spellings_and_one_meaning() -> None:
    assert Execution(precision="bf16") == Execution(precision="bfloat16")
    with pytest.raises(InputError, match="int4"):
        Execution(precision="int4")


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "many", True])
def test_impossible_batches_are_refused(batch_size: object) -> None:
    with pytest.raises(InputError, match="batch_size"):
        Execution(batch_size=batch_size)  # type: ignore[arg-type]


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_bands_have_names_of_their_own(side: str) -> None:
    """They are found by name: of two that are called alike, one would be taken twice."""
    with pytest.raises(ModelError, match="red, red are not all different"):
        spec(**{side: (Band("red", "1"), Band("red", "m"))})
