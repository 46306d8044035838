"""What catalogs hold that is odd: the antimeridian, units, scales, pages, items with one name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

import xdemsr
from xdemsr.errors import InputError

pystac = pytest.importorskip("pystac")
pytest.importorskip("pystac_client")

from catalog import make_item, write_tile  # noqa: E402
from web import WebServer  # noqa: E402

SECOND = 1 / 3600
PLACE = Affine(SECOND, 0, 7.0, 0, -SECOND, 46.0)
#: 60 of the columns of a raster of 90 lie west of the antimeridian.
ACROSS = Affine(SECOND, 0, 180 - 60 * SECOND, 0, -SECOND, 66.0)

Tile = Callable[..., Any]


@pytest.fixture
def tile(tmp_path: Path) -> Tile:
    """Makes an item of a file of its own."""
    made: list[Path] = []

    def make(values: NDArray[Any], transform: Affine = PLACE, crs: str = "EPSG:4326", **how: Any):
        packing = {key: how.pop(key) for key in ("scale", "offset") if key in how}
        path = write_tile(tmp_path / f"t{len(made)}.tif", values, transform, crs, **packing)
        made.append(path)
        return make_item(str(path), path, **how)

    return make


def values(shape: tuple[int, int] = (40, 90)) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(100, 900, shape).astype(np.float32)


# The antimeridian.


def beyond(item: Any, columns: int) -> Any:
    """The item with a bbox whose east is smaller than its west, as GeoJSON wants it."""
    item.bbox = [180 - 60 * SECOND, item.bbox[1], -180 + (columns - 60) * SECOND, item.bbox[3]]
    return item


def test_an_item_across_the_antimeridian_is_found(tile: Tile) -> None:
    across = beyond(tile(values(), ACROSS), 90)
    found = xdemsr.open_stac([across], bbox=(180 - 20 * SECOND, 65.99, 180, 66))
    np.testing.assert_array_equal(found.values, values()[:36, 40:60])


def test_what_lies_beyond_the_antimeridian_is_never_a_void(tile: Tile) -> None:
    across = beyond(tile(values(), ACROSS), 90)
    east = tile(values() + 1, Affine(SECOND, 0, -180 + 30 * SECOND, 0, -SECOND, 66.0))
    with pytest.raises(InputError, match=r"counted from 179\.983 to 180\.008: the antimeridian"):
        xdemsr.open_stac([across, east], bbox=(-180, 65.99, -180 + 60 * SECOND, 66))


def test_zones_reach_to_the_antimeridian(tile: Tile) -> None:
    """A rectangle of a zone has a corner beyond it, even if the place that is asked for has not."""
    heights = values((140, 110))
    item = tile(heights, Affine(SECOND, 0, 180 - 110 * SECOND, 0, -SECOND, 66.0))
    bbox = (180 - 60 * SECOND, 66 - 120 * SECOND, 180, 66 - 10 * SECOND)
    how: dict[str, Any] = {"bbox": bbox, "crs": "utm", "resolution": 20, "resampling": "nearest"}
    found = xdemsr.open_stac([item], **how)
    assert found.rio.crs.to_epsg() == 32660
    x, y = np.meshgrid(found.x, found.y)
    to_world = Transformer.from_crs(32660, 4326, always_xy=True)
    east, north = to_world.transform(x, y)
    inside = (east > bbox[0]) & (east < bbox[2]) & (north > bbox[1]) & (north < bbox[3])
    assert inside.sum() > 5000
    rows, columns = (66 - north[inside]) / SECOND, (east[inside] - 180) / SECOND + 110
    expected = heights[rows.astype(int), columns.astype(int)]
    np.testing.assert_array_equal(found.values[inside], expected)


def zone_across() -> GeoBox:
    """A place in a zone, half of it on each side."""
    x, y = Transformer.from_crs(4326, 32601, always_xy=True).transform(180, 66 - 20 * SECOND)
    return GeoBox((30, 50), Affine(10, 0, x - 250, 0, -10, y + 150), "EPSG:32601")


def test_rasters_in_zones_may_cross_the_antimeridian(tile: Tile) -> None:
    box = zone_across()
    item = tile(values((30, 50)), box.affine, "EPSG:32601")
    assert item.bbox[0] > item.bbox[2]
    np.testing.assert_array_equal(xdemsr.open_stac([item], like=box).values, values((30, 50)))
    degrees = xdemsr.open_stac([item], crs="EPSG:4326", resolution=SECOND / 2)
    assert 179.9 < degrees.x[0] < 180 < degrees.x[-1] < 180.1
    assert degrees.notnull().mean() > 0.8


def test_degrees_on_both_sides_are_not_one_raster(tile: Tile) -> None:
    west = tile(values(), Affine(SECOND, 0, 180 - 90 * SECOND, 0, -SECOND, 66.0))
    east = tile(values(), Affine(SECOND, 0, -180, 0, -SECOND, 66.0))
    with pytest.raises(InputError, match=r"Open what lies on each side of it by itself"):
        xdemsr.open_stac([west, east], like=zone_across())


def test_tiles_that_begin_half_a_pixel_beyond_are_fine(tile: Tile) -> None:
    """Those of GLO-30 do."""
    first = tile(values(), Affine(SECOND, 0, -180 - SECOND / 2, 0, -SECOND, 66.0))
    last = tile(values(), Affine(SECOND, 0, 180 - 90.5 * SECOND, 0, -SECOND, 66.0))
    found = xdemsr.open_stac([first, last], bbox=(180 - 30 * SECOND, 65.99, 180, 66))
    assert found.isnull().sum() == found.isnull()[:, -1].sum()


def test_the_day_of_an_item_across_the_antimeridian(tile: Tile) -> None:
    when = "2021-04-22T22:00:00Z"  # 10 o'clock of the 23rd there
    across = beyond(tile(values(), ACROSS, when=when), 90)
    beside = tile(values(), ACROSS * Affine.translation(-90, 0), when=when)
    assert xdemsr.open_stac([across, beside], mosaic="day").sizes["time"] == 1


# Numbers.


def test_an_offset_alone_counts(tile: Tile) -> None:
    item = tile(values(), bands=[{"offset": -10.0}])
    np.testing.assert_array_equal(xdemsr.open_stac([item]).values, values() - np.float32(10))


def test_a_scale_that_contradicts_the_files(tile: Tile) -> None:
    stored = values().astype(np.int16)
    item = tile(stored, scale=0.1, offset=0.0, bands=[{"scale": 0.5}])
    with pytest.raises(InputError, match=r"scales differ: metadata scale 0\.5.*file scale 0\.1"):
        xdemsr.open_stac([item])
    found = xdemsr.open_stac([item], metadata="header")
    np.testing.assert_array_equal(found.values, (stored * 0.1).astype(np.float32))
    same = tile(stored, scale=float(np.float32(0.1)), offset=0.0, bands=[{"scale": 0.1}])
    np.testing.assert_allclose(xdemsr.open_stac([same]).values, found.values, rtol=1e-6)


@pytest.mark.parametrize("metadata", ["auto", "header"])
def test_what_is_known_of_a_collection_counts_more_than_a_scale(tile: Tile, metadata: Any) -> None:
    how: dict[str, Any] = {"collection": "sentinel-2-l2a", "asset": "red", "roles": ["reflectance"]}
    properties = {"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}
    stored = values().astype(np.uint16)
    item = tile(stored, scale=1e-4, offset=-0.1, properties=properties, bands=[{}], **how)
    found = xdemsr.open_stac([item], bands="red", metadata=metadata)
    np.testing.assert_allclose(found.values, stored * 1e-4, rtol=1e-6)


def test_two_units_are_refused(tile: Tile) -> None:
    beside = PLACE * Affine.translation(90, 0)
    metres = tile(values(), bands=[{"unit": "metre"}])
    feet = tile(values(), beside, bands=[{"unit": "foot"}])
    with pytest.raises(InputError, match=r"'data' in one unit: .*t1\.tif\) says 'foot', .*'m'"):
        xdemsr.open_stac([metres, feet])
    assert xdemsr.open_stac([tile(values(), bands=[{"unit": "ft"}]), feet]).units == "foot"
    assert xdemsr.open_stac([tile(values()), metres]).units == "m"


def test_clouds_that_are_not_known_are_the_most(tile: Tile) -> None:
    clouds = [{"eo:cloud_cover": said} for said in (None, 80, 30)]
    items = [tile(values() + k, properties=said) for k, said in enumerate(clouds)]
    np.testing.assert_array_equal(xdemsr.open_stac(items).values, values() + 2)
    np.testing.assert_array_equal(xdemsr.open_stac(items[:2]).values, values() + 1)


# Items.


def test_items_of_one_name_are_all_taken(tile: Tile) -> None:
    pair = [
        tile(values(), name="dem"),
        tile(values(), PLACE * Affine.translation(90, 0), name="dem"),
    ]
    found = xdemsr.open_stac([*pair, pair[0].clone()])
    np.testing.assert_array_equal(found.values, np.hstack([values(), values()]))


def test_a_page_is_not_taken_for_the_whole(tmp_path: Path, tile: Tile) -> None:
    features = [tile(values()).to_dict()]
    links = [{"rel": "next", "href": "/more"}, {"rel": "root", "href": "https://stac.test/v1"}]
    with WebServer(tmp_path) as web:
        page = {"type": "FeatureCollection", "features": features, "links": links}
        web.answer("items", lambda query: page)
        message = r"/items is one page of several.*open_stac\('https://stac.test/v1', '...', ...\)"
        with pytest.raises(InputError, match=message):
            xdemsr.open_stac(web.url("items"))
        page["links"] = []
        np.testing.assert_array_equal(xdemsr.open_stac(web.url("items")).values, values())


def test_a_collection_of_an_api_says_where_its_items_are(tmp_path: Path) -> None:
    links = [{"rel": "items", "href": "x/items"}, {"rel": "root", "href": "https://stac.test/v1"}]
    with WebServer(tmp_path) as web:
        web.answer("dems", lambda query: {"type": "Collection", "id": "dems", "links": links})
        with pytest.raises(InputError, match=r"open_stac\('https://stac.test/v1', 'dems', ...\)"):
            xdemsr.open_stac(web.url("dems"))


def test_times_that_are_none(tile: Tile) -> None:
    with pytest.raises(InputError, match=r"datetime='yesterday' cannot be used: .*'2024-06'"):
        xdemsr.open_stac([tile(values())], datetime="yesterday")
