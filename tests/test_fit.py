"""Training runs: they learn, say why they stop, and end the same if they were killed."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import xdemsr
from xdemsr.cli import main
from xdemsr.errors import InputError
from xdemsr.training import Recipe
from xdemsr.training.places import Place

pytest.importorskip("lightning")
pytestmark = pytest.mark.train

#: A run of seconds.
SMALL: dict[str, Any] = {
    "name": "small",
    "model": {
        "architecture": "terrain",
        "scale": 16,
        "options": {"scale": 16, "features": 8, "blocks": 1},
    },
    "patches": {"kind": "spacings", "size": 16, "blocks": [2, 3, 4], "min_valid": 0.3},
    "optimiser": {"learning_rate": 3e-3, "clip": 1.0},
    "schedule": {"name": "cosine", "warm_up": 10},
    "run": {"steps": 300, "batch": 8, "average": 0.8, "validate_every": 100},
}


def ridged(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Terrain with sharp valleys, which a network can learn in seconds."""
    heights = xdemsr.synthetic.terrain(shape, gsd=1.0, relief=60.0, seed=seed).values
    return np.abs(heights - np.median(heights))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    for name, shape, seed in (("train", (330, 410), 0), ("validation", (224, 240), 5)):
        (folder / name).mkdir()
        np.savez(folder / name / f"ridged_{name}.npz", heights=ridged(shape, seed), gsd=1.0)
    return {name: str(folder / name) for name in ("train", "validation")}


def small(data: dict[str, str], **changes: Any) -> Recipe:
    return Recipe.from_dict(SMALL).replaced(data=data, **changes)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return xdemsr.load_model(path).module.state_dict()


def test_a_recipe_becomes_a_model_that_is_better_and_says_so(
    data: dict[str, str], tmp_path: Path
) -> None:
    recipe = small(data, uncertainty={"steps": 60, "scales": [4], "size": 12})
    spec = xdemsr.train(recipe, tmp_path / "small.safetensors", progress=False)
    scores = spec.training["scores"]
    assert scores["x16/clean"] < 0.985
    assert scores["x16/clean"] == scores["x16/clean/ridged_validation"]
    assert spec.context == xdemsr.Local(9)
    assert spec.training["train"] == ["ridged_train"]
    assert spec.training["bands"] == ["elevation"]
    assert Recipe.from_dict(spec.training["recipe"]).optimiser == recipe.optimiser
    assert str(tmp_path) not in spec.to_json()
    dem = xdemsr.synthetic.terrain((20, 24), gsd=30.0)
    for scale in (4, 5, 16):
        fine = dem.demsr.upscale(scale, tmp_path / "small.safetensors", uncertainty=True)
        assert dict(fine.sizes) == {"y": 20 * scale, "x": 24 * scale}
        assert (fine["elevation_standard_error"] > 0).all()
    (log,) = (tmp_path / "small").glob("log/*/metrics.csv")
    assert "score" in log.read_text()


@pytest.mark.gpu
def test_on_a_gpu_a_recipe_becomes_a_model(data: dict[str, str], tmp_path: Path) -> None:
    recipe = small(data, uncertainty={"steps": 20, "scales": [4], "size": 12})
    spec = xdemsr.train(recipe, tmp_path / "small.safetensors", progress=False)
    assert spec.training["scores"]["x16/clean"] < 0.985


def test_stated_errors_are_calibrated(data: dict[str, str], tmp_path: Path) -> None:
    recipe = small(data, run={"steps": 40}, uncertainty={"steps": 150, "scales": [4], "size": 16})
    xdemsr.train(recipe, tmp_path / "m.safetensors", progress=False)
    truth = xdemsr.synthetic.terrain((224, 240), gsd=1.0)
    truth = truth.copy(data=ridged((224, 240), 7).astype(np.float32))
    fine = truth.demsr.degrade(4).demsr.upscale(4, tmp_path / "m.safetensors", uncertainty=True)
    scores = fine["elevation"].demsr.evaluate(
        truth, standard_error=fine["elevation_standard_error"]
    )
    assert 0.55 < scores["within_1se"] < 0.85
    assert 0.85 < scores["within_2se"] < 0.99


