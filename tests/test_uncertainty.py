"""An answer with its standard error: labels, laziness, chunks, voids, files."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
import pytest
import rioxarray
import xarray as xr
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr import Band, Local
from xdemsr.cli import main
from xdemsr.errors import InputError, ModelError
from xdemsr.io import write
from xdemsr.spec import VERTICAL_ERROR

SCALE = 4
ERROR = "elevation_standard_error"


@pytest.fixture(scope="session")
def stating_model(make_model: Callable[..., Path]) -> Path:
    """A small terrain network with random weights, of two scales, that can state its error."""
    return make_model(
        "stating-terrain",
        "terrain",
        SCALE,
        Local(halo=9, tile=8),
        {"scale": SCALE, "features": 6, "blocks": 1, "uncertainty": False},
        inputs=(Band("elevation", "m"), Band(VERTICAL_ERROR, "m")),
        border="odd",
        gsd=(1.0, 1000.0),
        scales={3: 0.0, SCALE: 0.0},
    )


@pytest.fixture
def small() -> xr.DataArray:
    """Elevations with CF attributes and two voids, not square."""
    dem = xdemsr.synthetic.terrain((17, 26), gsd=30.0, seed=2)
    dem[4:7, 9:13] = np.nan
    dem[-1, -2:] = np.nan
    dem.attrs |= {"standard_name": "surface_altitude", "long_name": "height", "units": "m"}
    return dem


def both(dem: xr.DataArray, model: Path, **options: object) -> xr.Dataset:
    fine = xdemsr.upscale(dem, SCALE, model, uncertainty=True, **options)  # type: ignore[call-overload]
    assert isinstance(fine, xr.Dataset)
    return fine


@pytest.mark.parametrize(("name", "expected"), [("z", "z"), (None, "elevation"), (7, 7)])
@pytest.mark.parametrize("lazy", [False, True])
def test_variables_are_called_after_the_input(
    small: xr.DataArray, stating_model: Path, name: object, expected: object, lazy: bool
) -> None:
    dem = small.rename(name)  # type: ignore[arg-type]
    fine = both(dem.chunk(9) if lazy else dem, stating_model)
    assert list(fine.data_vars) == [expected, f"{expected}_standard_error"]
    for variable in fine.data_vars.values():
        assert variable.dims == ("y", "x")
        assert variable.shape == (17 * SCALE, 26 * SCALE)
        assert variable.dtype == np.float32


def test_attributes_are_those_of_cf(small: xr.DataArray, stating_model: Path) -> None:
    fine = both(small, stating_model, vertical_error=0.3)
    value, error = fine["elevation"], fine[ERROR]
    assert value.attrs["ancillary_variables"] == ERROR
    assert value.attrs["standard_name"] == "surface_altitude"
    assert value.attrs["long_name"] == "height"
    assert error.attrs["standard_name"] == "surface_altitude standard_error"
    assert error.attrs["long_name"] == "standard error of height"
    assert "ancillary_variables" not in error.attrs
    for variable in (value, error):
        assert variable.attrs["units"] == "m"
        assert variable.attrs["xdemsr_model"] == "stating-terrain-x4"
        assert variable.attrs["xdemsr_vertical_error"] == 0.3
    plain = small.demsr.upscale(SCALE, stating_model, vertical_error=0.3)
    assert value.drop_attrs().identical(plain.drop_attrs())
    assert {**plain.attrs, "ancillary_variables": ERROR} == value.attrs


def test_no_standard_name_is_made_up(small: xr.DataArray, stating_model: Path) -> None:
    small.attrs = {"ancillary_variables": "quality"}
    fine = both(small, stating_model)
    assert "standard_name" not in fine[ERROR].attrs
    assert fine[ERROR].attrs["long_name"] == "standard error of elevation"
    # What the input's quality was said to be is no quality of the answer.
    assert fine["elevation"].attrs["ancillary_variables"] == ERROR
    assert "ancillary_variables" not in fine[ERROR].attrs
    assert small.attrs == {"ancillary_variables": "quality"}


def test_both_lie_where_the_plain_answer_does(small: xr.DataArray, stating_model: Path) -> None:
    dem = small.assign_coords(time=7, lon=(("y", "x"), np.ones(small.shape)), band=1)
    dem.encoding["_FillValue"] = -9999.0
    for source in (dem, dem.chunk(10)):
        fine, plain = both(source, stating_model), source.demsr.upscale(SCALE, stating_model)
        for variable in fine.data_vars.values():
            assert variable.coords.identical(plain.coords)
            assert variable.rio.crs == dem.rio.crs is not None
            assert variable.rio.transform() == plain.rio.transform()
            assert variable.encoding == plain.encoding


@pytest.mark.parametrize("lazy", [False, True])
def test_a_raster_as_rioxarray_opens_it(
    small: xr.DataArray, stating_model: Path, tmp_path: Path, lazy: bool
) -> None:
    """Its one band lies along a dimension, called band as the answer's would be."""
    write(small, tmp_path / "dem.tif")
    opened = rioxarray.open_rasterio(tmp_path / "dem.tif", chunks=16 if lazy else None)
    assert opened.dims == ("band", "y", "x")
    plain, fine = opened.demsr.upscale(SCALE, stating_model), both(opened, stating_model)
    value, error = fine.data_vars.values()
    assert value.dims == error.dims == plain.dims == ("band", "y", "x")
    assert value.coords.identical(plain.coords)
    np.testing.assert_array_equal(value.values, plain.values)
    np.testing.assert_array_equal(value.values[0], both(small, stating_model)["elevation"].values)
    dropped = opened.isel(band=0)
    assert both(dropped, stating_model).coords.identical(
        dropped.demsr.upscale(SCALE, stating_model).coords
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_time_is_carried_through(small: xr.DataArray, stating_model: Path, lazy: bool) -> None:
    series = xr.concat([small, small + 50], "time").assign_coords(time=[3, 9])
    fine = both(series.chunk(time=1, y=9, x=9) if lazy else series, stating_model)
    assert fine[ERROR].dims == ("time", "y", "x")
    assert fine.time.values.tolist() == [3, 9]
    alone = both(small, stating_model)
    for name in ("elevation", ERROR):
        np.testing.assert_array_equal(fine[name].isel(time=0).values, alone[name].values)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"vertical_error": 0.7},
        {"ensemble": True, "vertical_error": 0.2},
        {"precision": "fp32"},
        {"precision": "bf16"},
        {"chunks": (13, 40)},
    ],
)
def test_elevations_are_bit_for_bit_those_of_the_plain_call(
    small: xr.DataArray, stating_model: Path, options: dict[str, object]
) -> None:
    fine = both(small, stating_model, **options)
    plain = small.demsr.upscale(SCALE, stating_model, **options)
    np.testing.assert_array_equal(fine["elevation"].values, plain.values)


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    source=st.tuples(st.integers(3, 17), st.integers(3, 26)),
    answer=st.tuples(st.integers(7, 68), st.integers(7, 104)) | st.just("auto"),
    scheduler=st.sampled_from(["synchronous", "threads"]),
)
def test_chunks_change_nothing(
    small: xr.DataArray, stating_model: Path, source: object, answer: object, scheduler: str
) -> None:
    whole = both(small, stating_model, vertical_error=0.4)
    ny, nx = source  # type: ignore[misc]
    fine = both(small.chunk(y=ny, x=nx), stating_model, vertical_error=0.4, chunks=answer)
    with dask.config.set(scheduler=scheduler):
        xr.testing.assert_identical(fine.compute(), whole)


