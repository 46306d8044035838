"""Schemes of several stages: the poster's table, and a chain that is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

import xdemsr
from xdemsr import schemes
from xdemsr.errors import InputError
from xdemsr.schemes import SCHEMES, lineage, stages
from xdemsr.training import Recipe
from xdemsr.training.perceptual import VGG16Features

NAMES = list(SCHEMES)


def test_the_network_is_the_posters() -> None:
    from xdemsr.models import build

    asked = Recipe.named("s2-edsr-x2").model
    spec = xdemsr.ModelSpec(
        name="s2",
        architecture=asked.architecture,
        options=asked.options,
        scale=2,
        context=xdemsr.Local(20),
    )
    with torch.device("meta"):
        network = build(spec)
    assert sum(parameter.numel() for parameter in network.parameters()) == 779_011


@pytest.mark.parametrize("name", NAMES)
def test_schemes_are_those_of_the_table(name: str) -> None:
    asked, found = SCHEMES[name], stages(name)
    assert [recipe.run.steps // 183 for recipe in found] == [epochs for epochs, _ in asked.stages]
    assert {recipe.run.validate_every for recipe in found} == {183}
    assert {recipe.run.batch for recipe in found} == {16}
    assert {recipe.schedule.name for recipe in found} == {"one-cycle"}
    assert [recipe.optimiser.learning_rate for recipe in found] == [r for _, r in asked.stages]
    for recipe in found:
        # Every patch is as wide on the ground: 960 m.
        inputs = recipe.data.inputs
        target = {"sentinel2": 10, "rapideye": 5}[recipe.data.target] * recipe.data.coarsen
        assert recipe.patches.size * recipe.model.scale * target == 960
        if inputs:
            assert {"sentinel2": 10}[inputs[0]] * recipe.data.coarsen == 2 * target
        assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert lineage(name)[-1] == name
    assert len({recipe.name for recipe in found}) == len(found)


def test_parents_come_first() -> None:
    assert lineage("1.4") == ["1.1", "1.2", "1.4"]
    assert lineage("2.2") == ["2.1", "2.2"]
    assert lineage("4.1") == ["4.1"]


def test_epochs_are_as_many_steps_as_there_are_batches() -> None:
    found = stages("2.1", patches=33, share=0.1)
    assert [recipe.run.steps for recipe in found] == [15, 30]
    assert found[0].run.validate_every == 3


@pytest.mark.parametrize(
    ("options", "match"),
    [({"patches": 0}, "positive"), ({"share": 0.0}, "share"), ({"share": 1.5}, "share")],
)
def test_impossible_numbers_are_named(options: dict[str, float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        stages("1.1", **options)


def test_there_must_be_such_a_scheme(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'5\.1'. There are 1\.1"):
        xdemsr.train_scheme("5.1", tmp_path, tmp_path, tmp_path)


def write_place(folder: Path, seed: int) -> None:
    """A pair of images: 40 x 56 pixels of 10 m, and twice as many."""
    folder.mkdir(parents=True)
    planes = [
        xdemsr.synthetic.terrain((80, 112), 5.0, relief=0.1, base=0.15, seed=seed + k)
        for k in range(3)
    ]
    high = xr.concat(planes, "band").drop_attrs().astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 0.002, (3, 40, 56)).astype(np.float32)
    low = 0.9 * high.demsr.degrade(2) + 0.01 + noise
    for image, name in ((high, "rapideye"), (low, "sentinel2")):
        image.rio.write_crs(32611).rio.to_raster(folder / f"{name}.tif")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_place(folder / "train" / "yuba", 0)
    write_place(folder / "validation" / "hayward", 10)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The shipped recipe with a small network, and features that nobody has trained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg16_bn.safetensors"
    save_file(VGG16Features().state_dict(), path)
    recipe = Recipe.named("s2-edsr-x2")
    return recipe.replaced(
        model={"options": {**recipe.model.options, "blocks": 1, "features": 4}},
        perceptual={"weights": str(path), "blocks": (2,), "factors": (1.0,)},
        run={"batch": 2},
    )


@pytest.mark.train
def test_a_chain_is_trained_stage_by_stage(
    places: Path, base: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Patches of 960 m would be larger than these places.
    small = {
        name: schemes.Scheme(s.inputs, s.target, s.coarsen, s.size // 6, s.stages, s.start)
        for name, s in SCHEMES.items()
    }
    monkeypatch.setattr(schemes, "SCHEMES", small)
    trained = []

    def counted(recipe: Recipe, path: Path, *, progress: bool) -> xdemsr.ModelSpec:
        trained.append((recipe.name, Path(recipe.model.start).name))
        return xdemsr.train(recipe, path, progress=progress)

    monkeypatch.setattr(schemes, "train", counted)
    options = {"base": base, "patches": 4, "share": 0.01, "progress": False}
    given = (places / "train", places / "validation", tmp_path)
    spec = xdemsr.train_scheme("3.2", *given, **options)
    assert trained == [
        ("s2-3.1-1", ""),
        ("s2-3.1-2", "s2-3.1-1.safetensors"),
        ("s2-3.2-1", "s2-3.1-2.safetensors"),
        ("s2-3.2-2", "s2-3.2-1.safetensors"),
        ("s2-3.2-3", "s2-3.2-2.safetensors"),
    ]
    assert spec.name == "s2-3.2-3"
    assert [band.name for band in spec.outputs] == ["red", "green", "blue"]
    assert spec.training["recipe"]["data"]["inputs"] == ["sentinel2"]
    # The last stage has hardly a learning rate: it is the one before, nearly.
    before, after = (load_file(tmp_path / f"s2-3.2-{k}.safetensors") for k in (2, 3))
    assert max(float((before[k] - after[k]).abs().max()) for k in before) < 1e-4
    # What is there is not trained again; and what is there must be the same.
    assert xdemsr.train_scheme("3.2", *given, **options) == spec
    assert len(trained) == 5
    with pytest.raises(InputError, match="another recipe"):
        xdemsr.train_scheme("3.1", *given, **{**options, "share": 0.02})
    # A run that was killed before it was scored is not finished.
    last = tmp_path / "s2-3.2-3.safetensors"
    unscored = {name: value for name, value in spec.training.items() if name != "scores"}
    xdemsr.save_model(xdemsr.load_model(last).module, last, replace(spec, training=unscored))
    assert xdemsr.train_scheme("3.2", *given, **options).training == spec.training
    assert len(trained) == 6
    # And it is a model like others.
    low = xdemsr.open(places / "validation" / "hayward" / "sentinel2.tif")
    low = low.assign_coords(band=["red", "green", "blue"])
    answer = low.demsr.upscale(2, tmp_path / "s2-3.2-3.safetensors")
    assert answer.shape == (3, 80, 112)
    assert bool(answer.notnull().all())
