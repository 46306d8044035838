"""Points, read back from the files they were written to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr import pointcloud
from xdemsr.errors import GridError, InputError

laspy = pytest.importorskip("laspy")

QUIET = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def terrain(shape: tuple[int, int] = (23, 37)) -> xr.DataArray:
    dem = xdemsr.synthetic.fractal(shape, gsd=30.0, seed=1)
    dem[4:7, 10:20] = np.nan
    dem[-1, :3] = np.nan
    return dem


def degrees(shape: tuple[int, int] = (23, 37), pixel: float = 1 / 3600) -> xr.DataArray:
    ny, nx = shape
    y, x = 47 - (np.arange(ny) + 0.5) * pixel, 8 + (np.arange(nx) + 0.5) * pixel
    dem = xr.DataArray(
        terrain(shape).values, dims=("lat", "lon"), coords={"lat": y, "lon": x}, name="dem"
    )
    return dem.rio.write_crs("EPSG:4326")


def expected(dem: xr.DataArray, stride: int = 1) -> np.ndarray:
    """Columns x, y, z of the valid pixels, row by row."""
    thin = dem[::stride, ::stride]
    y, x = np.meshgrid(*(thin[dim].values for dim in thin.dims), indexing="ij")
    known = np.isfinite(thin.values)
    return np.stack([x[known], y[known], thin.values[known].astype(np.float64)], axis=1)


def in_order(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort((points[:, 0], points[:, 1]))]


def read_ply(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Comments, points and triangles of a binary PLY file, by its own header."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    types = {"float": "<f4", "uchar": "u1", "int": "<i4"}
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    counts: dict[str, int] = {}
    fields: dict[str, list[tuple[Any, ...]]] = {"vertex": [], "face": []}
    for words in (line.split() for line in lines):
        if words[0] == "element":
            counts[words[1]] = int(words[2])
        elif words[:2] == ["property", "list"]:
            fields["face"] += [("n", types[words[2]]), ("corners", types[words[3]], 3)]
        elif words[0] == "property":
            fields["vertex"].append((words[2], types[words[1]]))
    vertex = np.dtype(fields["vertex"])
    points = np.frombuffer(body, vertex, counts["vertex"])
    faces = (
        np.frombuffer(
            body,
            np.dtype(fields["face"]),
            counts.get("face", 0),
            counts["vertex"] * vertex.itemsize,
        )
        if "face" in counts
        else np.empty(0)
    )
    assert len(body) == points.nbytes + faces.nbytes
    return [line for line in lines if line.startswith("comment")], points, faces


@pytest.mark.parametrize("ending", ["las", "laz"])
def test_points_are_pixels(ending: str, tmp_path: Path) -> None:
    dem = terrain()
    path = dem.demsr.to_point_cloud(tmp_path / f"cloud.{ending}")
    cloud = laspy.read(path)
    np.testing.assert_allclose(cloud.xyz, expected(dem), rtol=0, atol=5.1e-4)
    assert len(cloud.points) == int(dem.notnull().sum())
    assert cloud.header.point_format.id == 6
    assert cloud.header.parse_crs() == dem.rio.crs
    assert set(cloud.return_number) == set(cloud.number_of_returns) == {1}
    np.testing.assert_allclose(cloud.header.maxs, expected(dem).max(axis=0), atol=5.1e-4)


@QUIET
@given(
    rows=st.integers(1, 30),
    columns=st.integers(1, 40),
    stride=st.integers(1, 9),
    ending=st.sampled_from(["las", "ply"]),
)
def test_chunks_do_not_matter(
    rows: int, columns: int, stride: int, ending: str, tmp_path: Path
) -> None:
    dem = terrain()
    lazy = dem.chunk(y=rows, x=columns)
    path = tmp_path / f"cloud.{ending}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pointcloud, "_AT_ONCE", 200)
        patch.setattr(pointcloud, "_LOT", 17)
        lazy.demsr.to_point_cloud(path, stride=stride, overwrite=True)
    if ending == "las":
        found = laspy.read(path).xyz
    else:
        _, points, _ = read_ply(path)
        found = np.stack([points[name] for name in "xyz"], axis=1).astype(np.float64)
        found[:, :2] += (500_000.0, 4_100_000.0 - 23 * 30)
    wanted = in_order(expected(dem, stride))
    np.testing.assert_allclose(in_order(found), wanted, rtol=0, atol=1e-3)


def test_pieces_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dem = terrain()
    whole = dem.demsr.to_point_cloud(tmp_path / "whole.ply", faces=True)
    monkeypatch.setattr(pointcloud, "_PIECE", 11)
    parts = dem.demsr.to_point_cloud(tmp_path / "parts.ply", faces=True)
    assert whole.read_bytes() == parts.read_bytes()
    cloud = laspy.read(dem.demsr.to_point_cloud(tmp_path / "parts.las")).xyz
    np.testing.assert_allclose(in_order(cloud), in_order(expected(dem)), atol=1e-3)


def test_a_file_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What xarray indexes lazily is not read whole."""
    dem = terrain()
    dem.rio.to_raster(tmp_path / "dem.tif")
    monkeypatch.setattr(pointcloud, "_PIECE", 10)
    opened = xdemsr.open(tmp_path / "dem.tif")
    path = xdemsr.to_point_cloud(opened, tmp_path / "cloud.las")
    np.testing.assert_allclose(in_order(laspy.read(path).xyz), in_order(expected(dem)), atol=1e-3)
    assert not opened.variable._in_memory or opened.chunks is not None


