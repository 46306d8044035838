"""Elevation from imagery, anchored or relative, and imagery from elevation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xdemsr
import xdemsr.runner
from xdemsr import Band, Local, Windowed
from xdemsr.errors import GridError, InputError, ModelError

RGB = ("red", "green", "blue")
SHAPE = (72, 100)


@pytest.fixture(scope="session")
def relief(make_model: Callable[..., Path]) -> Path:
    """A network that knows the truth but for the level of each window."""
    return make_model(
        "imaging-relief",
        "relative:Relief",
        1,
        Windowed(16, 8),
        inputs=tuple(Band(name, "1") for name in RGB),
        relative=True,
        border="odd",
    )


@pytest.fixture(scope="session")
def painter(make_model: Callable[..., Path]) -> Path:
    return make_model(
        "painter",
        "relative:Painted",
        1,
        Windowed(16, 8),
        outputs=tuple(Band(name, "reflectance") for name in RGB),
        border="odd",
    )


@pytest.fixture
def heights() -> xr.DataArray:
    return xdemsr.synthetic.terrain(SHAPE, gsd=10.0, relief=500.0, seed=3)


def seen(heights: xr.DataArray) -> xr.DataArray:
    """An 8-bit-like image that holds the truth, with labels that no elevation has."""
    image = xr.concat([heights * 0.5, heights, heights * 1.5], xr.Variable("band", list(RGB)))
    image.name = "photo"
    image.attrs = {"units": "1", "long_name": "reflectance", "AREA_OR_POINT": "Area"}
    image.encoding = {"_FillValue": 0.0, "dtype": "uint8", "grid_mapping": "spatial_ref"}
    return image


def block_means(da: xr.DataArray, size: tuple[int, int]) -> np.ndarray:
    ny, nx = (n // s for n, s in zip(da.shape, size, strict=True))
    cut = da.values[: ny * size[0], : nx * size[1]].astype(float)
    return np.asarray(cut.reshape(ny, size[0], nx, size[1]).mean(axis=(1, 3)))


def coarse(heights: xr.DataArray, size: tuple[int, int], first: tuple[int, int]) -> xr.DataArray:
    """Means of blocks that begin at some pixel, on a grid of their own."""
    part = heights[first[0] :, first[1] :]
    ny, nx = (n // s for n, s in zip(part.shape, size, strict=True))
    y = part.y.values[: ny * size[0]].reshape(ny, -1).mean(axis=1)
    x = part.x.values[: nx * size[1]].reshape(nx, -1).mean(axis=1)
    means = xr.DataArray(block_means(part, size), dims=("y", "x"), coords={"y": y, "x": x})
    return means.rio.write_crs(heights.rio.crs)


def test_relative_heights_say_so(relief: Path, heights: xr.DataArray) -> None:
    found = seen(heights).demsr.elevation(relief)
    assert found.dims == ("y", "x")
    assert found.name == "elevation"
    assert found.dtype == np.float32
    assert found.attrs["units"] == "m"
    assert found.attrs["xdemsr_heights"] == "relative"
    assert found.attrs["long_name"] == "relative elevation"
    assert found.attrs["xdemsr_model"] == "imaging-relief"
    # A height of zero would be a void, and whole numbers too coarse.
    assert set(found.encoding) <= {"grid_mapping"}
    assert found.rio.crs == heights.rio.crs
    xr.testing.assert_identical(found.y, heights.y)
    xr.testing.assert_identical(found.x, heights.x)


def test_bands_of_a_dataset_and_of_an_array_are_one(relief: Path, heights: xr.DataArray) -> None:
    image = seen(heights)
    expected = image.demsr.elevation(relief)
    variables = image[::-1].to_dataset("band")
    xr.testing.assert_identical(variables.demsr.elevation(relief), expected)
    xr.testing.assert_identical(xdemsr.elevation(image, relief), expected)


def test_numpy_stays_numpy_and_dask_stays_dask(relief: Path, heights: xr.DataArray) -> None:
    image, anchor = seen(heights), coarse(heights, (4, 4), (0, 0))
    assert isinstance(image.demsr.elevation(relief, anchor=anchor).data, np.ndarray)
    assert image.demsr.elevation(relief, anchor=anchor, chunks=40).chunks is not None
    assert image.demsr.elevation(relief, anchor=anchor.chunk(5)).chunks is not None
    assert image.chunk(y=30, x=30).demsr.elevation(relief, anchor=anchor).chunks is not None
    lazy = image.to_dataset("band").demsr.elevation(relief, anchor=anchor.chunk(5))
    xr.testing.assert_identical(
        lazy.compute(), image.demsr.elevation(relief, anchor=anchor).assign_coords(lazy.coords)
    )


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_block_means_are_the_anchors(
    relief: Path, heights: xr.DataArray, data: st.DataObject
) -> None:
    """Whatever the anchor says, wherever its blocks begin, whichever way it runs."""
    size = data.draw(st.integers(2, 9)), data.draw(st.integers(2, 9))
    first = tuple(data.draw(st.integers(0, s - 1)) for s in size)
    anchor = coarse(heights, size, first)
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    anchor = anchor + rng.normal(0, 30, anchor.shape)
    turned = anchor[:: data.draw(st.sampled_from([1, -1])), :: data.draw(st.sampled_from([1, -1]))]
    found = seen(heights).demsr.elevation(relief, anchor=turned)
    assert found.attrs["xdemsr_heights"] == "anchored"
    assert not found.isnull().any()
    means = block_means(found[first[0] :, first[1] :], size)
    np.testing.assert_allclose(means, anchor.values, atol=2e-3, rtol=0)


def test_an_anchored_relief_is_the_truth(relief: Path, heights: xr.DataArray) -> None:
    """Windows that are not levelled leave little where the anchor is finer than their overlap."""
    found = seen(heights).demsr.elevation(relief, anchor=coarse(heights, (3, 4), (0, 0)))
    error = (found - heights).values
    assert np.sqrt((error**2).mean()) < 0.02 * float(heights.std())
    # No steps at the borders of the anchor's pixels, nor of windows.
    steps = np.abs(np.diff(error[8:-8, 8:-8], axis=1)).max(axis=0)
    assert steps.max() < 0.2 * float(np.abs(np.diff(heights.values, axis=1)).max())


def test_an_anchor_coarser_than_the_overlap_has_the_windows_levelled(
    relief: Path, heights: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    core = xdemsr.runner.Runner._core
    monkeypatch.setattr(
        xdemsr.runner.Runner, "_core", lambda self, x: given.append(1) or core(self, x)
    )

    def error(size: int) -> tuple[float, int]:
        given.clear()
        found = seen(heights).demsr.elevation(relief, anchor=coarse(heights, (size, size), (0, 0)))
        return float((found - heights).std()), len(given)

    (fine, once), (wide, twice) = error(8), error(12)
    # Windows of 16 begin every eighth pixel.
    assert twice == once + 8 * 12
    assert wide < fine


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_chunks_never_change_a_bit(
    relief: Path, heights: xr.DataArray, data: st.DataObject
) -> None:
    image = seen(heights)
    image[:, 20:30, 40:55] = np.nan
    anchor = coarse(heights, (3, 2), (1, 1))
    anchor[5:9, 10:20] = np.nan
    expected = image.demsr.elevation(relief, anchor=anchor)
    sizes = {dim: data.draw(st.integers(5, 100), label=dim) for dim in ("y", "x")}
    asked = (data.draw(st.integers(11, 80)), data.draw(st.integers(11, 100)))
    found = image.chunk(sizes).demsr.elevation(
        relief, anchor=anchor.chunk(data.draw(st.integers(2, 30))), chunks=asked
    )
    np.testing.assert_array_equal(found.values, expected.values)


def test_chunks_may_be_smaller_than_what_an_anchor_reaches(
    relief: Path, heights: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several chunks of the anchor's own pixels, as a large raster has."""
    image, anchor = seen(heights), coarse(heights, (2, 3), (1, 0))
    expected = image.demsr.elevation(relief, anchor=anchor)
    monkeypatch.setattr("xdemsr.anchoring._CHUNK", 8)
    monkeypatch.setattr("xdemsr.anchoring._ROWS", 5)
    found = image.chunk(y=20, x=30).demsr.elevation(relief, anchor=anchor, chunks=(9, 11))
    np.testing.assert_array_equal(found.values, expected.values)


