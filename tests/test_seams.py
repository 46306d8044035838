"""Tile borders that show are found, and those that do not are not."""

from __future__ import annotations

from collections.abc import Callable

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve

import xdemsr
from xdemsr import jumps
from xdemsr.catalog import shipped_models
from xdemsr.errors import InputError, ModelError
from xdemsr.kernels import KERNELS
from xdemsr.spec import Band, Local, ModelSpec

TILE = 64
SPECS = list(shipped_models().values())


def terrain(seed: int = 0, shape: tuple[int, int] = (256, 320), **more: float) -> xr.DataArray:
    return xdemsr.synthetic.terrain(shape, seed=seed, **more)


def tile_wise(
    dem: xr.DataArray, change: Callable[[np.ndarray, int], np.ndarray], tile: int = TILE
) -> xr.DataArray:
    """What comes of a raster whose tiles are answered one by one, each knowing nothing else."""
    answer = dem.values.astype(np.float64)
    for k, y in enumerate(range(0, dem.shape[0], tile)):
        for m, x in enumerate(range(0, dem.shape[1], tile)):
            part = (slice(y, y + tile), slice(x, x + tile))
            answer[part] = change(answer[part], 7 * k + 3 * m)
    return dem.copy(data=answer)


def scores(seams: xdemsr.Seams) -> list[float]:
    return [c.z for axis in seams.axes for c in (axis.roughness, axis.offset)]


@pytest.mark.parametrize("seed", range(4))
def test_tiles_at_different_heights_are_found(seed: int) -> None:
    """By five hundredths of the standard deviation of heights within a tile."""
    dem = terrain(seed, (512, 640))
    tiles = dem.values.reshape(8, TILE, 10, TILE)
    step = 0.05 * float(tiles.std(axis=(1, 3)).mean())
    rng = np.random.default_rng(seed)
    lifted = tile_wise(dem, lambda part, _: part + step * rng.integers(2))
    assert xdemsr.check_seams(dem, period=TILE, phase=(0, 0)).ok
    seams = xdemsr.check_seams(lifted, period=TILE, phase=(0, 0))
    assert not seams.ok
    assert all(axis.offset.ratio > 1 + 2 * axis.offset.error for axis in seams.axes)


@pytest.mark.parametrize("roughness", [2.0, 2.5, 3.2])
def test_terrain_without_seams_is_not_flagged(roughness: float) -> None:
    """Of so many rasters, one or two would be, were the chance the stated one in a hundred."""
    rasters = [terrain(seed, (200, 260), roughness=roughness) for seed in range(40)]
    found = [xdemsr.check_seams(dem, period=TILE, phase=(0, 0)) for dem in rasters]
    assert sum(not seams.ok for seams in found) <= 2
    spread = np.array([scores(seams) for seams in found])
    assert np.abs(spread.mean(axis=0)).max() < 4 / np.sqrt(len(rasters))
    assert spread.std(axis=0).max() < 1.4


@pytest.mark.parametrize("kind", ["stripes", "perlin"])
def test_what_lies_in_line_with_the_axes_is_no_seam(kind: str) -> None:
    """Sensors' stripes, and noise with a lattice, set whole rows apart from those nearby."""
    rng = np.random.default_rng(4)
    flagged = 0
    for seed in range(20):
        if kind == "stripes":
            dem = terrain(seed, (300, 260)) + rng.normal(0, 1, (300, 1))
        else:
            dem = xdemsr.synthetic.perlin((300, 260), wavelength=1730.0, seed=seed)
        flagged += not xdemsr.check_seams(dem, period=40, phase=(0, 0)).ok
    assert flagged <= 1
    striped = terrain() + rng.normal(0, 0.3, (256, 1))
    torn = tile_wise(striped, lambda part, k: part + 3.0 * (k % 2))
    seams = xdemsr.check_seams(torn, period=TILE, phase=(0, 0))
    assert min(axis.offset.z for axis in seams.axes) > seams.limit


def test_upscaled_terrain_is_not_flagged() -> None:
    """Neighbouring pixels of it are alike, so stretches of border must be long to be several."""
    fine = [terrain(seed, (60, 90)).demsr.upscale(8, "histospline") for seed in range(12)]
    found = [xdemsr.check_seams(dem, period=160, phase=(0, 0), stride=8) for dem in fine]
    assert all(seams.ok for seams in found)
    assert np.sqrt(np.mean(np.square([scores(seams) for seams in found]))) < 1.4
    # Beside the seams of source pixels, each of these would be one.
    assert not xdemsr.check_seams(fine[0], period=160, phase=(0, 0)).ok


