"""Items turned into assets whose grids are known: by their metadata, or by their files' headers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from xdemsr.errors import InputError
from xdemsr.stac.assets import Asset, asset_of
from xdemsr.stac.bands import band_attrs, find_band
from xdemsr.stac.lattices import check_axes
from xdemsr.stac.places import bounds_in
from xdemsr.stac.presets import Metadata, Preset
from xdemsr.stac.reading import Header, Reader, check_header
from xdemsr.stac.search import flat_bbox, span_of
from xdemsr.units import metres_in

if TYPE_CHECKING:
    import pystac

Order = Literal["auto", "blend", "newest", "least cloudy"]

#: Files of each band that are compared with their metadata when opening, at most; the others are
#: when they are read. And headers that are read at a time.
_COMPARED, _AT_ONCE = 4, 8
#: How much of an item's own bbox its raster must cover.
_COVERED = 0.5
#: The sun moves so fast.
_SECONDS_PER_DEGREE = 240


@dataclass(frozen=True)
class Scene:
    """One band of an item, and when it was seen."""

    item: pystac.Item
    asset: Asset

    @property
    def attrs(self) -> dict[str, Any]:
        """What its item says of the numbers: unit, name, classes."""
        return band_attrs(self.item, self.asset.key, self.asset.band)


def scenes_of(
    items: Sequence[pystac.Item],
    band: str,
    preset: Preset | None,
    reader: Reader,
    metadata: Metadata,
    signs: bool,
) -> list[Scene]:
    """One band of items; some headers are read, all where items do not tell their grids.

    Raises
    ------
    InputError
        If an item has no such band, or its file is not what its metadata says.
    """
    scenes = []
    for item in items:
        key, number = find_band(item, band)
        scenes.append(Scene(item, asset_of(item, key, number, preset, signs)))
    asked = [metadata == "header" or scene.asset.lattice is None for scene in scenes]
    known = [k for k, ask in enumerate(asked) if not ask]
    for k in known:
        _check_footprint(scenes[k])
    step = max(1, -(-len(known) // _COMPARED))
    compared = set(known[::step])
    wanted = [scene for k, scene in enumerate(scenes) if asked[k] or k in compared]
    headers = iter(_parallel(lambda scene: reader.header(scene.asset), wanted))
    answers = []
    for k, scene in enumerate(scenes):
        asset = scene.asset
        if asked[k]:
            asset = _as_the_file_says(asset, next(headers), metadata == "header")
        elif k in compared:
            check_header(asset, next(headers))
        check_axes(asset)
        answers.append(Scene(scene.item, asset))
    return answers


def ordered(scenes: Sequence[Scene], order: Order) -> list[Scene]:
    """Scenes in an order that does not depend on how they were given: the preferred one first."""
    ranked = sorted(scenes, key=lambda s: (str(s.item.collection_id), s.item.id, s.asset.key))
    if order == "blend":
        return ranked
    ranked.sort(key=lambda scene: span_of(scene.item)[1], reverse=True)
    if order == "least cloudy":
        ranked.sort(key=lambda scene: _clouds(scene.item))
    return ranked


def _clouds(item: pystac.Item) -> float:
    """Per cent; more than all where it is not known."""
    said = item.properties.get("eo:cloud_cover")
    return float(said) if isinstance(said, int | float) else 101.0


def unit_of(band: str, scenes: Sequence[Scene]) -> str | None:
    """The unit of all scenes; None where no item says one.

    Raises
    ------
    InputError
        If items say several.
    """
    said = {unit: scene for scene in scenes if (unit := scene.attrs.get("units")) is not None}
    if len({metres_in(unit) or unit for unit in said}) > 1:
        first, second = sorted(said)[:2]
        raise InputError(
            f"the items do not hold {band!r} in one unit: {said[first].asset.named} says "
            f"{first!r}, and {said[second].asset.named} {second!r}. Open those of each unit by "
            "themselves, convert them, and join them."
        )
    return min(said, default=None)


def automatic_order(items: Sequence[pystac.Item]) -> Order:
    """Images, which tell how cloudy they are, are chosen among; surfaces are blended."""
    cloudy = all("eo:cloud_cover" in item.properties for item in items)
    return "least cloudy" if cloudy else "blend"


def by_day(
    scenes: Sequence[Scene], items: Sequence[pystac.Item]
) -> list[tuple[datetime, list[Scene]]]:
    """Scenes of each solar day on which there were items, and when the first of those was."""
    days: dict[Any, list[Scene]] = {}
    for scene in scenes:
        days.setdefault(_solar_day(scene.item), []).append(scene)
    firsts: dict[Any, datetime] = {}
    for item in items:
        day, when = _solar_day(item), span_of(item)[0]
        firsts[day] = min(firsts.get(day, when), when)
    return [(firsts[day], days.get(day, [])) for day in sorted(firsts)]


def _solar_day(item: pystac.Item) -> date:
    west, _, east, _ = flat_bbox(item.bbox or (0.0, 0.0, 0.0, 0.0))
    east += 360 if east < west else 0
    local = timedelta(seconds=_SECONDS_PER_DEGREE * (west + east) / 2)
    return (span_of(item)[0] + local).date()


def _as_the_file_says(asset: Asset, header: Header, believed: bool) -> Asset:
    """What the metadata leaves open, or all of it, from the file's header."""
    if asset.band > len(header.dtypes):
        raise InputError(f"{asset.named} has {len(header.dtypes)} bands, and no band {asset.band}.")
    if not header.lattice.crs:
        raise InputError(
            f"{asset.named} has no CRS, and its metadata is not taken. Ask who keeps the catalog "
            "to add proj:code, proj:shape and proj:transform."
        )
    k = asset.band - 1
    asset = replace(asset, lattice=header.lattice)
    scale, offset = header.packing[k]
    open_to_it = asset.scale is None or (believed and not asset.scale_is_known)
    if open_to_it and (scale, offset) != (1.0, 0.0):
        asset = replace(asset, scale=scale, offset=offset)
    if not believed:
        check_header(asset, header)
        return asset
    nodata = asset.nodata if header.nodata[k] is None else header.nodata[k]
    return replace(asset, dtype=header.dtypes[k], nodata=nodata)


def _check_footprint(scene: Scene) -> None:
    """Refuse a raster that lies elsewhere than the item says it does."""
    if scene.item.bbox is None:
        return
    west, south, east, north = flat_bbox(scene.item.bbox)
    lattice = scene.asset.grid
    left, bottom, right, top = bounds_in(lattice.bounds, lattice.crs, "EPSG:4326")
    if west >= east or south >= north or left >= right:
        return  # Across the antimeridian, or a point.
    wide, high = min(east, right) - max(west, left), min(north, top) - max(south, bottom)
    if max(wide, 0) * max(high, 0) < _COVERED * (east - west) * (north - south):
        raise InputError(
            f"the metadata of {scene.asset.named} contradicts itself: its bbox is "
            f"{[west, south, east, north]}, and its raster ({lattice.describe()}) covers "
            f"{[round(edge, 6) for edge in (left, bottom, right, top)]}. Take the file's own word: "
            "metadata='header'."
        )


def _parallel(function: Callable[[Scene], Header], scenes: Sequence[Scene]) -> list[Header]:
    if not scenes:
        return []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(function, scenes))
