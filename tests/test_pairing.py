"""Images of two sensors: one grid, one day, few clouds, values that compare, patches that fit."""

from __future__ import annotations

import datetime
import subprocess
import sys
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

import xdemsr
from xdemsr.errors import GridError, InputError

BANDS = ["red", "green", "blue"]


def scene(shape: tuple[int, int] = (560, 720), gsd: float = 1.0, seed: int = 0) -> xr.DataArray:
    """Fields with borders, texture and noise, as reflectance: three bands."""
    rng = np.random.default_rng(seed)
    fields = rng.random((shape[0] * shape[1] // 300, 2)) * shape
    colours = 0.03 + 0.2 * rng.random((len(fields), 3))
    rows, columns = np.indices(shape)
    nearest = cKDTree(fields).query(np.stack([rows.ravel(), columns.ravel()], axis=1))[1]
    values = colours[nearest].T.reshape(3, *shape)
    relief = xdemsr.synthetic.terrain(shape, gsd, relief=0.05, base=0.0, seed=seed).values
    values = values + relief + 0.004 * rng.standard_normal(values.shape)
    return image(values.astype(np.float32), gsd)


def image(values: Any, gsd: float, edge: tuple[float, float] = (4e6, 5e5)) -> xr.DataArray:
    """Bands with their names, north up."""
    _, ny, nx = values.shape
    array = xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={
            "band": BANDS,
            "y": edge[0] - (np.arange(ny) + 0.5) * gsd,
            "x": edge[1] + (np.arange(nx) + 0.5) * gsd,
        },
        name="reflectance",
        attrs={"units": "1"},
    ).rio.write_crs(32611)
    return array.rio.write_transform(array.rio.transform(recalc=True))


def moved(array: xr.DataArray, dy: float, dx: float) -> xr.DataArray:
    """The same pixels, said to lie elsewhere."""
    array = array.assign_coords(y=array.y + dy, x=array.x + dx)
    return array.rio.write_transform(array.rio.transform(recalc=True))


def seen(
    truth: xr.DataArray, pixels: int, off: tuple[int, int] = (0, 0), **sensor: Any
) -> xr.DataArray:
    """As a sensor of such pixels saw it, and where it believes they lie: so many metres off."""
    down, right = (20 + n for n in off)
    coarse = truth[:, down:, right:].demsr.degrade(pixels, **sensor)
    return moved(coarse, float(off[0]), -float(off[1]))


@pytest.fixture(scope="module")
def truth() -> xr.DataArray:
    return scene()


@pytest.fixture(scope="module")
def high(truth: xr.DataArray) -> xr.DataArray:
    return truth.demsr.degrade(2)


# Displacements


def strange(values: xr.DataArray) -> xr.DataArray:
    """Another sensor's numbers: bent, stretched, lifted, noisy."""
    noise = np.random.default_rng(5).normal(0, 40, values.shape)
    return 300 + 9000 * np.sqrt(values.clip(0)) + noise


SHIFTS = [(0, 0), (1, -2), (-3, 5), (13, -19)]


@pytest.mark.parametrize("off", SHIFTS)
def test_a_known_displacement_is_found(
    truth: xr.DataArray, high: xr.DataArray, off: tuple[int, int]
) -> None:
    low = strange(seen(truth, 4, off, sampling="gaussian", fwhm=1.2))
    found = xdemsr.register_images(low, high)
    wanted = (off[0] / 4, off[1] / 4)
    assert found.pixels == pytest.approx(wanted, abs=0.05)
    assert (found.dy, found.dx) == pytest.approx((-off[0], off[1]), abs=0.2)
    assert found.error < 0.05
    assert found.correlation > 0.8
    back = found.apply(low)
    assert float(back.y[0]) == pytest.approx(float(low.y[0]) + found.dy)
    np.testing.assert_array_equal(back, low)


def test_changes_and_clouds_lead_nothing_astray(truth: xr.DataArray, high: xr.DataArray) -> None:
    low = strange(seen(truth, 4, (2, -3)))
    other = strange(seen(scene(seed=9), 4))
    low[:, :40, :55] = other[:, :40, :55].values
    low[:, 60:90, 100:130] = 9000.0
    low[:, 20:50, 90:110] = np.nan
    high = high.copy()
    high[:, 150:190, 20:80] = np.nan
    found = xdemsr.register_images(low, high)
    assert found.pixels == pytest.approx((0.5, -0.75), abs=0.1)


def test_registration_is_of_the_band_that_is_named(truth: xr.DataArray, high: xr.DataArray) -> None:
    low = seen(truth, 4, (1, 2))
    noise = np.random.default_rng(3).random(low.shape)
    low[:2] = noise[:2]
    assert xdemsr.register_images(low, high, band="blue").pixels == pytest.approx(
        (0.25, 0.5), abs=0.05
    )
    with pytest.raises(InputError, match="cannot be told"):
        xdemsr.register_images(low, high, band="red")
    with pytest.raises(InputError, match="not in both"):
        xdemsr.register_images(low, high, band="nir")
    # Without names, the first band of each; other orders are found by name.
    assert xdemsr.register_images(
        low.drop_vars("band")[[2, 0, 1]], high.drop_vars("band")[[2, 0, 1]]
    ).pixels == pytest.approx((0.25, 0.5), abs=0.05)


def test_lazy_images_and_rows_the_other_way_change_nothing(
    truth: xr.DataArray, high: xr.DataArray
) -> None:
    low = seen(truth, 4, (1, -2))
    found = xdemsr.register_images(low, high)
    assert xdemsr.register_images(low.chunk(y=17, x=30), high.chunk(y=64, band=1)) == found
    again = xdemsr.register_images(low[:, ::-1], high[:, ::-1, ::-1])
    assert (again.dy, again.dx) == pytest.approx((found.dy, found.dx), abs=0.1)
    assert again.pixels[0] == pytest.approx(-found.pixels[0], abs=0.03)


def test_what_cannot_be_told_is_said(truth: xr.DataArray, high: xr.DataArray) -> None:
    low = seen(truth, 4)
    with pytest.raises(InputError, match="cannot be told"):
        xdemsr.register_images(seen(scene(seed=7), 4), high)
    with pytest.raises(InputError, match="cannot be told"):
        xdemsr.register_images(xr.zeros_like(low), high)
    with pytest.raises(InputError, match="too few"):
        xdemsr.register_images(low[:, :20], high)
    with pytest.raises(GridError, match="do not overlap"):
        xdemsr.register_images(moved(low, 1e5, 0), high)
    with pytest.raises(GridError, match="different CRSs"):
        xdemsr.register_images(low.drop_vars("spatial_ref").rio.write_crs(32612), high)
    with pytest.raises(InputError, match="finer raster must be the reference"):
        xdemsr.register_images(high, low)


# Pairs


def test_nested_images_are_cropped_and_nothing_else(high: xr.DataArray) -> None:
    low = high.demsr.degrade(2)
    pair = xdemsr.pair_images(low[:, 3:, :-4], high[:, :-5, 9:])
    assert pair.scale == 2
    assert pair.low.shape == (3, 140 - 3 - 3, 180 - 5 - 4)
    xr.testing.assert_identical(
        pair.low.drop_vars("spatial_ref"), low[:, 3:-3, 5:-4].drop_vars("spatial_ref")
    )
    xr.testing.assert_identical(
        pair.high.drop_vars("spatial_ref"), high[:, 6:-6, 10:-8].drop_vars("spatial_ref")
    )
    for part in (pair.low, pair.high):
        assert part.rio.transform() == part.rio.transform(recalc=True)


def test_the_high_image_is_laid_on_the_low_grid(truth: xr.DataArray) -> None:
    low = seen(truth, 8)
    off = truth[:, 3:, 5:].demsr.degrade(4)
    pair = xdemsr.pair_images(low, off)
    expected = seen(truth, 4)
    assert pair.high.shape[1:] == tuple(2 * n for n in pair.low.shape[1:])
    shared = expected.sel(y=pair.high.y, x=pair.high.x, method="nearest")
    np.testing.assert_allclose(shared.x, pair.high.x)
    error = float(np.sqrt(((pair.high - shared.values) ** 2).mean()))
    assert error < 0.35 * float(shared.std())
    assert bool(pair.high.notnull().all())
    # Patches find them nested.
    samples = xdemsr.patches(pair.high, (12, 16), pair.scale, coarse=pair.low)
    assert samples[0].target.shape == (3, 24, 32)


@pytest.mark.parametrize("start", [0, 20, 23])
def test_much_finer_images_are_averaged(truth: xr.DataArray, start: int) -> None:
    low = seen(truth, 8)
    pair = xdemsr.pair_images(low, truth[:, start:, start:], scale=2)
    expected = seen(truth, 4).sel(y=pair.high.y, x=pair.high.x, method="nearest")
    if start == 20:
        np.testing.assert_allclose(pair.high, expected, atol=1e-6)
    else:
        assert np.corrcoef(pair.high.values.ravel(), expected.values.ravel())[0, 1] > 0.98
    assert bool(pair.high.notnull().all())


def test_three_metres_on_five(truth: xr.DataArray) -> None:
    """PlanetScope on Sentinel-2: no whole number."""
    low, fine = seen(truth, 10), truth[:, 4:, 1:].demsr.degrade(3)
    with pytest.raises(InputError, match=r"3\.333 times.*Say which you want"):
        xdemsr.pair_images(low, fine)
    pair = xdemsr.pair_images(low, fine, scale=2)
    assert pair.high.rio.resolution() == pytest.approx((5, -5))
    block = pair.high.demsr.degrade(2)
    assert np.corrcoef(block.values.ravel(), pair.low.values.ravel())[0, 1] > 0.98
    with pytest.raises(InputError, match="smaller scale"):
        xdemsr.pair_images(low, fine, scale=5)


def test_registered_pairs_fit(truth: xr.DataArray) -> None:
    low, high = seen(truth, 4, (6, -3)), seen(truth, 2)
    pair = xdemsr.pair_images(low, high, register=True)
    unmoved = xdemsr.pair_images(low, high)
    assert pair.displacement.pixels == pytest.approx((1.5, -0.75), abs=0.1)
    np.testing.assert_array_equal(pair.low, low.sel(y=pair.low.y, x=pair.low.x))

    def fit(given: xdemsr.Pair) -> float:
        inside = (slice(None), slice(2, -2), slice(2, -2))
        block = given.high.demsr.degrade(2)[inside].values
        return float(np.corrcoef(block.ravel(), given.low[inside].values.ravel())[0, 1])

    assert fit(pair) > 0.99
    assert fit(unmoved) < 0.8


def test_voids_stay_and_spoil_nothing(truth: xr.DataArray) -> None:
    low, high = seen(truth, 4), truth[:, 3:, 5:].demsr.degrade(2)
    holed = high.copy()
    holed[:, 100:110, 90:120] = np.nan
    plain, pair = xdemsr.pair_images(low, high), xdemsr.pair_images(low, holed)
    void = pair.high.isnull()
    assert 200 < int(void[0].sum()) < 400
    far = ~void.rolling(y=9, x=9, center=True, min_periods=1).max().astype(bool)
    np.testing.assert_array_equal(pair.high.where(far), plain.high.where(far))


def test_pairs_are_lazy_and_independent_of_chunks(truth: xr.DataArray) -> None:
    low, high = seen(truth, 8), truth[:, 3:, 5:].demsr.degrade(2)
    expected = xdemsr.pair_images(low, high, scale=2)

    def refuse(block: np.ndarray) -> np.ndarray:
        raise AssertionError("a pixel was read")

    unread = [
        a.copy(data=da.map_blocks(refuse, da.from_array(a.values, chunks=50), meta=a.values[:0]))
        for a in (low, high)
    ]
    pair = xdemsr.pair_images(*unread, scale=2)
    assert pair.low.chunks is not None
    assert pair.high.chunks is not None
    found = xdemsr.pair_images(low.chunk(y=13), high.chunk(band=1, y=37, x=51), scale=2)
    for one, other in ((found.low, expected.low), (found.high, expected.high)):
        xr.testing.assert_identical(one.compute(), other)


def test_rasters_with_a_transform_alone_keep_their_place(truth: xr.DataArray) -> None:
    low, high = seen(truth, 8), seen(truth, 4)
    bare = [a.drop_vars(["y", "x"]) for a in (low, high)]
    pair = xdemsr.pair_images(*bare)
    expected = xdemsr.pair_images(low, high)
    assert pair.low.rio.transform() == expected.low.rio.transform()
    part = moved(high[:, 11:-1, 21:-1], 0, 0).drop_vars(["y", "x"])
    pair = xdemsr.pair_images(bare[0], part)
    assert pair.high.rio.transform().c == pair.low.rio.transform().c == 500020 + 11 * 8
    np.testing.assert_array_equal(pair.low, low[:, 6:, 11:])
    np.testing.assert_array_equal(pair.high, high[:, 12:-1, 22:-1])


# Clouds and days


def mask(array: xr.DataArray, rows: slice) -> xr.DataArray:
    cloudy = xr.zeros_like(array[0], dtype=bool)
    cloudy[rows] = True
    return cloudy.rename("clouds")


def test_cloudy_pairs_are_refused(truth: xr.DataArray) -> None:
    low, high = seen(truth, 8), seen(truth, 4)
    clouds = mask(low, slice(0, 20))
    with pytest.raises(InputError, match=r"'clouds' says that clouds cover 29\.9%"):
        xdemsr.pair_images(low, high, clouds=clouds)
    pair = xdemsr.pair_images(low, high, clouds=(clouds, mask(high, slice(5, 9))), max_cloud=0.4)
    assert pair.clouds == pytest.approx((20 / low.shape[1], 4 / high.shape[1]), abs=0.01)
    # Clouds elsewhere are nobody's trouble.
    for given_so in (clouds, [clouds]):
        assert xdemsr.pair_images(low, high[:, 40:], clouds=given_so).clouds == (0.0,)
    with pytest.raises(InputError, match="share, from 0 to 1"):
        xdemsr.pair_images(low, high, max_cloud=10)


def test_cloud_shares_are_of_what_was_seen() -> None:
    classes = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]], np.uint8)
    scl = xr.DataArray(classes, dims=("y", "x"))
    assert xdemsr.cloud_share(scl) == 4 / 10
    assert xdemsr.cloud_share(scl.chunk(x=3)) == 4 / 10
    assert xdemsr.cloud_share(scl, classes=[9]) == 1 / 10
    assert xdemsr.cloud_share(scl.astype(np.float32).where(scl != 8)) == 3 / 9
    assert xdemsr.cloud_share(scl.rio.write_nodata(11)) == 4 / 9
    assert xdemsr.cloud_share(scl > 8) == 3 / 12
    with pytest.raises(InputError, match=r"mask\.astype\(bool\)"):
        xdemsr.cloud_share((scl > 8).astype(np.uint8))