def test_a_map_of_errors_is_taken(small: xr.DataArray, stating_model: Path) -> None:
    sigma = xr.full_like(small.fillna(0), 0.7).rename("sigma")
    fine, stated = (both(small, stating_model, vertical_error=e) for e in (sigma, 0.7))
    assert fine[ERROR].attrs["xdemsr_vertical_error"] == "sigma"
    for name in fine.data_vars:
        np.testing.assert_array_equal(fine[name].values, stated[name].values)


def test_voids_are_voids_in_both(small: xr.DataArray, stating_model: Path) -> None:
    fine = both(small, stating_model)
    expected = np.isnan(small.values).repeat(SCALE, 0).repeat(SCALE, 1)
    for variable in fine.data_vars.values():
        np.testing.assert_array_equal(np.isnan(variable.values), expected)
    nothing = both(xr.full_like(small, np.nan), stating_model)
    assert all(variable.isnull().all() for variable in nothing.data_vars.values())


def test_standard_errors_are_not_negative(small: xr.DataArray, stating_model: Path) -> None:
    for dem in (small, 0 * small, 1000 * np.sign(small - small.mean()), 0 * small + 8848.86):
        error = both(dem, stating_model)[ERROR].values
        known = np.isfinite(dem.values).repeat(SCALE, 0).repeat(SCALE, 1)
        assert np.isfinite(error[known]).all()
        assert (error[known] >= 0).all()


