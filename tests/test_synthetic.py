"""Made terrain: a function of place and seed, in pieces as in the whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xdemsr import ground, synthetic
from xdemsr.errors import InputError
from xdemsr.noise import Fractal, gradient_noise

MAKERS = [synthetic.perlin, synthetic.fractal]
SEEDS = st.integers(-(2**40), 2**40)


def same(first: xr.DataArray, second: xr.DataArray) -> None:
    """Bit for bit, coordinates included."""
    xr.testing.assert_identical(first.compute(), second.compute())
    assert first.values.tobytes() == second.values.tobytes()


def test_terrain_is_what_it_was() -> None:
    dem = synthetic.terrain((48, 64), gsd=30.0, relief=400.0)
    assert dem.values[0, 0] == np.float32(1155.0913)
    assert dem.values[47, 63] == np.float32(1262.6825)
    assert (float(dem.x[0]), float(dem.y[0])) == (500_015.0, 4_099_985.0)


@pytest.mark.parametrize("make", MAKERS)
@settings(deadline=None, max_examples=6)
@given(seed=SEEDS, rows=st.integers(6, 40), columns=st.integers(7, 60), piece=st.integers(5, 60))
def test_lazy_or_not_the_numbers_are_the_same(
    make: Callable[..., xr.DataArray], seed: int, rows: int, columns: int, piece: int
) -> None:
    whole = make((37, 53), wavelength=1500.0, seed=seed)
    lazy = make((37, 53), wavelength=1500.0, seed=seed, chunks=(rows, columns))
    assert lazy.chunks is not None
    same(lazy, whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ground, "_PIECE", piece)
        same(make((37, 53), wavelength=1500.0, seed=seed), whole)


@pytest.mark.parametrize("make", MAKERS)
@settings(deadline=None, max_examples=6)
@given(seed=SEEDS, top=st.integers(-3000, 3000), left=st.integers(-3000, 3000))
def test_pieces_of_one_terrain_fit(
    make: Callable[..., xr.DataArray], seed: int, top: int, left: int
) -> None:
    whole = make((31, 45), origin=(top, left), seed=seed, wavelength=2000.0)
    part = make((12, 20), origin=(top + 19, left + 7), seed=seed, wavelength=2000.0)
    assert part.values.tobytes() == whole.values[19:, 7:27].tobytes()
    np.testing.assert_array_equal(part.x, whole.x[7:27])
    np.testing.assert_array_equal(part.y, whole.y[19:])


@pytest.mark.parametrize("make", MAKERS)
def test_seeds_differ(make: Callable[..., xr.DataArray]) -> None:
    options = {"gsd": 60.0, "wavelength": 1200.0}
    first, second = (make((120, 150), seed=seed, **options).values for seed in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.2
    same(make((120, 150), seed=1, **options), make((120, 150), seed=1, **options))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("seed", range(3))
def test_relief_is_what_was_asked_for(make: Callable[..., xr.DataArray], seed: int) -> None:
    """Over many hills, one hundredth lies below the base and one above base and relief."""
    dem = make((330, 410), gsd=60.0, wavelength=1100.0, relief=700.0, base=250.0, seed=seed)
    assert float((dem < 250).mean()) == pytest.approx(0.01, abs=0.006)
    assert float((dem > 950).mean()) == pytest.approx(0.01, abs=0.006)


def test_finer_pixels_show_the_same_terrain() -> None:
    options = {"wavelength": 3000.0, "octaves": 4, "seed": 5}
    coarse = synthetic.fractal((40, 60), gsd=30.0, **options)
    fine = synthetic.fractal((120, 180), gsd=10.0, **options)
    np.testing.assert_allclose(coarse, fine[1::3, 1::3], rtol=0, atol=1e-3)
    np.testing.assert_allclose(coarse.x, fine.x[1::3])


def test_octaves_end_at_two_pixels() -> None:
    options = {"wavelength": 960.0, "seed": 2}
    by_default = synthetic.perlin((40, 60), gsd=30.0, **options)
    same(by_default, synthetic.perlin((40, 60), gsd=30.0, octaves=5, **options))
    assert not by_default.equals(synthetic.perlin((40, 60), gsd=30.0, octaves=4, **options))


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.integers(0, 12))
def test_derivatives_of_the_noise(seed: int, y: float, x: float, octave: int) -> None:
    h = 1e-4
    at = np.array([[y, y + h, y - h, y, y]]), np.array([[x, x, x, x + h, x - h]])
    value, along_y, along_x = (found[0] for found in gradient_noise(*at, seed, octave))
    assert along_y[0] == pytest.approx((value[1] - value[2]) / (2 * h), abs=1e-3)
    assert along_x[0] == pytest.approx((value[3] - value[4]) / (2 * h), abs=1e-3)
    assert np.abs(value).max() < 0.75


def test_the_noise_has_no_table_that_repeats() -> None:
    """The classic one comes again after 256."""
    y, x = np.meshgrid(np.arange(30) + 0.37, np.arange(40) + 0.61, indexing="ij")
    first, _, _ = gradient_noise(y, x, 0, 0)
    for period in (256, 512, 4096):
        again, _, _ = gradient_noise(y, x + period, 0, 0)
        assert abs(np.corrcoef(first.ravel(), again.ravel())[0, 1]) < 0.15


def test_places_are_answered_alike_together_and_alone() -> None:
    rng = np.random.default_rng(0)
    y, x = rng.uniform(-50, 50, (2, 12, 17))
    field = Fractal(6, ridges=0.7, erosion=0.4, warp=0.2, turned=True)
    together = field.at(y, x, 9)
    alone = [
        [field.at(y[i : i + 1, j : j + 1], x[i : i + 1, j : j + 1], 9).item() for j in range(17)]
        for i in range(12)
    ]
    assert together.tobytes() == np.array(alone).tobytes()


def test_slopes_weaken_what_follows() -> None:
    """Where it is steep, worn terrain is smoother than terrain that is not worn."""
    options = {"gsd": 10.0, "wavelength": 2000.0, "ridges": 0.0, "warp": 0.0, "seed": 3}
    steep = synthetic.fractal((200, 260), octaves=1, **options).demsr.slope()

    def contrast(erosion: float) -> float:
        dem = synthetic.fractal((200, 260), erosion=erosion, **options)
        rough = np.abs(dem - dem.rolling(x=3, y=3, center=True).mean())
        high, low = steep > steep.quantile(0.8), steep < steep.quantile(0.2)
        return float(rough.where(high).mean() / rough.where(low).mean())

    assert contrast(2.0) < 0.8 * contrast(0.0)


def test_ridges_are_sharper_than_valleys() -> None:
    def skew(ridges: float) -> float:
        dem = synthetic.fractal((250, 310), wavelength=900.0, octaves=1, ridges=ridges, warp=0.0)
        bend = (dem.diff("x", 2) / dem.diff("x", 2).std()).values
        return float((bend**3).mean())

    assert skew(1.0) < -1
    assert abs(skew(0.0)) < 0.8


def test_terrain_can_be_larger_than_memory() -> None:
    dem = synthetic.fractal((10**5, 2 * 10**5), chunks=1000)
    piece = dem[99_000:99_010, 150_000:150_020].compute()
    again = synthetic.fractal((10, 20), origin=(99_000, 150_000))
    assert piece.values.tobytes() == again.values.tobytes()
    image = synthetic.imagery(dem[:40_000, :40_000])
    assert image.chunks is not None


def test_lazy_terrain_is_upscaled_without_torch_until_computed() -> None:
    code = """
