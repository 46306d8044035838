"""Items: asked of an API, found in a catalog of files, or given."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdemsr.errors import InputError
from xdemsr.stac.hrefs import public, unsigned
from xdemsr.stac.retrying import PASSING, Patience, UnreachableError

if TYPE_CHECKING:
    import pystac
    from pystac_client import Client

Bounds = tuple[float, float, float, float]
_Times = tuple[datetime, datetime] | None


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes
    ----------
    collection : str or None
    bounds : (west, south, east, north) or None
    datetime : str or None
    ids : sequence of str or None
    query, filter : mapping or str or None
        As the API's extensions of these names take them.
    max_items : int or None
        More than this are an error.
    """

    collection: str | None
    bounds: Bounds | None
    datetime: Any = None
    ids: Sequence[str] | None = None
    query: Any = None
    filter: Any = None
    max_items: int | None = None

    def describe(self) -> str:
        """For messages."""
        said = {
            "collection": self.collection,
            "bbox": self.bounds and [round(edge, 6) for edge in self.bounds],
            "datetime": self.datetime,
            "ids": self.ids,
            "query": self.query,
            "filter": self.filter,
        }
        return ", ".join(f"{name}={value}" for name, value in said.items() if value is not None)


@dataclass(frozen=True)
class Found:
    """Items, and where they come from (without secrets)."""

    items: list[pystac.Item]
    url: str


def find_items(
    source: Any, asked: Query, patience: Patience, headers: Mapping[str, str] | None
) -> Found:
    """Items of an API, a catalog, or a list.

    Raises
    ------
    InputError
        If ``source`` is none of these, the collection is not there, or nothing is found.
    UnreachableError
        If the API does not answer.
    """
    pystac, client_type = _packages()
    times = _times(asked.datetime)
    if isinstance(source, str | Path):
        source, url = _opened(str(source), patience, headers), public(str(source))
    else:
        url = _self_href(source)
    if isinstance(source, client_type) and source.conforms_to("ITEM_SEARCH"):
        items = _searched(source, asked)
    else:
        with warnings.catch_warnings():
            # A client without a search walks through files, as it should.
            warnings.filterwarnings("ignore", message="Falling back to pystac")
            items = list(_static(source, asked, times, pystac))
    if not items:
        raise InputError(_nothing(source, asked, url))
    if asked.max_items is not None and len(items) > asked.max_items:
        raise InputError(
            f"{url or 'the catalog'} has more than max_items={asked.max_items} items for "
            f"{asked.describe()}; leaving some out would leave holes. Narrow the search, or raise "
            "max_items."
        )
    # Pages may repeat items. Items of lists may have the same id, and be others.
    unique = {(item.collection_id, item.id, *_files(item)): item for item in items}
    return Found(list(unique.values()), url)


def _files(item: pystac.Item) -> list[str]:
    return sorted(unsigned(asset.href) for asset in item.assets.values())


def _packages() -> tuple[Any, Any]:
    try:
        import pystac
        from pystac_client import Client
    except ImportError as error:
        raise InputError(
            "opening from a STAC needs pystac-client: pip install 'xdemsr[stac]'."
        ) from error
    return pystac, Client


def _opened(url: str, patience: Patience, headers: Mapping[str, str] | None) -> Any:
    """An API's client, or what a file holds."""
    import pystac
    import requests
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO
    from urllib3 import Retry

    retry = Retry(
        total=patience.retries,
        backoff_factor=0.5,
        status_forcelist=sorted(PASSING),
        allowed_methods=None,
    )
    stac_io = StacApiIO(headers=dict(headers or {}), timeout=patience.timeout, max_retries=retry)
    try:
        content = json.loads(stac_io.read_text(url))
        if "conformsTo" in content:
            return Client.open(url, stac_io=stac_io)
        kind = content.get("type")
        _check_whole(content, url)
        if kind == "FeatureCollection":
            return pystac.ItemCollection.from_dict(content)
        found: Any = stac_io.stac_object_from_dict(content, href=url, preserve_dict=False)
        found.set_self_href(url)
        if isinstance(found, pystac.Catalog):
            found.set_root(found)
            found._stac_io = stac_io
    except InputError:
        raise
    except (requests.RequestException, APIError) as error:
        raise _unanswered(url, error) from None
    except (OSError, ValueError, AttributeError, pystac.STACError, pystac.STACTypeError) as error:
        raise InputError(f"{public(url)} is no STAC API or catalog: {error}") from None
    return found


def _check_whole(content: Mapping[str, Any], url: str) -> None:
    """Refuse what an API answers in parts: a page of items, a collection without its items."""
    links = {link.get("rel"): str(link.get("href")) for link in content.get("links") or ()}
    if content.get("type") == "FeatureCollection" and "next" in links:
        what, there = "is one page of several", "the items of an API"
    elif content.get("type") == "Collection" and "items" in links:
        what, there = "is a collection of an API", f"the items of {content.get('id')!r}"
    else:
        return
    root = public(links.get("root", "the URL of the API"))
    raise InputError(
        f"{public(url)} {what}. For {there} give its own URL, and the id of the collection: "
        f"open_stac({root!r}, {content.get('id') or '...'!r}, ...)."
    )


