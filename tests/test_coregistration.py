"""Real pairs of coarse and fine terrain: laid one on the other."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr import Shift
from xdemsr.errors import GridError, InputError

SCALE, GSD = 10, 3.0
PIXEL = SCALE * GSD


def terrain(seed: int = 0, relief: float = 300.0) -> xr.DataArray:
    return xdemsr.synthetic.terrain((50 * SCALE, 66 * SCALE), GSD, relief=relief, seed=seed)


def displaced(fine: xr.DataArray, rows: float, columns: float, **errors: Any) -> xr.DataArray:
    """Coarse pixels that lie so many rows and columns farther than their coordinates say."""
    down, right = round(rows * SCALE), round(columns * SCALE)
    margin = 4 * SCALE
    seen = fine[margin + down :, margin + right :].demsr.degrade(SCALE, **errors)
    said = seen.assign_coords(y=seen.y + down * GSD, x=seen.x - right * GSD)
    return said.rio.write_transform(said.rio.transform(recalc=True))


@pytest.fixture(scope="module")
def fine() -> xr.DataArray:
    return terrain()


SHIFTS = [(0.1, -0.1), (-0.5, 0.3), (1.5, 1.2), (-1.0, -1.5), (0.0, 0.0), (-3.2, 1.9)]


@pytest.mark.parametrize("method", ["slope", "correlation"])
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_known_shift_is_found(
    fine: xr.DataArray, method: str, shift: tuple[float, float]
) -> None:
    coarse = displaced(fine, *shift, noise=0.3) + 4.5
    coarse[12:17, 20:31] = np.nan
    fine = fine.copy()
    fine[300:333, 100:160] = np.nan
    found = coarse.demsr.coregister(fine, method=method)
    near = 0.02 if method == "slope" else 0.07
    assert found.pixels == pytest.approx(shift, abs=near)
    assert (found.dy, found.dx) == pytest.approx(
        (-shift[0] * PIXEL, shift[1] * PIXEL), abs=near * PIXEL
    )
    assert found.dz == pytest.approx(-4.5, abs=0.1)
    assert found.nmad_after == pytest.approx(0.3, abs=0.08)
    assert found.nmad_before >= found.nmad_after - 0.01
    assert 1500 < found.n < coarse.size


@pytest.mark.parametrize("method", ["slope", "correlation"])
@pytest.mark.parametrize("fine_up", [False, True])
@pytest.mark.parametrize("coarse_up", [False, True])
def test_rows_may_run_either_way(
    fine: xr.DataArray, method: str, fine_up: bool, coarse_up: bool
) -> None:
    coarse = displaced(fine, 0.7, -0.4)
    coarse, fine = coarse[:: -1 if coarse_up else 1], fine[:: -1 if fine_up else 1, ::-1]
    found = coarse.demsr.coregister(fine, method=method)
    assert (found.dy, found.dx) == pytest.approx((-0.7 * PIXEL, -0.4 * PIXEL), abs=0.02 * PIXEL)
    assert found.pixels[0] == pytest.approx(-0.7 if coarse_up else 0.7, abs=0.02)


def test_grids_need_not_nest(fine: xr.DataArray) -> None:
    coarse = displaced(fine, 0.3, -0.6)
    # A fine raster of another pixel size, begun anywhere.
    other = fine[13:, 4:].demsr.degrade(3)
    assert PIXEL / other.rio.resolution()[0] != PIXEL // other.rio.resolution()[0]
    found = coarse.demsr.coregister(other)
    assert found.pixels == pytest.approx((0.3, -0.6), abs=0.02)
    # Two rasters of one resolution.
    found = coarse.demsr.coregister(fine.demsr.degrade(SCALE))
    assert found.pixels == pytest.approx((0.3, -0.6), abs=0.1)


def test_trees_do_not_lead_the_slopes_astray(fine: xr.DataArray) -> None:
    coarse = displaced(fine, -0.4, 0.9, noise=0.5)
    patches = xdemsr.synthetic.terrain(coarse.shape, relief=1.0, base=0.0, seed=4).values
    coarse = coarse + np.where(patches > np.quantile(patches, 0.75), 12.0, 0.0)
    assert coarse.demsr.coregister(fine).pixels == pytest.approx((-0.4, 0.9), abs=0.04)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(move=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)), height=st.floats(-50, 50))
def test_moving_the_raster_moves_the_answer(
    fine: xr.DataArray, move: tuple[float, float], height: float
) -> None:
    coarse = displaced(fine, 0.2, -0.3, noise=0.1)
    found = coarse.demsr.coregister(fine)
    moved = coarse.drop_vars("spatial_ref").assign_coords(
        y=coarse.y + move[0] * PIXEL, x=coarse.x + move[1] * PIXEL
    )
    again = (moved + height).demsr.coregister(fine)
    assert again.dy == pytest.approx(found.dy - move[0] * PIXEL, abs=0.01 * PIXEL)
    assert again.dx == pytest.approx(found.dx - move[1] * PIXEL, abs=0.01 * PIXEL)
    assert again.dz == pytest.approx(found.dz - height, abs=0.03)


def test_lazy_rasters_and_units_change_nothing(fine: xr.DataArray) -> None:
    coarse = displaced(fine, 0.2, 0.6)
    found = coarse.demsr.coregister(fine)
    assert coarse.chunk(7).demsr.coregister(fine.chunk(y=90, x=130)) == found
    feet = (coarse / 0.3048).demsr.coregister(fine / 0.3048)
    assert feet.pixels == pytest.approx(found.pixels, abs=1e-3)


def test_little_is_read_of_large_rasters() -> None:
    read: list[int] = []

    def hills(size: int, ny: int, nx: int) -> xr.DataArray:
        """Heights at the centres of pixels of ``size``, made chunk by chunk."""

        def made(block_info: Any) -> Any:
            rows, columns = block_info[None]["array-location"]
            y, x = ((np.arange(*span) + 0.5) * size for span in (rows, columns))
            read.append(y.size * x.size)
            return 40 * np.sin(y / 31)[:, None] + 30 * np.cos(x / 23 + y[:, None] / 90)

        chunks = da.core.normalize_chunks(1000, (ny, nx))
        data = da.map_blocks(made, chunks=chunks, dtype=float, meta=np.empty((0, 0)))
        coords = {"y": (np.arange(ny) + 0.5) * size, "x": (np.arange(nx) + 0.5) * size}
        return xr.DataArray(data, dims=("y", "x"), coords=coords)

    coarse, fine = hills(2, 20_000, 30_000), hills(1, 40_000, 60_000)
    found = coarse.assign_coords(x=coarse.x + 0.6).demsr.coregister(fine)
    assert (found.dy, found.dx) == pytest.approx((0.0, -0.6), abs=0.02)
    assert sum(read) < 10_000_000


def plane(y: xr.DataArray, x: xr.DataArray) -> xr.DataArray:
    return 0.2 * y + 0.1 * x


def ridges(across: xr.DataArray) -> xr.DataArray:
    return 30 * np.sin(across / 200) + 5 * np.cos(across / 70)


UNTOLD = {
    "flat": lambda dem: dem * 0 + 7,
    "a plane": lambda dem: dem * 0 + plane(dem.y - dem.y[0], dem.x - dem.x[0]),
    "ridges": lambda dem: dem * 0 + ridges(dem.x + 2 * dem.y),
    "valleys": lambda dem: dem * 0 + ridges(dem.x),
}


@pytest.mark.parametrize("method", ["slope", "correlation"])
@pytest.mark.parametrize("name", UNTOLD)
def test_a_shift_that_cannot_be_told_is_not(fine: xr.DataArray, name: str, method: str) -> None:
    made = UNTOLD[name](fine).astype(np.float32)
    with pytest.raises(InputError, match=r"cannot be told|no shift was found|pixels apart"):
        displaced(made, 0.3, 0.4, noise=0.2).demsr.coregister(made, method=method)


def test_noise_tells_nothing(fine: xr.DataArray) -> None:
    noise = np.random.default_rng(0).normal(size=fine.shape)
    with pytest.raises(InputError, match=r"cannot be told|no shift was found"):
        displaced(fine * 0, 0.3, 0.4, noise=0.2).demsr.coregister(fine * 0 + noise)


def test_different_places_are_refused(fine: xr.DataArray) -> None:
    with pytest.raises(InputError, match=r"different places"):
        displaced(fine, 0.0, 0.0).demsr.coregister(terrain(seed=5))


def test_pairs_that_cannot_be(fine: xr.DataArray) -> None:
    coarse = displaced(fine, 0.0, 0.0)
    with pytest.raises(GridError, match="do not overlap"):
        coarse.assign_coords(x=coarse.x + 1e5).demsr.coregister(fine)
    with pytest.raises(GridError, match="different CRSs"):
        coarse.rio.write_crs("EPSG:32612").demsr.coregister(fine)
    with pytest.raises(InputError, match="finer raster must be the reference"):
        fine.demsr.coregister(coarse)
    with pytest.raises(InputError, match="slope, correlation"):
        coarse.demsr.coregister(fine, method="guess")
    with pytest.raises(InputError, match="256 are needed"):
        coarse[:10, :12].demsr.coregister(fine)
    with pytest.raises(InputError, match="too narrow"):
        coarse[5:7].demsr.coregister(fine)
    with pytest.raises(InputError, match="0 coarse pixels"):
        coarse.demsr.coregister(fine * np.nan)
    with pytest.raises(InputError, match="pixels apart"):
        coarse.assign_coords(x=coarse.x + 15 * PIXEL).demsr.coregister(fine)


def shift_of(dx: float, dy: float, dz: float = 0.0) -> Shift:
    return Shift(dx, dy, dz, (-dy / 30.0, dx / 30.0), 1.0, 1.0, 1000)


def test_applying_moves_and_raises(dem: xr.DataArray) -> None:
    moved = shift_of(12.5, -7.0, 2.0).apply(dem)
    np.testing.assert_allclose(moved, dem.values + 2.0)
    np.testing.assert_allclose(moved.x, dem.x.values + 12.5)
    np.testing.assert_allclose(moved.y, dem.y.values - 7.0)
    left, bottom, right, top = dem.rio.bounds()
    assert moved.rio.bounds() == (left + 12.5, bottom - 7.0, right + 12.5, top - 7.0)
    assert moved.rio.crs == dem.rio.crs
    assert moved.attrs["units"] == "m"
    series = xr.concat([dem, dem + 1], "time").fillna(-9999).astype("int16").chunk(time=1, y=9)
    moved = shift_of(1.0, 1.0, 0.5).apply(series)
    assert moved.chunks is not None
    assert moved.dims == ("time", "y", "x")
    np.testing.assert_array_equal(np.isnan(moved[1]), np.isnan(dem.values))
    with pytest.raises(GridError, match="neither coordinates nor a transform"):
        shift_of(1.0, 1.0).apply(xr.DataArray(np.zeros((3, 4)), dims=("y", "x")))


def test_a_training_pair(fine: xr.DataArray) -> None:
    coarse = displaced(fine, -0.6, 0.4) + 2.0
    shift = coarse.demsr.coregister(fine)
    laid = shift.onto(coarse, fine, SCALE)
    truth = fine.demsr.degrade(SCALE)
    xr.align(laid, truth, join="exact")
    assert laid.rio.transform() == truth.rio.transform()
    inside, truth = laid[5:-5, 5:-5], truth[5:-5, 5:-5]
    assert inside.notnull().all()
    assert float(abs(inside - truth).std()) < 0.15 * float(truth.diff("x").std())
    # The first rows and columns lie before the raster.
    assert laid[0].isnull().all()
    assert laid[:, 0].isnull().all()
    with pytest.raises(InputError, match="30 cannot be laid on pixels of 12"):
        shift.onto(coarse, fine, 4)
    with pytest.raises(GridError, match="different CRSs"):
        shift.onto(coarse, fine.rio.write_crs("EPSG:32612"), SCALE)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chunks=st.tuples(st.integers(1, 50), st.integers(1, 70)),
    move=st.tuples(st.floats(-90, 90), st.floats(-90, 90)),
)
def test_laying_on_a_grid_does_not_know_chunks(
    dem: xr.DataArray, chunks: tuple[int, int], move: tuple[float, float]
) -> None:
    shift = shift_of(*move)
    reference = dem.isel(y=slice(3, None)).demsr.upscale(2, "nearest")
    expected = shift.onto(dem, reference, 2)
    lazy = shift.onto(dem.chunk(y=chunks[0], x=chunks[1]), reference, 2)
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy.values, expected.values)


@given(
    slopes=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    move=st.tuples(st.floats(-70, 70), st.floats(-70, 70)),
    ratio=st.floats(0.85, 1.2),
    up=st.booleans(),
)
@settings(deadline=None)
def test_a_plane_is_laid_where_it_belongs(
    slopes: tuple[float, float], move: tuple[float, float], ratio: float, up: bool
) -> None:
    def raster(ny: int, nx: int, size: float, up: bool) -> xr.DataArray:
        y, x = (np.arange(n) * size + size / 2 for n in (ny, nx))
        y = y if up else y[::-1]
        z = slopes[0] * y[:, None] + slopes[1] * x
        return xr.DataArray(z, dims=("y", "x"), coords={"y": y, "x": x})

    coarse, fine = raster(17, 23, 30.0, up=False), raster(40, 60, 15.0 * ratio, up)
    laid = shift_of(*move).onto(coarse, fine, 2)
    truth = raster(20, 30, 30.0 * ratio, up).assign_coords(laid.coords)
    # What lies at (x, y) lay at (x - dx, y - dy).
    expected = truth - slopes[0] * move[1] - slopes[1] * move[0]
    assert laid.notnull().any()
    np.testing.assert_allclose(laid.where(laid.notnull(), expected), expected, atol=2e-3)


def test_what_need_not_move_is_untouched(dem: xr.DataArray) -> None:
    fine = dem.demsr.upscale(3, "nearest")
    laid = shift_of(0.0, 0.0).onto(dem, fine, 3)
    np.testing.assert_array_equal(laid.values, dem.values)
