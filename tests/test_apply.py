"""Calls: what goes in, what comes out, what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xdemsr
from xdemsr import Band, Local
from xdemsr.errors import GridError, GsdWarning, InputError, ModelError


@pytest.fixture
def ratio_model(make_model: Callable[..., Path]) -> Path:
    return make_model(
        "ratio",
        "networks:Ratio",
        1,
        Local(0, tile=8),
        inputs=(Band("red", "1"), Band("nir", "1")),
        outputs=(Band("sum", "1"), Band("difference", "1")),
    )


def test_numpy_in_numpy_out_dask_in_dask_out(dem: xr.DataArray) -> None:
    assert isinstance(dem.demsr.upscale(4, "bilinear").data, np.ndarray)
    assert dem.chunk(9).demsr.upscale(4, "bilinear").chunks is not None
    explicit = dem.demsr.upscale(4, "bilinear", chunks=50)
    assert explicit.data.chunksize == (50, 50)
    np.testing.assert_array_equal(explicit.values, dem.demsr.upscale(4, "bilinear").values)


def test_the_input_is_left_alone(dem: xr.DataArray, terrain_model: Path) -> None:
    before = dem.copy(deep=True)
    dem.demsr.upscale(16, terrain_model)
    xr.testing.assert_identical(dem, before)
    assert dem.encoding == before.encoding


@pytest.mark.parametrize("chunks", ["auto", 100, (64, 200)])
def test_chunks_are_those_asked_for(dem: xr.DataArray, chunks: object) -> None:
    fine = dem.chunk(10).demsr.upscale(8, "bilinear", chunks=chunks)
    expected = {"auto": fine.shape, 100: (100, 100), (64, 200): (64, 200)}[chunks]  # type: ignore[index]
    assert fine.data.chunksize == expected


def test_automatic_chunks_are_whole_tiles_of_16_to_32_mib() -> None:
    import dask.array as da

    source = xr.DataArray(da.zeros((3000, 4000), chunks=500), dims=("y", "x"))
    fine = source.demsr.upscale(16, "histospline")
    assert 16 << 20 <= fine.data.chunksize[0] * fine.data.chunksize[1] * 4 <= 32 << 20


def test_small_rasters_have_work_for_two_processors(terrain_model: Path) -> None:
    fine = xdemsr.synthetic.terrain((60, 70), gsd=30.0).chunk().demsr.upscale(16, terrain_model)
    assert fine.data.npartitions >= 2


def test_what_made_it_is_written_on_it(dem: xr.DataArray, terrain_model: Path) -> None:
    fine = dem.demsr.upscale(16, terrain_model, vertical_error=0.25)
    spec = xdemsr.load_model(terrain_model).spec
    assert fine.attrs["xdemsr_model"] == "small-terrain"
    assert fine.attrs["xdemsr_model_version"] == "1"
    assert spec.weights is not None
    assert fine.attrs["xdemsr_model_sha256"] == spec.weights.sha256
    assert fine.attrs["xdemsr_vertical_error"] == 0.25
    assert fine.attrs["units"] == "m"


def test_a_loaded_model_a_path_and_a_spec_are_one(dem: xr.DataArray, terrain_model: Path) -> None:
    loaded = xdemsr.load_model(terrain_model)
    for model in (str(terrain_model), loaded, loaded.spec):
        fine = dem.chunk(9).demsr.upscale(16, model)
        assert fine.data.name == dem.chunk(9).demsr.upscale(16, terrain_model).data.name


def test_function_and_accessor_are_one(dem: xr.DataArray) -> None:
    xr.testing.assert_identical(xdemsr.upscale(dem, 3, "bicubic"), dem.demsr.upscale(3, "bicubic"))


@pytest.mark.parametrize("chunked", [False, True])
def test_bands_are_found_by_name(ratio_model: Path, chunked: bool) -> None:
    rng = np.random.default_rng(0)
    red, nir = (xr.DataArray(rng.normal(size=(9, 13)), dims=("y", "x")) for _ in range(2))
    ds = xr.Dataset({"nir": nir, "blue": red * 9, "red": red})
    if chunked:
        ds = ds.chunk(5)
    expected = np.stack([red + nir, red - nir])
    from_dataset = ds.demsr.apply(ratio_model)
    assert from_dataset.dims == ("band", "y", "x")
    assert from_dataset.band.values.tolist() == ["sum", "difference"]
    np.testing.assert_allclose(from_dataset.values, expected, atol=1e-6)
    stacked = xr.concat([ds.nir, ds.blue, ds.red], "band").assign_coords(
        band=["nir", "blue", "red"]
    )
    np.testing.assert_allclose(stacked.demsr.apply(ratio_model).values, expected, atol=1e-6)
    named = xr.concat([ds.nir, ds.red], "band").assign_attrs(long_name=("nir", "red"))
    np.testing.assert_allclose(named.demsr.apply(ratio_model).values, expected, atol=1e-6)
    ordered = xr.concat([ds.red, ds.nir], "band").transpose("y", "x", "band")
    answer = ordered.demsr.apply(ratio_model)
    assert answer.dims == ("band", "y", "x")
    np.testing.assert_allclose(answer.values, expected, atol=1e-6)


def test_time_is_carried_with_bands(ratio_model: Path) -> None:
    rng = np.random.default_rng(0)
    da = xr.DataArray(
        rng.normal(size=(3, 2, 9, 13)),
        dims=("time", "band", "y", "x"),
        coords={"time": [10, 20, 30], "band": ["red", "nir"]},
    )
    for source in (da, da.chunk(time=2, band=1, y=4, x=5)):
        answer = source.demsr.apply(ratio_model)
        assert answer.dims == ("time", "band", "y", "x")
        assert answer.time.values.tolist() == [10, 20, 30]
        np.testing.assert_allclose(answer.values[:, 0], da.sum("band").values, atol=1e-6)


def test_a_void_in_one_band_is_a_void(ratio_model: Path) -> None:
    da = xr.DataArray(np.ones((2, 5, 7)), dims=("band", "y", "x"))
    da[1, 2, 3] = np.nan
    answer = da.demsr.apply(ratio_model)
    assert answer[:, 2, 3].isnull().all()
    assert int(answer.isnull().sum()) == 2


def test_far_spacings_warn_and_name_both(terrain_model: Path) -> None:
    dem = xdemsr.synthetic.terrain((20, 20), gsd=900.0)
    with pytest.warns(GsdWarning, match=r"900 m.*'small-terrain'.*10 m to 100 m") as caught:
        dem.demsr.upscale(16, terrain_model)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xdemsr.synthetic.terrain((20, 20), gsd=60.0).demsr.upscale(16, terrain_model)


def test_answers_that_do_not_fit_are_refused_with_advice(dem: xr.DataArray) -> None:
    huge = xr.DataArray(
        np.broadcast_to(np.float32(1), (200_000, 200_000)), dims=("y", "x"), name="huge"
    )
    with pytest.raises(InputError, match=r"640000\.?0? GB|40960\.0 GB.*chunks=|GB.*chunks="):
        huge.demsr.upscale(16, "bilinear")


FLAT = xr.DataArray(np.ones((5, 7)), dims=("y", "x"), name="flat")


@pytest.mark.parametrize("scale", [0, 1.5, -2, "2", None, True, np.float32(2.5)])
def test_scales_that_are_not_whole_are_refused(scale: object) -> None:
    with pytest.raises(InputError, match="whole number"):
        FLAT.demsr.upscale(scale, "bilinear")


@pytest.mark.parametrize("scale", [2, 2.0, np.int64(2)])
def test_whole_scales_of_any_type_are_taken(scale: object) -> None:
    assert FLAT.demsr.upscale(scale, "bilinear").shape == (10, 14)


@pytest.mark.parametrize(
    "da",
    [
        FLAT.astype(complex),
        FLAT.astype(str),
        FLAT.astype("datetime64[ns]"),
        FLAT.astype(object),
    ],
)
def test_values_that_are_not_real_numbers_are_refused(da: xr.DataArray) -> None:
    with pytest.raises(InputError, match="needs real numbers"):
        da.demsr.upscale(2, "bilinear")


def test_no_spatial_dimensions_is_an_error() -> None:
    with pytest.raises(GridError, match="no spatial dimensions"):
        xr.DataArray(np.ones((5, 7)), dims=("time", "member")).demsr.upscale(2, "bilinear")


def test_unknown_models_are_met_with_near_names() -> None:
    with pytest.raises(ModelError, match=r"'histosplin'.*Nearest: histospline"):
        FLAT.demsr.upscale(4, "histosplin")
    with pytest.raises(ModelError, match="no trained terrain model of scale 7"):
        FLAT.demsr.upscale(7)
    with pytest.raises(ModelError, match="no weights file"):
        FLAT.demsr.upscale(4, "nowhere.safetensors")


def test_another_scale_than_the_models_is_refused(terrain_model: Path) -> None:
    with pytest.raises(ModelError, match=r"made for scale 16, not 4.*histospline"):
        FLAT.demsr.upscale(4, terrain_model)


def test_wrong_bands_are_refused(ratio_model: Path) -> None:
    three = xr.concat([FLAT] * 3, "band")
    with pytest.raises(InputError, match=r"2 bands \(red, nir\).*has 3 along 'band'"):
        three.demsr.apply(ratio_model)
    with pytest.raises(InputError, match="no band dimension"):
        FLAT.demsr.apply(ratio_model)
    with pytest.raises(InputError, match="has no nir"):
        xr.Dataset({"red": FLAT}).demsr.apply(ratio_model)


def test_bands_on_different_grids_are_refused(ratio_model: Path) -> None:
    y, x = np.arange(5.0), np.arange(7.0)
    red = FLAT.assign_coords(y=y, x=x)
    nir = FLAT.rename(y="north", x="east").assign_coords(
        north=("north", y + 0.5, {"axis": "Y"}), east=("east", x, {"axis": "X"})
    )
    with pytest.raises(GridError, match="another grid"):
        xr.Dataset({"red": red, "nir": nir}).demsr.apply(ratio_model)


@pytest.mark.parametrize("error", [-1.0, np.nan, np.inf, "large"])
def test_impossible_errors_are_refused(error: object, terrain_model: Path) -> None:
    with pytest.raises(InputError, match="vertical_error"):
        FLAT.demsr.upscale(16, terrain_model, vertical_error=error)


@pytest.mark.parametrize("chunks", ["large", 0, (1, 2, 3), (5, -1), 2.5])
def test_impossible_chunks_are_refused(chunks: object) -> None:
    with pytest.raises(InputError, match="chunks"):
        FLAT.demsr.upscale(2, "bilinear", chunks=chunks)


def test_other_objects_are_refused() -> None:
    with pytest.raises(InputError, match="got ndarray"):
        xdemsr.upscale(np.ones((3, 4)), 2, "bilinear")  # type: ignore[arg-type]


def test_stored_steps_become_errors(tmp_path: Path, terrain_model: Path) -> None:
    da = FLAT.assign_coords(y=-np.arange(5.0), x=np.arange(7.0))
    da.encoding = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -9999}
    da.to_netcdf(tmp_path / "a.nc")
    opened = xr.open_dataset(tmp_path / "a.nc").flat
    fine = opened.demsr.upscale(16, terrain_model)
    assert fine.attrs["xdemsr_vertical_error"] == pytest.approx(0.1 / np.sqrt(12))
    assert FLAT.demsr.upscale(16, terrain_model).attrs["xdemsr_vertical_error"] == 0


@pytest.mark.parametrize("name", [None, "z"])
def test_an_answer_has_the_name_of_its_input(dem: xr.DataArray, name: str | None) -> None:
    for raster in (dem.rename(name), dem.rename(name).chunk(16)):
        assert raster.demsr.upscale(2, "bilinear").name == name
        assert raster.demsr.degrade(2).name == name


def test_packed_numbers_are_not_taken_for_metres(dem: xr.DataArray) -> None:
    packed = dem.fillna(0).astype("int16").assign_attrs(scale_factor=0.1, add_offset=5.0)
    for call in (
        lambda: packed.demsr.upscale(2, "bilinear"),
        lambda: packed.demsr.slope(),
        lambda: packed.demsr.evaluate(dem),
    ):
        with pytest.raises(InputError, match=r"scale_factor=0.1 and add_offset=5.0.*Unpack"):
            call()
    plain = dem.assign_attrs(scale_factor=1.0, add_offset=0.0)
    assert not {"scale_factor", "add_offset"} & set(plain.demsr.upscale(2, "bilinear").attrs)


def test_a_dataset_of_one_raster_is_that_raster(dem: xr.DataArray) -> None:
    ds = dem.to_dataset(name="band_data")
    expected = dem.demsr.upscale(2, "bilinear")
    np.testing.assert_array_equal(ds.demsr.upscale(2, "bilinear").values, expected.values)


def test_arrays_of_errors_must_lie_where_the_raster_does(
    dem: xr.DataArray, terrain_model: Path
) -> None:
    error = xr.full_like(dem.fillna(0), 0.5).rename("sigma")
    fine = dem.demsr.upscale(16, terrain_model, vertical_error=error)
    assert fine.attrs["xdemsr_vertical_error"] == "sigma"
    with pytest.raises(GridError, match="another grid"):
        dem.demsr.upscale(16, terrain_model, vertical_error=error.rio.write_crs("EPSG:32612"))


@pytest.mark.parametrize("call", ["hillshade", "slope", "degrade", "evaluate", "write_zarr"])
def test_functions_of_one_array_say_so(call: str, dem: xr.DataArray, tmp_path: Path) -> None:
    function = getattr(xdemsr, call)
    rest = {"degrade": (2,), "evaluate": (dem,), "write_zarr": (tmp_path / "a.zarr",)}.get(call, ())
    with pytest.raises(InputError, match="got ndarray"):
        function(dem.values, *rest)
    with pytest.raises(InputError, match=r"variables 'a', 'b'.*Choose one"):
        function(xr.Dataset({"a": dem, "b": dem}), *rest)


def test_a_network_without_a_specification_is_met_with_advice(dem: xr.DataArray) -> None:
    for model in (object(), 3):
        with pytest.raises(ModelError, match="save_model"):
            dem.demsr.upscale(2, model)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", [None, 3])
def test_devices_are_names(dem: xr.DataArray, device: object) -> None:
    with pytest.raises(InputError, match="device"):
        dem.demsr.upscale(2, "bilinear", device=device)  # type: ignore[arg-type]


def test_chunks_of_unknown_size_are_refused(dem: xr.DataArray) -> None:
    import dask.array as da

    lazy = da.from_array(dem.values, chunks=10)
    unknown = xr.DataArray(lazy[lazy[:, 0] > 0], dims=("y", "x"))
    with pytest.raises(InputError, match="unknown size"):
        unknown.demsr.upscale(2, "bilinear")
