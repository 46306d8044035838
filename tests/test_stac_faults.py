"""What goes wrong between a STAC and its files: an error or the right raster, never a void."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

import xdemsr
from xdemsr.errors import InputError
from xdemsr.stac.retrying import UnreachableError
from xdemsr.stac.signing import PlanetaryComputer

pytest.importorskip("pystac_client")

from catalog import by_process, make_item, stac_api, write_tile
from web import WebServer

SECOND = 1 / 3600
PLACE = Affine(SECOND, 0, 7.0, 0, -SECOND, 46.0)
#: So large that pixels are asked for apart from the header.
SHAPE = (210, 170)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    with WebServer(tmp_path) as server:
        yield server


def values() -> NDArray[np.float32]:
    return np.random.default_rng(0).random(SHAPE).astype(np.float32)


def item_of(web: WebServer, name: str = "dem.tif", **how: Any) -> Any:
    """An item whose file the server has."""
    path = write_tile(web.folder / name, values(), PLACE)
    return make_item(web.url(name), path, **how)


def lazily(web: WebServer, **how: Any) -> xr.DataArray:
    """One tile, opened before anything goes wrong."""
    how = {"retries": 3, "timeout": 5.0, **how}
    found = xdemsr.open_stac([item_of(web)], **how)
    assert isinstance(found, xr.DataArray)
    return found


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("kind", [408, 429, 500, 502, 503, 504, "reset", "truncate"])
def test_what_passes_is_tried_again(web: WebServer, kind: Any, pixels: bool) -> None:
    dem = lazily(web)
    web.forget()
    fault = web.fault("dem.tif", kind, times=2, pixels=pixels)
    np.testing.assert_array_equal(dem.values, values())
    assert fault.seen >= 2 or not pixels


def test_a_server_that_hangs_is_asked_again(web: WebServer) -> None:
    dem = lazily(web, timeout=1.0)
    web.fault("dem.tif", "hang", times=1, pixels=True, seconds=2.5)
    np.testing.assert_array_equal(dem.values, values())


def test_a_slow_server_is_waited_for(web: WebServer) -> None:
    dem = lazily(web)
    web.fault("dem.tif", "slow", pixels=True, seconds=0.5)
    np.testing.assert_array_equal(dem.values, values())


@pytest.mark.parametrize("kind", [503, 429, "reset", "truncate"])
def test_what_does_not_pass_is_an_error(web: WebServer, kind: Any) -> None:
    dem = lazily(web, retries=1)
    web.fault("dem.tif", kind, pixels=True)
    web.fault("dem.tif", kind)
    with pytest.raises(UnreachableError, match=r"'data' of item 'dem' .*in 2 attempts") as raised:
        dem.compute()
    assert isinstance(raised.value, OSError), "so that a cluster tries again"
    assert isinstance(raised.value, InputError)
    again = pickle.loads(pickle.dumps(raised.value))
    assert str(again) == str(raised.value)


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_is_gone_is_an_error_at_once(web: WebServer, status: int) -> None:
    dem = lazily(web, retries=50)
    (web.folder / "dem.tif").unlink()
    web.fault("dem.tif", status)
    message = (
        rf"asset 'data' of item 'dem' \(http://.*/dem.tif\) cannot be read: HTTP status {status}"
    )
    with pytest.raises(InputError, match=message):
        dem.compute()


def test_a_refused_file_says_how_to_sign(web: WebServer) -> None:
    dem = lazily(web, retries=50)
    web.protect("dem.tif", lambda query: False)
    with pytest.raises(InputError, match=r"HTTP status 403.*sign='planetary-computer'"):
        dem.compute()


def test_a_broken_file_is_an_error(web: WebServer) -> None:
    dem = lazily(web, retries=1)
    path = web.folder / "dem.tif"
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(InputError, match=r"not with a whole raster"):
        dem.compute()


def test_files_here_that_are_gone_or_broken(tmp_path: Path) -> None:
    path = write_tile(tmp_path / "dem.tif", values(), PLACE)
    dem = xdemsr.open_stac([make_item(str(path), path)], retries=50)
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(InputError, match=r"item 'dem' .* cannot be read"):
        dem.compute()
    path.unlink()
    with pytest.raises(InputError, match=r"item 'dem' .* is not there"):
        dem.compute()


# What is read, and when.


def test_opening_reads_headers_and_no_pixel(web: WebServer) -> None:
    items = [item_of(web, f"{k}.tif") for k in range(12)]
    web.fault("*", 500, pixels=True)
    dem = xdemsr.open_stac(items, retries=0)
    read = {request.path for request in web.requests}
    assert 0 < len(read) <= 4, "a few headers are compared"
    assert dem.shape == SHAPE
    web.forget()
    bare = [item_of(web, f"{k}.tif", proj=False) for k in range(12)]
    web.fault("*", 500, pixels=True)
    found = xdemsr.open_stac(bare, retries=0)
    assert {request.path for request in web.requests} == {f"{k}.tif" for k in range(12)}
    assert found.rio.transform(recalc=False) == PLACE
    web.forget()
    np.testing.assert_array_equal(found.values, values())


def test_only_what_is_needed_is_read(web: WebServer) -> None:
    items = []
    for k in range(6):
        moved = PLACE * Affine.translation(SHAPE[1] * k, 0)
        path = write_tile(web.folder / f"{k}.tif", values(), moved)
        items.append(make_item(web.url(path.name), path))
    dem = xdemsr.open_stac(items, chunks=50)
    web.forget()
    np.testing.assert_array_equal(dem[100:150, 400:450].values, values()[100:150, 60:110])
    assert {request.path for request in web.requests} == {"2.tif"}


# Metadata that is wrong.


@pytest.mark.parametrize(
    ("proj", "message"),
    [
        ({"proj:epsg": 4258}, r"CRSs differ: metadata .*EPSG:4258; file .*EPSG:4326"),
        ({"proj:transform": [SECOND, 0, 7 + SECOND / 2, 0, -SECOND, 46]}, r"grids differ"),
        ({"proj:shape": [209, 170]}, r"grids differ: metadata 209 x 170.*file 210 x 170"),
    ],
)
def test_grids_that_contradict_their_files(web: WebServer, proj: Any, message: str) -> None:
    item = item_of(web, proj=proj)
    with pytest.raises(InputError, match=rf"is not what its metadata says\. Their {message}"):
        xdemsr.open_stac([item])
    found = xdemsr.open_stac([item], metadata="header")
    np.testing.assert_array_equal(found.values, values())
    assert found.rio.transform(recalc=False) == PLACE


@pytest.mark.parametrize(
    ("band", "message"),
    [
        ({"data_type": "int16"}, r"types differ: metadata int16; file float32"),
        ({"data_type": "float32", "nodata": 0}, r"void values differ: metadata 0; file -9999"),
    ],
)
def test_numbers_that_contradict_their_files(web: WebServer, band: Any, message: str) -> None:
    path = write_tile(web.folder / "dem.tif", values(), PLACE, nodata=-9999)
    item = make_item(web.url("dem.tif"), path, bands=[band])
    with pytest.raises(InputError, match=message):
        xdemsr.open_stac([item])
    found = xdemsr.open_stac([item], metadata="header")
    np.testing.assert_array_equal(found.values, values())


def test_a_scale_that_only_the_file_knows(web: WebServer) -> None:
    stored = np.arange(600, dtype=np.int16).reshape(20, 30)
    path = write_tile(web.folder / "dem.tif", stored, PLACE, scale=0.5, offset=3.0)
    item = make_item(web.url("dem.tif"), path)
    with pytest.raises(InputError, match=r"scales differ: metadata none; file scale 0.5, offset 3"):
        xdemsr.open_stac([item])
    found = xdemsr.open_stac([item], metadata="header")
    np.testing.assert_array_equal(found.values, stored * np.float32(0.5) + 3)


def test_every_file_is_compared_when_it_is_read(web: WebServer) -> None:
    items = [item_of(web, f"{k}.tif") for k in range(12)]
    dem = xdemsr.open_stac(items, overlap="newest", retries=1)
    for k in range(12):
        write_tile(web.folder / f"{k}.tif", values(), PLACE * Affine.translation(3, 0))
    with pytest.raises(InputError, match="grids differ"):
        dem.compute()


def test_pixels_ten_times_too_small_are_seen_without_reading(web: WebServer) -> None:
    """The items of 3DEP that microsoft/PlanetaryComputer#241 tells of."""
    small = [SECOND / 10, 0, 7, 0, -SECOND / 10, 46]
    item = item_of(web, proj={"proj:transform": small}, collection="terrain")
    item.bbox = [7, 46 - SHAPE[0] * SECOND, 7 + SHAPE[1] * SECOND, 46]
    with pytest.raises(InputError, match=r"contradicts itself: its bbox is .*metadata='header'"):
        xdemsr.open_stac([item])
    assert not web.requests
    item.collection_id = "3dep-seamless"
    item.properties["gsd"] = 10
    np.testing.assert_array_equal(xdemsr.open_stac([item]).values, values())