import sys
import xdemsr
dem = xdemsr.synthetic.fractal((60, 70), chunks=30)
image = xdemsr.synthetic.imagery(dem)
dem.demsr.upscale(4)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@settings(deadline=None, max_examples=8)
@given(st.integers(9, 50), st.integers(11, 70), st.integers(0, 99))
def test_imagery_does_not_depend_on_chunks(rows: int, columns: int, seed: int) -> None:
    dem = synthetic.fractal((41, 63), seed=seed)
    dem[5:9, 20:30] = np.nan
    whole = synthetic.imagery(dem, seed=seed)
    lazy = synthetic.imagery(dem.chunk(y=rows, x=columns), seed=seed)
    assert lazy.chunks is not None
    same(lazy, whole)
    assert whole.dtype == np.float32
    assert bool(whole.isnull().any("band").equals(whole.isnull().all("band")))
    np.testing.assert_array_equal(whole.isnull().all("band"), dem.isnull())
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1
    assert whole.rio.crs == dem.rio.crs
    assert whole.rio.transform() == dem.rio.transform()


def test_imagery_looks_like_its_terrain() -> None:
    dem = synthetic.fractal((150, 190), gsd=90.0, base=1000.0, relief=1500.0, seed=1)
    red, _, blue, nir = synthetic.imagery(dem, treeline=1600.0, snowline=2100.0)
    green = (nir - red) / (nir + red)
    assert float(green.where(dem < 1400).mean()) > 0.5
    assert float(green.where(dem > 1850).mean()) < 0.3
    gentle = dem.demsr.slope() < 20
    assert float(blue.where(gentle & (dem > 2350)).median()) > 0.5
    shade = dem.demsr.hillshade(azimuth=150.0)
    low = (dem < 1300).values
    assert np.corrcoef(shade.values[low], nir.values[low])[0, 1] > 0.3


