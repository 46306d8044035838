"""Which asset of an item, and which band in it, is meant by a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xdemsr.errors import InputError

if TYPE_CHECKING:
    import pystac

#: Assets that are no data.
_ASIDE = {"thumbnail", "overview", "metadata", "visual"}
_RASTERS = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-geotiff")


def find_band(item: pystac.Item, name: str) -> tuple[str, int]:
    """Key of the asset, and number of the band in it (from 1).

    The name is that of an asset, or of a band, or a band's common name; of assets that several
    bands share with others, the one with the fewest.

    Raises
    ------
    InputError
        If there is none, or several.
    """
    if name in item.assets:
        inside = _bands(item.assets[name])
        if len(inside) > 1:
            raise InputError(
                f"asset {name!r} of item {item.id!r} has {len(inside)} bands; ask for one by its "
                f"own name. The item has {_there(item)}."
            )
        return name, 1
    found = [
        (len(bands), key, index)
        for key, asset in item.assets.items()
        if _is_data(asset)
        for bands in [_bands(asset)]
        for index, band in enumerate(bands, 1)
        if name in (band.get("name"), band.get("common_name"), band.get("eo:common_name"))
    ]
    fewest = [place for place in found if place[0] == min(found)[0]]
    if len(fewest) == 1:
        return fewest[0][1:]
    if fewest:
        raise InputError(
            f"item {item.id!r} has the band {name!r} in several assets: "
            f"{', '.join(repr(key) for _, key, _ in fewest)}. Ask for one of them."
        )
    raise InputError(f"item {item.id!r} has no band {name!r}; it has {_there(item)}.")


def default_bands(item: pystac.Item) -> tuple[str, ...]:
    """The only asset that is a raster of data.

    Raises
    ------
    InputError
        If there are none, or several.
    """
    keys = [key for key, asset in item.assets.items() if _is_data(asset) and _is_raster(asset)]
    if len(keys) == 1:
        return (keys[0],)
    raise InputError(f"say which bands: bands=...; item {item.id!r} has {_there(item)}.")


def band_attrs(item: pystac.Item, key: str, band: int) -> dict[str, Any]:
    """What is said of a band that holds of its numbers: unit, name, classes."""
    asset = item.assets[key]
    extra = asset.extra_fields
    said: dict[str, Any] = dict(extra)
    for name in ("raster:bands", "bands"):
        bands = extra.get(name) or []
        if len(bands) >= band:
            said.update(bands[band - 1])
    attrs: dict[str, Any] = {}
    if said.get("unit"):
        unit = str(said["unit"])
        attrs["units"] = "m" if unit.lower() in ("metre", "meter", "metres", "meters") else unit
    if asset.title:
        attrs["long_name"] = asset.title
    classes = said.get("classification:classes")
    if classes:
        # By these, no class is ever mixed with another.
        attrs["flag_values"] = [entry["value"] for entry in classes]
        names = (entry.get("name") or entry.get("description") or "" for entry in classes)
        attrs["flag_meanings"] = " ".join(str(name).replace(" ", "_") for name in names)
    return attrs


def _bands(asset: pystac.Asset) -> list[dict[str, Any]]:
    return asset.extra_fields.get("eo:bands") or asset.extra_fields.get("bands") or []


def _is_data(asset: pystac.Asset) -> bool:
    return not _ASIDE & set(asset.roles or ())


def _is_raster(asset: pystac.Asset) -> bool:
    kind = str(asset.media_type or "").lower()
    return kind.startswith(_RASTERS) if kind else asset.href.lower().endswith((".tif", ".tiff"))


def _there(item: pystac.Item) -> str:
    """Assets, and the bands in those that say, for messages."""
    parts = []
    for key, asset in item.assets.items():
        names = [
            str(band.get("common_name") or band.get("eo:common_name") or band.get("name"))
            for band in _bands(asset)
            if band.get("common_name") or band.get("eo:common_name") or band.get("name")
        ]
        shown = [name for name in names if name != key]
        parts.append(repr(key) + (f" ({', '.join(shown)})" if shown else ""))
    return ", ".join(parts) or "no assets"