def test_3dep_is_taken_in_ten_metres(web: WebServer) -> None:
    items = [
        item_of(web, f"{gsd}.tif", collection="3dep-seamless", properties={"gsd": gsd})
        for gsd in (10, 30)
    ]
    assert xdemsr.open_stac(items).attrs["stac_items"] == "10"
    with pytest.raises(InputError, match=r"none of the 1 items found has {'gsd': 10}"):
        xdemsr.open_stac(items[1:])


def test_an_item_that_lies_elsewhere_is_left_out(web: WebServer) -> None:
    """Servers answer with what touches a place by its bbox, and sometimes with more."""
    near = item_of(web, "near.tif")
    moved = PLACE * Affine.translation(2000, 0)
    path = write_tile(web.folder / "far.tif", values() + 7, moved)
    far = make_item(web.url("far.tif"), path)
    far.bbox = None
    found = xdemsr.open_stac([near, far], bbox=(7.001, 45.95, 7.04, 45.99))
    assert found.attrs["stac_items"] == "near"
    assert np.nanmax(found.values) < 1
    with pytest.raises(InputError, match="none of their rasters touches what was asked"):
        xdemsr.open_stac([far], bbox=(7.001, 45.95, 7.04, 45.99))


# Signatures.


class Tokens:
    """A server's tokens: it issues them one after the other, and accepts the last."""

    def __init__(self, web: WebServer, minutes: float = 60) -> None:
        self.issued, self.minutes = 0, minutes
        web.answer("token/127/private", lambda query: self.issue())
        web.protect("private/*", lambda query: query.get("sig") == f"secret{self.issued}")

    def issue(self) -> dict[str, str]:
        self.issued += 1
        end = datetime.now(UTC) + timedelta(minutes=self.minutes)
        return {"token": f"sig=secret{self.issued}", "msft:expiry": f"{end:%Y-%m-%dT%H:%M:%SZ}"}


