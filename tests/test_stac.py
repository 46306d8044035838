"""Opening from a STAC: one raster, exactly placed, without steps, whatever it was cut into."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

import xdemsr
from xdemsr import grid
from xdemsr.errors import GridError, InputError

pystac = pytest.importorskip("pystac")
pytest.importorskip("pystac_client")

from catalog import Tiles, add_asset, boxes, make_item, stac_api, write_tile  # noqa: E402
from web import WebServer  # noqa: E402

SECOND = 1 / 3600
NORTH_WEST = Affine(SECOND, 0, 7.0, 0, -SECOND, 46.0)
SHAPE = (91, 130)
#: A place in the first of four tiles.
INSIDE: dict[str, Any] = {"bbox": (7.001, 45.99, 7.012, 45.999)}

cutting = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def terrain(shape: tuple[int, int] = SHAPE, seed: int = 0) -> NDArray[np.float32]:
    return xdemsr.synthetic.terrain(shape, gsd=30.0, seed=seed).values


def whole(
    values: NDArray[Any], transform: Affine = NORTH_WEST, crs: str = "EPSG:4326"
) -> xr.DataArray:
    ny, nx = values.shape
    # As rioxarray rounds.
    coords = {
        "y": np.arange(ny) * transform.e + (transform.f + 0.5 * transform.e),
        "x": np.arange(nx) * transform.a + (transform.c + 0.5 * transform.a),
    }
    array = xr.DataArray(values, dims=("y", "x"), coords=coords)
    return array.rio.write_crs(crs).rio.write_transform(transform)


@pytest.fixture
def tiles(tmp_path: Path) -> Tiles:
    return Tiles(tmp_path, terrain(), NORTH_WEST)


@st.composite
def cuts(draw: st.DrawFn, length: int) -> list[int]:
    inner = draw(st.sets(st.integers(5, length - 5), max_size=2))
    return [0, *sorted(inner), length]


# Exactly the raster that was cut.


@cutting
@given(
    rows=cuts(SHAPE[0]),
    columns=cuts(SHAPE[1]),
    overlap=st.integers(0, 12),
    rising=st.sets(st.integers(0, 8)),
    chunks=st.one_of(st.just("auto"), st.tuples(st.integers(7, 99), st.integers(7, 140))),
    turn=st.randoms(use_true_random=False),
)
def test_pasting_gives_the_raster_that_was_cut(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[int],
    columns: list[int],
    overlap: int,
    rising: set[int],
    chunks: Any,
    turn: Any,
) -> None:
    cut = Tiles(tmp_path_factory.mktemp("cut"), terrain(), NORTH_WEST)
    items = cut.cut(*boxes(rows, columns, overlap), rising=sorted(rising))
    turn.shuffle(items)
    found = xdemsr.open_stac(items, chunks=chunks)
    np.testing.assert_array_equal(found.values, cut.values)
    assert found.rio.transform(recalc=False) == NORTH_WEST
    np.testing.assert_array_equal(found.y, whole(cut.values).y)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "cubic", "average"])
def test_reprojecting_the_mosaic_is_reprojecting_the_whole(tiles: Tiles, method: Any) -> None:
    items = tiles.cut(*boxes([0, 33, 91], [0, 47, 101, 130], 4))
    size = 90 if method == "average" else 22
    found = xdemsr.open_stac(items, crs="utm", resolution=size, resampling=method, chunks=(17, 40))
    expected = xdemsr.match_grid(whole(tiles.values), found, method=method)
    assert np.isfinite(found.values).mean() > 0.8
    np.testing.assert_array_equal(found.values, expected.values)


def test_a_place_is_cut_from_the_lattice_of_the_items(tiles: Tiles) -> None:
    items = tiles.cut(*boxes([0, 33, 91], [0, 47, 130]))
    west, south = 7.0 + 20.25 * SECOND, 46 - 60.75 * SECOND
    found = xdemsr.open_stac(items, bbox=(west, south, west + 40 * SECOND, south + 30 * SECOND))
    np.testing.assert_array_equal(found.values, tiles.values[30:61, 20:61])
    assert found.rio.transform().almost_equals(NORTH_WEST * Affine.translation(20, 30))


def test_what_no_item_covers_is_void(tiles: Tiles) -> None:
    missing = (slice(33, 91), slice(47, 101))
    items = tiles.cut(*(b for b in boxes([0, 33, 91], [0, 47, 101, 130]) if b != missing))
    expected = tiles.values.copy()
    expected[missing] = np.nan
    np.testing.assert_array_equal(xdemsr.open_stac(items).values, expected)
    wider = xdemsr.open_stac(items, bbox=(6.99, 45.97, 7.04, 46.01))
    assert np.isfinite(wider.values).sum() == np.isfinite(expected).sum()


def test_like_another_raster(tiles: Tiles) -> None:
    items = tiles.cut(*boxes([0, 50, 91], [0, 60, 130], 3))
    other = whole(
        np.zeros((40, 33), np.float32), Affine(40, 0, 345100, 0, -30, 5095500), "EPSG:32632"
    )
    other = other.rename(y="northing", x="easting")
    found = xdemsr.open_stac(items, like=other, resampling="bilinear")
    assert found.dims == ("northing", "easting")
    xr.testing.assert_equal(found.northing, other.northing)
    expected = xdemsr.match_grid(whole(tiles.values), other, method="bilinear")
    # Only what is around is mosaicked; so far from the corner of all, floats are rounded anew.
    np.testing.assert_allclose(found.values, expected.values, atol=2e-4)
    assert np.isfinite(found.values).any()
    same = xdemsr.open_stac(items, like=grid.of(other).geobox, resampling="bilinear")
    np.testing.assert_array_equal(same.values, found.values)


# Overlaps.


def test_items_that_disagree_are_blended_without_a_step(tmp_path: Path) -> None:
    level = np.full((40, 60), 100, np.float32)
    items = []
    for k, (start, height) in enumerate([(0, 0.0), (48, 0.6), (96, -0.3)]):
        moved = NORTH_WEST * Affine.translation(start, 0)
        path = write_tile(tmp_path / f"{k}.tif", level + np.float32(height), moved)
        items.append(make_item(str(path), path))
    found = xdemsr.open_stac(items).values
    assert found.shape == (40, 156)
    # Over twelve pixels by 0.6 m and by 0.9 m: no step is much more than a twelfth.
    assert np.abs(np.diff(found, axis=1)).max() < 0.9 / 10
    assert np.all(np.diff(found[20, 44:64]) >= 0)
    np.testing.assert_array_equal(found[:, :48], 100)
    np.testing.assert_array_equal(found[:, 108:], np.float32(99.7))


@cutting
@given(
    order=st.permutations(range(5)),
    chunks=st.tuples(st.integers(9, 99), st.integers(9, 140)),
)
def test_neither_order_nor_chunks_change_a_bit(
    tmp_path_factory: pytest.TempPathFactory, order: Sequence[int], chunks: tuple[int, int]
) -> None:
    items = _disagreeing(tmp_path_factory.mktemp("disagreeing"))
    expected = xdemsr.open_stac(items).values
    given_so = [items[k] for k in order]
    np.testing.assert_array_equal(xdemsr.open_stac(given_so, chunks=chunks).values, expected)


def _disagreeing(folder: Path) -> list[Any]:
    items = []
    places = [(0, 0), (0, 50), (30, 0), (30, 50), (17, 21)]
    for k, (y, x) in enumerate(places):
        values = terrain((61, 80), seed=k)
        values[5:20, 7 * k : 7 * k + 9] = np.nan
        path = write_tile(folder / f"{k}.tif", values, NORTH_WEST * Affine.translation(x, y))
        items.append(make_item(str(path), path))
    return items


def test_voids_of_one_are_filled_by_another(tmp_path: Path) -> None:
    values = terrain()
    items = []
    for k, hole in enumerate([(slice(20, 40), slice(50, 70)), (slice(60, 70), slice(90, 99))]):
        part = values.copy()
        part[hole] = -9999
        path = write_tile(tmp_path / f"{k}.tif", part, NORTH_WEST, nodata=-9999)
        items.append(make_item(str(path), path))
    np.testing.assert_array_equal(xdemsr.open_stac(items).values, values)


@pytest.mark.parametrize(("overlap", "expected"), [("newest", 3), ("least cloudy", 1)])
def test_the_first_in_an_order(tmp_path: Path, overlap: Any, expected: float) -> None:
    items = []
    for value, cloud in [(1, 5.0), (2, 40.0), (3, 80.0)]:
        plane = np.full((20, 30), value, np.uint16)
        plane[:5] = 0 if value == expected else value
        path = write_tile(tmp_path / f"{value}.tif", plane, NORTH_WEST, nodata=0)
        how = {"when": f"2021-05-0{value}T10:00:00Z", "properties": {"eo:cloud_cover": cloud}}
        items.append(make_item(str(path), path, **how))
    found = xdemsr.open_stac(items[::-1], overlap=overlap).values
    np.testing.assert_array_equal(found[5:], expected)
    np.testing.assert_array_equal(found[:5], 2)
    np.testing.assert_array_equal(xdemsr.open_stac(items).values[5:], 1)


# Where a product changes its spacing.


def _surface(lon: Any, lat: Any) -> Any:
    wave = 200 * np.sin((lon - 5) * 2 * np.pi / 0.02) * np.cos((lat - 50) * 2 * np.pi / 0.017)
    return 500 + wave + 3000 * (lat - 50) + 2000 * (lon - 5)


def _two_spacings(folder: Path, overlap: int, tall: float = 1.0, missing: str = "") -> list[Any]:
    """Tiles as GLO-30 has them at 50 degrees: 1 second south of it, 1.5 seconds north of it.

    ``tall``: seconds that northern pixels are high.
    """
    half, wide = SECOND / 2, 1.5 * SECOND
    south, north = 50 + half, 50 + half + 72 * SECOND
    rows = round(72 / tall) + overlap
    made = []
    for name, left, top, ny, nx, dx, dy in [
        ("s0", 5 - half, south, 75, 100, SECOND, SECOND),
        ("s1", 5 - half + 100 * SECOND, south, 75, 83, SECOND, SECOND),
        ("n0", 5 - wide / 2, north, rows, 67, wide, tall * SECOND),
        ("n1", 5 - wide / 2 + 67 * wide, north, rows, 55, wide, tall * SECOND),
    ]:
        lon = left + (np.arange(nx) + 0.5) * dx
        lat = top - (np.arange(ny) + 0.5) * dy
        values = _surface(lon[None], lat[:, None]).astype(np.float32)
        path = write_tile(
            folder / f"{name}.tif", values, Affine(dx, 0, left, 0, -dy, top), rising=name == "n1"
        )
        if name != missing:
            made.append(make_item(str(path), path))
    return made


@pytest.mark.parametrize("tall", [1.0, 1.5])
@pytest.mark.parametrize("overlap", [0, 9])
@pytest.mark.parametrize("place", [{}, {"crs": "EPSG:32631", "resolution": 24}])
def test_no_step_where_spacings_meet(tmp_path: Path, tall: float, overlap: int, place: Any) -> None:
    items = _two_spacings(tmp_path, overlap, tall)
    found = xdemsr.open_stac(items, resampling="bilinear", chunks=(41, 77), **place)
    error, lat = _error(found)
    border = np.abs(lat - (50 + SECOND / 2)) < 2 * SECOND
    inside = (lat > 50 - 70 * SECOND) & (lat < 50 + 66 * SECOND)
    assert np.isfinite(error[border]).mean() > 0.9
    # Interpolation between known heights errs no more at the border than it does elsewhere; each
    # side on its own would err by twice as much.
    elsewhere = np.nanmax(np.abs(error[inside & ~border]))
    assert np.nanmax(np.abs(error[border])) < 1.3 * elsewhere < 2
    other = xdemsr.open_stac(items[::-1], resampling="bilinear", **place)
    np.testing.assert_array_equal(other.values, found.values)


def _error(found: xr.DataArray) -> tuple[NDArray[Any], NDArray[Any]]:
    """Away from the outer borders, in metres; and latitudes."""
    from pyproj import Transformer

    x, y = np.meshgrid(found.x, found.y)
    lon, lat = Transformer.from_crs(found.rio.crs, 4326, always_xy=True).transform(x, y)
    inside = (lon > 5) & (lon < 5 + 180 * SECOND)
    inside &= (lat > 50 - 73 * SECOND) & (lat < 50 + 69 * SECOND)
    known = np.isfinite(found.values)
    assert known[inside].all(), "no line of voids"
    return np.where(inside, found.values - _surface(lon, lat), np.nan), lat


def test_a_hole_between_spacings_stays_one(tmp_path: Path) -> None:
    found = xdemsr.open_stac(_two_spacings(tmp_path, 0, missing="n0"))
    lon, lat = np.meshgrid(found.x, found.y)
    hole = (lat > 50 + 2 * SECOND) & (lon < 5 + 98 * SECOND)
    assert hole.any()
    assert np.isnan(found.values[hole]).all()
    beside = (lat > 50 + 2 * SECOND) & (lat < 50 + 68 * SECOND)
    beside &= (lon > 5 + 101 * SECOND) & (lon < 5 + 180 * SECOND)
    assert np.isfinite(found.values[beside]).all()


# Numbers.


def test_packed_numbers_are_unpacked(tmp_path: Path) -> None:
    stored = np.arange(600, dtype=np.uint16).reshape(20, 30)
    path = write_tile(tmp_path / "packed.tif", stored, NORTH_WEST, nodata=0)
    bands = [{"nodata": 0, "data_type": "uint16", "scale": 0.5, "offset": -100.0, "unit": "metre"}]
    found = xdemsr.open_stac([make_item(str(path), path, bands=bands)])
    expected = np.where(stored == 0, np.nan, stored * 0.5 - 100)
    np.testing.assert_array_equal(found.values, expected.astype(np.float32))
    assert found.attrs["units"] == "m"


@pytest.mark.parametrize(
    ("properties", "offset"),
    [
        ({"s2:processing_baseline": "02.14"}, 0.0),
        ({"s2:processing_baseline": "05.09"}, -0.1),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, 0.0),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": False}, -0.1),
    ],
)
@pytest.mark.parametrize("stated", [True, False])
def test_the_shift_of_sentinel_2(
    tmp_path: Path, properties: dict[str, Any], offset: float, stated: bool
) -> None:
    items = _sentinel_2(tmp_path, properties, stated)
    found = xdemsr.open_stac(items)
    assert list(found.data_vars) == ["blue", "green", "red", "nir"]
    for k, name in enumerate(found.data_vars):
        numbers = np.float32((2000 + k) * 1e-4 + offset)
        np.testing.assert_array_equal(found[name].values[3:], numbers)
        assert np.isnan(found[name].values[:3]).all()
        assert found[name].attrs["units"] == "1"
    classes = xdemsr.open_stac(items, bands="SCL")
    np.testing.assert_array_equal(np.unique(classes.values), [4, 9])


def _sentinel_2(folder: Path, properties: dict[str, Any], stated: bool) -> list[Any]:
    place = Affine(10, 0, 399960, 0, -10, 4700040)
    item = None
    for k, (key, name) in enumerate(
        [("B02", "blue"), ("B03", "green"), ("B04", "red"), ("B08", "nir"), ("SCL", "")]
    ):
        plane = np.full((24, 36), 2000 + k, np.uint16)
        plane[:3] = 0
        if key == "SCL":
            plane = np.where(np.arange(36) % 2, 4, 9).astype(np.uint8) * np.ones((24, 1), np.uint8)
        path = write_tile(folder / f"{key}.tif", plane, place, "EPSG:32632")
        bands = [{"nodata": 0, "scale": 1e-4, "offset": -0.1}] if stated and name else None
        if item is None:
            how = {"collection": "sentinel-2-l2a", "properties": properties, "asset": key}
            item = make_item(str(path), path, name="S2", bands=bands, **how)
        else:
            add_asset(item, key, str(path), **dict(item.assets["B02"].extra_fields))
        fields = item.assets[key].extra_fields
        fields["raster:bands"] = bands or [{}]
        fields["eo:bands"] = [{"name": key, **({"common_name": name} if name else {})}]
    assert item is not None
    picture = str(folder / "B02.tif")
    colours = [{"common_name": name} for name in ("red", "green", "blue")]
    add_asset(item, "visual", picture, **{"eo:bands": colours})
    return [item]


def test_classes_are_never_mixed(tmp_path: Path) -> None:
    plane = np.where(np.indices((40, 60)).sum(axis=0) % 7 < 3, 4, 9).astype(np.uint8)
    path = write_tile(tmp_path / "classes.tif", plane, NORTH_WEST)
    item = make_item(str(path), path)
    classes = [{"value": 4, "name": "vegetation"}, {"value": 9, "description": "high cloud"}]
    item.assets["data"].extra_fields["classification:classes"] = classes
    found = xdemsr.open_stac([item], crs="utm", resolution=17)
    assert set(np.unique(found.values[np.isfinite(found.values)])) == {4, 9}
    assert found.attrs["flag_meanings"] == "vegetation high_cloud"


# Labels.


def test_glo_30_says_what_its_heights_refer_to(tiles: Tiles, tmp_path: Path) -> None:
    items = tiles.cut(*boxes([0, 50, 91], [0, 130]), collection="cop-dem-glo-30")
    dem = xdemsr.open_stac(items, "cop-dem-glo-30")
    assert dem.name == "elevation"
    assert dem.attrs["units"] == "m"
    assert "EGM2008" in dem.attrs["long_name"]
    for raster in (dem, dem.demsr.upscale(2, "bilinear"), _again(dem, tmp_path)):
        assert _height_code(raster) == 3855
    other = xdemsr.open_stac(items, "cop-dem-glo-30", crs="EPSG:32632", resolution=30)
    assert _height_code(other) == 3855
    assert other.rio.crs.is_projected
    like = xdemsr.open_stac(items, "cop-dem-glo-30", like=whole(tiles.values))
    assert _height_code(like) == 3855
    np.testing.assert_array_equal(like.values, tiles.values)


def _again(dem: xr.DataArray, folder: Path) -> xr.DataArray:
    fine = dem.demsr.upscale(2, "bilinear", chunks=64)
    return xdemsr.open(xdemsr.write_zarr(fine, folder / "fine.zarr"))


def _height_code(raster: xr.DataArray) -> int | None:
    from pyproj import CRS

    parts = CRS.from_wkt(raster.rio.crs.to_wkt()).sub_crs_list
    return parts[1].to_epsg() if parts else None


def test_two_vertical_datums_are_refused(tmp_path: Path) -> None:
    items = []
    for k, crs in enumerate(["EPSG:9518", "EPSG:5498"]):
        path = write_tile(tmp_path / f"{k}.tif", terrain((20, 30)), NORTH_WEST, crs)
        items.append(make_item(str(path), path))
    with pytest.raises(InputError, match=r"EGM2008 height, NAVD88 height.*does not transform"):
        xdemsr.open_stac(items, crs="EPSG:4326", resolution=SECOND)


def test_provenance_without_secrets(tiles: Tiles) -> None:
    items = tiles.cut(*boxes(range(0, 91, 5), [0, 130]))
    found = xdemsr.open_stac(items)
    assert found.attrs["stac_item_count"] == 18
    assert len(found.attrs["stac_items_sha256"]) == 64
    assert "stac_items" not in found.attrs
    assert xdemsr.open_stac(items[:2]).attrs["stac_items"] == "t0, t1"


_NAME = """
import json, sys, pystac, xdemsr
items = pystac.ItemCollection.from_dict(json.load(open(sys.argv[1])))
place = json.loads(sys.argv[2])
dem = xdemsr.open_stac(items, **place)
assert "torch" not in sys.modules
print(dem.data.name)
"""


def test_names_are_the_same_in_every_process_and_change_with_the_files(tmp_path: Path) -> None:
    items = _two_spacings(tmp_path, 0)
    listed = tmp_path / "items.json"
    listed.write_text(json.dumps(pystac.ItemCollection(items).to_dict()))

    def named(**place: Any) -> str:
        command = [sys.executable, "-c", _NAME, str(listed), json.dumps(place)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    place = {"crs": "EPSG:32631", "resolution": 24}
    here = xdemsr.open_stac(items, **place)
    assert named(**place) == here.data.name
    assert xdemsr.open_stac(items, crs="EPSG:32631", resolution=25).data.name != here.data.name
    assert xdemsr.open_stac(items, **place, retries=9).data.name == here.data.name
    path = tmp_path / "s0.tif"
    write_tile(path, np.zeros((75, 100), np.float32), Affine(SECOND, 0, 5, 0, -SECOND, 50))
    write_tile(
        path,
        np.zeros((75, 100), np.float32),
        Affine(SECOND, 0, 5 - SECOND / 2, 0, -SECOND, 50 + SECOND / 2),
    )
    assert xdemsr.open_stac(items, **place).data.name != here.data.name


def test_days(tmp_path: Path) -> None:
    items = []
    # At 7 degrees east the sun is half an hour ahead of UTC: the third one is seen the next day.
    times = ["2021-05-01T10:00:00Z", "2021-05-01T10:00:20Z", "2021-05-01T23:45:00Z"]
    for k, when in enumerate(times):
        plane = np.full((20, 30), k + 1, np.float32)
        moved = NORTH_WEST * Affine.translation(30 * (k % 2), 0)
        path = write_tile(tmp_path / f"{k}.tif", plane, moved)
        items.append(make_item(str(path), path, when=when))
    found = xdemsr.open_stac(items[::-1], mosaic="day", chunks=(9, 40))
    assert found.dims == ("time", "y", "x")
    assert found.shape == (2, 20, 60)
    assert list(found.time.values) == [np.datetime64(t[:-1], "ns") for t in (times[0], times[2])]
    np.testing.assert_array_equal(found.values[0, :, :30], 1)
    np.testing.assert_array_equal(found.values[0, :, 30:], 2)
    np.testing.assert_array_equal(found.values[1, :, :30], 3)
    assert np.isnan(found.values[1, :, 30:]).all()
    fine = found.demsr.upscale(2, "bilinear")
    assert fine.shape == (2, 40, 120)


# Where items come from.


def test_an_api_a_client_a_catalog_and_a_list(tiles: Tiles, tmp_path: Path) -> None:
    from pystac_client import Client

    with WebServer(tmp_path) as web:
        tiles.root = web.root
        items = tiles.cut(*boxes([0, 50, 91], [0, 60, 130]))
        catalog = pystac.Catalog("static", "a catalog of files")
        catalog.add_items([item.clone() for item in items])
        catalog.normalize_and_save(str(tmp_path / "catalog"), pystac.CatalogType.SELF_CONTAINED)
        listed = tmp_path / "listed.json"
        listed.write_text(json.dumps(pystac.ItemCollection(items).to_dict()))
        expected = xdemsr.open_stac(items, "terrain", **INSIDE)
        assert expected.attrs["stac_items"] == "t0"
        with stac_api(tmp_path, items) as url:
            files = (tmp_path / "catalog" / "catalog.json", web.url("catalog/catalog.json"))
            for source in (url, Client.open(url), *files, str(listed)):
                found = xdemsr.open_stac(source, "terrain", **INSIDE, datetime="2021-04")
                np.testing.assert_array_equal(found.values, expected.values)
                assert found.data.name == expected.data.name
                with pytest.raises(InputError, match=r"no item for collection=terrain, .*1999"):
                    xdemsr.open_stac(source, "terrain", **INSIDE, datetime="1999-01/1999-03")


def test_what_an_api_does_not_have(tiles: Tiles, tmp_path: Path) -> None:
    items = tiles.cut(*boxes([0, 50, 91], [0, 60, 130]))
    with stac_api(tmp_path, items) as url:
        with pytest.raises(InputError, match=r"no collection 'terrian'.*'terrain'"):
            xdemsr.open_stac(url, "terrian")
        with pytest.raises(InputError, match=r"reaches over \[7.*from 2021-04-22 to 2021-04-22"):
            xdemsr.open_stac(url, "terrain", bbox=(17, 45, 18, 46))
        with pytest.raises(InputError, match="more than max_items=3"):
            xdemsr.open_stac(url, "terrain", max_items=3)
        with pytest.raises(InputError, match="say which collection"):
            xdemsr.open_stac(url, **INSIDE)
        with pytest.raises(InputError, match="HTTP status 404"):
            xdemsr.open_stac(url + "/nowhere", "terrain")


def test_a_geometry(tiles: Tiles) -> None:
    items = tiles.cut(*boxes([0, 50, 91], [0, 60, 130]))
    ring = [[7.001, 45.99], [7.012, 45.99], [7.012, 45.999], [7.001, 45.99]]
    found = xdemsr.open_stac(items, intersects={"type": "Polygon", "coordinates": [ring]})
    expected = xdemsr.open_stac(items, **INSIDE)
    np.testing.assert_array_equal(found.values, expected.values)


# What is refused.


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"bands": "B99"}, r"no band 'B99'; it has 'data'"),
        ({"bands": []}, r"must be names"),
        ({"bbox": (8, 45, 7, 46)}, r"west, south, east, north"),
        ({"bbox": (170, 45, -170, 46)}, r"antimeridian"),
        ({"bbox": (1, 2, 3)}, r"west, south, east, north"),
        ({"bbox": (7, 45, 8, 46), "intersects": {}}, r"not both"),
        ({"intersects": {"type": "Nothing"}}, r"GeoJSON"),
        ({"resampling": "lanczos"}, r"resampling='lanczos' is not one of auto, nearest"),
        ({"mosaic": "month"}, r"mosaic='month'"),
        ({"overlap": "last"}, r"overlap='last'"),
        ({"metadata": "trust"}, r"metadata='trust'"),
        ({"sign": "please"}, r"sign='please'"),
        ({"chunks": 0}, r"chunks=0"),
        ({"chunks": (5, 5, 5)}, r"chunks=\(5, 5, 5\)"),
        ({"retries": -1}, r"retries=-1"),
        ({"timeout": 0}, r"timeout=0"),
        ({"crs": "EPSG:32632"}, r"resolution=2\d\.?\d* is about that of the items"),
        ({"crs": "EPSG:1"}, r"'EPSG:1' is not a CRS"),
        ({"resolution": -3}, r"resolution=-3"),
        ({"query": {"gsd": {"eq": 10}}}, r"are for a STAC API"),
        ({"collection": "other"}, r"no item for collection=other"),
    ],
)
def test_refused(tiles: Tiles, how: dict[str, Any], message: str) -> None:
    items = tiles.cut(*boxes([0, 91], [0, 130]))
    with pytest.raises(InputError, match=message):
        xdemsr.open_stac(items, **how)


def test_like_is_a_whole_grid(tiles: Tiles) -> None:
    items = tiles.cut(*boxes([0, 91], [0, 130]))
    with pytest.raises(InputError, match="leave out crs=, resolution="):
        xdemsr.open_stac(items, like=whole(tiles.values), resolution=3)
    turned = GeoBox((20, 30), NORTH_WEST * Affine.rotation(5), "EPSG:4326")
    with pytest.raises(GridError, match="like= is rotated"):
        xdemsr.open_stac(items, like=turned)
    far = whole(tiles.values, NORTH_WEST * Affine.translation(10_000, 0))
    with pytest.raises(InputError, match="has no item for"):
        xdemsr.open_stac(items, like=far)


def test_items_in_several_zones_ask_for_a_crs(tmp_path: Path) -> None:
    items = []
    for k, (crs, left) in enumerate([("EPSG:32631", 745000), ("EPSG:32632", 254000)]):
        path = write_tile(
            tmp_path / f"{k}.tif", terrain((50, 70)), Affine(20, 0, left, 0, -20, 5100000), crs
        )
        items.append(make_item(str(path), path))
    with pytest.raises(InputError, match=r"several CRSs \(1 in EPSG:3263.*crs='EPSG:3263"):
        xdemsr.open_stac(items)
    found = xdemsr.open_stac(items, crs="EPSG:32632", resolution=20)
    known = np.isfinite(found.values)
    assert found.rio.crs.to_epsg() == 32632
    assert 50 * 70 < known.sum() <= 2.1 * 50 * 70


def test_several_rasters_ask_for_a_band(tiles: Tiles, tmp_path: Path) -> None:
    (item,) = tiles.cut(*boxes([0, 91], [0, 130]))
    add_asset(item, "slope", str(tmp_path / "t0.tif"), **item.assets["data"].extra_fields)
    with pytest.raises(InputError, match=r"say which bands.*'data', 'slope'"):
        xdemsr.open_stac([item])
    both = xdemsr.open_stac([item], bands=["slope", "data"])
    assert list(both.data_vars) == ["slope", "data"]
    assert isinstance(xdemsr.open_stac([item], bands="slope"), xr.DataArray)


def test_one_band_of_several_in_a_file(tiles: Tiles, tmp_path: Path) -> None:
    (item,) = tiles.cut(*boxes([0, 91], [0, 130]), collection="cop-dem-glo-30")
    colours = [{"name": "b1", "common_name": "red"}, {"name": "b2", "common_name": "blue"}]
    path = tmp_path / "colours.tif"
    planes = np.stack([np.full(SHAPE, 3, np.uint8), np.full(SHAPE, 5, np.uint8)])
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=91,
        width=130,
        count=2,
        dtype="uint8",
        crs="EPSG:4326",
        transform=NORTH_WEST,
    ) as raster:
        raster.write(planes)
    grids = {k: v for k, v in item.assets["data"].extra_fields.items() if k.startswith("proj:")}
    add_asset(item, "image", str(path), **grids, **{"eo:bands": colours})
    for name, value in [("red", 3), ("b2", 5)]:
        found = xdemsr.open_stac([item], bands=name)
        np.testing.assert_array_equal(found.values, value)
        # What is known of the collection's heights does not hold of these.
        assert found.name == name
        assert "units" not in found.attrs
        assert _height_code(found) is None
    with pytest.raises(InputError, match=r"has 2 bands; .*'image' \(red, blue\)"):
        xdemsr.open_stac([item], bands="image")


def test_a_rotated_raster_is_refused(tmp_path: Path) -> None:
    turned = NORTH_WEST * Affine.rotation(10)
    path = write_tile(tmp_path / "turned.tif", terrain((20, 30)), turned)
    with pytest.raises(GridError, match=r"asset 'data' of item 'turned' .* is rotated"):
        xdemsr.open_stac([make_item(str(path), path)])


def test_neither_items_nor_a_catalog(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got int"):
        xdemsr.open_stac(3)
    with pytest.raises(InputError, match="expected items of pystac, got str"):
        xdemsr.open_stac(["https://example.org/item.json"])
    with pytest.raises(InputError, match="is no STAC API or catalog"):
        xdemsr.open_stac(str(tmp_path / "nothing.json"))
    (tmp_path / "other.json").write_text('{"type": "Topology"}')
    with pytest.raises(InputError, match="is no STAC API or catalog"):
        xdemsr.open_stac(str(tmp_path / "other.json"))
