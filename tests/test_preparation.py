"""What is made of rasters before a model sees them: indices, masks, contrast, fills, bare earth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import grey_opening
from skimage.exposure import equalize_adapthist

import xdemsr
from xdemsr import contrast, mapping
from xdemsr.errors import GridError, InputError


def never(dsk: object, keys: object, **kwargs: object) -> None:
    """A scheduler that is not to be called."""
    raise AssertionError("something was computed")


def image(ny: int, nx: int, seed: int = 0, most: int = 60_000) -> xr.DataArray:
    """Whole numbers with regions of very different contrast."""
    z = xdemsr.synthetic.terrain((ny, nx), gsd=1.0, relief=1.0, base=0.0, seed=seed)
    z = z**3 + 0.1 * np.random.default_rng(seed).random((ny, nx)) * (z.x > z.x.mean()).values
    return ((z - z.min()) / (z.max() - z.min()) * most).astype("uint16").rename("ortho")


def woods(ny: int = 70, nx: int = 90, seed: int = 2) -> tuple[xr.DataArray, xr.DataArray]:
    """Ground, and a surface model with a house and many trees on it."""
    ground = xdemsr.synthetic.terrain((ny, nx), gsd=1.0, relief=8.0, seed=seed)
    surface = ground.copy()
    surface[20:32, 30:45] += 7.0
    rng = np.random.default_rng(seed)
    for y, x in zip(rng.integers(3, ny - 3, 40), rng.integers(3, nx - 3, 40), strict=True):
        surface[y - 1 : y + 2, x - 1 : x + 2] += rng.uniform(3, 15)
    return ground, surface


# --- indices and masks


def test_ndvi_is_the_normalised_difference() -> None:
    rng = np.random.default_rng(0)
    red, nir = (
        xr.DataArray(rng.uniform(0.01, 0.6, (5, 7)), dims=("y", "x"), name=name)
        for name in ("red", "nir")
    )
    index = xdemsr.ndvi(red, nir)
    np.testing.assert_allclose(index, (nir - red) / (nir + red), rtol=1e-6)
    np.testing.assert_array_equal(xdemsr.ndvi(nir, red), -index)
    np.testing.assert_allclose(xdemsr.ndvi(red * 1e4, nir * 1e4), index, rtol=1e-6)
    assert (index.name, index.dtype, index.attrs["units"]) == ("ndvi", np.float32, "1")


def test_ndvi_is_void_where_it_means_nothing_and_clipped_elsewhere() -> None:
    red = xr.DataArray([[0.2, np.nan, 0.3, 0.0, -0.4, -0.05, 0.1]], dims=("y", "x"))
    nir = xr.DataArray([[np.nan, 0.2, 0.3, 0.0, 0.1, 0.30, -0.05]], dims=("y", "x"))
    expected = np.float32([[np.nan, np.nan, 0.0, np.nan, np.nan, 1.0, -1.0]])
    np.testing.assert_array_equal(xdemsr.ndvi(red, nir).values, expected)
    counts = xr.DataArray(np.array([[65000, 0, 60000]], "uint16"), dims=("y", "x"))
    declared = counts.assign_attrs(_FillValue=0)
    np.testing.assert_array_equal(xdemsr.ndvi(declared, counts).values, [[0.0, np.nan, 0.0]])


def test_a_mask_is_one_where_all_have_data(dem: xr.DataArray) -> None:
    other = dem.fillna(0.0).astype("int16")
    other[0, :5] = -9999
    mask = xdemsr.nodata_mask(dem, other)
    np.testing.assert_array_equal(mask.values, (dem.notnull() & (other != -9999)).values)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(xdemsr.nodata_mask(dem).values, dem.notnull().values)
    with pytest.raises(InputError, match="at least one"):
        xdemsr.nodata_mask()


def test_pixels_belong_together_by_place(dem: xr.DataArray) -> None:
    near = dem.assign_coords(x=dem.x + 1e-6, y=dem.y * (1 + 1e-15))
    assert xdemsr.nodata_mask(dem, near).shape == dem.shape
    xr.align(xdemsr.ndvi(dem, near), dem, join="exact")
    with pytest.raises(GridError, match=r"another grid.*match_grid"):
        xdemsr.nodata_mask(dem, dem.assign_coords(x=dem.x + 15.0))
    series = xr.concat([dem, dem + 1], "time").assign_coords(time=[3, 4])
    for pair in ((dem, series), (series, dem)):
        index = xdemsr.ndvi(*pair)
        assert index.dims == ("time", "y", "x")
        assert list(index.time) == [3, 4]


@settings(deadline=None, max_examples=20)
@given(chunks=st.tuples(*[st.integers(1, 40)] * 4))
def test_indices_do_not_know_chunks(chunks: tuple[int, ...]) -> None:
    red, nir = image(31, 40), image(31, 40, seed=1)
    lazy = red.chunk(y=chunks[0], x=chunks[1]), nir.chunk(y=chunks[2], x=chunks[3])
    for function in (xdemsr.ndvi, xdemsr.nodata_mask):
        with dask.config.set(scheduler=never):
            answer = function(*lazy)
        assert answer.chunks is not None
        np.testing.assert_array_equal(answer.compute(scheduler="sync"), function(red, nir))


# --- contrast

TILES = [((12, 20), 0.01, 256), ((16, 32), 0.05, 100), ((8, 10), 0.0, 64), ((24, 40), 1.0, 256)]


@pytest.mark.parametrize(("tile", "clip_limit", "bins"), [*TILES, ((12, 20), 0.002, 256)])
def test_equalising_is_scikit_images(tile: tuple[int, int], clip_limit: float, bins: int) -> None:
    ortho = image(96, 160)
    even = xdemsr.equalize(ortho, tile=tile, clip_limit=clip_limit, bins=bins)
    assert float(even.min()) >= 0
    assert float(even.max()) <= 1
    expected = equalize_adapthist(ortho.values, tile, clip_limit, bins)
    stretched = (even - even.min()) / (even.max() - even.min())
    np.testing.assert_allclose(stretched, expected, atol=1e-4)


def test_regions_are_an_eighth_by_default() -> None:
    ortho = image(64, 96)
    np.testing.assert_array_equal(
        xdemsr.equalize(ortho).values, xdemsr.equalize(ortho, tile=(8, 12)).values
    )
    one = xdemsr.equalize(ortho[:5, :7])
    assert one.shape == (5, 7)
    assert one.notnull().all()


@settings(deadline=None, max_examples=12)
@given(
    chunks=st.tuples(st.integers(1, 3), st.integers(5, 60), st.integers(5, 80)),
    tile=st.tuples(st.integers(9, 70), st.integers(12, 90)),
    stated=st.booleans(),
    answer=st.integers(1, 50),
)
def test_equalising_does_not_know_chunks(
    chunks: tuple[int, int, int], tile: tuple[int, int], stated: bool, answer: int
) -> None:
    ortho = image(53, 71).astype(float)
    ortho[10:30, 20:50] = np.nan
    bands = xr.concat([ortho, ortho**2, ortho * 0 + 5], "band").transpose("band", "y", "x")
    limits = (0.0, 50_000.0) if stated else None
    expected = xdemsr.equalize(bands, tile=tile, limits=limits)
    lazy = bands.chunk(band=chunks[0], y=chunks[1], x=chunks[2])
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler=never):
        patch.setattr(contrast, "_CHUNK", answer)
        lazy = xdemsr.equalize(lazy, tile=tile, limits=limits)
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy.compute(scheduler="sync").values, expected.values)
    np.testing.assert_array_equal(expected.isnull(), bands.isnull())


def test_every_band_is_equalised_by_itself() -> None:
    first, second = image(40, 60), image(40, 60, seed=1, most=900)
    both = xdemsr.equalize(xr.concat([first, second], "band"), tile=10)
    for band, alone in zip(both, (first, second), strict=True):
        np.testing.assert_array_equal(band.values, xdemsr.equalize(alone, tile=10).values)


def test_voids_count_in_no_histogram() -> None:
    ortho = image(80, 100).astype(float) + 1
    holed = ortho.where(~((ortho.y < ortho.y[40]) & (ortho.x < ortho.x[50])))
    limits = float(ortho.min()), float(ortho.max())
    full = xdemsr.equalize(ortho, tile=20, limits=limits)
    found = xdemsr.equalize(holed, tile=20, limits=limits)
    np.testing.assert_array_equal(found.isnull(), holed.isnull())
    # Beyond the regions that the void touches, nothing changes.
    np.testing.assert_array_equal(found[:30, 10:].values, full[:30, 10:].values)
    assert not np.array_equal(found[38:40, 60:].values, full[38:40, :40].values)
    marked = holed.fillna(0).assign_attrs(_FillValue=0)
    again = xdemsr.equalize(marked, tile=20, limits=limits)
    np.testing.assert_array_equal(again.values, found.values)
    # Blackest is a number now, not a void.
    assert "_FillValue" not in {*again.encoding, *again.attrs}


def test_limits_say_what_black_and_white_are() -> None:
    ortho = image(40, 60)
    own = float(ortho.min()), float(ortho.max())
    np.testing.assert_array_equal(
        xdemsr.equalize(ortho, limits=own).values, xdemsr.equalize(ortho).values
    )
    wide = xdemsr.equalize(ortho, limits=(0.0, 1e9))
    assert len(np.unique(wide)) < len(np.unique(xdemsr.equalize(ortho)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"tile": 0},
        {"tile": (3, 4, 5)},
        {"tile": 2.5},
        {"clip_limit": -0.1},
        {"clip_limit": np.nan},
        {"bins": 1},
        {"limits": (3.0, 3.0)},
        {"limits": (0.0, np.inf)},
    ],
)
def test_impossible_equalisations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        xdemsr.equalize(image(9, 11), **wrong)


# --- fills


def test_small_voids_are_filled_and_deep_ones_stay(dem: xr.DataArray) -> None:
    dem = dem.fillna(900.0)
    holed = dem.copy()
    holed[5:7, 8:11] = np.nan
    holed[15:36, 20:50] = np.nan
    filled = xdemsr.fill_voids(holed, reach=4)
    known = holed.notnull()
    np.testing.assert_array_equal(filled.where(known), holed.astype(np.float32))
    left = np.zeros(dem.shape, bool)
    left[19:32, 24:46] = True
    np.testing.assert_array_equal(filled.isnull(), left)
    assert xdemsr.fill_voids(holed).notnull().all()


def test_fills_go_on_from_their_rims() -> None:
    dem = xdemsr.synthetic.terrain((60, 80), gsd=10.0, relief=100.0)
    holed = dem.copy()
    holed[20:26, 30:37] = np.nan
    filled = xdemsr.fill_voids(holed)
    void = holed.isnull()
    assert float(abs(filled - dem).where(void).mean()) < 0.5 * float(abs(dem - dem.mean()).mean())


# --- bare earth


def opened_one_after_the_other(z: Any, widths: list[int], thresholds: list[float]) -> Any:
    """Ground as Zhang et al. say it: each opening of what the one before has left."""
    ground, surface = np.ones(z.shape, bool), z
    for width, threshold in zip(widths, thresholds, strict=True):
        opened = grey_opening(surface, (width, width))
        ground &= surface - opened <= threshold
        surface = opened
    return ground


def test_ground_is_what_the_paper_says() -> None:
    _, surface = woods(120, 140)
    surface = surface.astype(np.float32)
    bare = xdemsr.ground_filter(surface, window=17, slope=0.2, threshold=0.3, max_threshold=1.5)
    widths = [3, 5, 9, 17]
    thresholds = [min(0.3 + 0.2 * grown, 1.5) for grown in (0, 2, 4, 8)]
    ground = opened_one_after_the_other(surface.values.astype(float), widths, thresholds)
    # Beyond the border, where the two differ, slopes go on here.
    inside = (slice(40, -40), slice(40, -40))
    np.testing.assert_array_equal((bare == surface).values[inside], ground[inside])
    assert 0.3 < ground[inside].mean() < 0.99


def test_houses_and_trees_go_and_the_ground_stays() -> None:
    ground, surface = woods()
    bare = xdemsr.ground_filter(surface, window=17, threshold=0.3)
    error = abs(bare - ground)
    assert float(error.mean()) < 0.12 * float(abs(surface - ground).mean())
    assert float(error.max()) < 1.5
    untouched = xdemsr.ground_filter(ground, window=17, threshold=0.3)
    assert float(abs(untouched - ground).mean()) < 0.05
    assert (bare.attrs, bare.name) == (surface.attrs, surface.name)
    raised = xdemsr.ground_filter(surface + 1000.0, window=17, threshold=0.3)
    np.testing.assert_allclose(raised, bare + 1000.0, atol=2e-4)


def test_the_window_is_in_metres() -> None:
    _, surface = woods()
    bare = xdemsr.ground_filter(surface, window=17.0)
    # The same pixels, each half a metre wide: half the window, half the heights.
    half = surface.drop_vars("spatial_ref").assign_coords(y=surface.y / 2, x=surface.x / 2)
    small = xdemsr.ground_filter(half, window=8.5)
    slow = xdemsr.ground_filter(half, window=8.5, slope=0.2)
    np.testing.assert_array_equal(slow.values, bare.values)
    assert not np.array_equal(small.values, bare.values)
    # Pixels twice as high as wide: a house of 12 rows is 24 m deep, and 15 columns are 15 m.
    tall = surface.drop_vars("spatial_ref").assign_coords(y=surface.y * 2)
    for window, gone in ((11.0, False), (17.0, True)):
        left = tall - xdemsr.ground_filter(tall, window=window, slope=0.0)
        assert (float(left[26, 37]) > 5) == gone


def test_ground_under_voids_is_not_told() -> None:
    ground, surface = woods()
    holed = surface.copy()
    holed[25:50, 40:60] = np.nan
    holed[:4] = np.nan
    bare = xdemsr.ground_filter(holed)
    np.testing.assert_array_equal(bare.isnull(), holed.isnull())
    far = xdemsr.ground_filter(surface)
    np.testing.assert_array_equal(bare[:, 85:].values[45:], far[:, 85:].values[45:])
    # A void is no pit: nothing beside it is lowered to it.
    assert float(abs(bare - ground).max()) < 2.0
    low = holed.fillna(-9999.0).assign_attrs(_FillValue=-9999.0)
    np.testing.assert_array_equal(xdemsr.ground_filter(low).values, bare.values)


@pytest.mark.parametrize(
    "wrong",
    [{"window": 2.0}, {"window": np.nan}, {"slope": -1.0}, {"threshold": np.inf}],
)
def test_impossible_filters_are_refused(wrong: dict[str, Any]) -> None:
    _, surface = woods()
    with pytest.raises(InputError, match=next(iter(wrong))):
        xdemsr.ground_filter(surface, **wrong)
    for reach in (0, 2.5, True):
        with pytest.raises(InputError, match="reach"):
            xdemsr.fill_voids(surface, reach=reach)


CALLS: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
    "fill": lambda da: xdemsr.fill_voids(da, reach=5),
    "ground": lambda da: xdemsr.ground_filter(da, window=9.0, slope=0.0, threshold=0.0),
    "ground, small squares": lambda da: xdemsr.ground_filter(da, window=3.0, threshold=0.0),
}


@pytest.mark.parametrize("name", CALLS)
@settings(deadline=None, max_examples=12)
@given(chunks=st.tuples(st.integers(1, 70), st.integers(1, 90)), answer=st.integers(6, 30))
def test_fills_and_filters_do_not_know_chunks(
    name: str, chunks: tuple[int, int], answer: int
) -> None:
    # Rough: ground is rare, and gaps are as deep as may be.
    surface = xdemsr.synthetic.terrain((70, 90), gsd=1.0, relief=8.0)
    surface = surface + np.random.default_rng(3).gamma(1.0, 60.0, surface.shape)
    surface[25:50, 40:60] = np.nan
    expected = CALLS[name](surface)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapping, "_CHUNK", answer)
        patch.setattr(mapping, "_SMALLEST", answer)
        with dask.config.set(scheduler=never):
            lazy = CALLS[name](surface.chunk(y=chunks[0], x=chunks[1]))
        assert lazy.chunks is not None
        np.testing.assert_array_equal(lazy.compute(scheduler="sync"), expected)
