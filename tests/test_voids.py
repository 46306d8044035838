"""Missing pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xdemsr
from xdemsr.voids import SLOPING_RINGS, bridge, valid_pixels


@pytest.mark.parametrize(
    ("values", "voids", "expected"),
    [
        (np.array([1, -9999, -32768, -32767], "int16"), (), [True, False, False, False]),
        (np.array([1, -9999, 0], "int16"), (0.0,), [True, True, False]),
        (np.array([1, 55537], "uint16"), (-9999.0,), [True, True]),
        (np.array([1, 0], "uint8"), (), [True, True]),
        (np.array([1.0, np.nan, np.inf, -np.inf]), (), [True, False, False, False]),
        (np.array([1.0, -9999.0], "float32"), (), [True, True]),
        (np.array([1.0, -9999.0], "float32"), (-9999.0,), [True, False]),
        (np.array([1.0, -3.4028235e38], "float32"), (-3.4028234663852886e38,), [True, False]),
        (np.array([1, 2], "int16"), (1.5, 1e9), [True, True]),
    ],
)
def test_what_is_missing(
    values: np.ndarray, voids: tuple[float, ...], expected: list[bool]
) -> None:
    assert valid_pixels(values, voids).tolist() == expected


@given(st.integers(0, 2**32 - 1))
def test_a_bridge_keeps_what_is_known_and_stays_near_its_banks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(500, 100, (17, 23)).astype(np.float32)
    valid = rng.random((17, 23)) > rng.uniform(0.1, 0.95)
    valid[3, 4] = True
    values[~valid] = np.nan
    bridged = bridge(values, valid, 8)
    np.testing.assert_array_equal(bridged[valid], values[valid])
    assert np.isfinite(bridged).all()
    low, high = values[valid].min(), values[valid].max()
    assert bridged.min() >= low - 2 * (high - low) - 1e-3
    assert bridged.max() <= high + 2 * (high - low) + 1e-3


def test_a_bridge_carries_a_hillside_on() -> None:
    """A pixel missing on a plane is filled with most of the plane, and a wide void bends flat."""
    y, x = np.mgrid[0:40, 0:50]
    plane = 100 + 2.0 * x + 0.5 * y
    pixel = np.ones(plane.shape, bool)
    pixel[10, 20] = False
    np.testing.assert_allclose(bridge(np.where(pixel, plane, np.nan), pixel, 8), plane, atol=1e-9)
    edge = x < 30
    filled = bridge(np.where(edge, plane, np.nan), edge, 20)[20]
    steps = np.diff(filled)[29:]
    assert steps[0] > 0.7 * 2.0
    assert (np.diff(steps[:5]) < 0).all()
    np.testing.assert_allclose(steps[5:], 0, atol=1e-9)


def test_a_bridge_is_local() -> None:
    """Tiles that share a void fill it alike: the fill near the rim knows nothing of far pixels."""
    rng = np.random.default_rng(0)
    values = rng.normal(500, 100, (60, 70))
    valid = np.ones(values.shape, bool)
    valid[20:40, 10:50] = False
    depth = 6
    whole = bridge(values, valid, depth)
    cut = 10
    piece = bridge(values[:, cut:], valid[:, cut:], depth)
    near = np.zeros_like(valid)
    near[20 : 20 + depth, cut + depth + SLOPING_RINGS : 44] = True
    np.testing.assert_allclose(piece[near[:, cut:]], whole[near], atol=1e-9)


def test_a_bridge_turns_with_the_raster() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (20, 31))
    valid = rng.random((20, 31)) > 0.4
    turned = bridge(np.rot90(values), np.rot90(valid), 9)
    np.testing.assert_allclose(turned, np.rot90(bridge(values, valid, 9)), atol=1e-12)


MODELS = ["histospline", "terrain", "windowed", "edsr"]


@pytest.fixture
def model(request: pytest.FixtureRequest) -> tuple[str, int]:
    name = request.param
    if name == "histospline":
        return name, 4
    return str(request.getfixturevalue(f"{name}_model")), 4 if name == "edsr" else 16


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_voids_stay_and_spoil_nothing(dem: xr.DataArray, model: tuple[str, int]) -> None:
    name, scale = model
    fine = dem.demsr.upscale(scale, name)
    expected = np.isnan(dem.values).repeat(scale, 0).repeat(scale, 1)
    np.testing.assert_array_equal(np.isnan(fine.values), expected)


@pytest.mark.parametrize("model", MODELS, indirect=True)
@pytest.mark.parametrize(
    "marked",
    [
        lambda d: d.fillna(-9999.0).assign_attrs(_FillValue=-9999.0),
        lambda d: d.where(d.notnull(), np.inf),
        lambda d: d.fillna(-9999.0).assign_attrs(nodatavals=(-9999.0,)),
    ],
)
def test_every_way_of_saying_void_is_the_same(
    dem: xr.DataArray, model: tuple[str, int], marked: object
) -> None:
    name, scale = model
    expected = dem.demsr.upscale(scale, name)
    found = marked(dem).demsr.upscale(scale, name)  # type: ignore[operator]
    np.testing.assert_array_equal(found.values, expected.values)
    assert "_FillValue" not in found.attrs


def test_integer_sentinels_are_voids(dem: xr.DataArray, terrain_model: str) -> None:
    whole = dem.round()
    declared = whole.fillna(-9999).astype("int16")
    fine = declared.demsr.upscale(16, terrain_model)
    expected = whole.demsr.upscale(16, terrain_model, vertical_error=12**-0.5)
    np.testing.assert_array_equal(fine.values, expected.values)
    masked = whole.fillna(-32768).astype("int16").rio.write_nodata(-32768)
    np.testing.assert_array_equal(masked.demsr.upscale(16, terrain_model).values, expected.values)


def test_all_void_windows_skip_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import xdemsr.runner

    seen: list[int] = []
    core = xdemsr.runner.Runner._core

    def counted(self, inputs):  # type: ignore[no-untyped-def]
        seen.append(len(inputs))
        return core(self, inputs)

    monkeypatch.setattr(xdemsr.runner.Runner, "_core", counted)
    da = xr.DataArray(np.full((300, 600), np.nan, np.float32), dims=("y", "x"))
    assert da.demsr.upscale(2, "histospline").isnull().all()
    assert seen == []
    da[299, 0] = 1.0
    fine = da.chunk(100).demsr.upscale(2, "histospline", chunks=64)
    assert int(fine.notnull().sum()) == 4
    assert sum(seen) == 1


def test_far_voids_do_not_matter_to_valid_pixels(dem: xr.DataArray, terrain_model: str) -> None:
    """A void changes answers within the network's reach of it and nowhere else."""
    full = dem.fillna(1200.0)
    holed = full.copy()
    holed[2:5, 2:5] = np.nan
    first, second = (d.demsr.upscale(16, terrain_model).values for d in (full, holed))
    far = np.ones(dem.shape, bool)
    far[: 5 + 11, : 5 + 11] = False
    far = far.repeat(16, 0).repeat(16, 1)
    np.testing.assert_array_equal(first[far], second[far])