@pytest.mark.parametrize(
    ("architecture", "options", "loss"),
    [
        ("edsr", {"scale": 4, "blocks": 1, "features": 8, "skip": "bicubic"}, {"l1": 1.0}),
        ("dsrgan", {"scale": 4, "blocks": 1, "features": 4}, {"mse": 1.0, "adversarial": 0.01}),
        ("terrain", {"scale": 4, "features": 4, "blocks": 1}, {"mse": 1.0, "slope": 0.1}),
    ],
)
def test_tiles_train_any_network(
    data: dict[str, str],
    tmp_path: Path,
    architecture: str,
    options: dict[str, Any],
    loss: dict[str, float],
) -> None:
    model = {"architecture": architecture, "scale": 4, "options": options}
    recipe = Recipe.from_dict({"name": architecture, "model": model, "loss": loss}).replaced(
        data=data, patches={"size": 12}, run={"steps": 4, "batch": 3, "validate_every": 2}
    )
    spec = xdemsr.train(recipe, tmp_path / "m.safetensors", progress=False)
    assert spec.gsd == (4.0, 4.0)
    assert spec.training["scores"]["x4/clean"] > 0


def run_apart(recipe: Recipe, out: Path) -> subprocess.Popen[bytes]:
    """The same run in a process of its own, on one thread."""
    code = (
        "import json, sys, torch, xdemsr\n"
        "from xdemsr.training import Recipe\n"
        "torch.set_num_threads(1)\n"
        "recipe = Recipe.from_dict(json.loads(sys.argv[1]))\n"
        "xdemsr.train(recipe, sys.argv[2], progress=False)\n"
    )
    values = json.dumps(recipe.to_dict())
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, values, str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("kind", ["spacings", "tiles"])
def test_a_killed_run_ends_with_the_same_weights(
    data: dict[str, str], tmp_path: Path, kind: str
) -> None:
    recipe = small(data, run={"steps": 100, "validate_every": 25, "batch": 4})
    if kind == "tiles":
        model = {"scale": 4, "options": {"scale": 4, "features": 8, "blocks": 1}}
        recipe = recipe.replaced(patches={"kind": "tiles", "size": 9}, model=model)
    assert run_apart(recipe, tmp_path / "whole.safetensors").wait(timeout=240) == 0
    killed = run_apart(recipe, tmp_path / "killed.safetensors")
    deadline = time.monotonic() + 240
    while not (tmp_path / "killed" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert not (tmp_path / "killed.safetensors").exists()
    assert run_apart(recipe, tmp_path / "killed.safetensors").wait(timeout=240) == 0
    whole = tensors(tmp_path / "whole.safetensors")
    resumed = tensors(tmp_path / "killed.safetensors")
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)


class Poisoned:
    """Batches of which the third holds what cannot be."""

    def batches(self, start: int, size: int) -> Iterator[dict[str, Any]]:
        for index in range(start, 100):
            inputs = np.ones((size, 2, 8, 8), np.float32)
            target = np.full((size, 1, 32, 32), np.inf if index == 2 else 1.0, np.float32)
            places = ["cursed hill" if index == 2 else "plain"] * size
            yield {
                "inputs": inputs,
                "target": target,
                "weight": np.ones_like(target),
                "place": places,
            }


class Level:
    def score(self, network: nn.Module) -> dict[str, float]:
        return {"score": 1.0}


def test_a_loss_that_is_no_number_names_the_place(tmp_path: Path) -> None:
    from xdemsr.models.terrain import Terrain
    from xdemsr.training.fit import Fit, fit

    recipe = Recipe.from_dict(SMALL)
    task = Fit(Terrain(4, features=4, blocks=1), recipe, Level())
    with pytest.raises(InputError, match=r"batch 2 is inf.*cursed hill"):
        fit(task, Poisoned(), tmp_path, progress=False)


def test_runs_that_cannot_begin_say_why(data: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match=r"has no data.*--train"):
        xdemsr.train("terrain", out)
    with pytest.raises(InputError, match=r"must end in \.safetensors"):
        xdemsr.train(small(data), tmp_path / "m.pt")
    with pytest.raises(InputError, match="no raster holds a tile"):
        xdemsr.train(small(data, patches={"kind": "tiles", "size": 90}), out, progress=False)
    with pytest.raises(InputError, match="constant learning rate"):
        xdemsr.train(small(data, loss={"mse": 1.0, "adversarial": 1.0}), out)
    constant = small(
        data,
        schedule={"name": "constant", "warm_up": 0},
        loss={"mse": 1.0, "adversarial": 1.0},
        patches={"kind": "tiles", "size": 8, "min_valid": 1.0},
    )
    with pytest.raises(InputError, match="no method discriminator"):
        xdemsr.train(constant, out, progress=False)
    with pytest.raises(InputError, match="tiles without voids"):
        xdemsr.train(constant.replaced(patches={"min_valid": 0.5}), out, progress=False)
    same = {**data, "validation": data["train"]}
    with pytest.raises(InputError, match="Keep places apart"):
        xdemsr.train(small(same), out, progress=False)
    with pytest.raises(InputError, match="no raster holds a patch"):
        xdemsr.train(small(data, uncertainty={"steps": 5, "size": 90}), out, progress=False)
    empty = {**data, "train": str(tmp_path)}
    with pytest.raises(InputError, match="no elevation rasters"):
        xdemsr.train(small(empty), out, progress=False)
    assert not (tmp_path / "m").exists()


