"""Refinement: bands found by name on any grid, what follows from them, and the call."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

import xdemsr
from xdemsr import refining
from xdemsr.errors import GridError, InputError, ModelError
from xdemsr.spec import Band, Local, ModelSpec

DSM = Band("dsm", "m")
FACTORS = {"red": 10.0, "nir": 100.0, "ndvi": 7.0, "nodata_mask": 1000.0, "ortho": 3.0}


@pytest.fixture(scope="session")
def refiner(make_model: Callable[..., Path]) -> Callable[..., Path]:
    """A model of a surface and these guides, that adds up their 3 x 3 means."""

    def make(*guides: str, surface: Band = DSM, units: str = "reflectance", **more: Any) -> Path:
        bands = (
            surface,
            *(Band(name, units if name in ("red", "nir") else "1") for name in guides),
        )
        name = "-".join(["refine", *(band.name + band.units for band in bands), *more])
        return make_model(
            name,
            "refiners:Weighted",
            1,
            Local(1, tile=16),
            {"factors": [FACTORS[guide] for guide in guides]},
            inputs=bands,
            outputs=(Band("dtm", "m"),),
            task="refinement",
            **more,
        )

    return make


def guide(name: str, seed: int, ny: int = 43, nx: int = 61, gsd: float = 30.0) -> xr.DataArray:
    made = xdemsr.synthetic.terrain((ny, nx), gsd=gsd, relief=0.5, base=0.1, seed=seed)
    return made.rename(name).assign_attrs(units="reflectance")


@pytest.fixture
def ds(dem: xr.DataArray) -> xr.Dataset:
    red, nir = guide("red", 2), guide("nir", 3)
    nir[30:36, 40:50] = np.nan
    return xr.Dataset({"dsm": dem, "red": red, "nir": nir})


def added(*pairs: tuple[float, xr.DataArray]) -> Any:
    """Factors times 3 x 3 means."""
    return sum(
        factor * uniform_filter(da.values.astype(np.float64), 3, mode="nearest")
        for factor, da in pairs
    )


def inside(da: xr.DataArray) -> Any:
    """Pixels whose neighbours all are valid, away from the border."""
    known = np.isfinite(da.values).astype(np.float64)
    known[[0, -1]], known[:, [0, -1]] = 0, 0
    return uniform_filter(known, 3, mode="constant") > 0.999


def refined(obj: Any, model: Path, **more: Any) -> Any:
    return obj.demsr.refine(model, precision="fp32", **more)


def test_bands_are_found_by_name(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    answer = refined(ds, refiner("red", "nir"))
    known = inside(ds.nir) & np.isfinite(ds.dsm.values)
    expected = ds.dsm + added((10.0, ds.red), (100.0, ds.nir.fillna(0)))
    np.testing.assert_allclose(answer.values[known], expected.values[known], rtol=1e-5)
    assert (answer.name, answer.dims, answer.attrs["units"]) == ("dtm", ("y", "x"), "m")
    xr.align(answer, ds.dsm, join="exact")
    assert answer.rio.transform() == ds.dsm.rio.transform()
    # Void exactly where the surface is, whatever the guides have.
    np.testing.assert_array_equal(answer.isnull(), ds.dsm.isnull())


@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.permutations(["red", "nir", "left", "dsm"]), labels=st.booleans())
def test_order_and_layout_do_not_matter(
    ds: xr.Dataset, refiner: Callable[..., Path], order: list[str], labels: bool
) -> None:
    model = refiner("red", "nir")
    expected = refined(ds, model).values
    more = ds.assign(left=ds.red * 3)
    np.testing.assert_array_equal(refined(more[order], model).values, expected)

    def stacked(names: list[str]) -> xr.DataArray:
        stack = xr.concat([more[name] for name in names], "band", combine_attrs="drop")
        if labels:
            return stack.assign_coords(band=names)
        return stack.assign_attrs(long_name=tuple(names))

    image = stacked([name for name in order if name != "dsm"])
    together = xr.Dataset({"dsm": ds.dsm, "image": image})
    np.testing.assert_array_equal(refined(together, model).values, expected)
    last = image.isel(band=slice(None)).transpose("y", "x", "band")
    np.testing.assert_array_equal(refined(together.assign(image=last), model).values, expected)
    if labels:
        # All in one array.
        np.testing.assert_array_equal(refined(stacked(order), model).values, expected)


@settings(deadline=None, max_examples=8)
@given(
    chunks=st.tuples(*[st.integers(5, 61)] * 4),
    answer=st.integers(9, 60),
)
@pytest.mark.parametrize("derived", [False, True])
def test_chunks_never_change_a_bit(
    refiner: Callable[..., Path], derived: bool, chunks: tuple[int, ...], answer: int
) -> None:
    dsm = xdemsr.synthetic.terrain((43, 61), gsd=30.0, seed=1)
    dsm[10:14, 20:27] = np.nan
    ortho = guide("ortho", 5, 150, 190, 11.0)
    ortho[60:100, 50:90] = np.nan
    ds = xr.Dataset({"dsm": dsm, "red": guide("red", 2), "nir": guide("nir", 3)})
    model = refiner("ortho", "ndvi", "nodata_mask") if derived else refiner("red", "ortho")
    expected = refined(ds, model, guides={"ortho": ortho})
    lazy = refined(
        ds.chunk(y=chunks[0], x=chunks[1]),
        model,
        guides={"ortho": ortho.chunk(y=chunks[2], x=chunks[3])},
        chunks=answer,
    )
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy.compute(scheduler="sync").values, expected.values)


def test_one_lazy_input_makes_a_lazy_answer(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    model = refiner("red", "ndvi", "nodata_mask")

    def never(dsk: object, keys: object, **kwargs: object) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=never):
        lazy = ds.drop_vars("red").demsr.refine(model, guides={"red": ds.red.chunk(20)})
        with pytest.raises(AssertionError, match="was computed"):
            lazy.compute()
    assert lazy.chunks is not None


def test_building_imports_no_torch(refiner: Callable[..., Path]) -> None:
    code = f"""