def test_building_reads_no_pixel(relief: Path, painter: Path, heights: xr.DataArray) -> None:
    def never(dsk: object, keys: object, **kwargs: object) -> None:
        raise AssertionError("something was computed")

    anchor = coarse(heights, (4, 4), (0, 0))
    with dask.config.set(scheduler=never):
        for given in (anchor, anchor.chunk(5)):
            lazy = seen(heights).chunk(y=20).demsr.elevation(relief, anchor=given)
            with pytest.raises(AssertionError, match="was computed"):
                lazy.compute()
        heights.chunk(y=20).demsr.imagery(painter)


def test_an_anchor_between_the_pixels_is_resampled(relief: Path, heights: xr.DataArray) -> None:
    """Not a whole number of pixels, nor at their borders: to what cubic convolution leaves."""
    base = coarse(heights, (4, 4), (0, 0))
    y = np.arange(heights.y[0] - 13.0, heights.y[-1] + 10.0, -37.0)
    x = np.arange(heights.x[0] + 13.0, heights.x[-1] - 10.0, 43.0)
    anchor = base.interp(y=y, x=x, method="cubic").rio.write_crs(heights.rio.crs)
    found = seen(heights).demsr.elevation(relief, anchor=anchor)
    error = (found - heights).values[12:-12, 12:-12]
    assert np.isfinite(error).all()
    assert np.sqrt((error**2).mean()) < 0.1 * float(heights.std())
    assert abs(error.mean()) < 0.01 * float(heights.std())


