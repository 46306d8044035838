"""Training samples of many spacings, and the scores that choose among weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import xdemsr
from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.io import write
from xdemsr.lidar import check_apart, read_rasters
from xdemsr.models.interpolation import Interpolation
from xdemsr.models.terrain import Terrain
from xdemsr.sensor import Sensor
from xdemsr.training.mixture import Mixture
from xdemsr.training.patches import PatchRecipe, PatchSampler
from xdemsr.training.places import Place, Raster, make_places
from xdemsr.training.validation import ScaleValidation, TileValidation, Validation


def made(shape: tuple[int, int] = (330, 410), seed: int = 0, name: str = "made") -> Raster:
    heights = xdemsr.synthetic.terrain(shape, gsd=1.0, relief=60.0, seed=seed).values
    return Raster(name, heights.astype(np.float64), 1.0)


def test_samples_are_block_means_of_their_place() -> None:
    raster = made()
    raster.heights[100:110, 200:230] = np.nan
    place = Place(raster)
    margin = (place.shape[0] - 330) // 2
    y, x, block = margin + 60, margin + 150, 3
    sample = place.sample(y, x, (5, 7), 4, block)
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
    place = Place(raster)
    whole = place.whole(2, 5)
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


@pytest.mark.parametrize("sampling", ["gaussian", "bilinear", "nearest"])
def test_samples_are_sampled_as_degrade_does_it(sampling: str) -> None:
    """Two roads to one raster: the training's own sampling, and the library's."""
    dem = xdemsr.synthetic.terrain((16 * 9, 16 * 11), gsd=1.0, relief=60.0)
    place = Place(Raster("made", dem.values.astype(np.float64), 1.0))
    margin = (place.shape[0] - dem.shape[0]) // 2
    sensor = Sensor(sampling=sampling, fwhm=1.4)  # type: ignore[arg-type]
    # Blocks of one pixel: nothing is averaged before it is blurred.
    sample = place.sample(margin, margin, (9, 11), 16, 1, sensor)
    more = {"fwhm": 1.4} if sampling == "gaussian" else {}
    expected = dem.demsr.degrade(16, sampling=sampling, **more).values
    found = sample.sampled - sample.coarse
    means = dem.demsr.degrade(16).values
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(found[inner], (expected - means)[inner], atol=0.05)


RECIPE = PatchRecipe(step=4, size=12, blocks=(2, 4), edge=2)


def sampler(
    raster: Raster | None = None,
    recipe: PatchRecipe = RECIPE,
    mixture: Mixture | None = None,
    variants: int = 0,
    seed: int = 0,
) -> PatchSampler:
    places = make_places([made() if raster is None else raster], variants, np.random.default_rng(0))
    return PatchSampler(places, recipe, mixture or Mixture(), seed=seed)


def test_batches_depend_on_seed_and_index_alone() -> None:
    first, second = sampler(variants=1, seed=3), sampler(variants=1, seed=3)
    second.batch(0, 2)
    for name in ("inputs", "target", "weight"):
        np.testing.assert_array_equal(first.batch(7, 3)[name], second.batch(7, 3)[name])
    for other in (first.batch(8, 3), sampler(variants=1, seed=4).batch(7, 3)):
        assert not np.array_equal(first.batch(7, 3)["inputs"], other["inputs"])
    stream = first.batches(7, 3)
    np.testing.assert_array_equal(next(stream)["inputs"], first.batch(7, 3)["inputs"])
    np.testing.assert_array_equal(next(stream)["inputs"], first.batch(8, 3)["inputs"])


def test_batches_have_their_shapes_and_leave_the_edge_out() -> None:
    batch = sampler().batch(0, 20)
    assert batch["inputs"].shape == (20, 2, 12, 12)
    assert batch["target"].shape == batch["weight"].shape == (20, 1, 48, 48)
    assert set(batch["place"]) == {"made"}
    for edge in (np.s_[..., :8, :], np.s_[..., -8:]):
        assert (batch["weight"][edge] == 0).all()
    assert (batch["weight"].max(axis=(1, 2, 3)) > 0).all()


def test_some_batches_know_halves_only() -> None:
    recipe = PatchRecipe(step=4, size=12, blocks=(1, 2), half_share=0.5, edge=2)
    halves = sampler(recipe=recipe)
    shapes = {halves.batch(index, 2)["target"].shape[-1] for index in range(20)}
    assert shapes == {24, 48}


def test_what_has_no_error_is_not_shown_in_the_finest_pixels() -> None:
    """There, how a survey was gridded is all that is left to be learnt."""
    recipe = PatchRecipe(step=4, size=12, blocks=(1,), edge=2)
    errors = np.concatenate([sampler(recipe=recipe).batch(k, 8)["inputs"][:, 1] for k in range(20)])
    assert (errors > 0).all()
    with pytest.raises(InputError, match="finest_exact"):
        sampler(recipe=recipe, mixture=only("exact")).batch(0, 1)


def test_spacings_are_those_drawn() -> None:
    assert sampler().spacings() == (8.0, 16.0)


def only(kind: str) -> Mixture:
    kinds = ("exact", "rounded", "noisy", "blurred", "thinned", "striped", "mixed")
    return Mixture(**{name: float(name == kind) for name in kinds})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["rounded", "noisy", "blurred", "thinned", "striped", "mixed"])
def test_inputs_are_about_as_imperfect_as_they_say(kind: str) -> None:
    batch = sampler(mixture=only(kind)).batch(0, 200)
    told = batch["inputs"][:, 1, 0, 0]
    means = batch["target"].reshape(200, 12, 4, 12, 4).mean(axis=(2, 4))
    true = np.sqrt(np.mean((batch["inputs"][:, 0] - means) ** 2, axis=(1, 2)))
    clear = told > 0.05
    assert clear.sum() > 50
    ratio = true[clear] / told[clear]
    assert 0.75 < np.median(ratio) < 1.3
    assert ((ratio > 0.2) & (ratio < 5)).all()


def test_exact_inputs_are_exact() -> None:
    batch = sampler(mixture=only("exact")).batch(0, 20)
    assert (batch["inputs"][:, 1] == 0).all()
    means = batch["target"].reshape(20, 12, 4, 12, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(batch["inputs"][:, 0], means, atol=1e-4)


def test_voids_are_not_learnt_from() -> None:
    raster = made()
    raster.heights[:, 200:] = np.nan
    batch = sampler(raster).batch(0, 100)
    assert (batch["weight"][..., 8:-8, 8:-8] == 0).any()
    assert np.isfinite(batch["inputs"]).all()


def test_places_too_small_are_an_error() -> None:
    with pytest.raises(InputError, match="no raster holds a patch"):
        sampler(made((20, 20)), PatchRecipe(size=40))


def test_rasters_without_truth_are_told() -> None:
    raster = made((200, 210))
    raster.heights[np.random.default_rng(0).random(raster.heights.shape) < 0.3] = np.nan
    with pytest.raises(InputError, match="known truth"):
        sampler(raster).batch(0, 1)


def test_rasters_and_their_copies_share_what_they_count() -> None:
    rasters = [made(), made((660, 410), name="twice")]
    places = make_places(rasters, 2, np.random.default_rng(0), 0.8)
    shares = {name: sum(p.share for p in places if p.name == name) for name in ("made", "twice")}
    assert sum(shares.values()) == pytest.approx(0.8)
    assert shares["twice"] / shares["made"] == pytest.approx(2**0.5)


def test_rasters_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    dem = xdemsr.synthetic.terrain((30, 40), gsd=2.0)
    dem[3, 4] = np.nan
    (tmp_path / "hills").mkdir()
    write(dem, tmp_path / "hills" / "dtm.tif")
    write(dem, tmp_path / "plain.tif")
    np.savez(tmp_path / "packed.npz", heights=dem.values, gsd=2.0)
    rasters = read_rasters(tmp_path)
    assert sorted(r.name for r in rasters) == ["hills", "packed", "plain"]
    for raster in rasters:
        assert raster.gsd == pytest.approx(2.0)
        np.testing.assert_array_equal(raster.heights, dem.values)
    with pytest.raises(InputError, match="no elevation rasters"):
        read_rasters(tmp_path / "nowhere")
    write(dem, tmp_path / "hills.tif")
    with pytest.raises(InputError, match=r"two rasters.*'hills'"):
        read_rasters(tmp_path)


def test_voids_and_spacings_of_files_are_the_librarys(tmp_path: Path) -> None:
    """Customary voids of integers that declare none; degrees as metres where the place is."""
    dem = xdemsr.synthetic.terrain((30, 40), gsd=2.0).round().astype("int16")
    dem[3, 4] = -32768
    degrees = dem.rio.write_crs("EPSG:4326", inplace=False).assign_coords(
        y=60.0 - np.arange(30) / 3600, x=10.0 + np.arange(40) / 3600
    )
    degrees.rio.write_transform(inplace=True)
    degrees.rio.to_raster(tmp_path / "north.tif")
    (raster,) = read_rasters(tmp_path)
    assert np.isnan(raster.heights[3, 4])
    assert np.isnan(raster.heights).sum() == 1
    assert 15 < raster.gsd < 31
    assert raster.gsd == pytest.approx(grid.of(degrees).gsd(), rel=1e-6)


def test_validation_on_what_is_learnt_from_is_refused() -> None:
    with pytest.raises(InputError, match=r"'other' is the training raster 'made'"):
        check_apart([made()], [made(name="other")])
    check_apart([made()], [made(seed=1)])


def test_validation_says_which_raster_cannot_be_scored() -> None:
    with pytest.raises(InputError, match=r"'made' of \(120, 256\) pixels has none"):
        Validation([made((120, 256))], 16)
    with pytest.raises(InputError, match=r"'flat' is level"):
        Validation([Raster("flat", np.full((300, 310), 7.0), 1.0)], 16)


def test_networks_of_others_are_validated_too() -> None:
    class Mine(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.interpolate(x, scale_factor=8, mode="nearest")

    scores = Validation([made()], 8)
    nearest = scores.score(Interpolation("nearest", 8))["clean"]
    assert scores.score(Mine())["clean"] == pytest.approx(nearest)


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


def test_a_network_is_validated_at_each_scale_it_serves() -> None:
    network = Terrain(16, features=4, blocks=1)
    parts = {scale: Validation([made()], scale) for scale in (2, 8)}
    scores = ScaleValidation(parts).score(network)
    alone = Validation([made()], 8).score(network.at(8))
    assert scores["x8/clean"] == pytest.approx(alone["clean"])
    assert scores["score"] == pytest.approx(
        np.mean([scores[f"x{s}/{k}"] for s in (2, 8) for k in ("clean", "metres", "noise")])
    )


def test_tiles_are_scored_alone_and_over_bicubic() -> None:
    dem = xdemsr.synthetic.terrain((96, 128), gsd=1.0)
    tiles = dem.demsr.patches((6, 8), 4)
    scores = TileValidation(tiles, 4)
    assert scores.score(Interpolation("nearest", 4))["score"] > 1
    network = Terrain(4, features=4, blocks=1)
    assert scores.score(network)["score"] < 1
    assert network.training