@pytest.mark.parametrize(
    ("first", "second", "days"),
    [
        ("2018-08-01", "2018-08-14", 13),
        (datetime.date(2018, 8, 14), np.datetime64("2018-08-01"), 13),
        (pd.Timestamp("2018-08-01T23:00-07:00"), "2018-08-02T06:00", 0),
        ("2018:08:01 12:00:00", "2018-08-01", 0.5),
    ],
)
def test_days_between(first: Any, second: Any, days: float) -> None:
    assert xdemsr.days_apart(first, second) == days
    assert xdemsr.days_apart(second, first) == days


def test_images_say_their_day(truth: xr.DataArray) -> None:
    low, high = seen(truth, 8), seen(truth, 4)
    low = low.assign_coords(time=pd.Timestamp("2018-08-05"))
    with pytest.raises(InputError, match="does not say when"):
        xdemsr.pair_images(low, high, max_days=5)
    high = high.assign_attrs(acquired="2018-08-01T18:00:00Z")
    assert xdemsr.pair_images(low, high, max_days=5).days == 3.25
    assert xdemsr.pair_images(low, high).days is None
    with pytest.raises(InputError, match=r"3\.25 days apart; max_days=3"):
        xdemsr.pair_images(low, high, max_days=3)
    several = xr.concat([low, low.assign_coords(time=pd.Timestamp("2018-08-06"))], "time")
    with pytest.raises(InputError, match="2 times"):
        xdemsr.days_apart(several, high)
    for nonsense in ("soon", np.datetime64("NaT")):
        with pytest.raises(InputError, match="no date"):
            xdemsr.days_apart(nonsense, high)


