"""A band of an item: where its pixels are and how its numbers are stored, as its metadata says."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine

from xdemsr.errors import GridError, InputError
from xdemsr.stac.hrefs import gdal_path, is_signed, public, unsigned
from xdemsr.stac.presets import Preset, Reflectance

if TYPE_CHECKING:
    import pystac

#: Two places of a corner may be this far apart, in pixels, to be one.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Lattice:
    """Pixels in the world: shape (ny, nx), the six numbers of an affine, and a CRS by its name."""

    shape: tuple[int, int]
    transform: tuple[float, ...]
    crs: str

    @property
    def affine(self) -> Affine:
        """From (column, row) to (x, y)."""
        return Affine(*self.transform)

    @property
    def rising(self) -> bool:
        """Whether the first row is the southernmost."""
        return self.transform[4] > 0

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Outer edges: left, bottom, right, top."""
        ny, nx = self.shape
        a, _, left, _, e, top = self.transform
        ys = sorted((top, top + ny * e))
        return left, ys[0], left + nx * a, ys[1]

    def north_up(self) -> Lattice:
        """The same pixels, the northernmost row first."""
        if not self.rising:
            return self
        a, b, left, d, e, bottom = self.transform
        return replace(self, transform=(a, b, left, d, -e, bottom + self.shape[0] * e))

    def is_at(self, other: Lattice) -> bool:
        """Whether both have the same pixels, to a hundredth of one; their CRSs are not asked."""
        if self.shape != other.shape:
            return False
        ny, nx = self.shape
        corners = [(0, 0), (nx, 0), (0, ny), (nx, ny)]
        # In pixels of the other, so that units do not matter.
        back = ~other.affine
        off = (np.subtract(back * (self.affine * corner), corner) for corner in corners)
        return all(np.abs(distance).max() <= TOLERANCE for distance in off)

    def describe(self) -> str:
        """For messages."""
        ny, nx = self.shape
        crs = self.crs if len(self.crs) < 20 else crs_of(self.crs).name
        return f"{ny} x {nx} pixels, transform {list(self.transform)}, {crs}"


@dataclass(frozen=True)
class Asset:
    """One band of one item's file.

    ``None`` is what the metadata does not say, and the file's header is asked for.
    """

    item: str
    key: str
    href: str
    band: int = 1
    lattice: Lattice | None = None
    dtype: str | None = None
    nodata: float | None = None
    scale: float | None = None
    offset: float = 0.0
    #: Whether these are known of the collection, whatever the file says.
    scale_is_known: bool = False
    #: What tells this version of the file from another.
    version: str = ""

    @property
    def grid(self) -> Lattice:
        """Its lattice, which is known by now."""
        if self.lattice is None:
            raise GridError(f"the grid of {self.named} is not known.")
        return self.lattice

    @property
    def named(self) -> str:
        """For messages."""
        return f"asset {self.key!r} of item {self.item!r} ({public(self.href)})"


def asset_of(item: pystac.Item, key: str, band: int, preset: Preset | None, signs: bool) -> Asset:
    """What an item says of one band of one of its assets.

    Raises
    ------
    InputError
        If its address holds a signature and nothing signs it anew, or what it says is nonsense.
    """
    asset = item.assets[key]
    href = asset.get_absolute_href() or asset.href
    if is_signed(href) and not signs:
        raise InputError(
            f"asset {key!r} of item {item.id!r} has a signature in its address "
            f"({public(href)}?...), which would end up in the graph and expire there. Open "
            "unsigned items, and say how to sign when reading: sign='planetary-computer', or a "
            "function from an address to the address that may be read."
        )
    fields = _fields(item, key, band)
    reflectance = None if preset is None else preset.reflectance
    nodata = _number(fields.get("nodata"))
    scale, offset = _number(fields.get("scale")), _number(fields.get("offset")) or 0.0
    if scale is None and offset:
        scale = 1.0
    known = reflectance is not None and _is_reflectance(asset, key)
    if reflectance is not None and known:
        scale, offset = _unshifted(reflectance, item.properties, scale, offset)
        nodata = reflectance.nodata if nodata is None else nodata
    return Asset(
        item=item.id,
        key=key,
        href=unsigned(href),
        band=band,
        lattice=_lattice(fields, item.id, key),
        dtype=_dtype(fields.get("data_type")),
        nodata=nodata,
        scale=scale,
        offset=offset,
        scale_is_known=known,
        version=_version(href, fields),
    )