def test_what_the_anchor_lacks_is_bridged_so_far(relief: Path, heights: xr.DataArray) -> None:
    anchor = coarse(heights, (2, 2), (0, 0))
    anchor[:, 20:] = np.nan
    anchor[8:11, 5:9] = np.nan
    found = seen(heights).demsr.elevation(relief, anchor=anchor)
    known = found.notnull().values
    assert known[:, : 2 * 28].all()
    assert not known[:, 2 * 28 :].any()
    means = block_means(found[:, :40], (2, 2))
    valid = anchor[:, :20].notnull().values
    np.testing.assert_allclose(means[valid], anchor[:, :20].values[valid], atol=2e-3, rtol=0)
    # In the small void, heights go on as the network says.
    error = (found - heights).values[16:22, 10:18]
    assert np.abs(error).max() < 0.2 * float(heights.std())


def test_an_anchor_smaller_than_the_image_is_enough_around_it(
    relief: Path, heights: xr.DataArray
) -> None:
    anchor = coarse(heights, (4, 4), (0, 0))[4:9, 6:12]
    found = seen(heights).demsr.elevation(relief, anchor=anchor).notnull().values
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max()) == (0, 4 * 9 + 32 - 1)
    assert (columns.min(), columns.max()) == (0, 4 * 12 + 32 - 1)
    assert found.sum() == 68 * 80


def test_voids_of_the_image_stay(relief: Path, heights: xr.DataArray) -> None:
    image = seen(heights)
    image[1, 20:31, 40:55] = np.nan
    found = image.demsr.elevation(relief, anchor=coarse(heights, (4, 4), (0, 0)))
    np.testing.assert_array_equal(found.isnull(), image[1].isnull())
    assert float(np.abs(found - heights).max()) < 0.2 * float(heights.std())


def test_dates_share_an_anchor(relief: Path, heights: xr.DataArray) -> None:
    dates = xr.concat([seen(heights), seen(heights[::-1].assign_coords(y=heights.y))], "time")
    anchor = coarse(heights, (4, 5), (0, 0))
    for image in (dates, dates.chunk(time=2, y=31, x=40)):
        found = image.demsr.elevation(relief, anchor=anchor)
        assert found.dims == ("time", "y", "x")
        for k in (0, 1):
            np.testing.assert_allclose(
                block_means(found[k], (4, 5)), anchor.values, atol=2e-3, rtol=0
            )


