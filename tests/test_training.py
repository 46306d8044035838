"""Training: samples, scores, and a network that learns."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import xdemsr
from xdemsr.errors import InputError
from xdemsr.io import write
from xdemsr.models.interpolation import Interpolation
from xdemsr.models.terrain import Terrain
from xdemsr.training.patches import Mixture, PatchRecipe, PatchSampler
from xdemsr.training.places import Place, Raster, load_rasters
from xdemsr.training.validation import Validation


def made(shape: tuple[int, int] = (330, 410), seed: int = 0, name: str = "made") -> Raster:
    heights = xdemsr.synthetic.terrain(shape, gsd=1.0, relief=60.0, seed=seed).values
    return Raster(name, heights.astype(np.float64), 1.0)


def test_samples_are_block_means_of_their_place() -> None:
    raster = made()
    raster.heights[100:110, 200:230] = np.nan
    place = Place(raster, step=4)
    margin = (place.shape[0] - 330) // 2
    y, x, block = margin + 60, margin + 150, 3
    sample = place.sample(y, x, (5, 7), block)
    centred = raster.heights - np.nanmean(raster.heights)
    cut = centred[60 : 60 + 60, 150 : 150 + 84]
    fine = cut.reshape(20, 3, 28, 3).mean(axis=(1, 3))
    coarse = cut.reshape(5, 12, 7, 12).mean(axis=(1, 3))
    np.testing.assert_array_equal(sample.valid, np.isfinite(coarse))
    apart = sample.coarse - coarse
    np.testing.assert_allclose(apart[sample.valid], np.nanmean(apart), atol=1e-6)
    known = sample.valid.repeat(4, 0).repeat(4, 1)
    np.testing.assert_allclose((sample.fine - fine)[known], np.nanmean(apart), atol=1e-6)


def test_places_go_on_beyond_their_border() -> None:
    raster = Raster("plane", np.add.outer(2.0 * np.arange(200), 3.0 * np.arange(250)), 1.0)
    place = Place(raster, step=2)
    whole = place.whole(5)
    steps = np.diff(whole.coarse, axis=0), np.diff(whole.coarse, axis=1)
    np.testing.assert_allclose(steps[0], 20.0)
    np.testing.assert_allclose(steps[1], 30.0)
    assert not whole.valid[0].any()


def test_turned_rasters_keep_their_heights_and_mark_what_is_outside() -> None:
    raster = made()
    turned = raster.turned(np.random.default_rng(0), (1.2, 1.3))
    assert 1.2 <= turned.gsd <= 1.3
    inside = turned.heights[np.isfinite(turned.heights)]
    assert inside.size == pytest.approx(330 * 410 / turned.gsd**2, rel=0.05)
    assert inside.mean() == pytest.approx(raster.heights.mean(), abs=1.0)
    assert np.isnan(turned.heights).any()


RECIPE = PatchRecipe(step=4, size=12, blocks=(2, 4), edge=2)


def test_patches_are_deterministic_and_in_shape() -> None:
    def first(seed: int) -> list[np.ndarray]:
        sampler = PatchSampler([made()], RECIPE, Mixture(), variants=1, seed=seed)
        return [patch.inputs for patch in islice(sampler, 5)]

    for a, b in zip(first(3), first(3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first(3)[0], first(4)[0])
    sampler = PatchSampler([made()], RECIPE, Mixture())
    for patch in islice(sampler, 20):
        assert patch.inputs.shape == (2, 12, 12)
        assert patch.target.shape == (48, 48)
        assert patch.weight.shape == (12, 12)
        assert (patch.weight[:2] == 0).all()
        assert (patch.weight[:, -2:] == 0).all()
        assert patch.weight.max() > 0


def test_spacings_are_those_drawn() -> None:
    sampler = PatchSampler([made()], RECIPE, Mixture())
    assert sampler.spacings() == (8.0, 16.0)


def test_inputs_are_as_imperfect_as_they_say() -> None:
    sampler = PatchSampler([made()], RECIPE, Mixture())
    seen = set()
    for patch in islice(sampler, 200):
        error = float(patch.inputs[1, 0, 0])
        means = patch.target.reshape(12, 4, 12, 4).mean(axis=(1, 3))
        apart = patch.inputs[0] - means
        seen.add("exact" if error == 0 else "imperfect")
        if error == 0:
            np.testing.assert_allclose(apart, 0, atol=1e-4)
        elif error > 0.05:
            assert 0.3 * error < apart.std() < 2 * error
    assert seen == {"exact", "imperfect"}


def test_voids_are_not_learnt_from() -> None:
    raster = made()
    raster.heights[:, 200:] = np.nan
    sampler = PatchSampler([raster], RECIPE, Mixture())
    masked = [patch for patch in islice(sampler, 100) if (patch.weight[2:-2, 2:-2] == 0).any()]
    assert masked
    assert all(np.isfinite(patch.inputs).all() for patch in masked)


def test_places_too_small_are_an_error() -> None:
    with pytest.raises(InputError, match="no raster holds a patch"):
        PatchSampler([made((20, 20))], PatchRecipe(size=40), Mixture())


def test_rasters_are_found_in_folders(tmp_path: Path) -> None:
    dem = xdemsr.synthetic.terrain((30, 40), gsd=2.0)
    dem[3, 4] = np.nan
    (tmp_path / "hills").mkdir()
    write(dem, tmp_path / "hills" / "dtm.tif")
    write(dem, tmp_path / "plain.tif")
    np.savez(tmp_path / "packed.npz", heights=dem.values, gsd=2.0)
    rasters = load_rasters(tmp_path)
    assert sorted(r.name for r in rasters) == ["hills", "packed", "plain"]
    for raster in rasters:
        assert raster.gsd == 2.0
        np.testing.assert_array_equal(raster.heights, dem.values)
    with pytest.raises(InputError, match="no elevation rasters"):
        load_rasters(tmp_path / "nowhere")


def test_validation_agrees_with_the_benchmark() -> None:
    """Two roads to one figure: the training's own score, and the library on the same raster."""
    dem = xdemsr.synthetic.terrain((16 * 21, 16 * 25), gsd=1.0, relief=80.0)
    dem[150:170, 200:230] = np.nan
    raster = Raster("made", dem.values.astype(np.float64), 1.0)
    scores = Validation([raster], 16).score(Interpolation("bicubic", 16))
    for kind, more in (("clean", {}), ("metres", {"step": 1.0})):
        table = dem.demsr.benchmark(16, ["bicubic"], **more)
        expected = table.loc["bicubic", "of_best_classical"]
        assert scores[kind] == pytest.approx(expected, rel=0.01)
        assert scores[f"{kind}/made"] == scores[kind]


