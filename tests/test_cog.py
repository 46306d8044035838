"""Cloud-Optimized GeoTIFFs: what GDAL would have stored, from whatever computes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import xdemsr
from xdemsr.errors import InputError
from xdemsr.io import scratch, tiff

#: That of GDAL's own driver.
LAYOUT = {
    "LAYOUT": "IFDS_BEFORE_DATA",
    "BLOCK_ORDER": "ROW_MAJOR",
    "BLOCK_LEADER": "SIZE_AS_UINT4",
    "BLOCK_TRAILER": "LAST_4_BYTES_REPEATED",
    "KNOWN_INCOMPATIBLE_EDITION": "NO",
}

PLACE = Affine(30.1, 0, 5e5, 0, -29.9, 4e6)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def placed(values: np.ndarray, affine: Affine = PLACE) -> xr.DataArray:
    dims = ("band", "y", "x")[-values.ndim :]
    raster = xr.DataArray(values, dims=dims).rio.write_crs("EPSG:32611")
    return raster.rio.write_transform(affine)


def written_by_gdal(raster: xr.DataArray, path: Path) -> Path:
    """The same through GDAL's own driver, at once."""
    raster.rio.to_raster(
        path, driver="COG", compress="deflate", blocksize=512, overview_resampling="average"
    )
    return path


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("float32", np.nan), ("float64", -9999.0), ("int16", -32768), ("uint8", 255), ("int32", None)],
)
def test_pixels_are_those_of_gdal(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    values = np.random.default_rng(1).normal(100, 30, (700, 1100)).clip(0, 250).astype(dtype)
    raster = placed(values)
    if nodata is not None:
        raster[30:300, 200:900] = nodata
        raster = raster.rio.write_nodata(nodata)
    theirs = written_by_gdal(raster, tmp_path / "theirs.tif")
    ours = xdemsr.write_cog(raster.chunk(y=301, x=512), tmp_path / "ours.tif")
    with rasterio.open(theirs) as a, rasterio.open(ours) as b:
        assert a.read().tobytes() == b.read().tobytes()
        assert a.bounds == b.bounds
        assert a.transform == b.transform
        assert a.crs == b.crs
        assert a.dtypes == b.dtypes
        np.testing.assert_equal(a.nodata, b.nodata)
        assert a.overviews(1) == b.overviews(1)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 1300), st.integers(1, 1300)),
    st.integers(100, 700),
    st.floats(-1e6, 1e6),
    st.floats(1e-9, 1e4),
)
def test_any_size_lies_where_it_lay(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int],
    chunk: int,
    edge: float,
    step: float,
) -> None:
    affine = Affine(step, 0, edge, 0, -step * 0.7, -edge)
    raster = placed(np.zeros(shape, "uint8"), affine)
    path = xdemsr.write_cog(raster.chunk(chunk), tmp_path_factory.mktemp("cog") / "a.tif")
    with rasterio.open(path) as file:
        assert file.shape == shape
        assert file.transform == affine


@given(hnp.arrays("float32", (9, 14), elements=st.sampled_from([0.0, 1.0, 2.0, 7.5, np.nan])))
@settings(max_examples=15, deadline=None)
def test_overviews_are_means_of_valid_pixels(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray
) -> None:
    values = np.kron(values, np.ones((100, 80), "float32"))
    path = xdemsr.write_cog(placed(values), tmp_path_factory.mktemp("cog") / "a.tif")
    with rasterio.open(path, overview_level=0) as file:
        found = file.read(1)
    parts = [values[i::2, j::2] for i, j in product((0, 1), (0, 1))]
    valid = sum(~np.isnan(part) for part in parts)
    expected = sum(np.nan_to_num(part) for part in parts) / np.maximum(valid, 1)
    np.testing.assert_allclose(found, np.where(valid > 0, expected, np.nan))


def test_overviews_of_whole_numbers_leave_voids_out(tmp_path: Path) -> None:
    values = np.full((600, 900), -32768, "int16")
    values[::2, ::2] = 100
    raster = placed(values).rio.write_nodata(-32768)
    with rasterio.open(xdemsr.write_cog(raster, tmp_path / "a.tif"), overview_level=0) as file:
        assert (file.read(1) == 100).all()