def test_geographic_grids_with_oblong_pixels(relief: Path, heights: xr.DataArray) -> None:
    """As Copernicus GLO-30 beyond 50 degrees of latitude, with its own names of dimensions."""
    degrees = heights.assign_coords(
        y=60 - (np.arange(72) + 0.5) / 7200, x=10 + (np.arange(100) + 0.5) / 3600
    ).drop_vars("spatial_ref")
    degrees = degrees.rio.write_crs("EPSG:4326")
    anchor = coarse(degrees, (6, 4), (0, 0)).rename(y="lat", x="lon")
    anchor = anchor.rename("glo30").expand_dims("band")
    found = seen(degrees).demsr.elevation(relief, anchor=anchor)
    assert found.dims == ("y", "x")
    np.testing.assert_allclose(block_means(found, (6, 4)), anchor.values[0], atol=2e-3, rtol=0)


def test_anchors_that_cannot_be_are_refused(relief: Path, heights: xr.DataArray) -> None:
    image, anchor = seen(heights), coarse(heights, (4, 4), (0, 0))
    with pytest.raises(GridError, match=r"another CRS.*anchor\.rio\.reproject"):
        image.demsr.elevation(relief, anchor=anchor.rio.write_crs("EPSG:32612"))
    with pytest.raises(GridError, match="do not overlap"):
        image.demsr.elevation(relief, anchor=anchor.assign_coords(x=anchor.x + 1000))
    with pytest.raises(InputError, match="1 times as large"):
        image.demsr.elevation(relief, anchor=heights)
    with pytest.raises(GridError, match="expected one raster"):
        image.demsr.elevation(relief, anchor=xr.concat([anchor, anchor], "time"))
    with pytest.raises(GridError, match="no pixel of the anchor lies wholly on the raster"):
        image[:, :40, 1:7].demsr.elevation(relief, anchor=anchor)
    with pytest.raises(InputError, match="expected an xarray DataArray or Dataset, got ndarray"):
        xdemsr.elevation(image.values, relief, anchor=anchor)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected a DataArray, got a Dataset"):
        image.demsr.elevation(relief, anchor=anchor.to_dataset(name="dem"))


def test_models_of_other_kinds_are_refused(
    relief: Path, painter: Path, heights: xr.DataArray
) -> None:
    with pytest.raises(ModelError, match="answers the bands red, green, blue"):
        heights.demsr.elevation(painter)
    with pytest.raises(ModelError, match="takes the bands red, green, blue"):
        heights.demsr.imagery(relief)
    with pytest.raises(InputError, match="takes 3 bands"):
        heights.demsr.elevation(relief)


def test_absolute_heights_claim_no_reference(relief: Path, heights: xr.DataArray) -> None:
    spec = replace(xdemsr.load_model(relief).spec, relative=False)
    found = seen(heights).demsr.elevation(spec)
    assert "xdemsr_heights" not in found.attrs
    assert found.attrs["long_name"] == "elevation"


def test_imagery_has_the_models_bands(painter: Path, heights: xr.DataArray) -> None:
    heights[30:40, 20:40] = np.nan
    heights.encoding["_FillValue"] = -9999.0
    expected = heights.demsr.imagery(painter)
    assert expected.dims == ("band", "y", "x")
    assert expected.band.values.tolist() == list(RGB)
    assert expected.name == "imagery"
    assert expected.attrs["long_name"] == RGB
    assert expected.attrs["units"] == "reflectance"
    assert expected.attrs["xdemsr_model"] == "painter"
    assert set(expected.encoding) <= {"grid_mapping"}
    assert expected.rio.crs == heights.rio.crs
    np.testing.assert_array_equal(expected.isnull().all("band"), heights.isnull())
    np.testing.assert_array_equal(expected.isnull().any("band"), heights.isnull())
    found = heights.chunk(y=19, x=23).demsr.imagery(painter, chunks=(31, 47))
    assert found.chunks is not None
    xr.testing.assert_identical(found.compute(), expected)
    raised = (heights + 3000.0).demsr.imagery(painter)
    np.testing.assert_allclose(raised.values, expected.values, atol=1e-2, rtol=0)


