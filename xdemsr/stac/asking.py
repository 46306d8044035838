"""The arguments of a call, checked and completed by what is known of the collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from xdemsr.errors import InputError
from xdemsr.stac.bands import default_bands, find_band
from xdemsr.stac.pasting import Sizes, regular_chunks
from xdemsr.stac.presets import Preset
from xdemsr.stac.retrying import Patience

if TYPE_CHECKING:
    import pystac

_CHOICES = {
    "resampling": ("auto", "nearest", "bilinear", "cubic", "average"),
    "mosaic": ("all", "day"),
    "overlap": ("auto", "blend", "newest", "least cloudy"),
    "metadata": ("auto", "checked", "header"),
}
_PLANETARY = "planetarycomputer.microsoft.com"


def check_choices(**chosen: str) -> None:
    """Refuse what is none of the choices of an argument.

    Raises
    ------
    InputError
        If one is not.
    """
    for name, value in chosen.items():
        if value not in _CHOICES[name]:
            raise InputError(f"{name}={value!r} is not one of {', '.join(_CHOICES[name])}.")


def check_place(like: Any, *others: Any) -> None:
    """Refuse two grids for one answer.

    Raises
    ------
    InputError
        If ``like`` is given beside others.
    """
    if like is not None and any(other is not None for other in others):
        raise InputError(
            "like= is a whole grid; leave out crs=, resolution=, bbox= and intersects=."
        )


def patience_of(retries: Any, timeout: Any) -> Patience:
    """How often things are tried, and how long they may take.

    Raises
    ------
    InputError
        If the numbers make no sense.
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise InputError(f"retries={retries!r} must be a whole number, 0 or more.")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise InputError(f"timeout={timeout!r} must be seconds, more than 0.")
    return Patience(retries, float(timeout))


def chunk_sizes(chunks: Any, shape: tuple[int, int]) -> Sizes | None:
    """Chunks as asked for; None for automatic ones.

    Raises
    ------
    InputError
        If they are no sizes.
    """
    if chunks == "auto":
        return None
    pair = chunks if isinstance(chunks, tuple | list) else (chunks, chunks)
    if len(pair) != 2 or not all(
        isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in pair
    ):
        raise InputError(f"chunks={chunks!r} must be 'auto', a number of pixels, or (ny, nx).")
    return regular_chunks(shape, (pair[0], pair[1]))


def only_collection(items: Sequence[pystac.Item]) -> str:
    """The id of the collection of all items; empty where they have none, or several."""
    names = {item.collection_id for item in items}
    return str(names.pop() or "") if len(names) == 1 else ""


def with_properties(items: list[pystac.Item], preset: Preset | None) -> list[pystac.Item]:
    """Of a collection that holds every place several times, the items that are meant.

    Raises
    ------
    InputError
        If there are none.
    """
    if preset is None or not preset.where:
        return items
    kept = [
        item
        for item in items
        if all(item.properties.get(name) == value for name, value in preset.where.items())
    ]
    if not kept:
        raise InputError(
            f"none of the {len(items)} items found has {dict(preset.where)}. Say which ones are "
            "meant: query=..."
        )
    return kept


def band_names(
    bands: str | Sequence[str] | None, item: pystac.Item, preset: Preset | None
) -> tuple[str, ...]:
    """The bands asked for, or those known of the collection, or the only one.

    Raises
    ------
    InputError
        If none is asked for where there are several, or one is asked for twice.
    """
    if bands is None:
        if preset is not None:
            return preset.bands
        return default_bands(item)
    names = (bands,) if isinstance(bands, str) else tuple(bands)
    if not names or len(set(names)) < len(names):
        raise InputError(f"bands={bands!r} must be names, each of them once.")
    for name in names:
        find_band(item, name)
    return names


def is_planetary(url: str, items: Sequence[pystac.Item]) -> bool:
    """Whether items are the Planetary Computer's, whose files are read with its tokens."""
    hosts = (urlsplit(address).netloc for address in (url, items[0].get_self_href() or ""))
    return _PLANETARY in hosts