def signer(web: WebServer) -> PlanetaryComputer:
    return PlanetaryComputer(f"{web.root}/token", host=web.root.removeprefix("http://"))


def test_signed_when_read_and_again_when_refused(web: WebServer) -> None:
    tokens = Tokens(web)
    item = item_of(web, "private/dem.tif")
    dem = xdemsr.open_stac([item], sign=signer(web), retries=2, chunks=64)
    # Revoked: the one that is held is good no longer.
    tokens.issued += 1
    np.testing.assert_array_equal(dem.values, values())
    assert tokens.issued == 3, "one token for all threads"
    assert web.asked("private/*", 403) >= 1


def test_a_token_is_replaced_before_it_ends(web: WebServer) -> None:
    tokens = Tokens(web, minutes=1)
    dem = xdemsr.open_stac([item_of(web, "private/dem.tif")], sign=signer(web), retries=2)
    dem.compute()
    before = tokens.issued
    dem.compute()
    assert tokens.issued > before
    assert web.asked("private/*", 403) == 0


def test_a_signature_that_is_never_accepted(web: WebServer) -> None:
    dem = xdemsr.open_stac([item_of(web)], sign=by_process, retries=1)
    web.protect("dem.tif", lambda query: False)
    with pytest.raises(InputError, match=r"HTTP status 403, in 2 attempts with a new signature"):
        dem.compute()


def test_a_busy_token_server_is_asked_again(web: WebServer) -> None:
    Tokens(web)
    web.fault("token/*", 429, times=2)
    dem = xdemsr.open_stac([item_of(web, "private/dem.tif")], sign=signer(web), retries=0)
    np.testing.assert_array_equal(dem.values, values())


def test_a_token_server_that_does_not_know_the_container(web: WebServer) -> None:
    with pytest.raises(InputError, match=r"/token/127/private gives no token: HTTP status 404"):
        xdemsr.open_stac([item_of(web, "private/dem.tif")], sign=signer(web))