def test_a_void_set_through_rioxarray_counts(dem: xr.DataArray) -> None:
    marked = dem.fillna(-5.0)
    marked = marked.rio.set_nodata(-5.0)
    expected = dem.demsr.upscale(2, "histospline")
    np.testing.assert_array_equal(marked.demsr.upscale(2, "histospline").values, expected.values)


def test_a_packed_void_value_is_no_elevation(tmp_path: Path) -> None:
    """Stored 0 means missing; 0 m, stored as another number, is the sea."""
    heights = np.round(xdemsr.synthetic.terrain((20, 30), relief=20, base=-10) * 2) / 2
    heights.encoding = {
        "dtype": "uint16", "scale_factor": 0.5, "add_offset": -1000.0, "_FillValue": 0,
    }  # fmt: skip
    heights.to_dataset(name="z").to_netcdf(tmp_path / "z.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "z.nc", decode_coords="all", engine="scipy") as ds:
        z = ds.z.load()
    assert (z == 0).any()
    fine = z.demsr.upscale(4, "nearest")
    assert fine.notnull().all()
    assert "_FillValue" not in fine.encoding
    opened = xdemsr.open(xdemsr.write_zarr(fine, tmp_path / "z.zarr"))
    np.testing.assert_array_equal(opened.values, fine.values)


def test_the_largest_floats_need_not_be_declared() -> None:
    block = np.array([1.0, -3.4028235e38, 1e38, 8848.0], "float32")
    assert valid_pixels(block, ()).tolist() == [True, False, False, True]


def test_a_mask_has_no_voids() -> None:
    assert valid_pixels(np.array([True, False]), (0.0,)).all()
    mask = xr.DataArray(np.eye(5, 7, dtype=bool), dims=("y", "x"))
    assert mask.demsr.upscale(2, "nearest").values[0, 0] == 1.0
