"""Terrain seen from the side, in pictures and on pages."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image as mpimg
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr.errors import GridError, InputError
from xdemsr.oblique import Scene, draw

RED, GREEN, BLUE = np.eye(3)


@pytest.fixture(autouse=True)
def _without_windows() -> Any:
    import matplotlib.pyplot as plt

    mpl.use("agg")
    yield
    plt.close("all")


def scene(heights: np.ndarray, marks: dict[tuple[int, int], np.ndarray]) -> Scene:
    """White ground with coloured squares around some pixels."""
    colours = np.ones((*heights.shape, 3))
    for (y, x), colour in marks.items():
        colours[y - 2 : y + 3, x - 2 : x + 3] = colour
    return Scene(heights.astype(np.float64), colours, 10.0, 10.0)


def place(picture: np.ndarray, colour: np.ndarray) -> tuple[float, float] | None:
    """Where a pure colour is, as shares of the picture's height and width from the upper left."""
    distance = np.abs(picture[..., :3] - colour).sum(axis=-1)
    found = np.argwhere((distance < 0.2) & (picture[..., 3] > 0.9))
    if not len(found):
        return None
    y, x = found.mean(axis=0) / picture.shape[:2]
    return float(y), float(x)


@pytest.mark.parametrize(
    ("azimuth", "east", "up"),
    [(180.0, 1, 1), (0.0, -1, -1)],
)
def test_north_is_behind_where_one_looks_from_the_south(azimuth: float, east: int, up: int) -> None:
    """A mark in the north-east."""
    flat = scene(np.zeros((40, 60)), {(5, 50): RED})
    y, x = place(draw(flat, azimuth, 40.0, 200), RED) or (np.nan, np.nan)
    assert (x - 0.5) * east > 0.2
    assert (0.5 - y) * up > 0.1


def test_from_east_and_west() -> None:
    flat = scene(np.zeros((40, 60)), {(5, 30): RED})
    _, x = place(draw(flat, 90.0, 40.0, 200), RED) or (np.nan, np.nan)
    assert x > 0.7
    _, x = place(draw(flat, 270.0, 40.0, 200), RED) or (np.nan, np.nan)
    assert x < 0.3


def test_what_lies_behind_a_wall_is_hidden() -> None:
    heights = np.zeros((40, 60))
    heights[20:23] = 200.0
    walled = scene(heights, {(10, 30): RED, (30, 30): BLUE})
    south, north = draw(walled, 180.0, 25.0, 300), draw(walled, 0.0, 25.0, 300)
    assert place(south, RED) is None
    assert place(south, BLUE) is not None
    assert place(north, BLUE) is None
    assert place(north, RED) is not None
    above = draw(walled, 180.0, 89.0, 300)
    assert place(above, RED) is not None
    assert place(above, BLUE) is not None


def test_from_above_it_is_a_map() -> None:
    rng = np.random.default_rng(0)
    heights = np.full((45, 80), 7.0)
    colours = np.kron(rng.random((9, 16, 3)), np.ones((5, 5, 1)))
    picture = draw(Scene(heights, colours, 10.0, 10.0), 180.0, 90.0, 160)
    assert picture.shape[0] == pytest.approx(90, abs=2)
    y, x = np.arange(9) * 10 + 5, np.arange(16) * 10 + 5
    np.testing.assert_allclose(picture[y[:, None], x][..., :3], colours[2::5, 2::5], atol=1e-6)
    assert picture[2:88, 2:158, 3].min() == 1


@settings(deadline=None, max_examples=12)
@given(st.floats(0, 360), st.floats(5, 89), st.integers(0, 99))
def test_every_picture_is_a_block_on_a_clear_ground(
    azimuth: float, altitude: float, seed: int
) -> None:
    dem = xdemsr.synthetic.fractal((30, 44), seed=seed).values.astype(np.float64)
    dem[:4, :9] = np.nan
    picture = draw(scene(dem, {}), azimuth, altitude, 120)
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert max(picture.shape[:2]) == pytest.approx(120, abs=2)
    assert 0.15 < picture[..., 3].mean() < 0.999
    # Nothing floats: each column is one piece, from its lowest to its highest, but for the void.
    opaque = picture[..., 3] > 0.99
    starts = (np.diff(opaque.astype(int), axis=0, prepend=0) == 1).sum(axis=0)
    assert starts.max() <= 2


