"""Rasters stored as whole numbers of a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

import xdemsr
from xdemsr.errors import InputError


@given(
    step=st.floats(0.01, 10),
    offset=st.floats(-1000, 1000),
    dtype=st.sampled_from(["int16", "uint16", "int32"]),
)
def test_what_comes_back_is_off_by_half_a_step(step: float, offset: float, dtype: str) -> None:
    values = offset + step * np.linspace(0, 32_000, 7 * 9).reshape(7, 9)
    values[2, 3] = np.nan
    raster = xr.DataArray(values, dims=("y", "x"))
    packed = xdemsr.pack(raster, dtype, step, offset)
    back = xr.decode_cf(packed.to_dataset(name="z"))["z"].values
    assert np.isnan(back[2, 3])
    np.testing.assert_array_less(np.abs(back - values)[~np.isnan(values)], step * 0.5001 + 1e-3)


@pytest.mark.parametrize("name", ["a.zarr", "a.tif"])
def test_files_hold_the_whole_numbers(tmp_path: Path, dem: xr.DataArray, name: str) -> None:
    fine = dem.chunk(16).demsr.upscale(2, "bicubic", chunks=50)
    packed = xdemsr.pack(fine, "int16", 0.1)
    if name == "a.zarr":
        xdemsr.write_zarr(packed, tmp_path / name, overviews=True)
        assert zarr.open_array(tmp_path / name, path="elevation").dtype == np.int16
    else:
        xdemsr.write_cog(packed, tmp_path / name)
        with rasterio.open(tmp_path / name) as file:
            assert (file.dtypes, file.scales, file.nodata) == (("int16",), (0.1,), -32768)
    found = xdemsr.open(tmp_path / name)
    np.testing.assert_allclose(found.values, fine.values, atol=0.0501)
    np.testing.assert_array_equal(np.isnan(found.values), np.isnan(fine.values))
    assert found.rio.transform() == fine.rio.transform()
    coarse = found.demsr.upscale(4, "terrain-x4")
    assert coarse.attrs["xdemsr_vertical_error"] == pytest.approx(0.1 / 12**0.5)


def test_what_does_not_fit_is_an_error(dem: xr.DataArray) -> None:
    with pytest.raises(InputError, match=r"does not fit: int16 in steps of 0\.01"):
        xdemsr.pack(dem, "int16", 0.01)
    lazy = xdemsr.pack(dem.chunk(16), "uint8", 1.0)
    with pytest.raises(InputError, match="does not fit: uint8"):
        lazy.compute()
    with pytest.raises(InputError, match="whole numbers"):
        xdemsr.pack(dem, "float32")
    with pytest.raises(InputError, match="scale_factor=0"):
        xdemsr.pack(dem, "int16", 0)


def test_declared_voids_are_voids(dem: xr.DataArray) -> None:
    filled = dem.fillna(-9999.0).assign_attrs(_FillValue=-9999.0)
    packed = xdemsr.pack(filled, "int16", 0.1)
    np.testing.assert_array_equal(packed.values == -32768, np.isnan(dem.values))


def test_the_standard_error_is_packed_along(dem: xr.DataArray) -> None:
    both = dem.demsr.upscale(4, "terrain-x4", uncertainty=True)
    packed = xdemsr.pack(both, "int16", 0.1)
    assert {raster.dtype for raster in packed.data_vars.values()} == {np.dtype("int16")}
