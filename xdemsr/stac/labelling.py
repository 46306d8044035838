"""What is said of an answer: unit, vertical datum, and where it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xdemsr.errors import InputError
from xdemsr.stac.assets import Asset, crs_name, crs_of
from xdemsr.stac.presets import Preset

if TYPE_CHECKING:
    import pystac

#: Ids of as many items are listed; of more, there is a count and a hash.
_LISTED = 16


def vertical_of(assets: Sequence[Asset], preset: Preset | None) -> str | None:
    """The name of the CRS of heights: as the items' CRS says, else as is known of the collection.

    Raises
    ------
    InputError
        If items have several.
    """
    found = {_vertical(asset.grid.crs) for asset in assets}
    if found == {None}:
        return None if preset is None or preset.vertical is None else f"EPSG:{preset.vertical}"
    if len(found) > 1:
        names = ", ".join(
            crs_of(name).name if name else "one not said" for name in sorted(found, key=str)
        )
        raise InputError(
            f"the heights of the items refer to different surfaces ({names}), and xdemsr does not "
            "transform heights. Open those with one of them."
        )
    return found.pop()


def _vertical(crs: str) -> str | None:
    parts = crs_of(crs).sub_crs_list
    return crs_name(parts[1]) if len(parts) > 1 else None


def compound(crs: str, vertical: str | None) -> str:
    """A horizontal CRS with heights, by its name."""
    if vertical is None:
        return crs
    from pyproj.crs import CompoundCRS

    across, up = crs_of(crs), crs_of(vertical)
    return crs_name(CompoundCRS(f"{across.name} + {up.name}", components=[across, up]))


def provenance(items: Sequence[pystac.Item], url: str, collection: str | None) -> dict[str, Any]:
    """Which items an answer is made of."""
    ids = sorted({item.id for item in items})
    names = {str(item.collection_id) for item in items if item.collection_id}
    attrs: dict[str, Any] = {
        "stac_url": url,
        "stac_collection": collection or ", ".join(sorted(names)),
        "stac_item_count": len(ids),
        "stac_items_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
    }
    if len(ids) <= _LISTED:
        attrs["stac_items"] = ", ".join(ids)
    return {key: value for key, value in attrs.items() if value != ""}