@pytest.mark.parametrize("kind", ["unit", "uint8", "uint16"])
def test_colours(kind: str, tmp_path: Path) -> None:
    dem = terrain()
    image = xdemsr.synthetic.imagery(dem)
    levels = {"unit": 1.0, "uint8": 255.0, "uint16": 65535.0}[kind]
    if kind != "unit":
        image = (image.fillna(0) * levels).round().astype(kind)
    bands = image.isel(band=[2, 3, 1, 0]) if kind == "uint16" else image
    if kind == "uint8":
        bands = image[:3].drop_vars("band").transpose("y", "x", "band")
    path = dem.chunk(y=9).demsr.to_point_cloud(tmp_path / "cloud.laz", rgb=bands)
    cloud = laspy.read(path)
    assert cloud.header.point_format.id == 7
    known = dem.notnull().values
    for name, band in zip(("red", "green", "blue"), image[:3].values, strict=True):
        found = np.asarray(cloud[name]) / 65535
        np.testing.assert_allclose(found, band[known] / levels, atol=1e-5)
    path = dem.demsr.to_point_cloud(tmp_path / "cloud.ply", rgb=bands.chunk(x=5))
    _, points, _ = read_ply(path)
    np.testing.assert_allclose(points["green"] / 255, image[1].values[known] / levels, atol=3e-3)


def test_degrees(tmp_path: Path) -> None:
    dem = degrees()
    cloud = laspy.read(dem.demsr.to_point_cloud(tmp_path / "cloud.laz"))
    np.testing.assert_allclose(cloud.xyz[:, :2], expected(dem)[:, :2], rtol=0, atol=1e-8)
    np.testing.assert_allclose(cloud.xyz[:, 2], expected(dem)[:, 2], atol=1e-3)
    assert cloud.header.parse_crs().to_epsg() == 4326
    world = degrees((18, 36), pixel=9.0).assign_coords(
        lat=81.0 - 9 * np.arange(18), lon=-157.5 + 9 * np.arange(36)
    )
    cloud = laspy.read(world.demsr.to_point_cloud(tmp_path / "world.laz"))
    np.testing.assert_allclose(cloud.xyz[:, :2], expected(world)[:, :2], rtol=0, atol=1e-7)
    comments, points, _ = read_ply(dem.demsr.to_point_cloud(tmp_path / "cloud.ply"))
    assert "comment crs EPSG:4326" in comments
    steps = np.diff(np.unique(points["x"])), np.diff(np.unique(points["y"]))
    height, width = 111_320 / 3600, 111_320 / 3600 * np.cos(np.radians(47 - 23 / 7200))
    np.testing.assert_allclose(steps[0], width, rtol=1e-3)
    np.testing.assert_allclose(steps[1], height, rtol=1e-3)


