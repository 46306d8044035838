"""Zarr stores: written region by region, killed, gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from dask.system import CPU_COUNT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr.errors import InputError

SHAPE = (45, 70)


def surface(shape: tuple[int, int] = SHAPE, chunk: int = 16) -> xr.DataArray:
    """A lazy raster with a void, the same in every process."""
    dem = xdemsr.synthetic.terrain(shape, gsd=30.0, seed=3)
    dem[5:9, 11:20] = np.nan
    return dem.chunk(chunk)


def content(path: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {
        str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()
    }


def counted(raster: xr.DataArray, tally: list[int], fail_at: int = -1) -> xr.DataArray:
    """The raster with its blocks counted as they are computed, the same name each time."""

    def count(block: np.ndarray) -> np.ndarray:
        tally.append(1)
        if len(tally) == fail_at:
            raise RuntimeError("the power has failed")
        return block

    made = raster.data.map_blocks(
        count,
        dtype=raster.dtype,
        meta=np.empty((0, 0), raster.dtype),
        name=f"counted-{raster.shape}",
    )
    return raster.copy(data=made)


def interrupted(raster: xr.DataArray, path: Any, at: int, **options: Any) -> None:
    """A write that dies at the nth block."""
    import dask

    with dask.config.set(scheduler="synchronous"), pytest.raises(RuntimeError, match="power"):
        xdemsr.write_zarr(counted(raster, [], at), path, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": (32, 64)}, {"zarr_format": 2, "chunks": 32}, {"overviews": True, "chunks": 64}],
)
def test_a_run_that_died_goes_on(tmp_path: Path, options: dict[str, Any]) -> None:
    raster, tally = surface((600, 540), 128), []
    whole = xdemsr.write_zarr(counted(raster, []), tmp_path / "whole.zarr", **options)
    interrupted(raster, tmp_path / "a.zarr", 11, **options)
    left = xdemsr.missing(tmp_path / "a.zarr")
    assert sum(item.array == "elevation" for item in left) == 25 - 10
    with pytest.raises(FileExistsError, match=f"{len(left)} regions are missing.*resume=True"):
        xdemsr.write_zarr(counted(raster, tally), tmp_path / "a.zarr", **options)
    xdemsr.write_zarr(counted(raster, tally), tmp_path / "a.zarr", resume=True, **options)
    assert len(tally) == 15
    assert xdemsr.missing(tmp_path / "a.zarr") == []
    assert content(tmp_path / "a.zarr") == content(whole)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_was_lost_is_computed_and_nothing_else(
    tmp_path: Path, data: st.DataObject
) -> None:
    """Chunks that are gone, cut short, empty or without a mark."""
    raster = surface()
    path = tmp_path / "a.zarr"
    for old in tmp_path.iterdir():
        shutil.rmtree(old)
    whole = xdemsr.write_zarr(counted(raster, []), tmp_path / "whole.zarr")
    interrupted(raster, path, data.draw(st.integers(2, 15)))
    marks = sorted((path / "elevation" / ".xdemsr").iterdir())
    harmed = data.draw(st.sets(st.sampled_from(marks)))
    for mark in harmed:
        chunk = path / "elevation" / "c" / mark.name.replace(".", "/")
        how = data.draw(st.sampled_from(["gone", "short", "empty", "unmarked", "torn mark"]))
        if how == "gone":
            chunk.unlink()
        elif how == "short":
            chunk.write_bytes(chunk.read_bytes()[:-3])
        elif how == "empty":
            chunk.write_bytes(b"")
        elif how == "unmarked":
            mark.unlink()
        else:
            mark.write_bytes(mark.read_bytes()[:-1])
    tally: list[int] = []
    assert len(xdemsr.missing(path)) == 15 - len(marks) + len(harmed)
    xdemsr.write_zarr(counted(raster, tally), path, resume=True)
    assert len(tally) == 15 - len(marks) + len(harmed)
    assert content(path) == content(whole)


def test_what_is_complete_is_not_written_again(tmp_path: Path) -> None:
    path, tally = tmp_path / "a.zarr", []
    xdemsr.write_zarr(counted(surface(), []), path)
    before = content(path)
    xdemsr.write_zarr(counted(surface(), tally), path, resume=True)
    assert tally == []
    assert content(path) == before


def test_marks_left_behind_are_taken_away(tmp_path: Path) -> None:
    """A run may die after the store is complete, and before it has tidied up."""
    path = tmp_path / "a.zarr"
    xdemsr.write_zarr(surface(), path)
    before = content(path)
    (path / "elevation" / ".xdemsr").mkdir()
    (path / "elevation" / ".xdemsr" / "0.1").write_text("{}")
    xdemsr.write_zarr(surface(), path, resume=True)
    assert content(path) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda dem: (dem + 1).demsr.upscale(2, "bilinear", chunks=32), "another input"),
        (lambda dem: dem.demsr.upscale(2, "bicubic", chunks=32), "another model .bilinear"),
        (lambda dem: dem.demsr.upscale(2, "bilinear", chunks=40), "other chunks"),
        (
            lambda dem: dem.assign_attrs(units="ft").demsr.upscale(2, "bilinear", chunks=32),
            "attributes",
        ),
    ],
)
def test_something_else_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    path = tmp_path / "a.zarr"
    xdemsr.write_zarr(surface().demsr.upscale(2, "bilinear", chunks=32), path)
    before = content(path)
    with pytest.raises(InputError, match=words):
        xdemsr.write_zarr(change(surface()), path, resume=True)
    assert content(path) == before


@pytest.mark.parametrize("change", [{"zarr_format": 2}, {"overviews": True}, {"chunks": 8}])
def test_another_layout_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    raster = surface((600, 540), 128)
    interrupted(raster, tmp_path / "a.zarr", 5)
    with pytest.raises(InputError, match="other chunks, another type, format or overviews"):
        xdemsr.write_zarr(counted(raster, []), tmp_path / "a.zarr", resume=True, **change)


@pytest.mark.parametrize("overviews", [False, True])
def test_two_runs_on_one_store_do_no_harm(tmp_path: Path, overviews: bool) -> None:
    """One ends, and tidies up, while the other still has a region to write."""
    import dask

    raster, path, tally = surface((600, 540), 128), tmp_path / "a.zarr", []
    whole = xdemsr.write_zarr(counted(raster, []), tmp_path / "whole.zarr", overviews=overviews)

    def count(block: np.ndarray) -> np.ndarray:
        tally.append(1)
        if len(tally) == 24:
            xdemsr.write_zarr(counted(raster, []), path, resume=True, overviews=overviews)
        return block

    made = raster.data.map_blocks(
        count, dtype=raster.dtype, meta=np.empty((0, 0), "float32"), name="counted-(600, 540)"
    )
    with dask.config.set(scheduler="synchronous"):
        xdemsr.write_zarr(raster.copy(data=made), path, overviews=overviews)
    assert content(path) == content(whole)


def test_a_file_that_is_swept_away_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another run that ends while zarr has not yet given the file its name."""
    import zarr.storage._local as local

    put, swept = local._put, []

    def put_late(path: Path, *rest: Any, **options: Any) -> Any:
        if path.match("elevation/c/1/1") and not swept:
            swept.append(path)
            raise FileNotFoundError(path)
        return put(path, *rest, **options)

    monkeypatch.setattr(local, "_put", put_late)
    path = xdemsr.write_zarr(surface(), tmp_path / "a.zarr")
    assert len(swept) == 1
    np.testing.assert_array_equal(xdemsr.open(path).values, surface().values)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_run_that_died_at_once_goes_on(tmp_path: Path, zarr_format: int) -> None:
    """With nothing but the root's metadata, of which the first object is there."""
    path, how = tmp_path / "a.zarr", {"zarr_format": zarr_format}
    whole = xdemsr.write_zarr(counted(surface(), []), tmp_path / "whole.zarr", **how)
    interrupted(surface(), path, 1, **how)
    root = "zarr.json" if zarr_format == 3 else ".zattrs"
    for other in path.iterdir():
        if other.is_dir():
            shutil.rmtree(other)
        elif other.name != root:
            other.unlink()
    for verify in (False, True):
        assert xdemsr.missing(path, verify=verify) == [xdemsr.Missing("elevation", ())]
    with pytest.raises(FileExistsError, match="unfinished"):
        xdemsr.write_zarr(counted(surface(), []), path, **how)
    xdemsr.write_zarr(counted(surface(), []), path, resume=True, **how)
    assert content(path) == content(whole)