@lru_cache(maxsize=64)
def crs_of(name: str) -> Any:
    """The CRS of pyproj by its name."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(name)
    except CRSError as error:
        raise InputError(f"{name!r} is not a CRS: {error}") from None


@lru_cache(maxsize=256)
def crs_name(crs: Any) -> str:
    """The shortest name of a CRS of any kind: its EPSG code, else its WKT."""
    # GDAL's WKT of a code is not pyproj's to the letter; 70 is pyproj's own default.
    found = crs_of(crs if isinstance(crs, str) else str(crs.to_wkt()))
    code = found.to_epsg()
    return f"EPSG:{code}" if code is not None else str(found.to_wkt())


@lru_cache(maxsize=64)
def flat_crs(name: str) -> str:
    """The name of the horizontal part of a CRS."""
    return crs_name((crs_of(name).sub_crs_list or [crs_of(name)])[0])


def _fields(item: pystac.Item, key: str, band: int) -> dict[str, Any]:
    """Everything said of a band, what is nearest to it last: item, asset, band."""
    asset = item.assets[key]
    extra = asset.extra_fields
    merged: dict[str, Any] = {}
    said: list[Mapping[str, Any]] = [item.properties, extra]
    for name in ("raster:bands", "bands"):
        bands = extra.get(name) or []
        if len(bands) >= band:
            said.append(bands[band - 1])
    for mapping in said:
        # A CRS near the band replaces another spelling of one farther off.
        if any(mapping.get(name) for name in _CRS_FIELDS):
            for name in _CRS_FIELDS:
                merged.pop(name, None)
        for name, value in mapping.items():
            if value is not None:
                merged[name.removeprefix("raster:") if name in _RASTER_FIELDS else name] = value
    return merged


_CRS_FIELDS = ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")
#: Version 2 of the extension: no longer in a list of their own.
_RASTER_FIELDS = ("raster:scale", "raster:offset")


def _version(href: str, fields: Mapping[str, Any]) -> str:
    """What changes when a file does, as far as that is known without asking its server."""
    said = [str(fields.get(name, "")) for name in ("file:checksum", "file:size", "updated")]
    path = gdal_path(href)
    if os.path.exists(path):
        facts = os.stat(path)
        said += [str(facts.st_mtime_ns), str(facts.st_size)]
    return "|".join(said)


def _lattice(fields: Mapping[str, Any], item: str, key: str) -> Lattice | None:
    shape, transform = fields.get("proj:shape"), fields.get("proj:transform")
    crs = next((fields[name] for name in _CRS_FIELDS if fields.get(name)), None)
    if shape is None or transform is None or crs is None:
        return None
    try:
        numbers = tuple(float(value) for value in transform)[:6]
        ny, nx = (int(value) for value in shape)
        found = _crs(crs)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the metadata of item {item!r}, asset {key!r}, cannot be used: proj:shape={shape}, "
            f"proj:transform={transform} ({error}). Take the file's own word: metadata='header'."
        ) from None
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)) or ny < 1 or nx < 1:
        return None
    return Lattice((ny, nx), numbers, found)


def _crs(said: Any) -> str:
    if isinstance(said, Mapping):
        from pyproj import CRS

        return crs_name(CRS.from_json_dict(dict(said)))
    return crs_name(f"EPSG:{said}" if isinstance(said, int) else str(said))


def _unshifted(
    known: Reflectance, properties: Mapping[str, Any], scale: float | None, offset: float
) -> tuple[float, float]:
    """Scale and offset of reflectances, of which items say what the files do not hold."""
    scale = known.scale if scale is None else scale
    name, first = known.baseline
    baseline = _number(properties.get(name))
    if properties.get(known.applied) is True:
        return scale, 0.0
    if baseline is None:
        return scale, offset
    return scale, known.shift if baseline >= first else 0.0


def _is_reflectance(asset: pystac.Asset, key: str) -> bool:
    if "reflectance" in (asset.roles or ()):
        return True
    extra = asset.extra_fields
    bands = extra.get("eo:bands") or extra.get("bands") or []
    # The picture in true colours has three, of eight bits.
    return len(bands) == 1 and key.lower() not in ("visual", "scl", "aot", "wvp")


def _number(said: Any) -> float | None:
    if said is None or isinstance(said, bool):
        return None
    try:
        return float(said)
    except (TypeError, ValueError):
        return None


def _dtype(said: Any) -> str | None:
    """A type by numpy's name; complex whole numbers and the like are left to the header."""
    try:
        return None if said is None else np.dtype(said).name
    except TypeError:
        return None