def test_signatures_are_nowhere_to_be_seen(
    web: WebServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    Tokens(web)
    with caplog.at_level(logging.DEBUG):
        dem = xdemsr.open_stac([item_of(web, "private/dem.tif")], sign=signer(web), retries=1)
        dem.compute()
        again = xdemsr.open_stac([item_of(web, "private/dem.tif")], sign=signer(web), retries=1)
        web.fault("private/*", 503)
        with pytest.raises(UnreachableError) as raised:
            again.compute()
    chain, error = [], raised.value
    while error is not None:
        chain.append(f"{error!r} {error}")
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    seen = [
        *chain,
        caplog.text,
        str(dem.attrs),
        dem.data.name,
        repr(dict(dem.data.dask)),
        str(pickle.dumps(dem)),
    ]
    assert "private/dem.tif" in seen[0]
    for text in seen:
        assert "secret" not in text
        assert "sig=" not in text


def test_addresses_that_are_signed_already_are_refused(web: WebServer) -> None:
    item = item_of(web)
    item.assets["data"].href += "?sv=2021&sig=secret&se=tomorrow"
    with pytest.raises(InputError, match="has a signature in its address") as raised:
        xdemsr.open_stac([item])
    assert "secret" not in str(raised.value)
    signed = xdemsr.open_stac([item], sign=by_process)
    np.testing.assert_array_equal(signed.values, values())
    assert "secret" not in str(pickle.dumps(signed))
    assert signed.data.name == xdemsr.open_stac([item_of(web)]).data.name


def test_the_planetary_computer_needs_no_telling(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdemsr.stac import asking

    signed: list[str] = []
    monkeypatch.setattr(PlanetaryComputer, "__call__", lambda self, h: signed.append(h) or h)
    item = item_of(web)
    xdemsr.open_stac([item])
    assert not signed
    item.set_self_href(f"https://{asking._PLANETARY}/api/stac/v1/collections/x/items/dem")
    xdemsr.open_stac([item])
    assert signed == [web.url("dem.tif")]


# APIs.


def _landing(web: WebServer) -> dict[str, Any]:
    return {
        "type": "Catalog",
        "id": "api",
        "stac_version": "1.0.0",
        "description": "made up",
        "conformsTo": [
            "https://api.stacspec.org/v1.0.0/core",
            "https://api.stacspec.org/v1.0.0/item-search",
        ],
        "links": [
            {"rel": "self", "href": web.url("api")},
            {"rel": "root", "href": web.url("api")},
            {
                "rel": "search",
                "href": web.url("search"),
                "method": "GET",
                "type": "application/geo+json",
            },
        ],
    }


def test_an_api_that_fails_for_a_while(web: WebServer, tmp_path: Path) -> None:
    items = [item_of(web)]
    web.answer("api", lambda query: _landing(web))
    features = [item.to_dict() for item in items]
    web.answer(
        "search", lambda query: {"type": "FeatureCollection", "features": features, "links": []}
    )
    web.fault("api", 503, times=1)
    found = xdemsr.open_stac(web.url("api"), "terrain", retries=2)
    np.testing.assert_array_equal(found.values, values())
    web.fault("api", 503)
    with pytest.raises(UnreachableError, match=r"/api did not answer"):
        xdemsr.open_stac(web.url("api") + "?key=secret", "terrain", retries=1)


def test_a_filter_that_an_api_does_not_know(web: WebServer, tmp_path: Path) -> None:
    """It would answer with all items, as if they were those asked for."""
    landing = {**_landing(web), "conformsTo": ["https://api.stacspec.org/v1.0.0/item-search"]}
    web.answer("api", lambda query: landing)
    for asks in ({"query": {"gsd": {"lt": 20}}}, {"filter": "gsd < 20"}):
        with pytest.raises(InputError, match=rf"/api does not answer {next(iter(asks))}="):
            xdemsr.open_stac(web.url("api"), "terrain", **asks)
    assert not web.asked("search")


def test_an_api_that_is_not_there() -> None:
    with pytest.raises(UnreachableError, match="did not answer"):
        xdemsr.open_stac("http://127.0.0.1:9/stac", "terrain", retries=0)


# In a cloud.


def test_files_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("moto.server")
    from objects import ObjectServer

    path = write_tile(tmp_path / "dem.tif", values(), PLACE)
    with ObjectServer() as s3:
        s3.make_bucket("dems")
        s3.files().put(str(path), "dems/dem.tif")
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        for sign in (None, "aws-unsigned", "aws-requester-pays"):
            item = make_item("s3://dems/dem.tif", path)
            found = xdemsr.open_stac([item], sign=sign, retries=0)
            np.testing.assert_array_equal(found.values, values())
        item = make_item("s3://dems/other.tif", path)
        with pytest.raises(InputError, match=r"item 'dem' \(s3://dems/other.tif\) cannot be read"):
            xdemsr.open_stac([item], retries=50)


# On a cluster.


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_workers_sign_read_and_try_again(web: WebServer, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    web.protect("private/*", lambda query: query.get("sig") == "good")
    items = [item_of(web, f"private/{k}.tif") for k in range(2)]
    with (
        stac_api(tmp_path, items) as url,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        dem = xdemsr.open_stac(url, "terrain", sign=by_process, chunks=64)
        web.forget()
        web.fault("private/*", 503, times=3, pixels=True)
        np.testing.assert_array_equal(dem.values, values())
        askers = {int(r.query["by"]) for r in web.requests if r.path.startswith("private/")}
        assert askers <= set(client.run(os.getpid).values())
        assert askers