# Values


@pytest.mark.parametrize("method", ["quantiles", "moments"])
def test_a_line_is_undone(high: xr.DataArray, method: str) -> None:
    other = (1000 + 4000 * high).assign_attrs(units="counts")
    matched = xdemsr.match_histograms(high, other, method=method)
    np.testing.assert_allclose(matched, other, atol=0.5)
    assert matched.units == "counts"
    assert matched.dtype == np.float32
    assert matched.dims == high.dims


def test_a_curve_is_undone_by_quantiles(high: xr.DataArray) -> None:
    other = high.clip(0.001) ** 0.5
    matched = xdemsr.match_histograms(high, other)
    assert float(np.abs(matched - other).quantile(0.99)) < 0.02 * float(other.std())
    moments = xdemsr.match_histograms(high, other, method="moments")
    np.testing.assert_allclose(moments.mean(["y", "x"]), other.mean(["y", "x"]), rtol=1e-3)
    np.testing.assert_allclose(moments.std(["y", "x"]), other.std(["y", "x"]), rtol=1e-3)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), steps=st.integers(3, 40))
def test_order_is_kept(seed: int, steps: int) -> None:
    """Also of whole numbers, whose quantiles are shared."""
    rng = np.random.default_rng(seed)
    first = xr.DataArray(rng.integers(0, steps, (9, 23)).astype(np.int16), dims=("y", "x"))
    second = xr.DataArray(rng.gamma(2.0, size=(17, 12)), dims=("y", "x"))
    matched = xdemsr.match_histograms(first, second).values
    assert np.isfinite(matched).all()
    for value in range(steps - 1):
        here, above = (matched[first.values == v] for v in (value, value + 1))
        if here.size and above.size:
            assert np.ptp(here) == 0
            assert above.min() >= here.max()


