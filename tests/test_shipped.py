"""The models inside the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import xdemsr
from xdemsr.catalog import shipped_models
from xdemsr.demo import jacksboro
from xdemsr.models.context import verify_context
from xdemsr.spec import Local

MODELS = list(shipped_models().values())
CARDS = Path(__file__).parent.parent / "docs" / "models"


def scores() -> dict[str, float]:
    """Of the shipped terrain network, on places that were not learnt from."""
    found: dict[str, float] = shipped_models()["terrain-x16"].training["scores"]
    return found


def test_every_scale_has_its_model() -> None:
    scales = (2, 3, 4, 5, 6, 8, 10, 12, 16)
    assert {f"terrain-x{scale}" for scale in scales} <= set(shipped_models())


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_a_model_says_what_it_is(spec: xdemsr.ModelSpec) -> None:
    assert spec.licence
    assert spec.summary
    assert spec.gsd is not None
    assert spec.training["recipe"]["run"]
    assert spec.flops > 0
    assert spec.weights is not None
    assert spec.weights.size < 4_000_000
    # All scales of the terrain network are one file, with one card.
    terrain = spec.architecture == "terrain"
    card = (CARDS / f"{'terrain' if terrain else spec.name}.md").read_text()
    for name in (*spec.training["train"], *spec.training["validation"]):
        assert name in card
    for name, value in spec.training["scores"].items():
        if name.count("/") == 1:
            assert f"{value:.3f}" in card


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_a_model_is_what_it_says(spec: xdemsr.ModelSpec) -> None:
    loaded = xdemsr.load_model(spec.name)
    verify_context(loaded.module, spec)
    context = xdemsr.measure_context(loaded.module, spec.inputs)
    assert isinstance(context, Local)
    assert isinstance(spec.context, Local)
    assert context.multiple_of == spec.context.multiple_of
    slack = max(3, 2 * context.multiple_of)
    assert spec.context.halo - slack <= context.halo <= spec.context.halo


@pytest.mark.parametrize(
    ("scale", "clean", "metres", "noise"),
    [(16, 0.79, 0.80, 0.80), (8, 0.69, 0.73, 0.73), (4, 0.68, 0.57, 0.55), (2, 0.80, 0.46, 0.43)],
)
def test_scores_on_places_never_learnt_from(
    scale: int, clean: float, metres: float, noise: float
) -> None:
    found = scores()
    assert found[f"x{scale}/clean"] <= clean
    assert found[f"x{scale}/metres"] <= metres
    assert found[f"x{scale}/noise"] <= noise
    assert all(value < 1 for value in found.values())


@pytest.mark.parametrize("scale", [4, 8, 16])
@pytest.mark.parametrize(
    "degradation",
    [
        {"step": 10.0},
        {"noise": 5.0},
        {"stripes": 4.0},
        {"sampling": "gaussian", "fwhm": 1.2},
        {"sampling": "gaussian", "fwhm": 1.8, "noise": 3.0},
    ],
    ids=str,
)
def test_never_worse_than_the_spline(scale: int, degradation: dict[str, Any]) -> None:
    """On a real DEM it never saw, through sensors it was and was not taught."""
    table = xdemsr.benchmark(jacksboro(), scale, [f"terrain-x{scale}"], **degradation)
    own, spline = table.loc[f"terrain-x{scale}"], table.loc["spline"]
    assert own["rmse"] < spline["rmse"]
    assert own["slope_rmse"] < spline["slope_rmse"]


@pytest.mark.parametrize("scale", [4, 8, 16])
@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
def test_told_of_thinning_it_is_nearer_than_the_spline(scale: int, sampling: str) -> None:
    """In heights; slopes of what was thinned it may exaggerate (docs/accuracy.md)."""
    table = xdemsr.benchmark(jacksboro(), scale, [f"terrain-x{scale}"], sampling=sampling)
    assert table.loc[f"terrain-x{scale}", "of_spline"] < 1


@pytest.mark.parametrize("scale", [4, 16])
def test_standard_errors_cover_errors(scale: int) -> None:
    """On a real DEM that chose nothing, ninety metres to the pixel."""
    dem = jacksboro()
    fine = dem.demsr.degrade(scale).demsr.upscale(scale, uncertainty=True)
    base = dem.isel(y=slice(0, fine.sizes["y"]), x=slice(0, fine.sizes["x"]))
    found, spread = (fine[name].data for name in fine.data_vars)
    share = xdemsr.evaluate(base.copy(data=found), base, standard_error=base.copy(data=spread))
    assert 0.5 < share["within_1se"] < 0.85
    assert 0.8 < share["within_2se"] < 0.99


def test_better_than_what_needs_no_training_on_a_dem_it_never_saw() -> None:
    table = xdemsr.benchmark(jacksboro(), 16, ["terrain-x16"])
    assert table.loc["terrain-x16", "of_best_classical"] < 0.94
    assert table.loc["terrain-x16", "slope_rmse"] < table.loc["histospline", "slope_rmse"]


def second_differences(raster: np.ndarray, scale: int) -> float:
    """Mean absolute second difference across source-pixel borders over that inside."""
    change = np.abs(np.diff(raster.astype(np.float64), 2, axis=1))
    place = np.arange(1, raster.shape[1] - 1) % scale
    border = (place == 0) | (place == scale - 1)
    return float(np.nanmean(change[:, border]) / np.nanmean(change[:, ~border]))


@pytest.mark.parametrize("error", ["auto", 0.0])
def test_no_trace_of_the_coarse_grid(error: str | float) -> None:
    fine = jacksboro().demsr.upscale(16, vertical_error=error).values
    assert second_differences(fine, 16) <= 1.15
    assert second_differences(fine.T, 16) <= 1.15


def test_no_pattern_is_the_same_in_pixel_after_pixel() -> None:
    """Over a few source pixels, no sub-pixel is higher than it is over the next few."""
    dem = jacksboro()
    detail = dem.demsr.upscale(16) - dem.demsr.upscale(16, "histospline")
    blocks = detail.values.reshape(344, 16, 403, 16)[:336, :, :396]
    # Rounding moves whole pixels, and that is not a pattern within them.
    blocks = blocks - blocks.mean(axis=(1, 3), keepdims=True)
    local = blocks.reshape(28, 12, 16, 33, 12, 16).mean(axis=(1, 4))
    assert np.abs(local).mean() < 0.1 * np.abs(blocks).mean()


def test_water_stays_level() -> None:
    """At the foot of steep banks an interpolation overshoots; the network must not add to that."""
    dem = jacksboro()
    heights = dem.values
    windows = np.lib.stride_tricks.sliding_window_view(heights, (3, 3))
    level = np.zeros(heights.shape, bool)
    level[1:-1, 1:-1] = windows.max(axis=(2, 3)) == windows.min(axis=(2, 3))
    assert level.sum() > 200

    def unevenness(model: str | None) -> float:
        blocks = dem.demsr.upscale(16, model).values.reshape(344, 16, 403, 16).swapaxes(1, 2)
        apart = (blocks - blocks.mean(axis=(2, 3), keepdims=True))[level]
        return float(np.sqrt(np.mean(apart**2)))

    assert unevenness(None) < 0.5 * unevenness("histospline")


def test_no_seam_between_tiles() -> None:
    """Steps across tile borders are those inside tiles."""
    dem = jacksboro()
    fine = dem.demsr.upscale(16).values.astype(np.float64)
    spec = shipped_models()["terrain-x16"]
    from xdemsr.tiles import make_tiling

    borders = [span.stop * 16 for span in make_tiling(spec, dem.shape).x[:-1]]
    bends = np.abs(np.diff(fine, 2, axis=1))
    at = np.concatenate([bends[:, b - 2 : b + 1].ravel() for b in borders])
    others = np.concatenate(
        [bends[:, b - 2 + k * 16 : b + 1 + k * 16].ravel() for b in borders for k in (-3, 2, 4)]
    )
    assert 0.8 < at.mean() / others.mean() < 1.25


def test_terraces_of_whole_metres_are_smoothed() -> None:
    """A gentle slope stored in whole metres comes back as a slope, not as steps."""
    y, x = np.mgrid[0:60, 0:70]
    slope = 300 + 0.13 * x + 0.07 * y
    stored = xr.DataArray(np.round(slope).astype(np.int16), dims=("y", "x"))
    fine = stored.demsr.upscale(16)
    truth = xr.DataArray(slope, dims=("y", "x")).demsr.upscale(16, "histospline")
    inner = (slice(160, -160),) * 2
    error = float(np.sqrt(np.mean((fine.values - truth.values)[inner] ** 2)))
    plain = stored.demsr.upscale(16, "histospline").values
    stepped = float(np.sqrt(np.mean((plain - truth.values)[inner] ** 2)))
    assert error < 0.5 * stepped


def test_half_and_single_precision_agree() -> None:
    dem = xdemsr.synthetic.terrain((150, 170), gsd=30.0, relief=500.0)
    single = dem.demsr.upscale(16, precision="fp32").values
    half = dem.demsr.upscale(16, precision="bf16").values
    assert float(np.sqrt(np.mean((single - half) ** 2))) < 0.01


def test_bare_earth_is_nearer_than_the_filters_it_starts_from() -> None:
    """On places that were not learnt from; the filter had 0.28 and 0.76 m there."""
    found = shipped_models()["dtm-from-dsm"].training["scores"]
    assert found["ionajo_hills/mae"] < 0.23
    assert found["mefford/mae"] < 0.5
    assert found["ionajo_hills/mae_of_baseline"] > 10


def test_sentinel_images_are_nearer_than_interpolated_ones() -> None:
    spec = shipped_models()["s2-x2"]
    (place,) = spec.training["validation"]
    found = spec.training["scores"]
    assert found[f"{place}/psnr"] > found[f"{place}/psnr_of_baseline"] + 2.5
    assert found[f"{place}/ssim"] > found[f"{place}/ssim_of_baseline"] + 0.015


def four_bands() -> xr.DataArray:
    """An image of nowhere: heights for light."""
    heights = jacksboro().values[:60, :70].astype("float32")
    return xr.DataArray(np.stack([heights + 100 * k for k in range(4)]), dims=("band", "y", "x"))


@pytest.mark.parametrize("factor", [1e-4, 37.0])
def test_the_unit_of_reflectance_does_not_matter(factor: float) -> None:
    image = four_bands()
    whole = image.demsr.upscale(2, "s2-x2", precision="fp32")
    other = (image * factor + 5 * factor).demsr.upscale(2, "s2-x2", precision="fp32")
    np.testing.assert_allclose(other / factor - 5, whole, atol=0.05)


def test_bands_go_by_name_where_they_have_names() -> None:
    names = ["red", "green", "blue", "nir"]
    image = four_bands().assign_coords(band=names)
    expected = image.demsr.upscale(2, "s2-x2")
    found = image[[2, 3, 0, 1]].demsr.upscale(2, "s2-x2")
    assert found.band.values.tolist() == names
    np.testing.assert_array_equal(found, expected)
    upper = image.assign_coords(band=["NIR", "Red", "Green", "Blue"])
    np.testing.assert_array_equal(
        upper.demsr.upscale(2, "s2-x2"), upper[[1, 2, 3, 0]].demsr.upscale(2, "s2-x2")
    )
    with pytest.raises(xdemsr.InputError, match=r"has red, green, blue, and no nir"):
        image.assign_coords(band=["red", "green", "blue", "swir"]).demsr.upscale(2, "s2-x2")


@pytest.mark.parametrize("size", [97, (61, 300)])
def test_bare_earth_does_not_depend_on_chunks(size: int | tuple[int, int]) -> None:
    dsm = xdemsr.synthetic.terrain((290, 310), gsd=1.0, relief=30.0)
    dsm[40:60, 50:90] += 9.0
    dsm[100:110, 280:] = np.nan
    shades = np.random.default_rng(0).integers(0, 255, (3, 290, 310), dtype="uint8")
    rgb = xr.DataArray(shades, dims=("band", "y", "x"), coords={"y": dsm.y, "x": dsm.x})
    rgb = rgb.assign_coords(band=["red", "green", "blue"], spatial_ref=dsm.spatial_ref)
    expected = xdemsr.refine(dsm, guides={"rgb": rgb})
    chunks = dict(zip("yx", (size, size) if isinstance(size, int) else size, strict=True))
    found = xdemsr.refine(dsm.chunk(chunks), guides={"rgb": rgb.chunk(chunks)}, chunks=(111, 87))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(expected.isnull(), dsm.isnull())


@pytest.mark.parametrize("size", [33, (17, 140)])
def test_images_do_not_depend_on_chunks(size: int | tuple[int, int]) -> None:
    heights = jacksboro().values[:150, :170].astype("float32")
    image = xr.DataArray(np.stack([heights + 50 * k for k in range(4)]), dims=("band", "y", "x"))
    image[:, 20:25, 30:40] = np.nan
    expected = image.demsr.upscale(2, "s2-x2")
    chunks = dict(zip("yx", (size, size) if isinstance(size, int) else size, strict=True))
    found = image.chunk({**chunks, "band": 1}).demsr.upscale(2, "s2-x2", chunks=(77, 131))
    np.testing.assert_array_equal(found, expected)