def test_imagery_knows_declared_voids() -> None:
    dem = synthetic.fractal((30, 40))
    holed = dem.where(dem.x > dem.x[5])
    declared = holed.fillna(-9999.0)
    declared.attrs["nodata"] = -9999.0
    np.testing.assert_array_equal(synthetic.imagery(declared), synthetic.imagery(holed))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": (0, 5)}, "shape="),
        ({"gsd": 0.0}, "gsd=0"),
        ({"octaves": 2.5}, r"octaves=2\.5"),
        ({"chunks": 0}, "chunks=0"),
        ({"chunks": (5, 0)}, "chunks="),
        ({"crs": "EPSG:4326"}, "projected CRS in metres"),
        ({"crs": "EPSG:2263"}, "projected CRS in metres"),
        ({"crs": "nowhere"}, "no CRS"),
        ({"wavelength": -1.0}, "wavelength=-1"),
        ({"wavelength": np.inf}, "wavelength=inf"),
        ({"octaves": 0}, "octaves=0"),
        ({"lacunarity": 1.0}, "lacunarity=1"),
        ({"persistence": 0.0}, "persistence=0"),
        ({"relief": np.nan}, "relief=nan"),
        ({"ridges": 1.5}, "ridges=1.5"),
        ({"erosion": -1.0}, "erosion=-1"),
        ({"warp": np.nan}, "warp=nan"),
    ],
)
def test_what_makes_no_terrain(options: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        synthetic.fractal(**{"shape": (10, 12), **options})


def test_what_makes_no_imagery() -> None:
    dem = synthetic.terrain((10, 12))
    with pytest.raises(InputError, match="altitude=0"):
        synthetic.imagery(dem, altitude=0)
    with pytest.raises(InputError, match="treeline=nan"):
        synthetic.imagery(dem, treeline=np.nan)


def test_pixels_without_a_size_make_no_terrain() -> None:
    with pytest.raises(InputError, match="gsd=0"):
        synthetic.terrain((5, 6), gsd=0)


def test_imagery_of_any_coordinates() -> None:
    """Those of a raster in degrees may differ in the last bit from what its grid gives."""
    heights = synthetic.terrain((47, 70)).values
    y, x = 50 - np.arange(47) * 1e-4, 10 + np.arange(70) * 1e-4
    dem = xr.DataArray(heights, dims=("lat", "lon"), coords={"lat": y, "lon": x})
    dem = dem.rio.write_crs("EPSG:4326")
    image = synthetic.imagery(dem)
    xr.testing.assert_identical(image.lat, dem.lat)
    same(synthetic.imagery(dem.chunk(lat=9, lon=20)), image)