def test_beyond_the_quantiles_values_go_on(high: xr.DataArray) -> None:
    image = high.copy()
    image[:, 7, 9] = 5.0
    image[:, 8, 9] = -5.0
    matched = xdemsr.match_histograms(image, 2 * high + 1)
    np.testing.assert_allclose(matched[:, 7, 9], 11.0, rtol=0.05)
    np.testing.assert_allclose(matched[:, 8, 9], -9.0, rtol=0.05)


def test_voids_are_not_looked_at(high: xr.DataArray) -> None:
    counts = (high * 10000).round().astype(np.int16)
    holed = counts.copy()
    holed[:, 30:50, :70] = -999
    holed = holed.rio.write_nodata(-999)
    matched = xdemsr.match_histograms(holed, high)
    void = (holed == -999).values
    assert np.isnan(matched.values[void]).all()
    assert np.abs(matched.values - high.values)[~void].max() < 0.01
    back = xdemsr.match_histograms(high, holed)
    assert float(back.min()) > -500


@pytest.mark.parametrize("method", ["quantiles", "moments"])
def test_matching_is_lazy_and_independent_of_chunks(high: xr.DataArray, method: str) -> None:
    other = (3 * high[:, 20:, :-31]) ** 2
    expected = xdemsr.match_histograms(high, other, method=method)
    lazy = xdemsr.match_histograms(high.chunk(band=2, y=37, x=50), other.chunk(y=61), method=method)
    assert lazy.chunks[1][0] == 37
    xr.testing.assert_identical(lazy.compute(), expected)
    turned = xdemsr.match_histograms(
        high.transpose("y", "x", "band").chunk(y=50), other, method=method
    )
    assert turned.dims == ("y", "x", "band")
    xr.testing.assert_identical(turned.compute(scheduler="sync").transpose(*high.dims), expected)

    def refuse(block: np.ndarray) -> np.ndarray:
        raise AssertionError("a pixel was read")

    unread = da.map_blocks(refuse, high.chunk(y=50).data, meta=high.values[:0])
    xdemsr.match_histograms(high.copy(data=unread), high.copy(data=unread), method=method)