def test_a_folder_holds_the_run_of_one_recipe(data: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    first = small(data, run={"steps": 4, "validate_every": 3})
    xdemsr.train(first, out, progress=False)
    with pytest.raises(InputError, match="run of another recipe"):
        xdemsr.train(first.replaced(optimiser={"learning_rate": 0.1}), out, progress=False)
    (tmp_path / "m").rename(tmp_path / "moved")
    longer = first.replaced(run={"steps": 9})
    xdemsr.train(longer, out, folder=tmp_path / "moved", progress=False)
    kept = torch.load(tmp_path / "moved" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 9


def test_the_last_steps_are_validated(data: dict[str, str], tmp_path: Path) -> None:
    xdemsr.train(
        small(data, run={"steps": 5, "validate_every": 2}),
        tmp_path / "m.safetensors",
        progress=False,
    )
    kept = torch.load(tmp_path / "m" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 6


def test_a_run_lets_its_patches_go(data: dict[str, str], tmp_path: Path) -> None:
    """Run after run in one process, memory would fill with places."""
    out = tmp_path / "m.safetensors"
    gc.disable()  # By chance it may come at the right moment.
    try:
        xdemsr.train(small(data, run={"steps": 2, "validate_every": 2}), out, progress=False)
        left = [found for found in gc.get_objects() if type(found) is Place]
    finally:
        gc.enable()
    assert not left


def test_training_goes_on_from_another_model(data: dict[str, str], tmp_path: Path) -> None:
    run = {"steps": 2, "validate_every": 2}
    xdemsr.train(small(data, run=run), tmp_path / "a.safetensors", progress=False)
    start = {"start": str(tmp_path / "a.safetensors")}
    still = small(data, run=run, model=start, optimiser={"learning_rate": 1e-12})
    xdemsr.train(still, tmp_path / "b.safetensors", progress=False)
    first, second = (tensors(tmp_path / f"{name}.safetensors") for name in "ab")
    torch.testing.assert_close(second["head.weight"], first["head.weight"], atol=1e-6, rtol=1e-4)
    wider = {**start, "options": {"scale": 16, "features": 4, "blocks": 1}}
    with pytest.raises(xdemsr.ModelError, match="cannot start from"):
        xdemsr.train(small(data, run=run, model=wider), tmp_path / "c.safetensors", progress=False)


def test_voids_everywhere_leave_nothing_to_learn_from(tmp_path: Path, data: dict[str, str]) -> None:
    heights = ridged((200, 220), 1)
    heights[::9, ::9] = np.nan
    np.savez(tmp_path / "holes.npz", heights=heights, gsd=1.0)
    recipe = small({**data, "train": str(tmp_path)}, patches={"kind": "tiles", "size": 8})
    with pytest.raises(InputError, match=r"none of .* patches has the share of data"):
        xdemsr.train(recipe, tmp_path / "m.safetensors", progress=False)


def test_the_command_line_trains(data: dict[str, str], tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'name = "mine"\n[model]\narchitecture = "edsr"\nscale = 4\n'
        'options = { scale = 4, blocks = 1, features = 4, skip = "bicubic" }\n'
        "[patches]\nsize = 12\n[run]\nbatch = 2\nvalidate_every = 2\n"
    )
    out = tmp_path / "mine.safetensors"
    options = ["--train", data["train"], "--validation", data["validation"], "--steps", "2"]
    result = CliRunner().invoke(main, ["train", str(recipe), str(out), *options])
    assert result.exit_code == 0, result.output
    assert "x4/clean" in result.output
    assert xdemsr.load_model(out).spec.name == "mine"
    listed = CliRunner().invoke(main, ["recipes"]).output.split()
    assert {"terrain", "dsrgan-x16"} <= set(listed)
    shown = CliRunner().invoke(main, ["recipes", "terrain"]).output
    assert "half_share" in shown