def test_what_neighbouring_pixels_share_is_found_below_the_noise() -> None:
    rng = np.random.default_rng(3)
    dem = terrain(0, (512, 640), roughness=2.6) + rng.normal(0, 1, (512, 640))
    lifted = tile_wise(dem, lambda part, k: part + 0.7 * (k % 2))
    seams = xdemsr.check_seams(lifted, period=TILE, phase=(0, 0))
    for axis in seams.axes:
        assert axis.offset.z > seams.limit
        assert axis.offset.z > 1.5 * axis.roughness.z


def network(z: np.ndarray, _: int = 0) -> np.ndarray:
    """Two convolutions and what lies between them, padded with zeros."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(0, 0.3, (2, 3, 3))
    centre = z.mean()
    hidden = np.tanh(convolve((z - centre) / 50, first, mode="constant"))
    return z + 0.5 * convolve(hidden, second, mode="constant")


def test_a_network_without_context_leaves_seams() -> None:
    dem = terrain()
    torn = xdemsr.check_seams(tile_wise(dem, network), period=TILE, phase=(0, 0))
    assert not torn.ok
    assert min(axis.roughness.z for axis in torn.axes) > torn.limit
    whole = xdemsr.check_seams(dem.copy(data=network(dem.values)), period=TILE, phase=(0, 0))
    assert whole.ok


def test_borders_that_were_smoothed_are_seams_too() -> None:
    rng = np.random.default_rng(0)
    dem = terrain() + rng.normal(0, 1, (256, 320))
    smooth = dem.rolling(x=3, center=True, min_periods=1).mean()
    near = np.abs((np.arange(320) + TILE // 2) % TILE - TILE // 2) < 3
    seams = xdemsr.check_seams(dem.where(~near, smooth), period=TILE, phase=(0, 0))
    assert seams.x is not None
    assert seams.y is not None
    assert seams.x.roughness.z < -seams.limit
    assert seams.x.roughness.ratio < 0.8
    assert abs(seams.y.roughness.z) < seams.limit


def input_for(band: Band, shape: tuple[int, int], seed: int) -> xr.DataArray:
    """Heights in metres; or what else a model may take, between 0 and 1."""
    ny, nx = shape
    made = terrain(seed, (ny * band.scale, nx * band.scale), gsd=30.0 / band.scale)
    if band.units != "m":
        made = ((made - made.min()) / (made.max() - made.min())).astype(np.float32)
        made.attrs["units"] = band.units
    # A dataset holds layers of several samplings along dimensions of their own.
    return (made if band.scale == 1 else made.rename(y="northing", x="easting")).rename(band.name)


@pytest.mark.filterwarnings("ignore::xdemsr.GsdWarning")
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_no_shipped_model_leaves_seams(spec: ModelSpec) -> None:
    context = spec.context
    size = context.tile if isinstance(context, Local) else context.size
    shape = (size + size // 4, size + size // 3)
    bands = spec.raster_inputs
    made = [input_for(band, shape, seed) for seed, band in enumerate(bands)]
    obj = made[0] if len(made) == 1 else xr.merge(made, compat="override", join="exact")
    seams = xdemsr.check_seams(obj.demsr.apply(spec.name))
    assert len(seams.axes) == 2
    assert seams.ok, seams


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_interpolation_leaves_seams(kernel: str) -> None:
    fine = terrain(0, (270, 300)).demsr.upscale(3, kernel)
    seams = xdemsr.check_seams(fine, scale=3)
    assert seams.ok, seams
    assert seams.x is not None
    assert seams.x.worst == 150 * 3


def test_seams_of_a_model_are_looked_for_where_its_tiles_lie() -> None:
    fine = terrain(0, (140, 170)).demsr.upscale(4)
    lifted = fine + 2.0 * (np.arange(680) >= 85 * 4)
    lifted.attrs = fine.attrs
    seams = xdemsr.check_seams(lifted)
    assert seams.x is not None
    assert seams.y is not None
    assert (seams.x.worst, seams.x.borders) == (340, 1)
    assert seams.x.worst_at == fine.x[340] - 30 / 8
    assert seams.x.offset.z > seams.limit
    assert abs(seams.y.offset.z) < seams.limit
    lifted.attrs = {}
    assert repr(xdemsr.check_seams(lifted, "terrain-x4")) == repr(seams)
    assert "SEAMS" in repr(seams)
    assert "no seams" in repr(xdemsr.check_seams(fine))


@pytest.mark.parametrize("kind", ["single-edsr", "small-effnet"])
def test_networks_of_other_kinds(kind: str, request: pytest.FixtureRequest) -> None:
    """Those that see a neighbourhood leave none; blended windows, of random weights, may."""
    if kind == "single-edsr":
        fine = terrain(0, (75, 110)).demsr.upscale(4, request.getfixturevalue("edsr_model"))
        seams = xdemsr.check_seams(fine, request.getfixturevalue("edsr_model"))
        assert seams.ok, seams
        assert [axis.borders for axis in seams.axes] == [3, 5]
    else:
        path = request.getfixturevalue("windowed_model")
        fine = terrain(0, (42, 59)).demsr.apply(path)
        seams = xdemsr.check_seams(fine, path)
        # Where a window begins, and where one ends.
        assert [axis.borders for axis in seams.axes] == [2, 4]


@settings(deadline=None, max_examples=8)
@given(st.integers(6, 90), st.integers(6, 90), st.integers(0, 99), st.sampled_from([64, 200, 2048]))
def test_chunks_and_windows_do_not_matter(rows: int, columns: int, seed: int, size: int) -> None:
    dem = terrain(seed, (120, 150))
    dem[20:30, 40:70] = np.nan
    expected = xdemsr.check_seams(dem, period=(30, 25), phase=(0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jumps, "_CHUNK", size)
        lazy = dem.chunk(y=rows, x=columns)
        found = xdemsr.check_seams(lazy, period=(30, 25), phase=(0, 0))
    # Sums are taken in another order.
    np.testing.assert_allclose(scores(found), scores(expected), atol=1e-9)
    for axis, other in zip(found.axes, expected.axes, strict=True):
        assert axis.borders == other.borders
        assert axis.roughness.ratio == pytest.approx(other.roughness.ratio)
        assert axis.offset.error == pytest.approx(other.offset.error)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 99), st.sampled_from([0.25, 4.0]), st.sampled_from([-512.0, 0.0, 4096.0]))
def test_units_and_datums_do_not_matter(seed: int, factor: float, offset: float) -> None:
    # In binary fractions, so that no sum is rounded and equal jumps stay equal.
    dem = (terrain(seed, (100, 130)).astype(np.float64) * 1024).round() / 1024
    expected = xdemsr.check_seams(dem, period=32, phase=(0, 0))
    found = xdemsr.check_seams(dem * factor + offset, period=32, phase=(0, 0))
    np.testing.assert_allclose(scores(found), scores(expected), atol=1e-9)


def test_rows_and_columns_are_alike() -> None:
    dem = tile_wise(terrain(), lambda part, k: part + 2.0 * (k % 4))
    seams = xdemsr.check_seams(dem, period=(64, 80), phase=(0, 16))
    flipped = dem.copy(data=dem.values)[::-1, ::-1]
    swapped = xr.DataArray(dem.values.T, dims=("y", "x"))
    other = xdemsr.check_seams(swapped, period=(80, 64), phase=(16, 0))
    np.testing.assert_allclose(scores(other), scores(seams)[2:] + scores(seams)[:2], atol=1e-9)
    mirrored = xdemsr.check_seams(flipped, period=64, phase=(0, 0))
    unturned = xdemsr.check_seams(dem, period=64, phase=(0, 0))
    np.testing.assert_allclose(scores(mirrored), scores(unturned), atol=1e-9)


def test_voids_are_left_out() -> None:
    rng = np.random.default_rng(0)
    dem = terrain()
    holed = dem.where(rng.random(dem.shape) > 0.005)
    assert xdemsr.check_seams(holed, period=TILE, phase=(0, 0)).ok
    whole = holed.round(1).fillna(-9999)
    whole.attrs["nodata"] = -9999
    expected = xdemsr.check_seams(holed.round(1), period=TILE, phase=(0, 0))
    assert scores(xdemsr.check_seams(whole, period=TILE, phase=(0, 0))) == scores(expected)
    lifted = tile_wise(holed, lambda part, k: part + 4.0 * (k % 2))
    assert not xdemsr.check_seams(lifted, period=TILE, phase=(0, 0)).ok
    with pytest.raises(InputError, match="enough valid pixels"):
        xdemsr.check_seams(dem * np.nan, period=TILE, phase=(0, 0))


def test_level_water_says_nothing() -> None:
    dem = terrain().clip(min=1250.0)
    assert xdemsr.check_seams(dem, period=TILE, phase=(0, 0)).ok
    flat = xr.zeros_like(dem)
    with pytest.raises(InputError, match="nothing to compare"):
        xdemsr.check_seams(flat, period=TILE, phase=(0, 0))


@pytest.mark.parametrize("phase", [(0, 0), (11, 40)])
def test_the_phase_is_found(phase: tuple[int, int]) -> None:
    top, left = ((TILE - first) % TILE for first in phase)
    wide = terrain(2, (256 + top, 320 + left))
    dem = tile_wise(wide, lambda part, k: part + 5.0 * (k % 2))[top:, left:]
    assert not xdemsr.check_seams(dem, period=TILE).ok
    for axis, first in zip(xdemsr.check_seams(dem, period=TILE).axes, phase, strict=True):
        assert axis.worst % TILE == first
    untouched = xdemsr.check_seams(wide[top:, left:], period=TILE)
    assert untouched.ok
    assert untouched.limit > xdemsr.check_seams(dem, period=TILE, phase=phase).limit


def test_bands_are_taken_together() -> None:
    """One that is torn is found beside one of a thousand times its unit."""
    first = terrain(1)
    torn = tile_wise(first, lambda part, k: part + 10.0 * (k % 2))
    stack = xr.concat([first * 1000, torn], "band")
    assert not xdemsr.check_seams(stack.chunk(y=50), period=TILE, phase=(0, 0)).ok
    whole = xr.concat([first * 1000, first], "band").transpose("y", "band", "x")
    seams = xdemsr.check_seams(whole, period=TILE, phase=(0, 0))
    np.testing.assert_allclose(
        scores(seams), scores(xdemsr.check_seams(first, period=TILE, phase=(0, 0))), atol=1e-6
    )


def test_little_is_read_at_once() -> None:
    sizes: list[int] = []
    look = jumps._edges

    def noted(block: np.ndarray, *rest: object) -> object:
        sizes.append(block.size)
        return look(block, *rest)

    data = dask.array.random.default_rng(0).normal(size=(300, 5000), chunks=(100, 500))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jumps, "_CHUNK", 200)
        patch.setattr(jumps, "_edges", noted)
        raster = xr.DataArray(data, dims=("y", "x"))
        assert xdemsr.check_seams(raster, period=100, phase=(0, 0)).ok
    assert sum(sizes) >= data.size
    assert max(sizes) <= (200 + 40) ** 2


def test_what_cannot_be_checked() -> None:
    dem = terrain(0, (60, 70))
    with pytest.raises(InputError, match="which model made it"):
        dem.demsr.check_seams()
    with pytest.raises(InputError, match="no two tiles"):
        dem.demsr.upscale(2).demsr.check_seams()
    with pytest.raises(InputError, match="not a whole answer"):
        terrain(0, (140, 150)).demsr.upscale(4)[1:].demsr.check_seams()
    with pytest.raises(ModelError, match="say the scale"):
        dem.demsr.upscale(2, "spline").demsr.check_seams()
    with pytest.raises(InputError, match="not both"):
        dem.demsr.check_seams("terrain-x2", period=20)
    with pytest.raises(InputError, match="belong to period"):
        dem.demsr.check_seams("terrain-x2", stride=2)
    with pytest.raises(InputError, match="6 pixels or more"):
        dem.demsr.check_seams(period=4)
    for period in (32.5, "32", (32,)):
        with pytest.raises(InputError, match="6 pixels or more"):
            dem.demsr.check_seams(period=period)
    with pytest.raises(InputError, match="stride=0"):
        dem.demsr.check_seams(period=20, stride=0)
    for phase in (5, (1.5, 2), (1,)):
        with pytest.raises(InputError, match="phase="):
            dem.demsr.check_seams(period=20, phase=phase)
    with pytest.raises(InputError, match="false_alarm=1"):
        dem.demsr.check_seams(period=20, false_alarm=1)


def test_numbers_of_numpy_are_whole_numbers() -> None:
    dem = terrain(0, (60, 70))
    found = dem.demsr.check_seams(period=np.int64(20), phase=(np.int64(0), 0))
    assert found == dem.demsr.check_seams(period=20, phase=(0, 0))