def test_files_half_written_are_swept_away(tmp_path: Path) -> None:
    """What zarr was writing under another name when it was killed, or its worker was."""
    path = tmp_path / "a.zarr"
    whole = xdemsr.write_zarr(counted(surface(), []), tmp_path / "whole.zarr")
    interrupted(surface(), path, 7)
    for name in ("zarr", "elevation/c/0/1", "elevation/.xdemsr/0"):
        half = path / f"{name}.{'0a' * 16}.partial"
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(b"half of")
    assert len(xdemsr.missing(path)) == 15 - 6
    xdemsr.write_zarr(counted(surface(), []), path, resume=True)
    assert content(path) == content(whole)


def test_other_weights_are_refused(
    tmp_path: Path, terrain_model: Path, windowed_model: Path
) -> None:
    dem = surface()
    xdemsr.write_zarr(dem.demsr.upscale(16, terrain_model), tmp_path / "a.zarr")
    with pytest.raises(InputError, match="another model"):
        xdemsr.write_zarr(dem.demsr.upscale(16, windowed_model), tmp_path / "a.zarr", resume=True)


def test_a_store_of_another_program_is_not_gone_on_with(tmp_path: Path) -> None:
    surface().to_zarr(tmp_path / "a.zarr", consolidated=False)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        xdemsr.write_zarr(surface(), tmp_path / "a.zarr", resume=True)
    with pytest.raises(InputError, match="not a store that xdemsr"):
        xdemsr.missing(tmp_path / "a.zarr")