def test_imagery_of_a_file_and_of_dates(painter: Path, heights: xr.DataArray) -> None:
    from_file = heights.expand_dims(band=[1])
    xr.testing.assert_identical(from_file.demsr.imagery(painter), heights.demsr.imagery(painter))
    dates = heights.expand_dims(time=[10, 20])
    assert dates.demsr.imagery(painter).dims == ("time", "band", "y", "x")


def test_imagery_of_one_band_has_no_band_dimension(
    make_model: Callable[..., Path], heights: xr.DataArray
) -> None:
    model = make_model(
        "panchromatic",
        "relative:Painted",
        1,
        Windowed(16, 8),
        {"bands": 1},
        outputs=(Band("grey"),),
        border="odd",
    )
    found = heights.demsr.imagery(model)
    assert found.dims == ("y", "x")
    assert found.attrs["long_name"] == "grey"
    assert "units" not in found.attrs


def test_imagery_and_elevation_undo_each_other(
    relief: Path, painter: Path, heights: xr.DataArray
) -> None:
    """Through two windowed networks, an image and an anchor, back to where it began."""
    image = heights.demsr.imagery(painter)
    found = image.demsr.elevation(relief, anchor=coarse(heights, (4, 4), (0, 0)))
    assert float((found - heights).std()) < 0.1 * float(heights.std())


def test_a_local_network_may_be_anchored(
    make_model: Callable[..., Path], heights: xr.DataArray
) -> None:
    """One that claims absolute heights, and is wrong by some trend."""
    model = make_model(
        "local-heights",
        "networks:Blur",
        1,
        Local(2, tile=20),
        {"scale": 1},
        inputs=(Band("brightness", "1"),),
    )
    anchor = coarse(heights, (6, 6), (0, 0))
    found = heights.demsr.elevation(model, anchor=anchor)
    np.testing.assert_allclose(block_means(found, (6, 6)), anchor.values, atol=2e-3, rtol=0)


def test_pixels_of_the_anchor_that_reach_beyond_the_image_do_not_mislead(
    make_model: Callable[..., Path], heights: xr.DataArray
) -> None:
    """Half of one says little of its mean, on a slope."""
    model = make_model(
        "imaging-one-window",
        "relative:Relief",
        1,
        Windowed(128, 64),
        inputs=tuple(Band(name, "1") for name in RGB),
        relative=True,
        border="odd",
    )
    slope = heights * 0 + 20 * np.arange(SHAPE[1], dtype=np.float32)
    anchor = coarse(slope, (4, 4), (0, 0))
    image = seen(slope)[:, 2:-2, 2:-2]
    found = image.demsr.elevation(model, anchor=anchor)
    np.testing.assert_allclose(found.values, slope[2:-2, 2:-2].values, atol=0.01, rtol=0)


def test_an_anchor_in_feet_is_refused(relief: Path, heights: xr.DataArray) -> None:
    image, metres = seen(heights), coarse(heights, (4, 4), (0, 0))
    feet = (metres / 0.3048).rename("srtm").assign_attrs(units="ft")
    with pytest.raises(
        InputError, match=r"'srtm' is in 'ft'.*answers with .* in 'm'.*da \* 0.3048"
    ):
        image.demsr.elevation(relief, anchor=feet)
    found = image.demsr.elevation(relief, anchor=metres.assign_attrs(units="metres"))
    assert found.attrs["units"] == "m"


def test_names_of_the_image_bands_do_not_stay_on_one_answer(
    relief: Path, heights: xr.DataArray, tmp_path: Path
) -> None:
    image = seen(heights).assign_coords(band=[1, 2, 3]).assign_attrs(long_name=RGB)
    answer = image.demsr.apply(relief)
    assert "long_name" not in answer.attrs
    assert image.attrs["long_name"] == RGB
    xdemsr.write_cog(answer, tmp_path / "answer.tif")


def test_heights_in_feet_make_no_imagery(painter: Path, heights: xr.DataArray) -> None:
    with pytest.raises(InputError, match=r"'elevation' is in 'ft', and model 'painter' takes"):
        heights.assign_attrs(units="ft").demsr.imagery(painter)