def ridged(shape: tuple[int, int] = (330, 410), seed: int = 0) -> Raster:
    """Terrain with sharp valleys, which a network can learn in seconds."""
    heights = made(shape, seed).heights
    return Raster("ridged", np.abs(heights - np.median(heights)), 1.0)


@pytest.mark.train
def test_a_network_learns_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from xdemsr.training.fit import FitRecipe, fit

    def parts() -> tuple[Terrain, PatchSampler, Validation]:
        torch.manual_seed(0)
        network = Terrain(16, features=8, blocks=1)
        patches = PatchRecipe(size=16, blocks=(2, 3, 4), edge=2)
        sampler = PatchSampler([ridged()], patches, Mixture())
        return network, sampler, Validation([ridged((16 * 14, 16 * 15), seed=5)], 16)

    network, sampler, validation = parts()
    untrained = validation.score(network.eval())
    recipe = FitRecipe(
        steps=400,
        batch=8,
        learning_rate=3e-3,
        validate_every=200,
        warm_up=10,
        average=0.8,
        precision="32-true",
    )
    trained = fit(network.train(), sampler, validation, recipe, tmp_path)
    assert trained["clean"] < 0.95 < untrained["clean"]
    assert trained == pytest.approx(validation.score(network))
    assert (tmp_path / "last.ckpt").exists()
    (log,) = tmp_path.glob("log/*/metrics.csv")
    assert "score" in log.read_text()
    network, sampler, validation = parts()
    longer = FitRecipe(**{**recipe.__dict__, "steps": 420})
    fit(network.train(), sampler, validation, longer, tmp_path)
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 420


def test_a_run_that_goes_on_draws_other_patches() -> None:
    def patches(step: int | None) -> list[np.ndarray]:
        sampler = PatchSampler([made()], RECIPE, Mixture(), variants=1, seed=3)
        if step is not None:
            sampler.go_on(step)
        return [patch.inputs for patch in islice(sampler, 3)]

    np.testing.assert_array_equal(patches(500), patches(500))
    for other in (patches(None), patches(501)):
        assert not np.array_equal(patches(500), other)


def test_rasters_without_truth_are_told() -> None:
    raster = made((200, 210))
    raster.heights[np.random.default_rng(0).random(raster.heights.shape) < 0.3] = np.nan
    sampler = PatchSampler([raster], RECIPE, Mixture())
    with pytest.raises(InputError, match="known truth"):
        next(iter(sampler))
