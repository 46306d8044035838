"""The main job, and the pictures it draws."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread

import xdemsr
from xdemsr.demo import jacksboro, run_demo
from xdemsr.plotting import compare, shaded_relief

mpl.use("agg")


def test_the_sample_is_where_it_is() -> None:
    dem = jacksboro()
    assert dem.shape == (344, 403)
    assert dem.dtype == np.int16
    assert dem.rio.crs.to_epsg() == 4326
    expected = (-84.41375, 36.44625, -84.07791667, 36.73291667)
    np.testing.assert_allclose(dem.rio.bounds(), expected, atol=1e-7)


def test_the_demo_does_the_main_job(tmp_path: Path) -> None:
    said: list[str] = []
    store, cog, picture = run_demo(tmp_path / "demo", said.append)
    fine = xdemsr.open(store)
    assert fine.shape == (344 * 16, 403 * 16)
    np.testing.assert_array_equal(xdemsr.open(cog).isel(y=slice(0, 500)), fine[:500])
    np.testing.assert_allclose(fine.rio.bounds(), jacksboro().rio.bounds(), atol=1e-12)
    assert fine.attrs["xdemsr_model"] == "terrain-x16"
    assert fine.attrs["xdemsr_vertical_error"] == pytest.approx(12**-0.5)
    image = imread(picture)
    assert image.shape[1] > 1000
    assert image[..., :3].std() > 0.05
    report = "\n".join(said)
    for words in ("5,504 x 6,448", "pixels/s", "of_best_classical", "histospline"):
        assert words in report
    run_demo(tmp_path / "demo", said.append)


def test_relief_is_drawn_to_scale_and_north_up() -> None:
    dem = xdemsr.synthetic.terrain((40, 80), gsd=50.0)
    up = shaded_relief(dem)
    assert up.get_xlim() == (0, 4)
    assert up.get_ylim() == (2, 0)
    assert up.get_xlabel() == "km"
    assert up.get_aspect() == 1
    flipped = shaded_relief(dem.isel(y=slice(None, None, -1)))
    np.testing.assert_allclose(up.images[0].get_array(), flipped.images[0].get_array())


def test_rasters_are_compared_in_one_light(dem: xr.DataArray) -> None:
    before, after = compare({"before": dem, "after": dem.demsr.upscale(4, "bicubic")}, title="both")
    assert before.get_title() == "before"
    assert before.get_xlim() == after.get_xlim()
    voids = before.images[0].get_array()[11, 22]
    np.testing.assert_allclose(voids[:3], 0.85)
