"""A raster on another one's grid: placed exactly, void-safe, blind to chunks."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import dask
import numpy as np
import pytest
import rasterio.warp
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from scipy.ndimage import map_coordinates

import xdemsr
from xdemsr import matching
from xdemsr.errors import GridError, InputError
from xdemsr.grid import Grid
from xdemsr.placing import Placement
from xdemsr.window import Span, Window

METHODS = ["nearest", "bilinear", "cubic", "average"]
UTM, LONLAT = "EPSG:32611", "EPSG:4326"


def raster(
    values: Any, origin: tuple[float, float], size: tuple[float, float], crs: str | None = UTM
) -> xr.DataArray:
    """Pixels of ``size`` (height with its sign, width) from the outer corner ``origin`` (y, x)."""
    values = np.asarray(values)
    y, x = (
        edge + step * (np.arange(n) + 0.5)
        for edge, step, n in zip(origin, size, values.shape[-2:], strict=True)
    )
    dims = ("band", "y", "x")[-values.ndim :]
    da = xr.DataArray(values, dims=dims, coords={"y": y, "x": x}, name="guide")
    return da if crs is None else da.rio.write_crs(crs)


def grid(shape: tuple[int, int], *place: Any) -> xr.DataArray:
    return raster(np.zeros(shape), *place)


def hills(ny: int, nx: int, **more: Any) -> xr.DataArray:
    return xdemsr.synthetic.terrain((ny, nx), gsd=30.0, **more)


def over(dem: xr.DataArray, shape: tuple[int, int], crs: str = LONLAT) -> xr.DataArray:
    """An empty raster, in degrees if not said otherwise, that covers another and somewhat more."""
    west, south, east, north = dem.rio.transform_bounds(crs)
    dy, dx = (north - south) / shape[0], (east - west) / shape[1]
    return grid(shape, (north + dy, west - 2 * dx), (-1.07 * dy, 1.11 * dx), crs)


@given(
    slopes=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    size=st.tuples(st.floats(0.3, 40), st.floats(0.3, 40)),
    start=st.tuples(st.floats(-20, 60), st.floats(-20, 60)),
    up=st.tuples(st.booleans(), st.booleans()),
    method=st.sampled_from(METHODS[1:]),
)
@settings(deadline=None, max_examples=60)
def test_a_plane_is_put_where_it_belongs(
    slopes: tuple[float, float],
    size: tuple[float, float],
    start: tuple[float, float],
    up: tuple[bool, bool],
    method: Any,
) -> None:
    def plane(da: xr.DataArray) -> xr.DataArray:
        return (100 + slopes[0] * da.y + slopes[1] * da.x).transpose("y", "x").rename("guide")

    source = plane(grid((31, 43), (0.0, 0.0), (2.0, 2.5), None))
    like = grid((9, 14), start, (size[0], size[1]), None)
    like = like[:: -1 if up[0] else 1, :: -1 if up[1] else 1]
    try:
        found = xdemsr.match_grid(source[:, ::-1], like, method=method)
    except GridError:
        stop = [start[k] + n * size[k] for k, n in enumerate(like.shape)]
        assert start[0] >= 62 - 1e-5 or start[1] >= 107.5 - 1e-5 or min(stop) <= 1e-5
        return
    # Where a pixel, and what interpolation reads around its middle, lies inside.
    inside = (like.y - size[0] / 2 >= 1) & (like.y + size[0] / 2 <= 61)
    inside = inside & (like.x - size[1] / 2 >= 1.25) & (like.x + size[1] / 2 <= 106.25)
    np.testing.assert_allclose(
        found.where(inside), plane(like).where(inside), rtol=1e-6, atol=1e-4, equal_nan=True
    )


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_the_same_grid_copies(dem: xr.DataArray, method: Any) -> None:
    np.testing.assert_array_equal(xdemsr.match_grid(dem, dem, method=method).values, dem.values)
    turned = dem[::-1, ::-1].drop_vars("spatial_ref")
    back = xdemsr.match_grid(turned, dem, method=method)
    np.testing.assert_array_equal(back.values, dem.values)
    # A window of it, by coordinates that were rounded elsewhere.
    part = dem[5:31, 7:50]
    part = part.assign_coords(x=part.x + 1e-7, y=part.y * (1 + 1e-15))
    np.testing.assert_array_equal(xdemsr.match_grid(dem, part, method=method).values, part.values)


@pytest.mark.parametrize("k", [2, 3, 7])
def test_where_grids_nest_an_average_is_the_mean_of_what_is_inside(k: int) -> None:
    fine = hills(42, 84)
    fine[8:20, 30:50] = np.nan
    like = fine.demsr.degrade(k)
    found = xdemsr.match_grid(fine, like)
    blocks = fine.astype(float).coarsen(y=k, x=k)
    expected = blocks.mean().where(fine.notnull().coarsen(y=k, x=k).mean() >= 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert 0 < int(found.isnull().sum()) < int(like.isnull().sum()) + 30


def reference(dem: xr.DataArray, like: xr.DataArray) -> Any:
    """Bilinear interpolation at exactly transformed pixel centres, where four pixels are there."""
    there = Transformer.from_crs(like.rio.crs, dem.rio.crs, always_xy=True)
    x, y = there.transform(*np.meshgrid(like.x, like.y))
    rows = (y - float(dem.y[0])) / float(dem.y[1] - dem.y[0])
    columns = (x - float(dem.x[0])) / float(dem.x[1] - dem.x[0])
    return map_coordinates(dem.values.astype(float), [rows, columns], order=1, cval=np.nan)


def test_another_crs_is_met_exactly() -> None:
    dem = hills(150, 210)
    like = over(dem, (97, 131))
    found = xdemsr.match_grid(dem, like, method="bilinear")
    expected = reference(dem, like)
    known = np.isfinite(expected)
    assert known.mean() > 0.7
    np.testing.assert_allclose(found.values[known], expected[known], atol=2e-4)
    assert found.rio.crs == like.rio.crs
    # Beyond the outermost centres, up to the outer edges, the nearest go on.
    assert known.sum() < found.notnull().sum() < known.sum() + 2 * sum(like.shape)


@pytest.mark.parametrize(
    ("method", "near"), [("bilinear", 0.2), ("cubic", 0.2), ("average", 0.3), ("nearest", 0.3)]
)
def test_gdal_says_much_the_same(method: Any, near: float) -> None:
    dem = hills(150, 210)
    like = over(dem, (97, 131) if method != "average" else (41, 57))
    found = xdemsr.match_grid(dem, like, method=method).values
    warped = np.full(like.shape, np.nan, np.float32)
    rasterio.warp.reproject(
        dem.values.astype(np.float32),
        warped,
        src_transform=Affine(*dem.rio.transform()[:6]),
        src_crs=UTM,
        dst_transform=Affine(*like.rio.transform(recalc=True)[:6]),
        dst_crs=LONLAT,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=rasterio.warp.Resampling[method],
    )
    both = np.isfinite(found) & np.isfinite(warped)
    assert both.sum() > 0.9 * max(np.isfinite(found).sum(), np.isfinite(warped).sum())
    off = np.abs(found - warped)[both]
    steps = float(np.abs(np.diff(dem.values, axis=1)).mean())
    # GDAL interpolates the transformation, to an eighth of a pixel.
    assert off.mean() < near * steps


LIKES = {
    "finer": grid((90, 70), (4.0997e6, 5.003e5), (-11.3, 17.7)),
    "coarser": grid((31, 29), (4.0999e6, 5.0005e5), (-41.3, 77.7)),
    # Degrees, and a zone so far away that rows and columns are turned by fifteen degrees.
    "degrees": over(hills(60, 80), (97, 131)),
    "turned": over(hills(60, 80), (90, 111), "EPSG:32615"),
}


@pytest.mark.parametrize("name", LIKES)
@settings(deadline=None, max_examples=10)
@given(
    chunks=st.tuples(st.integers(1, 60), st.integers(1, 80)),
    answer=st.integers(5, 70),
    method=st.sampled_from(METHODS),
)
def test_chunks_never_change_a_bit(
    name: str, chunks: tuple[int, int], answer: int, method: Any
) -> None:
    dem, like = hills(60, 80), LIKES[name]
    dem[20:30, 31:50] = np.nan
    expected = xdemsr.match_grid(dem, like, method=method).values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_CHUNK", answer)
        patch.setattr(matching, "_SMALLEST", answer)
        lazy = xdemsr.match_grid(dem.chunk(y=chunks[0], x=chunks[1]), like.chunk(9), method=method)
        assert lazy.chunks is not None
        assert max(lazy.chunks[-2]) <= answer
        np.testing.assert_array_equal(lazy.compute(scheduler="sync").values, expected)
    assert np.isfinite(expected).mean() > 0.2


def test_voids_spoil_nothing_and_stay() -> None:
    dem = hills(60, 80)
    like = over(dem, (51, 73))
    full = xdemsr.match_grid(dem, like, method="bilinear")
    holed = dem.copy()
    holed[20:30, 31:50] = np.nan
    found = xdemsr.match_grid(holed, like, method="bilinear")
    nearest = xdemsr.match_grid(holed, like, method="nearest")
    np.testing.assert_array_equal(found.isnull(), nearest.isnull())
    assert found.isnull().sum() > full.isnull().sum()
    # A pixel within one of a void shares out weights: it stays among its known neighbours.
    known = found.notnull().values
    assert float(np.abs(found - full).values[known].max()) < float(dem.max() - dem.min()) / 4
    marked = holed.fillna(-9999.0).assign_attrs(_FillValue=-9999.0)
    again = xdemsr.match_grid(marked, like, method="bilinear")
    np.testing.assert_array_equal(again.values, found.values)
    assert xdemsr.match_grid(dem * np.nan, like, method="bilinear").isnull().all()


def test_classes_are_not_mixed() -> None:
    classes = raster(np.arange(35).reshape(5, 7) % 3 * 7, (0.0, 0.0), (10.0, 10.0), None)
    like = grid((23, 31), (1.0, 2.0), (2.0, 2.1), None)
    named = classes.assign_attrs(flag_values=[0, 7, 14])
    assert set(np.unique(xdemsr.match_grid(named, like))) <= {0, 7, 14}
    assert len(np.unique(xdemsr.match_grid(classes, like))) > 10
    mask = xdemsr.match_grid(classes > 0, grid((2, 3), (0.0, 0.0), (25.0, 23.0), None))
    assert set(np.unique(mask)) <= {0, 1}


def test_labels_are_those_of_the_grid_and_names_those_of_the_raster(dem: xr.DataArray) -> None:
    guide = hills(43, 61, seed=4).rename("ortho").assign_attrs(units="1", long_name="ortho")
    bands = xr.concat([guide, guide + 1], "band").assign_coords(band=["left", "right"])
    fine = bands.isel(y=slice(3, 40)).rename(y="lat", x="lon").chunk(lat=11)
    fine = fine.rio.set_spatial_dims("lon", "lat").drop_vars("spatial_ref")
    laid = xdemsr.match_grid(fine, dem)
    assert laid.dims == ("band", "y", "x")
    assert list(laid.band.values) == ["left", "right"]
    xr.align(laid, dem, join="exact")
    assert laid.rio.transform() == dem.rio.transform()
    assert laid.rio.crs == dem.rio.crs
    assert (laid.name, laid.attrs["units"], laid.dtype) == ("ortho", "1", np.float32)
    np.testing.assert_array_equal(laid[1, 3:40], bands[1, 3:40].astype(np.float32))
    assert laid[:, :3].isnull().all()


def test_a_dataset_may_say_the_grid(dem: xr.DataArray) -> None:
    laid = xdemsr.match_grid(hills(43, 61, seed=4), xr.Dataset({"a": dem, "b": dem}))
    assert laid.shape == dem.shape


def test_longitudes_may_run_from_0_to_360() -> None:
    globe = raster(
        np.add.outer(np.arange(90.0), np.arange(180.0)), (90.0, 0.0), (-2.0, 2.0), LONLAT
    )
    west = grid((20, 15), (4.2e6, 3e5), (-2e4, 2.5e4), UTM)
    found = xdemsr.match_grid(globe, west, method="nearest")
    lon, lat = Transformer.from_crs(UTM, LONLAT, always_xy=True).transform(
        *np.meshgrid(west.x, west.y)
    )
    expected = np.floor((90 - lat) / 2) + np.floor((lon + 360) / 2)
    np.testing.assert_array_equal(found.values, expected)


@pytest.mark.parametrize("answer", [9, 20, 50])
def test_a_pole_is_read_all_around(answer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_CHUNK", answer)
    monkeypatch.setattr(matching, "_SMALLEST", answer)
    rows, columns = np.arange(360.0), np.arange(720) // 9 % 80
    globe = raster(np.add.outer(rows, 1000.0 * columns), (90.0, -180.0), (-0.5, 0.5), LONLAT)
    arctic = grid((50, 54), (2.6e6, -2.8e6), (-1.05e5, 1.03e5), "EPSG:3413")
    found = xdemsr.match_grid(globe.chunk(y=31, x=57), arctic, method="nearest")
    lon, lat = Transformer.from_crs("EPSG:3413", LONLAT, always_xy=True).transform(
        *np.meshgrid(arctic.x, arctic.y)
    )
    expected = np.floor((90 - lat) / 0.5) + 1000 * (np.floor((lon + 180) / 0.5) // 9 % 80)
    np.testing.assert_array_equal(found.values, expected)


def test_what_the_crs_does_not_reach_is_void() -> None:
    globe = grid((36, 72), (90.0, -180.0), (-5.0, 5.0), LONLAT)
    dem = xdemsr.synthetic.terrain((60, 80), gsd=2e4)
    found = xdemsr.match_grid(dem, globe, method="bilinear")
    assert 0 < int(found.notnull().sum()) < 0.2 * globe.size


def test_a_very_fine_raster_is_sampled() -> None:
    fine = raster(np.arange(400.0 * 500).reshape(400, 500), (0.0, 0.0), (1.0, 1.0), None)
    found = xdemsr.match_grid(fine, grid((2, 3), (0.0, 0.0), (400.0, 500.0), None))
    assert float(found[0, 0]) == pytest.approx(float(fine.mean()), rel=1e-5)
    assert int(found.notnull().sum()) == 1


def test_grids_that_share_nothing_are_refused(dem: xr.DataArray) -> None:
    for like in (
        dem.assign_coords(x=dem.x + 1e5).drop_vars("spatial_ref"),
        grid((5, 7), (10.0, 20.0), (-0.1, 0.1), LONLAT),
    ):
        with pytest.raises(GridError, match=r"does not overlap.*pixels, transform.*CRS"):
            xdemsr.match_grid(dem, like)


def test_unknown_methods_and_packed_numbers_are_refused(dem: xr.DataArray) -> None:
    with pytest.raises(InputError, match=r"'lanczos' is not one of auto, nearest"):
        xdemsr.match_grid(dem, dem, method="lanczos")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Unpack"):
        xdemsr.match_grid(dem.assign_attrs(scale_factor=0.1), dem)


def test_building_reads_nothing(dem: xr.DataArray) -> None:
    def never(dsk: object, keys: object, **kwargs: object) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=never):
        lazy = xdemsr.match_grid(dem.chunk(9), over(dem, (20, 30)).chunk(7))
        again = xdemsr.match_grid(dem.chunk(9), over(dem, (20, 30)))
        assert lazy.data.name == again.data.name
        with pytest.raises(AssertionError, match="was computed"):
            lazy.compute()


def test_little_is_read_for_a_window() -> None:
    """A projected window asks for the source under it, and little more."""
    read: list[int] = []

    def noted(block: np.ndarray) -> np.ndarray:
        read.append(block.size)
        return block

    dem = hills(900, 1200)
    lazy = dem.chunk(50)
    lazy.data = lazy.data.map_blocks(noted, dtype=dem.dtype, meta=np.empty((0, 0), dem.dtype))
    like = over(dem, (900, 1200))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_CHUNK", 100)
        patch.setattr(matching, "_SMALLEST", 100)
        found = xdemsr.match_grid(lazy, like, method="cubic")
        found[400:500, 500:600].compute(scheduler="sync")
    assert 100 * 100 < sum(read) < 12 * 100 * 100


@settings(deadline=None, max_examples=60)
@given(
    place=st.tuples(st.floats(-3e6, 3e6), st.floats(-3e6, 3e6)),
    pixel=st.floats(1e3, 2e4),
    core=st.tuples(*[st.integers(1, 300)] * 4),
)
def test_all_that_lies_under_a_window_is_read(
    place: tuple[float, float], pixel: float, core: tuple[int, int, int, int]
) -> None:
    """Around a pole as well, where lines bend."""

    def found(shape: tuple[int, int], affine: Affine, crs: str) -> Grid:
        return Grid("y", "x", GeoBox(shape, affine, crs))

    globe = found((180_000, 360_000), Affine(0.001, 0, -180, 0, -0.001, 90), LONLAT)
    arctic = found((600, 600), Affine(pixel, 0, place[1], 0, -pixel, place[0]), "EPSG:3413")
    placement = Placement.between(arctic, globe)
    y, x, ny, nx = core
    window = Window(Span(y, y + ny), Span(x, x + nx))
    read = placement.reading(window, 0)
    inner = [np.arange(span.start, span.stop) + 0.5 for span in (window.y, window.x)]
    for places, span in zip(placement.at(*inner), (read.y, read.x), strict=True):
        assert span.start <= places.min()
        assert places.max() <= span.stop


def test_importing_transforms_late() -> None:
    code = """
import sys
import xdemsr
dem = xdemsr.synthetic.terrain((20, 30)).chunk(9)
xdemsr.match_grid(dem, dem[::2, ::2])
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