@pytest.mark.parametrize("flip", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_triangles_lie_between_neighbours(flip: tuple[int, int], tmp_path: Path) -> None:
    dem = terrain()[:: flip[0], :: flip[1]]
    path = dem.chunk(y=6, x=10).demsr.to_point_cloud(tmp_path / "mesh.ply", faces=True)
    comments, points, faces = read_ply(path)
    assert "comment origin 500000.0 4099310.0" in comments
    known = dem.notnull().values
    # Each pair of triangles shares the diagonal that is not missing a corner.
    a, b, c, d = known[:-1, :-1], known[:-1, 1:], known[1:, :-1], known[1:, 1:]
    assert len(faces) == int((a & b & c).sum() + (b & c & d).sum())
    corners = np.stack([points[name][faces["corners"]] for name in "xyz"], axis=-1)
    side, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    upward = side[:, 0] * other[:, 1] - side[:, 1] * other[:, 0]
    np.testing.assert_allclose(upward, 900.0, rtol=1e-4)
    assert np.ptp(corners[..., :2], axis=1).max() <= 30.01
    used = np.stack([points[name] for name in "xy"], axis=1)[np.unique(faces["corners"])]
    assert len(np.unique(used, axis=0)) == len(used)


def test_integers_and_declared_voids(tmp_path: Path) -> None:
    dem = terrain()
    whole = dem.round().fillna(-9999).astype("int16")
    cloud = laspy.read(whole.demsr.to_point_cloud(tmp_path / "cloud.las"))
    np.testing.assert_allclose(cloud.xyz, expected(dem.round()), atol=1e-3)


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dem = terrain()
    image = xdemsr.synthetic.imagery(dem)
    with pytest.raises(InputError, match="must end in"):
        dem.demsr.to_point_cloud("cloud.xyz")
    with pytest.raises(InputError, match="points alone"):
        dem.demsr.to_point_cloud("cloud.las", faces=True)
    with pytest.raises(InputError, match="stride=0"):
        dem.demsr.to_point_cloud("cloud.las", stride=0)
    with pytest.raises(InputError, match="no pixel is valid"):
        (dem * np.nan).demsr.to_point_cloud("cloud.las")
    with pytest.raises(GridError, match="another grid"):
        dem.demsr.to_point_cloud("cloud.las", rgb=image[:, 1:])
    with pytest.raises(InputError, match="needs the dimensions"):
        dem.demsr.to_point_cloud("cloud.las", rgb=dem)
    with pytest.raises(InputError, match="2 elements along 'band'"):
        dem.demsr.to_point_cloud("cloud.las", rgb=image[:2])
    dem.demsr.to_point_cloud("cloud.las")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        dem.demsr.to_point_cloud("cloud.las")
    before = Path("cloud.las").read_bytes()
    with pytest.raises(InputError):
        (dem * np.nan).demsr.to_point_cloud("cloud.las", overwrite=True)
    assert Path("cloud.las").read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["cloud.las"]
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(InputError, match=r"xdemsr\[pointcloud\]"):
        dem.demsr.to_point_cloud("other.las")
    dem.demsr.to_point_cloud("other.ply")


def test_colours_of_a_file_are_found_by_its_descriptions(tmp_path: Path) -> None:
    """Bands of a GeoTIFF are numbered, and called something in ``long_name``."""
    dem = terrain()
    image = xdemsr.synthetic.imagery(dem)
    named = ("nir", "blue", "green", "red")
    described = image.sel(band=list(named)).assign_coords(band=[1, 2, 3, 4])
    described.attrs["long_name"] = named
    clouds = [
        laspy.read(dem.demsr.to_point_cloud(tmp_path / f"{k}.las", rgb=rgb))
        for k, rgb in enumerate((image, described))
    ]
    np.testing.assert_array_equal(clouds[0].red, clouds[1].red)
    np.testing.assert_array_equal(clouds[0].blue, clouds[1].blue)
    assert (clouds[0].red != clouds[0].blue).any()


def test_a_raster_around_the_world(tmp_path: Path) -> None:
    x = -2.0e7 + 8e6 * np.arange(6)
    dem = xr.DataArray(
        np.arange(24.0).reshape(4, 6),
        dims=("y", "x"),
        coords={"y": 1e7 - 5e6 * np.arange(4), "x": x},
    ).rio.write_crs("EPSG:3857")
    cloud = laspy.read(dem.demsr.to_point_cloud(tmp_path / "cloud.las"))
    np.testing.assert_allclose(np.unique(cloud.x), x, atol=0.1)


def test_heights_that_a_file_cannot_hold_are_refused(tmp_path: Path) -> None:
    dem = terrain()
    dem[0, 0] = -1e7
    with pytest.raises(InputError, match=r"-1e\+07 to .*write_nodata"):
        dem.demsr.to_point_cloud(tmp_path / "cloud.las")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.ply").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        terrain().demsr.to_point_cloud(tmp_path / "a.ply", overwrite=True)
    with pytest.raises(InputError, match=r"stride=1\.5"):
        terrain().demsr.to_point_cloud(tmp_path / "b.ply", stride=1.5)