def _searched(client: Client, asked: Query) -> list[Any]:
    import requests
    from pystac_client.exceptions import APIError

    more = None if asked.max_items is None else asked.max_items + 1
    url = str(client.get_self_href() or "")
    if asked.collection is None and asked.ids is None:
        raise InputError(f"say which collection of {public(url)}: open_stac(url, collection).")
    links = client.get_links("search")
    posts = any(str(link.extra_fields.get("method")).upper() == "POST" for link in links)
    try:
        # Where an API does not know a filter, all items would be taken.
        for asks, known in ((asked.query, "QUERY"), (asked.filter, "FILTER")):
            if asks is not None and not client.conforms_to(known):
                raise InputError(
                    f"{public(url)} does not answer {known.lower()}=. Choose among its items "
                    "yourself, and give those."
                )
        search = client.search(
            method="POST" if posts else "GET",
            collections=None if asked.collection is None else [asked.collection],
            bbox=asked.bounds,
            datetime=asked.datetime,
            ids=None if asked.ids is None else list(asked.ids),
            query=asked.query,
            filter=asked.filter,
            max_items=more,
        )
        return list(search.items())
    except (requests.RequestException, APIError) as error:
        raise _unanswered(url, error) from None


def _unanswered(url: str, error: Exception) -> InputError:
    status = getattr(error, "status_code", None)
    if status is None or status in PASSING:
        reason = f"HTTP status {status}" if status is not None else type(error).__name__
        return UnreachableError(
            f"{public(url)} did not answer ({reason}). Try later, or with more retries= and "
            "timeout=."
        )
    return InputError(f"{public(url)} answered with HTTP status {status}: {str(error)[:300]}")


def _static(source: Any, asked: Query, times: _Times, pystac: Any) -> Iterable[Any]:
    """Items of a catalog of files, or of a list, that are what is asked for."""
    if asked.query is not None or asked.filter is not None:
        raise InputError(
            "query= and filter= are for a STAC API, which answers them. Choose among the items of "
            "a catalog or a list yourself, and give those."
        )
    if isinstance(source, pystac.Catalog):
        items: Iterable[Any] = source.get_items(recursive=True)
    elif isinstance(source, pystac.Item):
        items = [source]
    elif isinstance(source, Iterable):
        items = source
    else:
        raise InputError(
            f"expected the URL of a STAC API or catalog, or items of pystac, got "
            f"{type(source).__name__}."
        )
    for item in items:
        if not isinstance(item, pystac.Item):
            raise InputError(f"expected items of pystac, got {type(item).__name__}.")
        if _fits(item, asked, times):
            yield item


def _fits(item: Any, asked: Query, times: _Times) -> bool:
    if asked.collection is not None and item.collection_id not in (None, asked.collection):
        return False
    if asked.ids is not None and item.id not in asked.ids:
        return False
    if asked.bounds is not None and item.bbox is not None:
        west, south, east, north = asked.bounds
        left, bottom, right, top = flat_bbox(item.bbox)
        if bottom >= north or top <= south or not _meet((west, east), (left, right)):
            return False
    if times is None:
        return True
    first, last = span_of(item)
    return first <= times[1] and last >= times[0]


def _meet(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether two stretches of longitude share one; from a larger to a smaller one crosses 180."""
    (west, east), (left, right) = (
        (start, stop + 360 if stop < start else stop) for start, stop in (first, second)
    )
    return any(left + turn < east and west < right + turn for turn in (-360, 0, 360))


def flat_bbox(bbox: Sequence[float]) -> Bounds:
    """West, south, east and north of a bbox that may have heights."""
    half = len(bbox) // 2
    return float(bbox[0]), float(bbox[1]), float(bbox[half]), float(bbox[half + 1])


def span_of(item: Any) -> tuple[datetime, datetime]:
    """When an item's data begin and end; an instant for most."""
    first = item.datetime or item.common_metadata.start_datetime
    last = item.datetime or item.common_metadata.end_datetime
    if first is None or last is None:
        raise InputError(f"item {item.id!r} has neither a datetime nor a start and an end.")
    return _aware(first), _aware(last)


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _times(said: Any) -> _Times:
    if said is None:
        return None
    from pystac.utils import str_to_datetime
    from pystac_client.item_search import ItemSearch

    # As an API would be asked: months and open ends are spelt out.
    try:
        spelt = ItemSearch("https://none", datetime=said).get_parameters()["datetime"]
    except Exception as error:  # It raises no other kind.
        raise InputError(
            f"datetime={said!r} cannot be used: {error}. Say a day, a month or a year as "
            "'2024-06', or two of them as '2024-06/2024-08'."
        ) from None
    first, _, last = str(spelt).partition("/")
    return (
        datetime.min.replace(tzinfo=UTC) if first == ".." else _aware(str_to_datetime(first)),
        datetime.max.replace(tzinfo=UTC)
        if last == ".."
        else _aware(str_to_datetime(last or first)),
    )


def _self_href(source: Any) -> str:
    getter = getattr(source, "get_self_href", None)
    return public(str(getter() or "")) if callable(getter) else ""


def _nothing(source: Any, asked: Query, url: str) -> str:
    """Why there may be no item: what was asked for, and what there is."""
    said = f"{url or 'the catalog'} has no item for {asked.describe() or 'any'}."
    try:
        return f"{said} {_extent(source, asked.collection)}".rstrip()
    except Exception:  # The message must not fail for want of a hint.
        return said


def _extent(source: Any, name: str | None) -> str:
    ids = [found.id for found in source.get_collections()]
    if name is not None and name not in ids:
        close = difflib.get_close_matches(name, ids, 5, 0.3) or sorted(ids)[:20]
        return f"There is no collection {name!r} there; there are {', '.join(map(repr, close))}."
    if name is None:
        return ""
    extent = next(found.extent for found in source.get_collections() if found.id == name)
    times = [str(when)[:10] if when else "now" for when in extent.temporal.intervals[0]]
    return (
        f"The collection reaches over {list(flat_bbox(extent.spatial.bboxes[0]))}, from "
        f"{' to '.join(times)}."
    )
