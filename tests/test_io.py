"""Rasters in and out of files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import rasterio
import xarray as xr
import zarr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr.errors import GridError, InputError
from xdemsr.io import write


def test_opening_is_lazy_and_masks(tmp_path: Path, dem: xr.DataArray) -> None:
    dem.rio.write_nodata(-9999.0, encoded=True).rio.to_raster(tmp_path / "a.tif")
    opened = xdemsr.open(tmp_path / "a.tif", chunks=16)
    assert opened.dims == ("y", "x")
    assert opened.data.chunksize == (16, 16)
    np.testing.assert_array_equal(opened.values, dem.values)
    assert opened.rio.encoded_nodata == -9999


def test_integers_stay_integers(tmp_path: Path, dem: xr.DataArray, terrain_model: Path) -> None:
    whole = dem.round().fillna(-32768).astype("int16").rio.write_nodata(-32768)
    whole.rio.to_raster(tmp_path / "a.tif")
    opened = xdemsr.open(tmp_path / "a.tif")
    assert opened.dtype == np.int16
    fine = opened.demsr.upscale(16, terrain_model)
    assert fine.attrs["xdemsr_vertical_error"] == pytest.approx(12**-0.5)
    expected = dem.round().demsr.upscale(16, terrain_model, vertical_error=12**-0.5)
    np.testing.assert_allclose(fine.values, expected.values, atol=1e-4)


def test_stores_of_several_variables_need_a_name(tmp_path: Path, dem: xr.DataArray) -> None:
    xr.Dataset({"a": dem, "b": dem + 1}).to_zarr(tmp_path / "s.zarr", zarr_format=2)
    with pytest.raises(InputError, match="variables a, b"):
        xdemsr.open(tmp_path / "s.zarr")
    np.testing.assert_array_equal(xdemsr.open(tmp_path / "s.zarr", "b").values, dem.values + 1)
    with pytest.raises(InputError, match="variables a, b"):
        xdemsr.open(tmp_path / "s.zarr", "c")


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no raster at"):
        xdemsr.open(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_nothing_is_overwritten_unasked(tmp_path: Path, dem: xr.DataArray, name: str) -> None:
    write(dem, tmp_path / name)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write(dem + 1, tmp_path / name)
    np.testing.assert_array_equal(xdemsr.open(tmp_path / name).values, dem.values)
    write(dem + 1, tmp_path / name, overwrite=True)
    np.testing.assert_array_equal(xdemsr.open(tmp_path / name).values, dem.values + 1)


def test_other_formats_are_refused(tmp_path: Path, dem: xr.DataArray) -> None:
    with pytest.raises(InputError, match=r"\.zarr, \.tif"):
        write(dem, tmp_path / "a.png")


def test_cogs_are_cogs(tmp_path: Path) -> None:
    dem = xdemsr.synthetic.terrain((700, 900)).chunk(250)
    path = xdemsr.write_cog(dem, tmp_path / "a.tif")
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
        assert file.overviews(1) == [2]
        assert file.block_shapes == [(512, 512)]
        assert np.isnan(file.nodata)
        overview = file.read(1, out_shape=(350, 450))
    means = dem.values.reshape(350, 2, 450, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(overview, means, atol=1e-2)
    assert list(tmp_path.iterdir()) == [path]


def test_cogs_hold_one_raster(tmp_path: Path, dem: xr.DataArray) -> None:
    xdemsr.write_cog(dem.expand_dims("band"), tmp_path / "one.tif")
    with pytest.raises(GridError, match="expected one raster"):
        xdemsr.write_cog(xr.concat([dem, dem], "time"), tmp_path / "two.tif")


def test_gdal_reads_the_store(tmp_path: Path, dem: xr.DataArray) -> None:
    xdemsr.write_zarr(dem.chunk(20), tmp_path / "a.zarr")
    back = xr.open_zarr(tmp_path / "a.zarr", decode_coords="all")["elevation"]
    assert back.rio.crs == dem.rio.crs
    assert back.rio.transform() == dem.rio.transform()
    assert "grid_mapping" not in back.attrs


def test_a_store_may_be_replaced_by_what_is_read_from_it(tmp_path: Path, dem: xr.DataArray) -> None:
    path = xdemsr.write_zarr(dem.chunk(16), tmp_path / "a.zarr")
    expected = dem.demsr.upscale(2, "bilinear")
    xdemsr.write_zarr(xdemsr.open(path).demsr.upscale(2, "bilinear"), path, overwrite=True)
    np.testing.assert_array_equal(xdemsr.open(path).values, expected.values)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


def test_a_write_that_fails_leaves_the_old_store(tmp_path: Path, dem: xr.DataArray) -> None:
    path = xdemsr.write_zarr(dem, tmp_path / "a.zarr")

    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("no more")

    broken = dem.chunk(16).copy(data=dem.chunk(16).data.map_blocks(fail, dtype="f4"))
    with pytest.raises(RuntimeError, match="no more"):
        xdemsr.write_zarr(broken, path, overwrite=True)
    np.testing.assert_array_equal(xdemsr.open(path).values, dem.values)


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path, dem: xr.DataArray) -> None:
    (tmp_path / "thesis.zarr").mkdir()
    (tmp_path / "thesis.zarr" / "chapter.txt").write_text("1")
    with pytest.raises(InputError, match="not a Zarr store"):
        xdemsr.write_zarr(dem, tmp_path / "thesis.zarr", overwrite=True)
    assert (tmp_path / "thesis.zarr" / "chapter.txt").exists()


def test_a_part_of_a_lazy_answer_is_written(tmp_path: Path, dem: xr.DataArray) -> None:
    fine = dem.chunk(16).demsr.upscale(2, "bilinear", chunks=(20, 30))[13:, 7:-5]
    path = xdemsr.write_zarr(fine, tmp_path / "a.zarr")
    np.testing.assert_array_equal(xdemsr.open(path).values, fine.values)


def test_packed_files_are_unpacked(tmp_path: Path, dem: xr.DataArray) -> None:
    metres = dem.fillna(0).round(1)
    packed = ((metres - 5) * 10).round().astype("int16")
    packed.rio.to_raster(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.scales, file.offsets = [0.1], [5.0]
    opened = xdemsr.open(tmp_path / "a.tif")
    np.testing.assert_allclose(opened.values, metres.values, atol=1e-4)
    assert xdemsr.evaluate(opened, metres)["rmse"] < 1e-4


def test_virtual_paths_go_to_gdal(tmp_path: Path, dem: xr.DataArray) -> None:
    dem.rio.to_raster(tmp_path / "a.tif")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.write(tmp_path / "a.tif", "a.tif")
    for path in (f"/vsizip/{tmp_path}/a.zip/a.tif", f"zip://{tmp_path}/a.zip!a.tif"):
        np.testing.assert_array_equal(xdemsr.open(path).values, dem.values)


def test_what_is_no_raster_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("not a raster")
    (tmp_path / "a.zarr").mkdir()
    for name, words in (("a.tif", "GDAL cannot open"), ("a.zarr", "as a Zarr store")):
        with pytest.raises(InputError, match=words):
            xdemsr.open(tmp_path / name)


def test_names_may_shout_and_folders_may_be_missing(tmp_path: Path, dem: xr.DataArray) -> None:
    path = write(dem, tmp_path / "new" / "A.TIF")
    np.testing.assert_array_equal(xdemsr.open(path).values, dem.values)


@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_urls_are_not_taken_for_folders(dem: xr.DataArray, name: str) -> None:
    with pytest.raises(InputError, match="cannot be reached"):
        write(dem, f"nosuchplace://bucket/{name}")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
@pytest.mark.parametrize("nodata", [-9999, None])
def test_packed_files_are_written_as_they_are_read(
    tmp_path: Path, dem: xr.DataArray, name: str, nodata: int | None
) -> None:
    packed = (dem.fillna(0) * 10).round().astype("int16")
    packed[3, 4] = 0
    if nodata is not None:
        packed[5:7, 8:9] = nodata
        packed = packed.rio.write_nodata(nodata)
    packed.rio.to_raster(tmp_path / "packed.tif")
    with rasterio.open(tmp_path / "packed.tif", "r+") as file:
        file.scales = [0.1]
    opened = xdemsr.open(tmp_path / "packed.tif")
    assert int(opened.isnull().sum()) == (0 if nodata is None else 2)
    found = xdemsr.open(write(opened, tmp_path / name))
    np.testing.assert_array_equal(found.values, opened.values.astype("float32"))


def test_coordinates_of_older_stores_are_written(tmp_path: Path, dem: xr.DataArray) -> None:
    days = np.array(["2020-01-01", "2020-02-01"], "datetime64[ns]")
    series = xr.concat([dem, dem + 1], xr.DataArray(days, dims="time", name="time"))
    series.to_dataset(name="z").to_zarr(tmp_path / "v2.zarr", zarr_format=2)
    opened = xdemsr.open(tmp_path / "v2.zarr")
    found = xdemsr.open(xdemsr.write_zarr(opened, tmp_path / "v3.zarr"))
    np.testing.assert_array_equal(found.time.values, days)
    np.testing.assert_array_equal(found.values, opened.values)


def test_targets_that_cannot_be_are_refused_before_the_work(
    tmp_path: Path, dem: xr.DataArray
) -> None:
    def never(block: np.ndarray) -> np.ndarray:
        raise AssertionError

    lazy = dem.copy(data=dem.chunk(16).data.map_blocks(never, dtype="f4", meta=np.empty((0, 0))))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        xdemsr.write_zarr(lazy, tmp_path / "file" / "a.zarr")
    with pytest.raises(InputError, match="is a folder"):
        xdemsr.write_cog(lazy, tmp_path, overwrite=True)
    with pytest.raises(InputError, match="slash"):
        xdemsr.write_zarr(lazy.rename("a/b"), tmp_path / "a.zarr")
    with pytest.raises(InputError, match="drops a slash"):
        xdemsr.write_zarr(lazy, Path("s3://bucket/a.zarr"))


def test_links_stay_links(tmp_path: Path, dem: xr.DataArray) -> None:
    xdemsr.write_zarr(dem, tmp_path / "real.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "real.zarr")
    xdemsr.write_zarr(dem + 1, tmp_path / "link.zarr", overwrite=True)
    assert (tmp_path / "link.zarr").is_symlink()
    np.testing.assert_array_equal(xdemsr.open(tmp_path / "real.zarr").values, dem.values + 1)


def test_writing_leaves_the_array_alone(tmp_path: Path, dem: xr.DataArray) -> None:
    dem.encoding["chunksizes"] = (3, 3)
    dem.x.encoding["filters"] = None
    before = dem.copy(deep=True)
    for name in ("a.zarr", "a.tif"):
        write(dem, tmp_path / name)
    xr.testing.assert_identical(dem, before)
    assert dem.encoding == before.encoding
    assert dem.x.encoding == before.x.encoding


def test_masks_are_written(tmp_path: Path, dem: xr.DataArray) -> None:
    found = xdemsr.open(xdemsr.write_cog(dem > 1200, tmp_path / "a.tif"))
    np.testing.assert_array_equal(found.values, (dem > 1200).values)


def test_bands_are_written_with_their_names(tmp_path: Path, dem: xr.DataArray) -> None:
    names = ["red", "green", "nir"]
    bands = xr.concat([dem, 2 * dem, 3 * dem], "band").assign_coords(band=names)
    found = xdemsr.open(xdemsr.write_cog(bands.chunk(y=20), tmp_path / "bands.tif"))
    np.testing.assert_array_equal(found.values, bands.values)
    assert found.attrs["long_name"] == tuple(names)
    with rasterio.open(tmp_path / "bands.tif") as file:
        assert file.descriptions == tuple(names)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_the_fourth_band_is_no_opacity(tmp_path: Path) -> None:
    """GDAL takes four bands of 8 bits for colours and opacity, and averages overviews by it."""
    names = ["red", "green", "blue", "nir"]
    values = np.full((4, 700, 900), 40, np.uint8)
    values[3] = 0
    image = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": names})
    placed = image.rio.write_crs("EPSG:32611").rio.write_transform(Affine(10, 0, 5e5, 0, -10, 4e6))
    with rasterio.open(xdemsr.write_cog(placed, tmp_path / "a.tif")) as file:
        assert [found.name for found in file.colorinterp] == ["red", "green", "blue", "undefined"]
        assert (file.read(1, out_shape=(350, 450)) == 40).all()
    said = placed.assign_coords(band=[*names[:3], "alpha"])
    with rasterio.open(xdemsr.write_cog(said, tmp_path / "b.tif")) as file:
        assert file.colorinterp[3].name == "alpha"


def test_a_band_that_was_chosen_is_written(tmp_path: Path, dem: xr.DataArray) -> None:
    bands = xr.concat([dem, 2 * dem, 3 * dem], "band").assign_coords(band=["a", "b", "c"])
    image = xdemsr.open(xdemsr.write_cog(bands, tmp_path / "bands.tif"))
    for part in (image[1], image[:2], image[1:2]):
        found = xdemsr.open(xdemsr.write_cog(part, tmp_path / "part.tif", overwrite=True))
        np.testing.assert_array_equal(found.values, part.squeeze().values)
        assert part.attrs["long_name"] == ("a", "b", "c")


def test_half_precision_is_written_as_single(tmp_path: Path, dem: xr.DataArray) -> None:
    half = dem.astype(np.float16)
    found = xdemsr.open(xdemsr.write_cog(half, tmp_path / "a.tif"))
    np.testing.assert_array_equal(found.values, half.values.astype(np.float32))


def test_names_of_bands_are_stored_as_text(tmp_path: Path, dem: xr.DataArray) -> None:
    """Without a warning that other readers may not know them; zarr before 3.1 warns on reading."""
    if tuple(map(int, zarr.__version__.split(".")[:2])) < (3, 1):
        warnings.filterwarnings("ignore", "The (codec|dtype) .* is currently not part")
    bands = xr.concat([dem, 2 * dem], "band").assign_coords(band=["red", "nir"])
    path = xdemsr.write_zarr(bands, tmp_path / "a.zarr")
    assert xdemsr.open(path).band.values.tolist() == ["red", "nir"]
    assert bands.band.dtype.kind == "U"


def test_names_are_the_same_in_every_process(tmp_path: Path, dem: xr.DataArray) -> None:
    dem.rio.to_raster(tmp_path / "a.tif")
    (tmp_path / "a.vrt").write_text(virtual("a.tif", dem))
    xdemsr.write_zarr(dem.chunk(20), tmp_path / "a.zarr")
    code = "import xdemsr, sys; print(*(xdemsr.open(path).data.name for path in sys.argv[1:]))"
    paths = [str(tmp_path / name) for name in ("a.tif", "a.vrt", "a.zarr")]
    run = [sys.executable, "-c", code, *paths]
    elsewhere = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert elsewhere == [xdemsr.open(path).data.name for path in paths]
    assert len(set(elsewhere)) == 3


@pytest.mark.parametrize("name", ["a.tif", "a.vrt", "v3.zarr", "v2.zarr", "a.zip"])
def test_names_differ_where_contents_do(tmp_path: Path, dem: xr.DataArray, name: str) -> None:
    """In a store under the same metadata, too."""

    def make(values: xr.DataArray) -> None:
        values.rio.to_raster(tmp_path / "a.tif")
        (tmp_path / "a.vrt").write_text(virtual("a.tif", dem))
        for number in (2, 3):
            store = zarr.open_group(tmp_path / f"v{number}.zarr", mode="a", zarr_format=number)
            if "z" not in store:
                dataset = xr.Dataset({"z": dem.chunk(20)})
                dataset.to_zarr(
                    tmp_path / f"v{number}.zarr", mode="w", zarr_format=number, consolidated=False
                )
            zarr.open_array(tmp_path / f"v{number}.zarr/z")[:] = values.values
        (tmp_path / "a.zip").unlink(missing_ok=True)
        shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "v3.zarr")

    make(dem)
    before = xdemsr.open(tmp_path / name)
    np.testing.assert_array_equal(before.values, dem.values)
    assert xdemsr.open(tmp_path / name).data.name == before.data.name
    make(dem + 1)
    after = xdemsr.open(tmp_path / name)
    assert after.data.name != before.data.name
    np.testing.assert_array_equal(after.values, dem.values + 1)


@pytest.mark.parametrize("name", ["a.tif", "a.vrt"])
def test_a_file_that_changed_is_not_read(tmp_path: Path, dem: xr.DataArray, name: str) -> None:
    dem.rio.to_raster(tmp_path / "a.tif")
    (tmp_path / "a.vrt").write_text(virtual("a.tif", dem))
    opened = xdemsr.open(tmp_path / name)
    (dem + 1).rio.to_raster(tmp_path / "a.tif")
    with pytest.raises(OSError, match="has changed since it was opened"):
        opened.compute()


@pytest.mark.parametrize("name", ["a.tif", "a.vrt"])
def test_a_file_that_is_torn_is_an_error(tmp_path: Path, name: str) -> None:
    dem = xdemsr.synthetic.terrain((300, 400))
    dem.rio.to_raster(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    (tmp_path / "a.vrt").write_text(virtual("a.tif", dem))
    opened = xdemsr.open(tmp_path / name, chunks=50)
    with pytest.raises(OSError, match=f"{name} cannot be read"):
        opened.compute()


def test_a_source_that_is_missing_is_an_error(tmp_path: Path, dem: xr.DataArray) -> None:
    (tmp_path / "a.vrt").write_text(virtual("gone.tif", dem))
    opened = xdemsr.open(tmp_path / "a.vrt")
    with pytest.raises(OSError, match=r"a\.vrt cannot be read"):
        opened.compute()


def virtual(source: str, like: xr.DataArray) -> str:
    """A virtual raster of one file beside it."""
    ny, nx = like.shape
    window = f'xOff="0" yOff="0" xSize="{nx}" ySize="{ny}"'
    return (
        f'<VRTDataset rasterXSize="{nx}" rasterYSize="{ny}"><SRS>EPSG:32611</SRS>'
        "<GeoTransform>500000,30,0,4100000,0,-30</GeoTransform>"
        '<VRTRasterBand dataType="Float32" band="1"><NoDataValue>nan</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{source}</SourceFilename><SourceBand>1</SourceBand>'
        f"<SrcRect {window}/><DstRect {window}/></SimpleSource></VRTRasterBand></VRTDataset>"
    )


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ({"tiled": True, "blockxsize": 512, "blockysize": 512}, (1024, 1024)),
        ({"tiled": True, "blockxsize": 384, "blockysize": 256}, (1024, 1152)),
        ({"tiled": True, "blockxsize": 1536, "blockysize": 1536}, (1536, 1536)),
        ({"blockysize": 7}, (525, 2000)),
    ],
)
def test_chunks_are_whole_blocks(
    tmp_path: Path, layout: dict[str, Any], expected: tuple[int, int]
) -> None:
    dem = xdemsr.synthetic.terrain((1600, 2000))
    dem.rio.to_raster(tmp_path / "a.tif", **layout)
    opened = xdemsr.open(tmp_path / "a.tif")
    assert opened.data.chunksize == expected
    assert xdemsr.open(tmp_path / "a.tif", chunks=(100, 300)).data.chunksize == (100, 300)


@pytest.mark.parametrize("chunks", [0, -3, 2.5, "large", (1, 2, 3)])
def test_chunks_that_are_no_size_are_refused(
    tmp_path: Path, dem: xr.DataArray, chunks: Any
) -> None:
    dem.rio.to_raster(tmp_path / "a.tif")
    with pytest.raises(InputError, match="must be 'auto', or the size"):
        xdemsr.open(tmp_path / "a.tif", chunks=chunks)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_parts_are_parts_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("parts") / "a.tif"
    values = np.arange(3 * 11 * 17, dtype="int16").reshape(3, 11, 17)
    raster = xr.DataArray(values, dims=("band", "y", "x")).rio.write_crs(32611)
    raster.rio.write_transform(Affine(2, 0, 5, 0, -2, 9)).rio.to_raster(path)
    pieces = st.tuples(*(st.integers(0, n - 1) | st.slices(n) for n in values.shape))
    part = data.draw(pieces)
    found = xdemsr.open(path, chunks=4).data[part].compute()
    np.testing.assert_array_equal(found, values[part])


def test_stores_are_known_by_what_is_in_them(tmp_path: Path, dem: xr.DataArray) -> None:
    for number in (2, 3):
        folder = tmp_path / f"version{number}"
        xr.Dataset({"z": dem}).to_zarr(folder, zarr_format=number, consolidated=False)
        np.testing.assert_array_equal(xdemsr.open(folder).values, dem.values)
    for made in (zarr.storage.LocalStore(folder), obstore.store.LocalStore(folder)):
        np.testing.assert_array_equal(xdemsr.open(made).values, dem.values)
    xr.Dataset({"z": dem + 1}).to_zarr(folder, group="deep/er", mode="a", consolidated=False)
    for opened in (xdemsr.open(folder / "deep/er"), xdemsr.open(folder, "deep/er/z")):
        np.testing.assert_array_equal(opened.values, dem.values + 1)
        assert opened.rio.crs == dem.rio.crs
    assert xdemsr.open(folder, chunks=(10, 20)).data.chunksize == (10, 20)


def test_stores_of_objects_have_names_that_last(dem: xr.DataArray) -> None:
    store = obstore.store.MemoryStore()
    xdemsr.write_zarr(dem.chunk(20), store)
    opened = xdemsr.open(store)
    np.testing.assert_array_equal(opened.values, dem.values)
    assert xdemsr.open(store).data.name == opened.data.name
    zarr.open_array(zarr.storage.ObjectStore(store), path="elevation")[0, 0] = 7
    assert xdemsr.open(store).data.name != opened.data.name


def filled(group: zarr.Group, name: str, values: np.ndarray, dims: tuple[str, str]) -> zarr.Array:
    """A new array of a group."""
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=(20, 20), dimension_names=dims
    )
    array[:] = values
    return array


@pytest.mark.parametrize("within", ["", "elevation"])
@pytest.mark.parametrize("registration", ["pixel", "node"])
@pytest.mark.parametrize("said", ["proj:code", "proj:wkt2", "proj:projjson"])
def test_conventions_say_where_a_store_lies(
    tmp_path: Path, dem: xr.DataArray, within: str, registration: str, said: str
) -> None:
    crs = dem.rio.crs
    affine = dem.rio.transform()
    if registration == "node":
        affine = affine * Affine.translation(0.5, 0.5)
    declared = {
        "proj:code": "EPSG:32611",
        "proj:wkt2": crs.to_wkt(version="WKT2_2019"),
        "proj:projjson": crs.to_dict(projjson=True),
    }
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array = filled(group, "elevation", dem.values, ("south", "east"))
    (array if within else group).attrs.update(
        {
            said: declared[said],
            "spatial:dimensions": ["south", "east"],
            "spatial:transform": list(affine)[:6],
            "spatial:registration": registration,
        }
    )
    opened = xdemsr.open(tmp_path / "a.zarr")
    assert opened.rio.crs == crs
    fine = opened.demsr.upscale(2, "bilinear")
    assert fine.rio.transform() == dem.demsr.upscale(2, "bilinear").rio.transform()
    np.testing.assert_array_equal(opened["south"], dem["y"])
    np.testing.assert_array_equal(opened["east"], dem["x"])
    assert not any(":" in key for key in opened.attrs)


def test_the_full_resolution_is_opened(tmp_path: Path, dem: xr.DataArray) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    for name, step in (("full", 1), ("half", 2)):
        filled(group, f"{name}/z", dem.values[::step, ::step], ("y", "x"))
    layout = [{"asset": "half", "derived_from": "full"}, {"asset": "full"}]
    group.attrs["multiscales"] = {"layout": layout}
    np.testing.assert_array_equal(xdemsr.open(tmp_path / "a.zarr").values, dem.values)
    half = xdemsr.open(tmp_path / "a.zarr", "half/z")
    np.testing.assert_array_equal(half.values, dem.values[::2, ::2])


@pytest.mark.parametrize("what", ["", "2"])
def test_unfinished_stores_are_refused(tmp_path: Path, dem: xr.DataArray, what: str) -> None:
    path = tmp_path / "a.zarr"
    xr.Dataset({"z": dem}).to_zarr(path, consolidated=False)
    xr.Dataset({"z": dem[::2, ::2]}).to_zarr(path, group="2", mode="a", consolidated=False)
    zarr.open_group(path).attrs["xdemsr_complete"] = False
    with pytest.raises(InputError, match=r"a\.zarr is unfinished.*resume=True.*open_zarr"):
        xdemsr.open(path / what)


def test_building_reads_no_pixel(tmp_path: Path, dem: xr.DataArray) -> None:
    xr.Dataset({"z": dem.chunk(20)}).to_zarr(tmp_path / "a.zarr", consolidated=False)
    for chunk in (tmp_path / "a.zarr/z/c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    fine = xdemsr.open(tmp_path / "a.zarr").demsr.upscale(2, "bilinear")
    with pytest.raises(OSError, match=r"a\.zarr cannot be read"):
        fine.compute()
