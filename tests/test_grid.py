"""Grids: found, divided, written back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import xdemsr
from xdemsr import grid
from xdemsr.errors import GridError

COMPOUND = "EPSG:6349"  # NAD83(2011) + NAVD88 height


def raster(
    shape: tuple[int, int] = (7, 11),
    affine: Affine | None = None,
    *,
    dims: tuple[str, str] = ("y", "x"),
    crs: str | None = "EPSG:32611",
    coordinates: bool = True,
    transform: bool = True,
) -> xr.DataArray:
    affine = affine or Affine(30.0, 0, 500_010.0, 0, -30.0, 4_100_040.0)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    da = xr.DataArray(values, dims=dims, name="elevation")
    if coordinates:
        da = da.assign_coords(
            {
                dims[0]: affine.f + (np.arange(shape[0]) + 0.5) * affine.e,
                dims[1]: affine.c + (np.arange(shape[1]) + 0.5) * affine.a,
            }
        )
    da = da.rio.set_spatial_dims(x_dim=dims[1], y_dim=dims[0])
    if crs is not None:
        da = da.rio.write_crs(crs)
    return da.rio.write_transform(affine) if transform else da


def upscaled(da: xr.DataArray, scale: int) -> xr.DataArray:
    return da.demsr.upscale(scale, "nearest")


@settings(deadline=None)
@given(
    scale=st.integers(1, 16),
    ny=st.integers(1, 9),
    nx=st.integers(1, 9),
    height=st.sampled_from([-30.0, 30.0, -0.1, 1 / 3600, -1 / 3600, 0.3048, 7e-5]),
    width=st.sampled_from([30.0, 10.0, 1 / 3600, 1 / 7200, 5.5]),
    top=st.floats(-80, 80).map(lambda value: round(value, 7)),
    left=st.floats(-180, 170).map(lambda value: round(value, 7)),
)
def test_the_extent_stays_and_pixels_are_divided(
    scale: int, ny: int, nx: int, height: float, width: float, top: float, left: float
) -> None:
    affine = Affine(width, 0, left, 0, height, top)
    fine = upscaled(raster((ny, nx), affine, crs=None), scale)
    written = [float(number) for number in fine.spatial_ref.attrs["GeoTransform"].split()]
    assert written == [left, width / scale, 0, top, 0, height / scale]
    assert fine.rio.resolution() == (width / scale, height / scale)
    # Every coordinate is exact to its last bit, nothing is accumulated.
    for name, edge, step, n in (("y", top, height / scale, ny), ("x", left, width / scale, nx)):
        exact = np.longdouble(edge) + (np.arange(n * scale) + np.longdouble(0.5)) * np.longdouble(
            step
        )
        np.testing.assert_allclose(
            fine[name].values,
            exact.astype(np.float64),
            rtol=0,
            atol=np.spacing(abs(edge) + abs(step) * n * scale),
        )


@pytest.mark.parametrize("scale", [2, 3, 7, 16])
@pytest.mark.parametrize("descending", [True, False])
def test_bounds_are_unchanged(scale: int, descending: bool) -> None:
    da = raster()
    if not descending:
        da = raster(affine=Affine(30.0, 0, 500_010.0, 0, 30.0, 4_099_830.0))
    fine = upscaled(da, scale)
    np.testing.assert_allclose(fine.rio.bounds(), da.rio.bounds(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(fine.rio.bounds(recalc=True), da.rio.bounds(), rtol=0, atol=1e-8)
    assert (np.diff(fine.y) < 0).all() == descending


@pytest.mark.parametrize(
    "dims",
    [
        ("y", "x"),
        ("lat", "lon"),
        ("latitude", "longitude"),
        ("northing", "easting"),
        ("Y", "X"),
    ],
)
def test_customary_names_are_known(dims: tuple[str, str]) -> None:
    da = raster(dims=dims, transform=False, crs=None)
    da = xr.DataArray(da.values, dims=dims, coords={d: da[d].values for d in dims})
    fine = upscaled(da, 2)
    assert fine.dims == dims
    assert fine.shape == (14, 22)


@pytest.mark.parametrize(
    ("y_attrs", "x_attrs"),
    [
        ({"axis": "Y"}, {"axis": "X"}),
        ({"standard_name": "latitude"}, {"standard_name": "longitude"}),
        ({"units": "degrees_north"}, {"units": "degrees_east"}),
    ],
)
def test_cf_attributes_mark_dimensions(y_attrs: dict[str, str], x_attrs: dict[str, str]) -> None:
    da = xr.DataArray(
        np.zeros((3, 4)),
        dims=("rows", "columns"),
        coords={
            "rows": ("rows", [3.0, 2.0, 1.0], y_attrs),
            "columns": ("columns", [1.0, 2.0, 3.0, 4.0], x_attrs),
        },
    )
    fine = upscaled(da, 3)
    assert fine.dims == ("rows", "columns")
    assert fine.rows.attrs == y_attrs
    np.testing.assert_allclose(fine.rows[[0, -1]], [3 + 1 / 3, 1 - 1 / 3])


def test_transposed_and_extra_dimensions_are_carried() -> None:
    da = raster().expand_dims(time=[np.datetime64("2020-01-01", "ns")], band=[1, 2])
    fine = upscaled(da.transpose("x", "time", "y", "band"), 2)
    assert fine.dims == ("time", "band", "y", "x")
    assert fine.sizes == {"time": 1, "band": 2, "y": 14, "x": 22}
    assert "time" in fine.coords


def test_transform_without_coordinates_is_enough() -> None:
    affine = Affine(30.0, 0, 500_010.0, 0, -30.0, 4_100_040.0)
    fine = upscaled(raster(coordinates=False), 4)
    assert fine.rio.transform() == Affine(7.5, 0, affine.c, 0, -7.5, affine.f)
    assert "x" not in fine.coords


def test_neither_coordinates_nor_transform_gives_none() -> None:
    fine = upscaled(xr.DataArray(np.zeros((3, 4)), dims=("y", "x")), 2)
    assert dict(fine.coords) == {}


def test_coordinates_win_over_a_stale_transform() -> None:
    da = raster().isel(y=slice(2, None), x=slice(3, None))
    assert da.rio.transform(recalc=False).a == 30.0
    fine = upscaled(da, 2)
    assert fine.rio.transform() == Affine(15.0, 0, 500_100.0, 0, -15.0, 4_099_980.0)
    coarse = raster((8, 12)).coarsen(y=2, x=2).mean()
    assert upscaled(coarse, 2).rio.transform().a == 30.0


def test_float32_coordinates_are_forgiven() -> None:
    ny, nx = 400, 500
    lat = (45.0 - (np.arange(ny) + 0.5) / 1200).astype(np.float32)
    lon = (-120.0 + (np.arange(nx) + 0.5) / 1200).astype(np.float32)
    da = xr.DataArray(np.zeros((ny, nx)), dims=("lat", "lon"), coords={"lat": lat, "lon": lon})
    found = grid.of(da)
    assert found.pixel_size == pytest.approx((1 / 1200, 1 / 1200), rel=1e-4)


@pytest.mark.parametrize("crs", [COMPOUND, "EPSG:4979", "EPSG:2225", "EPSG:32611"])
def test_crs_survives_whole(crs: str) -> None:
    fine = upscaled(raster(crs=crs), 2)
    assert fine.rio.crs == raster(crs=crs).rio.crs
    before, after = (da.spatial_ref.attrs for da in (raster(crs=crs), fine))
    assert {k: v for k, v in before.items() if k != "GeoTransform"} == {
        k: v for k, v in after.items() if k != "GeoTransform"
    }


def test_metres_know_feet_and_degrees() -> None:
    feet = grid.of(raster(affine=Affine(100.0, 0, 0, 0, -100.0, 0), crs="EPSG:2225"))
    assert feet.gsd() == pytest.approx(30.48, rel=1e-4)
    degrees = grid.of(raster(affine=Affine(1 / 1200, 0, -84, 0, -1 / 1200, 60), crs="EPSG:4326"))
    height, width = degrees.metres()
    assert height == pytest.approx(92.8, rel=1e-2)
    assert width == pytest.approx(height / 2, rel=1e-2)
    assert grid.of(raster(crs=None)).gsd() is None


def irregular() -> xr.DataArray:
    da = raster(transform=False)
    y = da.y.values.copy()
    y[3] += 4.0
    return da.assign_coords(y=y)


def rotated() -> xr.DataArray:
    da = raster(coordinates=False)
    return da.rio.write_transform(Affine(28.0, 10.0, 0.0, 10.0, -28.0, 0.0))


def curvilinear() -> xr.DataArray:
    lat, lon = np.meshgrid(np.linspace(10, 11, 5), np.linspace(20, 21, 6), indexing="ij")
    return xr.DataArray(
        np.zeros((5, 6)),
        dims=("y", "x"),
        coords={"lat": (("y", "x"), lat), "lon": (("y", "x"), lon)},
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (irregular, r"y spacing varies from 26 to 34.*reproject"),
        (rotated, r"rotated.*Reproject first"),
        (curvilinear, r"curvilinear.*Reproject first"),
        (lambda: raster().assign_coords(x=raster().x * np.nan), "finite"),
        (lambda: raster().assign_coords(x=list("abcdefghijk")), "numbers"),
        (lambda: raster().rename(y="rows", x="columns"), r"no spatial dimensions.*'rows'"),
        (lambda: raster().isel(x=slice(0, 0)), "no pixels"),
        (lambda: raster().isel(x=0), "no spatial dimensions"),
    ],
)
def test_grids_that_cannot_be_used_say_why(make: object, words: str) -> None:
    with pytest.raises(GridError, match=words):
        upscaled(make(), 2)  # type: ignore[operator]


def test_one_pixel_needs_its_size() -> None:
    fine = upscaled(raster((1, 1)), 4)
    assert fine.rio.resolution() == (7.5, -7.5)
    bare = xr.DataArray(np.ones((1, 1)), dims=("y", "x"), coords={"y": [5.0], "x": [7.0]})
    with pytest.warns(UserWarning, match="write_transform"):
        fine = upscaled(bare, 2)
    np.testing.assert_allclose(fine.x, [6.75, 7.25])
    row = xr.DataArray(np.ones((1, 3)), dims=("y", "x"), coords={"y": [5.0], "x": [0.0, 2.0, 4.0]})
    np.testing.assert_allclose(upscaled(row, 2).y, [5.5, 4.5])


@pytest.mark.parametrize("fill", [-9999.0, None])
def test_round_trip_through_geotiff_and_zarr(tmp_path: Path, fill: float | None) -> None:
    da = raster(crs=COMPOUND, affine=Affine(1 / 3600, 0, -84.2, 0, -1 / 3600, 36.7))
    da = da.where(da > 5).assign_attrs(units="m", long_name="elevation")
    if fill is not None:
        da.encoding["_FillValue"] = fill
    fine = da.chunk(4).demsr.upscale(3, "bilinear", chunks=8)
    tif = xdemsr.write_cog(fine, tmp_path / "fine.tif")
    store = xdemsr.write_zarr(fine, tmp_path / "fine.zarr")
    for path in (tif, store):
        back = xdemsr.open(path)
        np.testing.assert_array_equal(back.values, fine.values)
        np.testing.assert_array_equal(back.x.values, fine.x.values)
        assert back.rio.transform() == fine.rio.transform()
        assert back.rio.crs == fine.rio.crs
        assert back.attrs["units"] in ("m", "metre")  # GDAL takes a vertical CRS at its word
        if fill is not None:
            assert back.rio.encoded_nodata == fill
    with rasterio.open(tif) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.bounds == pytest.approx(tuple(da.rio.bounds()), abs=1e-12)


def test_encoding_is_cleaned_and_attributes_kept(tmp_path: Path) -> None:
    da = raster().assign_attrs(units="ft", STATISTICS_MAXIMUM=3.0, AREA_OR_POINT="Area")
    da.to_dataset().chunk(4).to_zarr(tmp_path / "a.zarr", zarr_format=2)
    opened = xr.open_zarr(tmp_path / "a.zarr", decode_coords="all").elevation
    assert "chunks" in opened.encoding
    fine = upscaled(opened, 2)
    assert set(fine.encoding) <= {"_FillValue", "grid_mapping"}
    assert fine.attrs["units"] == "ft"
    assert fine.attrs["AREA_OR_POINT"] == "Area"
    assert "STATISTICS_MAXIMUM" not in fine.attrs
    assert fine.name == "elevation"
    fine.chunk(5).to_dataset().to_zarr(tmp_path / "b.zarr", zarr_format=2)


def test_integer_files_do_not_make_integer_answers(tmp_path: Path) -> None:
    da = raster().astype("int16").rio.write_nodata(-32768)
    da[0, 0] = -32768
    da.rio.to_raster(tmp_path / "a.tif")
    opened = rioxarray.open_rasterio(tmp_path / "a.tif", masked=True).isel(band=0, drop=True)
    fine = opened.demsr.upscale(2, "bilinear")
    assert "dtype" not in fine.encoding
    assert fine.rio.encoded_nodata == -32768
    fine.rio.to_raster(tmp_path / "b.tif")
    back = rioxarray.open_rasterio(tmp_path / "b.tif", masked=True).isel(band=0, drop=True)
    np.testing.assert_array_equal(back.values, fine.values)


def test_a_grid_that_drifts_away_does_not_match() -> None:
    """A hundredth of a pixel is allowed at every corner, not at every step."""
    dem = xdemsr.synthetic.terrain((100, 120), gsd=30.0)
    base = grid.of(dem)
    for step in (30.0 + 1e-4, 30.1):
        affine = Affine(step, 0, base.geobox.affine.c, 0, -30.0, base.geobox.affine.f)
        other = replace(base, geobox=GeoBox(base.shape, affine, base.geobox.crs))
        assert base.matches(other) == (step < 30.01)


def test_heights_do_not_move_a_grid() -> None:
    flat = xdemsr.synthetic.terrain((10, 12), crs="EPSG:32611")
    high = flat.rio.write_crs("EPSG:32611+5703")
    assert grid.of(flat).matches(grid.of(high))
    assert not grid.of(flat).matches(grid.of(flat.rio.write_crs("EPSG:32612")))


def test_coordinates_along_one_axis_only_are_refused() -> None:
    with pytest.raises(GridError, match="along one of"):
        grid.of(xdemsr.synthetic.terrain((10, 12)).drop_vars(["x", "spatial_ref"]))


@pytest.mark.parametrize("stored", ["1 2 3", "north", [1.0, 2.0]])
def test_a_transform_that_is_none_is_named(stored: object) -> None:
    dem = xdemsr.synthetic.terrain((10, 12))
    dem.spatial_ref.attrs["GeoTransform"] = stored
    with pytest.raises(GridError, match="not six numbers"):
        grid.of(dem)


def test_a_lost_crs_is_told(tmp_path: Path) -> None:
    dem = xdemsr.synthetic.terrain((10, 12))
    dem.to_dataset(name="z").to_netcdf(tmp_path / "z.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "z.nc", engine="scipy") as ds:
        z = ds.z.load()
    with pytest.warns(UserWarning, match="decode_coords"):
        fine = z.demsr.upscale(2, "bilinear")
    assert "grid_mapping" not in fine.attrs