def test_voids_are_open() -> None:
    """Through a window in a level roof one sees what it stands over: nothing."""
    heights = np.zeros((60, 60))
    heights[10:50, 10:50] = np.nan
    picture = draw(scene(heights, {}), 180.0, 80.0, 240)
    rows, columns = picture.shape[:2]
    assert picture[rows // 2, columns // 2, 3] == 0
    assert picture[rows // 2, 5, 3] == 1


def dem(shape: tuple[int, int] = (48, 66)) -> xr.DataArray:
    made = xdemsr.synthetic.fractal(shape, seed=2)
    made[5:9, 20:31] = np.nan
    return made


def shown(ax: Any) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def test_a_picture_is_written(tmp_path: Path) -> None:
    path = dem().demsr.view_3d(tmp_path / "new" / "view.png", size=300, exaggeration=2)
    picture = mpimg.imread(path)
    assert picture.shape[1] == pytest.approx(300, abs=2)
    assert picture[..., :3].std() > 0.1
    ax = dem().demsr.view_3d(size=300, exaggeration=2)
    assert ax.get_title() == "1.98 km x 1.44 km, heights x 2"


@settings(deadline=None, max_examples=6)
@given(st.integers(5, 48), st.integers(5, 66), st.sampled_from([16, 30, 100]))
def test_chunks_do_not_matter(rows: int, columns: int, size: int) -> None:
    whole = shown(dem().demsr.view_3d(size=size))
    lazy = shown(dem().chunk(y=rows, x=columns).demsr.view_3d(size=size))
    np.testing.assert_array_equal(lazy, whole)


def test_axes_may_run_either_way() -> None:
    expected = shown(dem().demsr.view_3d(size=200))
    for turned in (dem()[::-1], dem()[:, ::-1], dem().T):
        np.testing.assert_allclose(shown(turned.demsr.view_3d(size=200)), expected, atol=1e-6)


def test_large_rasters_are_thinned_and_say_so() -> None:
    wide = dem((90, 130)).chunk(40)
    ax = wide.demsr.view_3d(size=50)
    assert "means of 3 x 3 pixels" in ax.get_title()
    by_hand = wide.coarsen(y=3, x=3, boundary="trim").mean().compute()
    np.testing.assert_allclose(shown(ax), shown(by_hand.demsr.view_3d(size=50)), atol=2e-3)
    assert "means" not in wide.demsr.view_3d(size=130).get_title()


def test_an_image_is_laid_over() -> None:
    base = xdemsr.synthetic.terrain((60, 80), relief=1.0)
    left = np.arange(80) < 40
    bands = np.stack([np.where(left, 255, 0), np.zeros(80), np.where(left, 0, 255)])
    image = xr.DataArray(
        np.broadcast_to(bands[:, None], (3, 60, 80)).astype("uint8"),
        dims=("band", "y", "x"),
        coords={"y": base.y, "x": base.x},
    ).rio.write_crs(base.rio.crs)
    picture = shown(base.demsr.view_3d(rgb=image, azimuth=180.0, altitude=60.0, size=200))
    middle = picture[picture.shape[0] // 2]
    columns = len(middle)
    assert middle[columns // 4, 0] > 0.9 > 0.1 > middle[columns // 4, 2]
    assert middle[3 * columns // 4, 2] > 0.9 > 0.1 > middle[3 * columns // 4, 0]


def test_dark_images_are_stretched() -> None:
    base = dem()
    image = xdemsr.synthetic.imagery(base)
    first = shown(base.demsr.view_3d(rgb=image, size=150))
    # As 16-bit reflectances are stored; rounding, and the ends, move colours a little.
    stored = (image.fillna(0) * 10_000 + 1000).round().astype("uint16").where(image.notnull())
    second = shown(base.demsr.view_3d(rgb=stored, size=150))
    assert first[..., :3].max() > 0.9
    np.testing.assert_allclose(first, second, atol=0.02)


def read_page(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    found = re.search(r"const scene = (\{.*\});", text)
    assert found is not None
    values: dict[str, Any] = json.loads(found[1])
    return values


def test_a_page_holds_all_it_needs(tmp_path: Path) -> None:
    terrain = dem()
    path = terrain.demsr.view_3d(tmp_path / "view.html", exaggeration=2.5, azimuth=123.0)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//cdn|src=|href=|import ", text)
    assert "$" not in re.sub(r"\$\{180 - eye.azimuth\}", "", text)
    values = read_page(path)
    assert (values["rows"], values["columns"], values["azimuth"]) == (48, 66, 123.0)
    stored = np.frombuffer(base64.b64decode(values["heights"]), "<u2").reshape(48, 66)
    known = terrain.notnull().values
    np.testing.assert_array_equal(stored > 0, known)
    longer = 66 * 30.0
    heights = (values["low"] + (stored - 1.0) * values["step"]) * longer
    middle = float(terrain.max() + terrain.min()) / 2
    np.testing.assert_allclose(heights[known] + middle, terrain.values[known], atol=0.02)
    assert values["dx"] * 66 == pytest.approx(1.0)
    assert values["factor"] == 2.5
    assert np.linalg.norm(values["sun"]) == pytest.approx(1.0)
    assert values["sun"][0] < 0 < values["sun"][1]
    colours = mpimg.imread(io.BytesIO(base64.b64decode(values["colours"])))
    assert colours.shape[:2] == (48, 66)


def test_names_on_a_page_are_text(tmp_path: Path) -> None:
    evil = dem().rename("</script><script>alert('$x')</script>")
    text = evil.demsr.view_3d(tmp_path / "view.html").read_text(encoding="utf-8")
    assert text.count("<script>") == text.count("</script>") == 1
    assert "&lt;/script&gt;&lt;script&gt;alert(&#x27;$x&#x27;)" in text


def test_level_terrain_can_be_seen(tmp_path: Path) -> None:
    level = xr.full_like(dem((20, 33)), 5.0)
    level.demsr.view_3d(size=100)
    values = read_page(level.demsr.view_3d(tmp_path / "level.html"))
    assert set(np.frombuffer(base64.b64decode(values["heights"]), "<u2")) == {1}


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    terrain = dem()
    with pytest.raises(InputError, match=r"end in \.png or \.html"):
        terrain.demsr.view_3d("view.jpg")
    with pytest.raises(InputError, match="exaggeration=0"):
        terrain.demsr.view_3d(exaggeration=0)
    with pytest.raises(InputError, match="altitude=0"):
        terrain.demsr.view_3d(altitude=0)
    with pytest.raises(InputError, match="azimuth=nan"):
        terrain.demsr.view_3d(azimuth=np.nan)
    with pytest.raises(InputError, match="size=2"):
        terrain.demsr.view_3d(size=2)
    with pytest.raises(InputError, match="nothing to see"):
        (terrain * np.nan).demsr.view_3d()
    with pytest.raises(GridError, match="another grid"):
        terrain.demsr.view_3d(rgb=xdemsr.synthetic.imagery(terrain)[:, 1:])
    with pytest.raises(InputError, match=r"size=20\.5"):
        terrain.demsr.view_3d(size=20.5)
    with pytest.raises(InputError, match="2 x 66 pixels is narrower than the blocks of 4 x 4"):
        terrain[:2].demsr.view_3d(size=20)


def test_degrees_without_a_crs_are_no_needle() -> None:
    terrain = dem()
    y, x = 47 - 1e-4 * np.arange(terrain.shape[0]), 8 + 1e-4 * np.arange(terrain.shape[1])
    degrees = xr.DataArray(terrain.values, dims=("lat", "lon"), coords={"lat": y, "lon": x})
    with pytest.raises(InputError, match="in degrees"):
        degrees.demsr.view_3d(size=100)
    degrees.rio.write_crs("EPSG:4326").demsr.view_3d(size=100)


@pytest.mark.parametrize("shape", [(48, 66), (60, 1), (1, 60)])
def test_small_and_narrow_pictures_are_written(shape: tuple[int, int], tmp_path: Path) -> None:
    narrow = xdemsr.synthetic.terrain(shape)
    for size in (16 if min(shape) > 1 else 60, 60):
        picture = mpimg.imread(narrow.demsr.view_3d(tmp_path / "view.png", size=size))
        assert max(picture.shape[:2]) == pytest.approx(size, abs=4)


def test_an_image_of_voids_is_dark(tmp_path: Path) -> None:
    terrain = dem()
    picture = shown(terrain.demsr.view_3d(rgb=xdemsr.synthetic.imagery(terrain) * np.nan, size=66))
    assert picture.shape[1] == 66