import sys
import xdemsr
dsm = xdemsr.synthetic.terrain((40, 50)).chunk(16)
fine = xdemsr.synthetic.terrain((90, 70), gsd=13.0).chunk(16)
ds = dsm.to_dataset(name="dsm")
bare = ds.demsr.refine({str(refiner("red", "nodata_mask"))!r}, guides={{"red": fine}})
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- guides on other grids


def test_guides_may_lie_on_any_grid(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    model = refiner("red", "nir")
    west, south, east, north = ds.dsm.rio.transform_bounds("EPSG:4326")
    y, x = np.linspace(north, south, 70), np.linspace(west, east, 80)
    values = 0.3 + 0.2 * np.sin(np.add.outer(np.arange(70) / 9, np.arange(80) / 7))
    lonlat = xr.DataArray(values, dims=("y", "x"), coords={"y": y, "x": x}).rio.write_crs(4326)
    fine = guide("nir", 3, 129, 183, 10.0)
    by_hand = ds.assign(
        red=xdemsr.match_grid(lonlat, ds.dsm).variable, nir=xdemsr.match_grid(fine, ds).variable
    )
    found = refined(ds[["dsm"]], model, guides={"red": lonlat, "nir": fine})
    np.testing.assert_array_equal(found.values, refined(by_hand, model).values)
    # They take precedence over what the dataset has.
    again = refined(ds, model, guides={"nir": fine, "red": lonlat})
    np.testing.assert_array_equal(again.values, found.values)
    image = xr.concat([fine, fine * 2], "band").assign_coords(band=["nir", "red"])
    by_hand = by_hand.assign(red=by_hand.nir * 2)
    stacked = refined(ds.dsm, model, guides={"ortho": image.chunk(31)})
    np.testing.assert_allclose(stacked, refined(by_hand, model), rtol=1e-6)


def test_a_file_of_one_band_is_a_guide(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    model = refiner("red")
    banded = ds.red.expand_dims(band=[1])
    found = refined(ds.dsm, model, guides={"red": banded})
    np.testing.assert_array_equal(found.values, refined(ds, model).values)


def test_beyond_a_guide_the_mask_says_so(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    half = ds.red[:, :30].drop_vars("spatial_ref").rio.write_crs(ds.dsm.rio.crs)
    found = refined(ds.dsm, refiner("red", "nodata_mask"), guides={"red": half})
    np.testing.assert_array_equal(found.isnull(), ds.dsm.isnull())
    plain = refined(ds.dsm, refiner("red"), guides={"red": half})
    mask = (found - plain).fillna(-1).values
    known = np.isfinite(ds.dsm.values)
    np.testing.assert_allclose(mask[:, 33:][known[:, 33:]], 0, atol=1e-2)
    np.testing.assert_allclose(mask[16:39, 5:28], 1000, atol=1e-2)
    # Filled from the rim, not with zeros, near it.
    near = (plain - ds.dsm).values[16:36, 30]
    np.testing.assert_allclose(near, added((10.0, ds.red))[16:36, 30], rtol=0.3)


def test_a_guide_that_is_void_all_over_a_tile_spoils_nothing(
    ds: xr.Dataset, refiner: Callable[..., Path]
) -> None:
    found = refined(ds.assign(red=ds.red * np.nan), refiner("red", "nodata_mask"))
    np.testing.assert_array_equal(found.values, ds.dsm.astype(np.float32).values)


def test_guides_elsewhere_are_refused(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    away = ds.red.assign_coords(x=ds.x + 1e5).drop_vars("spatial_ref")
    with pytest.raises(GridError, match="'red' does not overlap"):
        refined(ds.dsm, refiner("red"), guides={"red": away})
    # A guide that no band asks for is not looked at.
    refined(ds, refiner("nir"), guides={"red": away})
    with pytest.raises(InputError, match=r"guide 'red' is a ndarray"):
        refined(ds, refiner("red"), guides={"red": ds.red.values})
    both = {"a": xr.concat([ds.red, ds.nir], "band").assign_coords(band=["red", "nir"])}
    with pytest.raises(InputError, match="two guides hold a band 'red'"):
        refined(ds.dsm, refiner("red"), guides={**both, "red": ds.red})


# --- bands that follow from others


def test_ndvi_and_the_mask_are_derived(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    model = refiner("red", "ndvi", "nodata_mask")
    ndvi = xdemsr.ndvi(ds.red, ds.nir)
    full = ds.assign(ndvi=ndvi, nodata_mask=xdemsr.nodata_mask(ds.dsm, ds.red, ndvi))
    expected = refined(full, model)
    np.testing.assert_array_equal(refined(ds, model).values, expected.values)
    np.testing.assert_array_equal(refined(ds.chunk(20), model).values, expected.values)
    np.testing.assert_array_equal(ds.demsr.apply(model, precision="fp32").values, expected.values)
    # The mask is 0 where the near infrared, and so the index, is void.
    masked = refined(ds, refiner("nir", "nodata_mask")) - refined(ds, refiner("nir"))
    np.testing.assert_allclose(masked[31:35, 41:49], 0, atol=1e-2)
    np.testing.assert_allclose(masked[20:28, 30:38], 1000, atol=1e-2)
    # What is there is taken as it is.
    other = refined(ds.assign(nodata_mask=full.nodata_mask * 0), model)
    assert float((expected - other).max()) == pytest.approx(1000, abs=0.1)


def test_missing_bands_are_named(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"has no nir \(it has dsm, red\)"):
        refined(ds[["dsm", "red"]], refiner("red", "nir", "nodata_mask"))
    with pytest.raises(InputError, match=r"has no red, nir \(it has dsm\)"):
        refined(ds.dsm, refiner("ndvi"))
    with pytest.raises(InputError, match=r"has no dsm \(it has red, nir\)"):
        refined(ds[["red", "nir"]], refiner("red", "nir"))
    with pytest.raises(InputError, match="not among the guides"):
        refined(ds[["red"]], refiner("red"), guides={"dsm": ds.dsm})
    image = xr.concat([ds.red, ds.red], "band").assign_coords(band=["red", "x"])
    twice = ds[["dsm"]].assign(a=image, b=image)
    with pytest.raises(InputError, match="both 'a' and 'b' hold a band 'red'"):
        refined(twice, refiner("red"))


def test_a_model_may_call_the_surface_otherwise(
    ds: xr.Dataset, refiner: Callable[..., Path]
) -> None:
    model = refiner("red", surface=Band("asp_dsm", "m"))
    expected = refined(ds, refiner("red")).values
    np.testing.assert_array_equal(refined(ds, model).values, expected)
    np.testing.assert_array_equal(refined(ds.rename(dsm="asp_dsm"), model).values, expected)
    alone = refined(ds.dsm.rename("anything"), model, guides={"red": ds.red})
    np.testing.assert_array_equal(alone.values, expected)


# --- units


@pytest.mark.parametrize(
    ("units", "factor"), [("ft", "0.3048"), ("US survey foot", "0.3048006096"), ("cm", "0.01")]
)
def test_another_unit_of_length_is_refused(
    ds: xr.Dataset, refiner: Callable[..., Path], units: str, factor: str
) -> None:
    feet = ds.dsm.assign_attrs(units=units)
    with pytest.raises(InputError, match=rf"{units!r}.*\(da \* {factor}\)\.assign_attrs"):
        refined(feet, refiner("red"), guides={"red": ds.red})
    # Terrain super-resolution does not know the unit.
    assert feet.demsr.upscale(2, "bilinear").attrs["units"] == units


@pytest.mark.parametrize("units", ["m", "metres", " Meter ", "unknown", ""])
def test_the_same_unit_by_any_name_is_taken(
    ds: xr.Dataset, refiner: Callable[..., Path], units: str
) -> None:
    said = ds.assign(dsm=ds.dsm.assign_attrs(units=units))
    expected = refined(ds, refiner("red"))
    np.testing.assert_array_equal(refined(said, refiner("red")).values, expected.values)


def test_whole_numbers_are_no_reflectances(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    stored = ds.assign(red=(ds.red * 1e4).astype("uint16"))
    with pytest.raises(InputError, match=r"'red' holds whole numbers \(uint16\).*\* 0\.0001"):
        refined(stored, refiner("red"))
    near = refined(stored.assign(red=stored.red * 0.0001), refiner("red"))
    np.testing.assert_allclose(near, refined(ds, refiner("red")), rtol=1e-4)
    # Bands without a unit are taken as they are, and a mask is a mask.
    refined(stored, refiner("red", units=""))
    refined(ds.assign(nodata_mask=ds.red > 0), refiner("nodata_mask"))
    refined(ds.assign(nodata_mask=(ds.red > 0).astype("uint8")), refiner("nodata_mask"))


# --- models


def test_without_a_shipped_model_one_must_be_given(
    ds: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refining, "shipped_models", dict)
    with pytest.raises(ModelError, match=r"no refinement model is shipped.*safetensors"):
        ds.demsr.refine()


def test_the_shipped_model_that_takes_most_is_chosen(
    ds: xr.Dataset, refiner: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [refiner(), refiner("red"), refiner("red", "ndvi", "nodata_mask"), refiner("ortho")]
    specs = {path.stem: xdemsr.load_model(path).spec for path in made}
    monkeypatch.setattr(refining, "shipped_models", lambda: specs)
    for there, path in ((ds, made[2]), (ds[["dsm", "red"]], made[1]), (ds[["dsm"]], made[0])):
        assert there.demsr.refine().attrs["xdemsr_model"] == path.stem
        elsewhere = there.rename(dsm="surface").assign(red=ds.red)
        with pytest.raises(InputError, match="has no dsm"):
            elsewhere.demsr.refine()


def test_a_model_that_divides_pixels_is_no_refinement(ds: xr.Dataset) -> None:
    with pytest.raises(ModelError, match=r"divides pixels by 16.*upscale\(16"):
        ds.demsr.refine("terrain-x16")


def test_other_objects_are_refused(refiner: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="got ndarray"):
        xdemsr.refine(np.ones((3, 4)), refiner("red"))  # type: ignore[arg-type]


def test_series_are_refined_one_by_one(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    series = xr.concat([ds.dsm, ds.dsm + 5], "time").assign_coords(time=[2020, 2021])
    model = refiner("red", "nodata_mask")
    found = refined(xr.Dataset({"dsm": series, "red": ds.red}), model)
    assert found.dims == ("time", "y", "x")
    np.testing.assert_array_equal(found[0].values, refined(ds, model).values)
    assert list(found.time) == [2020, 2021]


def test_a_spec_alone_needs_its_weights(ds: xr.Dataset) -> None:
    spec = ModelSpec("bare", "refiners:Weighted", 1, Local(1), inputs=(DSM,), task="refinement")
    with pytest.raises(ModelError):
        ds.demsr.refine(spec)


def test_guides_are_named(ds: xr.Dataset, refiner: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="guides=list must be a mapping"):
        xdemsr.refine(ds, refiner(), guides=[ds["dsm"]])  # type: ignore[arg-type]


def test_coarse_pixels_are_warned_of_not_refused() -> None:
    dsm = xdemsr.synthetic.terrain((60, 70), gsd=10.0)
    rgb = xr.DataArray(
        np.full((3, 60, 70), 90, "uint8"),
        dims=("band", "y", "x"),
        coords={"band": ["red", "green", "blue"], "y": dsm.y, "x": dsm.x},
    ).rio.write_crs(dsm.rio.crs)
    with pytest.warns(xdemsr.GsdWarning, match="pixels are 10 m"):
        answer = xdemsr.refine(dsm, guides={"rgb": rgb})
    assert answer.name == "dtm"
    assert answer.notnull().all()


def test_a_refinement_can_be_planned() -> None:
    dsm = xdemsr.synthetic.terrain((300, 350), gsd=1.0).chunk(y=100)
    bands = {name: xr.zeros_like(dsm) for name in ("red", "green", "blue")}
    plan = xr.Dataset({"dsm": dsm, **bands}).demsr.plan(model="dtm-from-dsm")
    assert plan.output_shape == (300, 350)
    assert plan.flops > 0
    with pytest.raises(InputError, match="has no red, green, blue"):
        dsm.demsr.plan(model="dtm-from-dsm")