def test_the_file_is_ordered_as_it_says(tmp_path: Path) -> None:
    raster = placed(np.random.default_rng(0).random((1300, 1900), "float32"))
    content = xdemsr.write_cog(raster.chunk(700), tmp_path / "a.tif").read_bytes()
    ghost = content[8:].split(b"\n", 1)[1].split(b"\n ")[0].decode()
    assert dict(line.split("=") for line in ghost.splitlines()) == LAYOUT
    ends = []
    with rasterio.open(tmp_path / "a.tif") as file:
        levels = len(file.overviews(1))
    for level in range(levels, -1, -1):
        how = {"overview_level": level - 1} if level else {}
        with rasterio.open(tmp_path / "a.tif", **how) as file:
            rows, columns = (-(-size // 512) for size in file.shape)
            for row, column in product(range(rows), range(columns)):
                tags = (f"BLOCK_{what}_{column}_{row}" for what in ("OFFSET", "SIZE"))
                start, size = (int(file.get_tag_item(tag, "TIFF", bidx=1)) for tag in tags)
                assert int.from_bytes(content[start - 4 : start], "little") == size
                assert content[start + size - 4 : start + size] == content[start + size :][:4]
                ends.append((start - 4, start + size + 4))
    assert [end for _, end in ends[:-1]] == [start for start, _ in ends[1:]]
    assert ends[-1][1] == len(content)


def test_large_files_are_big_tiffs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raster = placed(np.random.default_rng(0).random((700, 900), "float32"))
    small = xdemsr.write_cog(raster, tmp_path / "small.tif")
    monkeypatch.setattr(tiff, "_MOST_CLASSIC", small.stat().st_size)
    large = xdemsr.write_cog(raster, tmp_path / "large.tif")
    assert small.read_bytes()[2] == 42
    assert large.read_bytes()[2] == 43
    with rasterio.open(large) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        np.testing.assert_array_equal(file.read(1), raster.values)
        assert file.transform == raster.rio.transform()


def test_chunks_do_not_matter(tmp_path: Path) -> None:
    raster = placed(np.random.default_rng(0).random((1300, 1500), "float32"))
    expected = xdemsr.write_cog(raster, tmp_path / "a.tif").read_bytes()
    for chunks in ({"y": 1024, "x": 512}, {"y": 97, "x": 1500}, {"y": (1000, 300), "x": 800}):
        path = xdemsr.write_cog(raster.chunk(chunks), tmp_path / "a.tif", overwrite=True)
        assert path.read_bytes() == expected


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_schedulers_do_not_matter(tmp_path: Path, scheduler: str) -> None:
    raster = placed(np.random.default_rng(0).random((700, 900), "float32"))
    expected = xdemsr.write_cog(raster, tmp_path / "a.tif").read_bytes()
    with dask.config.set(scheduler=scheduler):
        path = xdemsr.write_cog(raster.chunk(512), tmp_path / "b.tif")
    assert path.read_bytes() == expected


@pytest.mark.parametrize("shared", [True, False])
def test_a_cluster_writes_the_same(tmp_path: Path, client: Any, shared: bool) -> None:
    raster = placed(np.random.default_rng(0).random((1300, 1900), "float32"))
    with dask.config.set(scheduler="synchronous"), warnings.catch_warnings():
        # dask asks whether it is meant that the cluster is not used.
        warnings.simplefilter("ignore", UserWarning)
        expected = xdemsr.write_cog(raster, tmp_path / "a.tif").read_bytes()
    client.run(show_folder, shared)
    try:
        path = xdemsr.write_cog(raster.chunk(512), tmp_path / "b.tif", client=client)
    finally:
        client.run(show_folder, True)
    assert path.read_bytes() == expected
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.tif", "b.tif"]


def show_folder(shared: bool) -> None:
    """Let a worker see the client's disk, or not, and fail if it tries nevertheless."""
    from xdemsr.io import scratch

    if not hasattr(scratch, "_SEEN"):
        scratch._SEEN = scratch.Scratch.is_here  # type: ignore[attr-defined]
    scratch.Scratch.is_here = (  # type: ignore[method-assign]
        scratch._SEEN if shared else lambda self: False  # type: ignore[attr-defined]
    )


def test_a_folder_that_is_not_seen_is_an_error(tmp_path: Path) -> None:
    place = scratch.Place(0, 0, 0)
    with pytest.raises(InputError, match="does not see"):
        scratch.Scratch(str(tmp_path), "another").put(place, b"")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, dem: xr.DataArray) -> None:
    path = xdemsr.write_cog(dem, tmp_path / "a.tif")

    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("no more")

    lazy = dem.chunk(16)
    broken = lazy.copy(data=lazy.data.map_blocks(fail, dtype="f4"))
    with pytest.raises(RuntimeError, match="no more"):
        xdemsr.write_cog(broken, path, overwrite=True)
    np.testing.assert_array_equal(xdemsr.open(path).values, dem.values)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_be_replaced_by_what_is_read_from_it(tmp_path: Path, dem: xr.DataArray) -> None:
    path = xdemsr.write_cog(dem, tmp_path / "a.tif")
    xdemsr.write_cog(xdemsr.open(path) + 1, path, overwrite=True)
    np.testing.assert_array_equal(xdemsr.open(path).values, dem.values + 1)


def test_labels_are_kept(tmp_path: Path, dem: xr.DataArray) -> None:
    raster = dem.rio.write_crs("EPSG:32611+5773").rio.write_nodata(-9999.0, encoded=True)
    raster.attrs["source"] = "made <up> & kept"
    theirs = written_by_gdal(raster, tmp_path / "theirs.tif")
    with (
        rasterio.open(theirs) as a,
        rasterio.open(xdemsr.write_cog(raster, tmp_path / "b.tif")) as b,
    ):
        assert a.tags() == b.tags()
        assert a.descriptions == b.descriptions
        assert a.crs == b.crs
        assert a.nodata == b.nodata == -9999
        assert a.units == b.units
        np.testing.assert_array_equal(a.read(), b.read())


def test_rasters_without_a_place_are_written(tmp_path: Path) -> None:
    values = np.arange(6.0, dtype="float32").reshape(2, 3)
    path = xdemsr.write_cog(xr.DataArray(values, dims=("y", "x")), tmp_path / "a.tif")
    np.testing.assert_array_equal(xdemsr.open(path).values, values)


def test_options_are_for_urls(tmp_path: Path, dem: xr.DataArray) -> None:
    with pytest.raises(InputError, match="storage_options are for URLs"):
        xdemsr.write_cog(dem, tmp_path / "a.tif", storage_options={"anon": True})