def test_a_replacement_that_died_goes_on_beside_what_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    xdemsr.write_zarr(surface() * 2, path)
    before = content(path)
    interrupted(surface(), path, 7, overwrite=True)
    assert content(path) == before
    tally: list[int] = []
    xdemsr.write_zarr(counted(surface(), tally), path, resume=True)
    assert len(tally) == 15 - 6
    np.testing.assert_array_equal(xdemsr.open(path).values, surface().values)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_a_run_that_dies_between_two_renamings_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    xdemsr.write_zarr(surface() * 2, path)
    path.rename(tmp_path / ".a.zarr.xdemsr-old")
    with pytest.raises(FileExistsError):
        xdemsr.write_zarr(surface(), path)
    np.testing.assert_array_equal(xdemsr.open(path).values, surface().values * 2)


def test_all_void_regions_take_no_room_and_read_as_void(tmp_path: Path) -> None:
    raster = surface()
    raster = raster.where(raster.x > raster.x[40])
    raster.encoding["_FillValue"] = -9999.0
    path = xdemsr.write_zarr(raster, tmp_path / "a.zarr")
    assert len(list((path / "elevation" / "c").rglob("*/*"))) < 15
    np.testing.assert_array_equal(xdemsr.open(path).values, raster.values)


def test_an_unfinished_store_is_not_opened(tmp_path: Path) -> None:
    interrupted(surface(), tmp_path / "a.zarr", 5)
    with pytest.raises(InputError, match="unfinished"):
        xdemsr.open(tmp_path / "a.zarr")


def test_whole_numbers_stay_whole_and_their_gaps_void(tmp_path: Path) -> None:
    whole = surface().round().fillna(-32768).astype("int16").rio.write_nodata(-32768)
    interrupted(whole, tmp_path / "a.zarr", 5)
    values = zarr.open_array(tmp_path / "a.zarr", path="elevation")
    assert values.dtype == np.int16
    for item in xdemsr.missing(tmp_path / "a.zarr"):
        assert (values[item.where] == -32768).all()
    xdemsr.write_zarr(counted(whole, []), tmp_path / "a.zarr", resume=True)
    np.testing.assert_array_equal(values[:], whole.values)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_stores_chunks_may_be_smaller(tmp_path: Path, zarr_format: int) -> None:
    raster = surface((90, 130), 64)
    path = xdemsr.write_zarr(raster, tmp_path / "a.zarr", chunks=(20, 16), zarr_format=zarr_format)
    array = zarr.open_array(path, path="elevation")
    assert array.chunks == (20, 16)
    assert array.shards == ((60, 64) if zarr_format == 3 else None)
    np.testing.assert_array_equal(xdemsr.open(path).values, raster.values)
    with pytest.raises(InputError, match="chunks=0"):
        xdemsr.write_zarr(raster, tmp_path / "b.zarr", chunks=0)


def test_eager_rasters_are_written_in_regions(tmp_path: Path) -> None:
    dem = xdemsr.synthetic.terrain((2100, 2060), gsd=30.0)
    path = xdemsr.write_zarr(dem, tmp_path / "a.zarr")
    array = zarr.open_array(path, path="elevation")
    assert (array.chunks, array.dtype) == ((2048, 2048), np.float32)
    np.testing.assert_array_equal(xdemsr.open(path).values, dem.values)