def test_only_windows_of_a_large_image_are_read() -> None:
    read = []

    def note(block: np.ndarray) -> np.ndarray:
        read.append(block.shape)
        return block

    small = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    values = np.tile(small, (64, 48))
    source = da.map_blocks(note, da.from_array(values, chunks=128), meta=values[:0])
    large = xr.DataArray(source, dims=("y", "x"))
    xdemsr.match_histograms(xr.DataArray(small, dims=("y", "x")), large)
    assert len(read) == 64


def test_what_cannot_be_matched_is_said(high: xr.DataArray) -> None:
    with pytest.raises(InputError, match="same bands"):
        xdemsr.match_histograms(high, high[:2])
    with pytest.raises(InputError, match="not one of"):
        xdemsr.match_histograms(high, high, method="magic")
    with pytest.raises(InputError, match="no distribution"):
        xdemsr.match_histograms(high, xr.zeros_like(high))
    lazy = xdemsr.match_histograms(high.chunk(), high * np.nan)
    with pytest.raises(InputError, match="0 known pixels"):
        lazy.compute()


def test_building_a_pair_imports_no_torch() -> None:
    code = """
import sys, xdemsr
scene = xdemsr.synthetic.terrain((96, 128), gsd=5.0)
low = scene.demsr.degrade(2)
pair = xdemsr.pair_images(low.chunk(), scene[1:].chunk())
xdemsr.match_histograms(pair.low, pair.high)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bands_of_a_file_are_called_by_their_descriptions(
    truth: xr.DataArray, high: xr.DataArray
) -> None:
    """Bands of a GeoTIFF are numbered, and called something in ``long_name``."""
    low = seen(truth, 4, (1, 2))
    low[:2] = np.random.default_rng(3).random(low[:2].shape)
    order = high.band.values[::-1].tolist()
    described = [
        image.assign_coords(band=range(1, image.band.size + 1)).assign_attrs(
            long_name=tuple(image.band.values.tolist())
        )
        for image in (low, high.sel(band=order))
    ]
    found = xdemsr.register_images(*described, band="blue")
    assert found.pixels == pytest.approx((0.25, 0.5), abs=0.05)
    with pytest.raises(InputError, match=r"'nir' is not in both.*'red'"):
        xdemsr.register_images(*described, band="nir")
