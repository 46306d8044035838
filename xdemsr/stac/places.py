"""The grid of an answer: as asked for, like another raster's, or that of the items themselves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from xdemsr import grid
from xdemsr.errors import GridError, InputError
from xdemsr.stac.assets import Asset, Lattice, crs_name, crs_of, flat_crs
from xdemsr.stac.lattices import Bounds, Group
from xdemsr.window import Window

#: Points along each edge, where a place is taken from one CRS to another.
_POINTS = 101
_WORLD = "EPSG:4326"
#: Degrees around a place in which items are looked for.
_AROUND = 0.01


def bounds_in(bounds: Bounds, source: str, target: str) -> Bounds:
    """Bounds in another CRS, around all of the place, however its edges bend.

    Raises
    ------
    InputError
        If the place is beyond the other CRS.
    """
    from pyproj.exceptions import ProjError

    if flat_crs(source) == flat_crs(target):
        return bounds
    try:
        between = _transformer(flat_crs(source), flat_crs(target))
        found = between.transform_bounds(*bounds, densify_pts=_POINTS, errcheck=True)
    except ProjError as error:
        raise InputError(
            f"the place {list(bounds)} cannot be put on the map of {crs_of(target).name}: {error}"
        ) from None
    west, south, east, north = found
    return west, south, east, north


def bounds_over(bounds: Bounds, source: str, target: str) -> Bounds:
    """Bounds in another CRS, counted on beyond 180 degrees where they cross the antimeridian."""
    left, bottom, right, top = bounds_in(bounds, source, target)
    if right < left and crs_of(target).is_geographic:
        right += 360
    return left, bottom, right, top


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


def world_bounds(
    bbox: Sequence[float] | None, intersects: Any, like: Lattice | None
) -> Bounds | None:
    """What is looked for, as west, south, east and north in degrees; None where nothing is said.

    Raises
    ------
    InputError
        If it is no such thing, or crosses the antimeridian.
    """
    if bbox is not None and intersects is not None:
        raise InputError("say either bbox= or intersects=, not both.")
    if intersects is not None:
        bbox = _around(intersects)
    if bbox is None:
        return None if like is None else bounds_in(like.bounds, like.crs, _WORLD)
    try:
        west, south, east, north = (float(edge) for edge in bbox)
    except (TypeError, ValueError):
        west = south = east = north = math.nan
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise InputError(
            f"bbox={list(bbox)} must be west, south, east, north in degrees, the west smaller than "
            "the east and the south than the north. Open what lies on both sides of the "
            "antimeridian in two parts."
        )
    return west, south, east, north


def _around(geometry: Any) -> Bounds:
    points = list(_points(getattr(geometry, "__geo_interface__", geometry)))
    if not points:
        raise InputError(f"intersects={geometry!r} must be a geometry as GeoJSON has it.")
    x, y = zip(*points, strict=True)
    return min(x), min(y), max(x), max(y)


def _points(said: Any) -> Iterator[tuple[float, float]]:
    """Every point of a geometry, a feature, or several."""
    if isinstance(said, Mapping):
        for key in ("geometry", "features", "geometries", "coordinates"):
            yield from _points(said.get(key))
    elif isinstance(said, list | tuple):
        if len(said) >= 2 and all(isinstance(number, int | float) for number in said):
            yield float(said[0]), float(said[1])
        else:
            for part in said:
                yield from _points(part)


def lattice_like(like: Any) -> Lattice:
    """The pixels of a GeoBox, an array or a dataset."""
    geobox = like if isinstance(like, GeoBox) else grid.of(like).geobox
    if geobox.crs is None:
        raise InputError("like= has no CRS. Say it: da.rio.write_crs(...).")
    if geobox.affine.b or geobox.affine.d:
        raise GridError("like= is rotated; xdemsr needs rows and columns along the CRS's axes.")
    shape = (int(geobox.shape[0]), int(geobox.shape[1]))
    return Lattice(shape, tuple(geobox.affine)[:6], flat_crs(crs_name(geobox.crs)))


def answer_lattice(
    groups: Sequence[Group], bounds: Bounds | None, crs: Any, resolution: float | None
) -> Lattice:
    """Pixels of an answer that is not to be like another raster.

    Without a CRS and a resolution they are those of the items, the finest where they differ.

    Raises
    ------
    InputError
        If items lie in several CRSs and none is asked for, or only one of CRS and resolution is
        and the other does not follow.
    """
    counts = Counter(found.crs for found in groups for _ in found.pieces)
    if crs is None and len(counts) > 1:
        raise InputError(
            f"the items lie in several CRSs ({_counted(counts)}). Choose one: crs="
            f"{counts.most_common(1)[0][0]!r}."
        )
    wanted = _asked_crs(crs, bounds, groups)
    finest = min(groups, key=lambda found: (math.prod(found.pixel_size), found.lattice.transform))
    around = _around_all(groups, bounds, wanted)
    if wanted == finest.crs and resolution is None:
        return finest.cut(finest.covering(around)).lattice
    if resolution is None:
        raise InputError(
            f"say the pixel size in the unit of {crs_of(wanted).name}: resolution="
            f"{_alike(finest, around, wanted):.3g} is about that of the items."
        )
    if isinstance(resolution, bool | str) or not 0 < resolution < math.inf:
        raise InputError(f"resolution={resolution!r} must be the size of a pixel: a number.")
    return _anchored(around, float(resolution), wanted)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} in {name}" for name, count in counts.most_common())


def _asked_crs(crs: Any, bounds: Bounds | None, groups: Sequence[Group]) -> str:
    if crs is None:
        return groups[0].crs
    if isinstance(crs, str) and crs.lower() == "utm":
        from odc.geo import CRS

        west, south, east, north = bounds or _around_all(groups, None, _WORLD)
        return crs_name(CRS.utm((west + east) / 2, (south + north) / 2))
    return flat_crs(crs_name(f"EPSG:{crs}" if isinstance(crs, int) else crs))


def _around_all(groups: Sequence[Group], bounds: Bounds | None, crs: str) -> Bounds:
    """What was asked for, or all items, in a CRS."""
    if bounds is not None:
        return bounds_in(bounds, _WORLD, crs)
    corners = [
        bounds_over(found.cut(found.window).lattice.bounds, found.crs, crs) for found in groups
    ]
    west, south, east, north = zip(*corners, strict=True)
    return min(west), min(south), max(east), max(north)


def _alike(finest: Group, around: Bounds, crs: str) -> float:
    """The size of a pixel of a group in another CRS, in the middle of a place."""
    x, y = (around[0] + around[2]) / 2, (around[1] + around[3]) / 2
    point = bounds_in((x, y, x, y), crs, finest.crs)
    height, width = finest.pixel_size
    left, bottom, right, top = bounds_in(
        (point[0] - width / 2, point[1] - height / 2, point[0] + width / 2, point[1] + height / 2),
        finest.crs,
        crs,
    )
    return math.sqrt((right - left) * (top - bottom))


def _anchored(around: Bounds, step: float, crs: str) -> Lattice:
    """Pixels whose edges are whole multiples of their size."""
    left, bottom, right, top = around
    # What is off by rounding alone makes no pixel of its own.
    slack = 1e-6
    first, last = math.floor(left / step + slack), math.ceil(right / step - slack)
    low, high = math.floor(bottom / step + slack), math.ceil(top / step - slack)
    shape = (max(high - low, 1), max(last - first, 1))
    return Lattice(shape, (step, 0.0, first * step, 0.0, -step, high * step), crs)


def touching(lattice: Lattice, groups: Sequence[Group], margin: int) -> set[Asset]:
    """The assets that lie where an answer does, or so many of their pixels from there."""
    kept: set[Asset] = set()
    for found in groups:
        around = found.covering(bounds_over(lattice.bounds, lattice.crs, found.crs))
        kept.update(piece.asset for piece in found.cut(around.pad(margin).padded).pieces)
    return kept


def check_turns(bounds: Bounds | None, groups: Sequence[Group]) -> None:
    """Refuse a place of which rasters in degrees hold a part a whole turn away.

    Raises
    ------
    InputError
        If a raster reaches beyond the antimeridian, or the place does and the rasters do not.
    """
    if bounds is None:
        return
    west, south, east, north = bounds
    east += 360 if east < west else 0
    for found in groups:
        if not crs_of(found.crs).is_geographic:
            continue
        for turn in (-360, 360):
            around = found.covering((west + turn, south, east + turn, north))
            # Tiles may lie half a pixel beyond the antimeridian.
            beyond = [p for p in found.pieces if _columns(p.window.intersect(around)) > 1]
            if beyond:
                left, _, right, _ = beyond[0].asset.grid.bounds
                raise InputError(
                    f"what is asked for, {west:g} to {east:g} degrees east, is in part "
                    f"{beyond[0].asset.named}, whose columns are counted from {left:g} to "
                    f"{right:g}: the antimeridian lies between. Open what lies on each side of it "
                    "by itself; a raster that crosses it is to be cut in two there: gdalwarp -te."
                )


def _columns(window: Window) -> int:
    return window.x.size if window.y.size > 0 else 0


def widened(bounds: Bounds | None) -> Bounds | None:
    """With what interpolation at the edges may need, about a kilometre."""
    if bounds is None:
        return None
    west, south, east, north = bounds
    around = west - _AROUND, south - _AROUND, east + _AROUND, north + _AROUND
    return max(around[0], -180), max(around[1], -90), min(around[2], 180), min(around[3], 90)


def template_of(lattice: Lattice, crs: str) -> xr.Dataset:
    """Coordinates of a grid, its CRS and its transform; no variables."""
    like = xr.Dataset(coords={"y": ("y", [0.0]), "x": ("x", [0.0])})
    like = like.rio.write_crs(crs).rio.write_coordinate_system()
    geobox = GeoBox(lattice.shape, Affine(*lattice.transform), crs_of(crs).to_wkt())
    found = grid.Grid("y", "x", geobox, grid_mapping="spatial_ref")
    return xr.Dataset(coords=found.coordinates(like))


def raster_on(data: Any, lattice: Lattice) -> xr.DataArray:
    """An array with the coordinates of its grid."""
    return labelled(data, template_of(lattice, lattice.crs))


def labelled(data: Any, template: xr.Dataset) -> xr.DataArray:
    """An array with the coordinates of a template."""
    y_dim, x_dim = grid.spatial_dims(template)
    array = xr.DataArray(data, dims=(y_dim, x_dim), coords=template.coords)
    array.name = None
    mapping = grid.of(template).grid_mapping
    if mapping is not None:
        array.encoding["grid_mapping"] = mapping
    return array


def with_crs(like: Any, lattice: Lattice, crs: str) -> xr.Dataset:
    """Coordinates of a raster as they are, to the last bit, with a CRS that tells heights too."""
    if isinstance(like, GeoBox):
        return template_of(lattice, crs)
    y_dim, x_dim = grid.spatial_dims(like)
    found = grid.of(like)
    if not found.labelled:
        return template_of(lattice, crs)
    names = [name for name in (y_dim, x_dim, found.grid_mapping) if name is not None]
    template = xr.Dataset(coords={name: like.coords[name].variable for name in names})
    if flat_crs(crs) == crs:
        return template
    written = template.rio.write_crs(crs, grid_mapping_name=found.grid_mapping)
    placed: xr.Dataset = written.rio.write_transform(
        found.geobox.affine, grid_mapping_name=found.grid_mapping or "spatial_ref"
    )
    return placed