def test_standard_errors_have_the_unit_of_the_raster(
    small: xr.DataArray, stating_model: Path
) -> None:
    metres = both(small, stating_model, vertical_error=0.5, precision="fp32")
    feet = both(small * 3.2808, stating_model, vertical_error=0.5 * 3.2808, precision="fp32")
    np.testing.assert_allclose(feet[ERROR].values, 3.2808 * metres[ERROR].values, rtol=0.01)


def test_whole_metres_are_known_to_be_rounded(small: xr.DataArray, stating_model: Path) -> None:
    stored = small.round().fillna(-9999).astype(np.int16).assign_attrs(_FillValue=-9999)
    fine = both(stored, stating_model)
    assert fine[ERROR].attrs["xdemsr_vertical_error"] == pytest.approx(12**-0.5)
    told = both(small.round(), stating_model, vertical_error=12**-0.5)
    for name in fine.data_vars:
        np.testing.assert_array_equal(fine[name].values, told[name].values)


def test_the_network_runs_once_for_both(
    small: xr.DataArray, stating_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xdemsr.predict

    answered = []
    real = xdemsr.predict.predict

    def counted(*args: object) -> object:
        answered.append(args[3])
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(xdemsr.predict, "predict", counted)
    lazy = both(small.chunk(9), stating_model, chunks=(32, 48))
    with dask.config.set(scheduler="synchronous"):
        lazy.compute()
    assert len(answered) == len(set(answered)) == 3 * 3


def test_building_is_lazy(stating_model: Path) -> None:
    code = f"""
    import sys
    import dask.array as da, xarray as xr
    import xdemsr

    def never(*args, **kwargs):
        raise RuntimeError("a pixel was read")

    source = da.map_blocks(never, chunks=((50,) * 20, (60,) * 30), dtype="f4", meta=da.zeros(0))
    dem = xr.DataArray(source, dims=("y", "x"), name="elevation")
    fine = dem.demsr.upscale({SCALE}, {str(stating_model)!r}, uncertainty=True)
    assert fine.elevation.shape == fine.elevation_standard_error.shape == (4000, 7200)
    repr(fine), fine._repr_html_()
    assert not {{"torch", "safetensors", "lightning"}} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_function_and_accessor_are_one(small: xr.DataArray, stating_model: Path) -> None:
    expected = both(small, stating_model)
    xr.testing.assert_identical(
        small.demsr.upscale(SCALE, stating_model, uncertainty=True), expected
    )
    for name in ("elevation", ERROR):
        np.testing.assert_array_equal(
            small.to_dataset(name="dem").demsr.upscale(SCALE, stating_model, uncertainty=True)[
                name.replace("elevation", "dem")
            ],
            expected[name],
        )


def test_the_input_is_left_alone(small: xr.DataArray, stating_model: Path) -> None:
    before = small.copy(deep=True)
    fine = both(small, stating_model)
    fine["elevation"].attrs["units"] = "ft"
    assert fine[ERROR].attrs["units"] == "m"
    xr.testing.assert_identical(small, before)


def test_all_scales_of_a_model_state_their_error(small: xr.DataArray, stating_model: Path) -> None:
    fine = small.demsr.upscale(3, stating_model, uncertainty=True)
    assert fine["elevation"].attrs["xdemsr_model"] == "stating-terrain-x3"
    assert fine[ERROR].shape == (51, 78)


def test_the_shipped_models_state_their_error(small: xr.DataArray) -> None:
    for scale in (2, 3):
        fine = small.demsr.upscale(scale, uncertainty=True)
        np.testing.assert_array_equal(fine["elevation"], small.demsr.upscale(scale))
        assert float(fine[ERROR].min()) >= 0


def test_models_that_state_none_say_so(small: xr.DataArray, edsr_model: Path) -> None:
    for model in ("histospline", "nearest", edsr_model):
        with pytest.raises(ModelError, match=r"states no standard error\. The shipped terrain"):
            small.demsr.upscale(4, model, uncertainty=True)


@pytest.mark.parametrize("lazy", [False, True])
def test_xarray_writes_both_and_reads_them_back(
    small: xr.DataArray, stating_model: Path, tmp_path: Path, lazy: bool
) -> None:
    small.encoding["_FillValue"] = -9999.0
    fine = both(small.chunk(9) if lazy else small, stating_model)
    fine.to_zarr(tmp_path / "fine.zarr", consolidated=False)
    check_store(tmp_path / "fine.zarr", fine)


@pytest.mark.parametrize("lazy", [False, True])
def test_write_zarr_writes_both(
    small: xr.DataArray, stating_model: Path, tmp_path: Path, lazy: bool
) -> None:
    small.encoding["_FillValue"] = -9999.0
    fine = both(small.chunk(9) if lazy else small, stating_model, chunks=(24, 40))
    path = xdemsr.write_zarr(fine, tmp_path / "fine.zarr")
    check_store(path, fine)
    for name in fine.data_vars:
        xr.testing.assert_equal(xdemsr.open(path, str(name)), fine[name])
    with pytest.raises(InputError, match=f"elevation, {ERROR}; say which"):
        xdemsr.open(path)


def check_store(path: Path, fine: xr.Dataset) -> None:
    found = xr.open_zarr(path, decode_coords="all", consolidated=False)
    xr.testing.assert_equal(found, fine)
    for name, variable in fine.data_vars.items():
        assert found[name].rio.crs == variable.rio.crs
        assert found[name].rio.transform() == variable.rio.transform()
        assert found[name].encoding["_FillValue"] == -9999
        assert found[name].attrs == variable.attrs


def test_other_datasets_are_still_refused(
    small: xr.DataArray, stating_model: Path, tmp_path: Path
) -> None:
    fine = both(small, stating_model)
    two = xr.Dataset({"a": small, "b": small})
    for refused in (two, fine.assign(other=fine["elevation"].drop_attrs()), fine[[ERROR]][[]]):
        with pytest.raises(InputError, match=r"expected a DataArray, got a Dataset"):
            xdemsr.write_zarr(refused, tmp_path / "a.zarr")
    with pytest.raises(InputError, match=rf"variables 'elevation', '{ERROR}'.*ds\["):
        xdemsr.write_cog(fine, tmp_path / "a.tif")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def source(small: xr.DataArray, tmp_path: Path) -> Path:
    return write(small, tmp_path / "dem.tif")


def test_the_command_line_writes_both(
    source: Path, small: xr.DataArray, stating_model: Path, tmp_path: Path
) -> None:
    words = ["upscale", str(source), "--model", str(stating_model), "--uncertainty"]
    result = CliRunner().invoke(main, [*words, str(tmp_path / "fine.zarr")])
    assert result.exit_code == 0, result.output
    expected = both(small, stating_model)
    found = xr.open_zarr(tmp_path / "fine.zarr", decode_coords="all")
    names = sorted(found.data_vars, key=lambda name: len(str(name)))
    for name, variable in zip(names, expected.data_vars.values(), strict=True):
        np.testing.assert_array_equal(found[name].values, variable.values)
    fine, name = str(tmp_path / "fine.zarr"), str(names[0])
    result = CliRunner().invoke(
        main, ["evaluate", fine, fine, "--variable", name, "--standard-error", fine]
    )
    scores = {k: float(v) for k, v in map(str.split, result.output.splitlines())}
    assert (scores["rmse"], scores["within_1se"]) == (0, 1)
    result = CliRunner().invoke(main, [*words, str(tmp_path / "fine.tif")])
    assert result.exit_code == 1
    assert "Error: a GeoTIFF holds one raster" in result.output
    assert ".zarr" in result.output
    assert not (tmp_path / "fine.tif").exists()
    result = CliRunner().invoke(
        main, ["upscale", str(source), str(tmp_path / "a.zarr"), "--model", "bicubic",
               "--uncertainty"]
    )  # fmt: skip
    assert result.exit_code == 1
    assert "Error: model 'bicubic' states no standard error" in result.output
