"""Rasters behind URLs: read as they are, or not at all."""

from __future__ import annotations

import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import xarray as xr
from objects import KEY, SECRET, ObjectServer
from web import WebServer

import xdemsr
import xdemsr.io.gdal_source
import xdemsr.io.patience
import xdemsr.io.states
from xdemsr.errors import InputError
from xdemsr.io import write


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A server of a folder, with a raster in it; clients that do not wait long."""
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    for module in (xdemsr.io.gdal_source, xdemsr.io.patience, xdemsr.io.states):
        monkeypatch.setattr(module, "_WAITS", (0.01, 0.01))
    with WebServer(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def s3() -> Iterator[ObjectServer]:
    pytest.importorskip("moto", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    with ObjectServer() as server:
        server.make_bucket("dems")
        yield server


@pytest.fixture
def terrain() -> xr.DataArray:
    """Of several blocks; does not compress to what a client fetches with the header."""
    dem = xdemsr.synthetic.terrain((700, 1100), gsd=30.0, seed=1)
    dem[10:14, 20:27] = np.nan
    return dem


def name_elsewhere(code: str) -> str:
    """What another process prints."""
    found = subprocess.run(
        [sys.executable, "-c", f"import xdemsr; print({code})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


def test_cogs_are_read_through_http(web: WebServer, terrain: xr.DataArray) -> None:
    path = xdemsr.write_cog(terrain, web.folder / "a.tif")
    web.requests.clear()
    opened = xdemsr.open(web.url("a.tif"))
    fetched = sum(request.method == "GET" for request in web.requests)
    assert fetched <= 4
    assert opened.chunks == ((700,), (1024, 76))
    np.testing.assert_array_equal(opened.values, terrain.values)
    assert opened.rio.transform() == xdemsr.open(path).rio.transform()
    assert opened.rio.crs == terrain.rio.crs


@pytest.mark.parametrize("kind", [503, 500, "truncate", "reset"])
def test_what_passes_is_read_again(web: WebServer, terrain: xr.DataArray, kind: int | str) -> None:
    xdemsr.write_cog(terrain, web.folder / "a.tif")
    opened = xdemsr.open(web.url("a.tif"))
    web.fault("a.tif", kind, times=1, pixels=True)
    np.testing.assert_array_equal(opened.values, terrain.values)


@pytest.mark.parametrize("kind", [503, 404, 403, "truncate", "reset"])
def test_what_stays_broken_is_an_error(
    web: WebServer, terrain: xr.DataArray, kind: int | str
) -> None:
    xdemsr.write_cog(terrain, web.folder / "a.tif")
    opened = xdemsr.open(web.url("a.tif"))
    web.fault("a.tif", kind, pixels=True)
    with pytest.raises(OSError, match=r"a\.tif cannot be read"):
        opened.compute()
    web.forget()
    np.testing.assert_array_equal(opened.values, terrain.values)


@pytest.mark.parametrize("kind", [503, 404, "reset"])
def test_a_header_that_does_not_come_is_an_error(
    web: WebServer, terrain: xr.DataArray, kind: int | str
) -> None:
    xdemsr.write_cog(terrain, web.folder / "a.tif")
    web.fault("a.tif", kind)
    with pytest.raises(InputError, match=r"GDAL cannot open http.*a\.tif"):
        xdemsr.open(web.url("a.tif"))
    web.forget()
    np.testing.assert_array_equal(xdemsr.open(web.url("a.tif")).values, terrain.values)


def test_options_of_gdal_reach_processes(web: WebServer, terrain: xr.DataArray) -> None:
    from distributed import Client, LocalCluster

    xdemsr.write_cog(terrain, web.folder / "a.tif")
    opened = xdemsr.open(web.url("a.tif"), chunks=256)
    web.fault("a.tif", 503, times=4, pixels=True)
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with cluster, Client(cluster):
        np.testing.assert_array_equal(opened.compute().values, terrain.values)
    assert web.asked("a.tif", 503) == 4


def test_a_file_that_changes_is_another(
    web: WebServer, terrain: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = web.url("a.tif")
    xdemsr.write_cog(terrain, web.folder / "a.tif")
    before = xdemsr.open(url)
    assert xdemsr.open(url).data.name == before.data.name
    assert name_elsewhere(f"xdemsr.open({url!r}).data.name") == before.data.name
    np.testing.assert_array_equal(before.values, terrain.values)
    xdemsr.write_cog(terrain + 1, web.folder / "a.tif", overwrite=True)
    after = xdemsr.open(url)
    assert after.data.name != before.data.name
    np.testing.assert_array_equal(after.values, terrain.values + 1)
    monkeypatch.setattr(xdemsr.io.gdal_source, "_ASK_AGAIN_S", 0.0)
    with pytest.raises(OSError, match="has changed since it was opened"):
        before.compute()


def test_without_tags_no_name_is_used_twice(web: WebServer, terrain: xr.DataArray) -> None:
    web.tagged = False
    xdemsr.write_cog(terrain, web.folder / "a.tif")
    first = xdemsr.open(web.url("a.tif"))
    xdemsr.write_cog(terrain + 1, web.folder / "a.tif", overwrite=True)
    second = xdemsr.open(web.url("a.tif"))
    assert first.data.name != second.data.name
    np.testing.assert_array_equal(second.values, terrain.values + 1)


def test_signatures_are_seen_nowhere(web: WebServer, terrain: xr.DataArray) -> None:
    xdemsr.write_cog(terrain, web.folder / "a.tif")
    web.protect("a.tif", lambda query: query.get("sig", "").startswith("good"))
    good, bad = (f"{kind}-{uuid4().hex}" for kind in ("good", "bad"))
    opened = xdemsr.open(web.url("a.tif") + f"?sig={good}")
    other = xdemsr.open(web.url("a.tif") + "?sig=good-later")
    assert opened.data.name == other.data.name
    said = f"{opened!r} {opened.attrs} {opened.encoding} {opened.data.dask!r} "
    said += " ".join(map(str, opened.data.dask)) + repr(dict(opened.data.dask))
    assert good not in said
    with pytest.raises(InputError, match="cannot open") as refused:
        xdemsr.open(web.url("a.tif") + f"?sig={bad}")
    web.fault("a.tif", 403, pixels=True)
    with pytest.raises(OSError, match="cannot be read") as broken:
        opened.compute()
    for error in (refused, broken):
        shown = "".join(traceback.format_exception(error.value))
        assert good not in shown
        assert bad not in shown


def test_stores_are_read_through_http(web: WebServer, terrain: xr.DataArray) -> None:
    xdemsr.write_zarr(terrain.chunk(y=300, x=500), web.folder / "a.zarr")
    url = web.url("a.zarr")
    opened = xdemsr.open(url)
    np.testing.assert_array_equal(opened.values, terrain.values)
    assert opened.rio.transform() == terrain.rio.transform()
    assert name_elsewhere(f"xdemsr.open({url!r}).data.name") == opened.data.name
    xdemsr.write_zarr((terrain + 1).chunk(y=300, x=500), web.folder / "a.zarr", overwrite=True)
    assert xdemsr.open(url).data.name != opened.data.name


@pytest.mark.parametrize("kind", [503, "truncate", "reset"])
def test_chunks_that_do_not_come_are_no_voids(
    web: WebServer, terrain: xr.DataArray, kind: int | str
) -> None:
    xdemsr.write_zarr(terrain.chunk(y=300, x=500), web.folder / "a.zarr")
    opened = xdemsr.open(web.url("a.zarr"))
    web.fault("a.zarr/elevation/c/*", kind, times=1)
    np.testing.assert_array_equal(opened.values, terrain.values)
    web.forget()
    web.fault("a.zarr/elevation/c/1/1", kind)
    with pytest.raises(OSError, match=r"a\.zarr cannot be read"):
        opened.compute()


def test_files_and_stores_in_the_cloud(s3: ObjectServer, dem: xr.DataArray) -> None:
    for name in ("a.tif", "a.zarr"):
        url, how = f"s3://dems/{name}", {"storage_options": s3.options}
        writes = xdemsr.write_cog if name == "a.tif" else xdemsr.write_zarr
        writes(dem.chunk(20), url, **how)
        opened = xdemsr.open(url, **how)
        np.testing.assert_array_equal(opened.values, dem.values)
        code = f"xdemsr.open({url!r}, storage_options={s3.options!r}).data.name"
        assert name_elsewhere(code) == opened.data.name
        said = "overwrite=True" if name == "a.tif" else "delete it first"
        with pytest.raises(FileExistsError, match=said):
            writes(dem, url, **how)
        s3.files().rm(url, recursive=True)
        writes(dem.chunk(20) + 1, url, **how)
        again = xdemsr.open(url, **how)
        np.testing.assert_array_equal(again.values, dem.values + 1)
        assert again.data.name != opened.data.name


def test_rights_in_the_environment_are_enough(
    s3: ObjectServer, dem: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    write(dem, "s3://dems/env.tif")
    np.testing.assert_array_equal(xdemsr.open("s3://dems/env.tif").values, dem.values)
    np.testing.assert_array_equal(xdemsr.open("/vsis3/dems/env.tif").values, dem.values)


def test_rights_are_seen_nowhere(s3: ObjectServer, dem: xr.DataArray) -> None:
    how = {"storage_options": s3.options}
    for name in ("quiet.tif", "quiet.zarr"):
        writes = xdemsr.write_cog if name == "quiet.tif" else xdemsr.write_zarr
        writes(dem.chunk(20), f"s3://dems/{name}", **how)
        opened = xdemsr.open(f"s3://dems/{name}", **how)
        said = f"{opened!r} {opened.attrs} {opened.encoding} {dict(opened.data.dask)!r}"
        assert SECRET not in said
        assert KEY not in said
        again = pickle.loads(pickle.dumps(opened))
        np.testing.assert_array_equal(again.values, dem.values)
    with pytest.raises(InputError, match="mean nothing to GDAL") as refused:
        xdemsr.open("s3://dems/quiet.tif", storage_options={**s3.options, "colour": SECRET})
    assert SECRET not in str(refused.value)


def test_a_failed_upload_leaves_the_old_object(s3: ObjectServer, dem: xr.DataArray) -> None:
    how = {"storage_options": s3.options}

    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("no more")

    xdemsr.write_cog(dem, "s3://dems/old.tif", **how)
    lazy = dem.chunk(20)
    broken = lazy.copy(data=lazy.data.map_blocks(fail, dtype="f4"))
    with pytest.raises(RuntimeError, match="no more"):
        xdemsr.write_cog(broken, "s3://dems/old.tif", overwrite=True, **how)
    np.testing.assert_array_equal(xdemsr.open("s3://dems/old.tif", **how).values, dem.values)


def test_memory_is_a_store_too(dem: xr.DataArray) -> None:
    xdemsr.write_zarr(dem.chunk(20), "memory://here/a.zarr")
    np.testing.assert_array_equal(xdemsr.open("memory://here/a.zarr").values, dem.values)


def test_urls_that_were_made_paths_are_refused(dem: xr.DataArray) -> None:
    with pytest.raises(InputError, match="Path drops a slash"):
        xdemsr.open(Path("https://example.com/a.tif"))
    with pytest.raises(InputError, match="Path drops a slash"):
        xdemsr.write_cog(dem, Path("s3://dems/a.tif"))


def test_places_that_cannot_be_written_are_refused(dem: xr.DataArray) -> None:
    with pytest.raises(InputError, match="cannot be reached"):
        xdemsr.write_cog(dem, "nosuchplace://a/b.tif")


def test_vrts_of_files_elsewhere(web: WebServer, terrain: xr.DataArray) -> None:
    xdemsr.write_cog(terrain, web.folder / "a.tif")
    (web.folder / "a.vrt").write_text(vrt(f"/vsicurl/{web.url('a.tif')}", terrain))
    opened = xdemsr.open(web.folder / "a.vrt")
    np.testing.assert_array_equal(opened.values, terrain.values)
    xdemsr.write_cog(terrain + 1, web.folder / "a.tif", overwrite=True)
    assert xdemsr.open(web.folder / "a.vrt").data.name != opened.data.name


def vrt(source: str, like: xr.DataArray) -> str:
    """A virtual raster of one file."""
    ny, nx = like.shape
    window = f'xOff="0" yOff="0" xSize="{nx}" ySize="{ny}"'
    return (
        f'<VRTDataset rasterXSize="{nx}" rasterYSize="{ny}"><SRS>EPSG:32611</SRS>'
        "<GeoTransform>500000,30,0,4100000,0,-30</GeoTransform>"
        '<VRTRasterBand dataType="Float32" band="1"><NoDataValue>nan</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>'
        f"<SrcRect {window}/><DstRect {window}/></SimpleSource></VRTRasterBand></VRTDataset>"
    )