def test_the_standard_error_goes_along(tmp_path: Path, terrain_model: Path) -> None:
    both = surface().demsr.upscale(4, "terrain-x4", uncertainty=True, chunks=64)
    path = xdemsr.write_zarr(both, tmp_path / "a.zarr", overviews=True)
    found = xr.open_zarr(path, decode_coords="all")
    for name in both.data_vars:
        np.testing.assert_array_equal(found[name].values, both[name].values)


# Where it lies


def test_the_conventions_say_where_a_store_lies(tmp_path: Path, dem: xr.DataArray) -> None:
    path = xdemsr.write_zarr(dem, tmp_path / "a.zarr")
    attrs = zarr.open_group(path, mode="r").attrs
    assert {item["name"] for item in attrs["zarr_conventions"]} == {"proj:", "spatial:"}
    assert attrs["proj:code"] == f"EPSG:{dem.rio.crs.to_epsg()}"
    assert attrs["spatial:transform"] == list(dem.rio.transform())[:6]
    assert attrs["spatial:dimensions"] == ["y", "x"]
    assert attrs["spatial:shape"] == list(dem.shape)
    np.testing.assert_allclose(attrs["spatial:bbox"], dem.rio.bounds())
    found = xr.open_zarr(path, decode_coords="all")["elevation"]
    assert found.attrs == dem.attrs
    assert found.rio.crs == dem.rio.crs
    assert found.rio.transform() == dem.rio.transform()


def test_gdal_reads_zarr_2(tmp_path: Path, dem: xr.DataArray) -> None:
    """Its releases up to 3.10 know a draft of Zarr 3 only."""
    path = xdemsr.write_zarr(dem.chunk(20), tmp_path / "a.zarr", zarr_format=2)
    with rasterio.open(f'ZARR:"{path}":/elevation') as file:
        np.testing.assert_array_equal(file.read(1), dem.values)
        assert file.crs == dem.rio.crs
        assert file.transform == dem.rio.transform()
        assert np.isnan(file.nodata)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ny=st.integers(513, 1100), nx=st.integers(500, 1100), chunk=st.integers(97, 400))
def test_overviews_are_means_of_what_is_valid(tmp_path: Path, ny: int, nx: int, chunk: int) -> None:
    rng = np.random.default_rng(ny * nx)
    values = rng.normal(500, 100, (ny, nx)).astype("float32")
    values[rng.random((ny, nx)) < 0.3] = np.nan
    raster = surface((ny, nx), 128).copy(data=values).chunk(chunk)
    path = xdemsr.write_zarr(raster, tmp_path / f"{ny}-{nx}-{chunk}.zarr", overviews=True)
    layout = zarr.open_group(path, mode="r").attrs["multiscales"]["layout"]
    expected = values
    for item in layout[1:]:
        odd = [(0, size % 2) for size in expected.shape]
        padded = np.pad(expected, odd, constant_values=np.nan).astype("float64")
        blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
        known = ~np.isnan(blocks)
        with np.errstate(invalid="ignore"):
            means = np.where(known, blocks, 0).sum(axis=(1, 3)) / known.sum(axis=(1, 3))
        expected = means.astype("float32")
        level = xr.open_zarr(path, group=item["asset"].split("/")[0], decode_coords="all")
        np.testing.assert_allclose(level["elevation"].values, expected, rtol=1e-6)
        assert list(level["elevation"].rio.transform(recalc=False))[:6] == item["spatial:transform"]
        assert list(level["elevation"].shape) == item["spatial:shape"]
    assert max(expected.shape) <= 512
    shutil.rmtree(path)


def test_overviews_of_whole_numbers_are_whole(tmp_path: Path) -> None:
    whole = surface((700, 600), 256).round().fillna(-32768).astype("int16").rio.write_nodata(-32768)
    path = xdemsr.write_zarr(whole, tmp_path / "a.zarr", overviews=True)
    level = zarr.open_array(path, path="2/elevation")[:]
    assert level.dtype == np.int16
    values = whole.where(whole != -32768).values
    with np.errstate(invalid="ignore"):
        expected = np.nanmean(values[10:20].reshape(5, 2, 300, 2), axis=(1, 3))
    np.testing.assert_array_equal(level[5:10], np.rint(expected))


# Killed for real

JOB = """
import sys, time
import numpy as np
import xdemsr

def slowly(block):
    with open(sys.argv[2], "ab") as tally:
        tally.write(b".")
    time.sleep(0.01)
    return block

dem = xdemsr.synthetic.terrain((200, 150), gsd=30.0, seed=3).chunk(40)
fine = dem.demsr.upscale(4, "bicubic", chunks=64)
fine.data = fine.data.map_blocks(slowly, dtype="float32", meta=np.empty((0, 0), "float32"))
print("begun", flush=True)
xdemsr.write_zarr(fine, sys.argv[1], resume=True, overviews=True, chunks=16)
"""
#: Of the job, without the overview.
REGIONS = 13 * 10


def job(path: Path) -> subprocess.Popen[str]:
    """The job; a byte for each region that is computed goes to a file beside the store."""
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(path), str(path.with_suffix(".tally"))],
        stdout=subprocess.PIPE,
        text=True,
    )


def computed(path: Path) -> int:
    """Regions computed so far, by all runs."""
    tally = path.with_suffix(".tally")
    return tally.stat().st_size if tally.exists() else 0


def kill_until_done(path: Path, kills: int, rng: np.random.Generator) -> list[int]:
    """Start the job again and again, each time killed after a while; how much is left each time."""
    left = []
    for _ in range(kills):
        with job(path) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 1.2))
            os.kill(process.pid, signal.SIGKILL)
        left.append(len(xdemsr.missing(path)) if (path / "zarr.json").exists() else -1)
    with job(path) as process:
        assert process.wait() == 0
    return left


@pytest.mark.parametrize("kills", [3])
def test_killed_at_any_moment_the_store_is_the_same(
    tmp_path: Path, kills: int, pytestconfig: pytest.Config
) -> None:
    whole = tmp_path / "whole.zarr"
    with job(whole) as process:
        assert process.wait() == 0
    kills = max(kills, int(os.environ.get("XDEMSR_KILLS", "0")))
    left = kill_until_done(tmp_path / "a.zarr", kills, np.random.default_rng(0))
    known = [count for count in left if count >= 0]
    assert known == sorted(known, reverse=True)
    assert content(tmp_path / "a.zarr") == content(whole)
    # What is done twice is what each thread had in hand when it was killed.
    again = computed(tmp_path / "a.zarr") - computed(whole)
    assert 0 <= again <= kills * CPU_COUNT


def test_killed_at_half_the_rest_is_half_the_work(tmp_path: Path) -> None:
    path, marks = tmp_path / "a.zarr", tmp_path / "a.zarr" / "elevation" / ".xdemsr"
    with job(path) as process:
        while not marks.is_dir() or len(list(marks.iterdir())) < REGIONS / 2:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    before = computed(path)
    with job(path) as process:
        assert process.wait() == 0
    assert 0 < computed(path) - before <= 0.55 * REGIONS
    assert xdemsr.missing(path, verify=True) == []


# Stores that are no folders


def test_stores_in_memory() -> None:
    """An object store, as far as writing sees it."""
    obstore = pytest.importorskip("obstore")
    raster = surface()
    for target in (
        obstore.store.MemoryStore(),
        zarr.storage.MemoryStore(),
        "memory://stores/a.zarr",
    ):
        interrupted(raster, target, 5)
        tally: list[int] = []
        left = len(xdemsr.missing(target))
        assert xdemsr.write_zarr(counted(raster, tally), target, resume=True) is target
        assert len(tally) == left < 15
        np.testing.assert_array_equal(xdemsr.open(target).values, raster.values)
        with pytest.raises(FileExistsError, match="exists"):
            xdemsr.write_zarr(raster, target)
        with pytest.raises(InputError, match="replaces folders only"):
            xdemsr.write_zarr(raster, target, overwrite=True)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not as int"):
        xdemsr.write_zarr(surface(), 3)
    with pytest.raises(InputError, match="storage_options"):
        xdemsr.write_zarr(surface(), tmp_path / "a.zarr", storage_options={"anon": True})
    with pytest.raises(InputError, match="drops a slash"):
        xdemsr.write_zarr(surface(), Path("s3://bucket/a.zarr"))
    with pytest.raises(InputError, match="zarr_format"):
        xdemsr.write_zarr(surface(), tmp_path / "a.zarr", zarr_format=1)


def test_a_store_that_workers_do_not_share_is_an_error(tmp_path: Path) -> None:
    """The memory of a process is its own."""
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(n_workers=1, dashboard_address=":0", silence_logs=50)
    with (
        cluster,
        distributed.Client(cluster) as client,
        pytest.raises(InputError, match="Every worker must reach"),
    ):
        xdemsr.write_zarr(surface(), "memory://elsewhere/a.zarr", client=client)
