"""What a file is like now: by that, an array that is read from it later is known to be the same.

Sizes, times and the tags that servers give; never passwords or signatures, and no pixel is read.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPMessage
from typing import Any
from urllib.error import HTTPError

from dask.base import tokenize

from xdemsr.io.paths import is_web, public

#: None where it cannot be told.
State = str | None

#: What file systems of fsspec say of an object that changes with it.
_CHANGING = (
    *("size", "mtime", "created", "ETag", "etag", "e_tag", "md5", "md5Hash", "content_md5"),
    *("LastModified", "last_modified", "updated", "generation", "VersionId", "version"),
)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_WAITS = (0.5, 1.0, 2.0)
_TIMEOUT_S = 30.0
#: Requests at once.
_AT_ONCE = 16


def state_of_file(path: str | os.PathLike[str]) -> State:
    """Of a file of this machine: name, time and size."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return tokenize("file", os.path.abspath(path), facts.st_mtime_ns, facts.st_size)


def state_of_folder(path: str | os.PathLike[str]) -> State:
    """Of all files in a folder and below."""
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in names:
            facts = os.stat(os.path.join(folder, name))
            place = os.path.relpath(os.path.join(folder, name), path)
            found.append((place, facts.st_mtime_ns, facts.st_size))
    return tokenize("folder", os.path.abspath(path), sorted(found))


def state_of_url(url: str) -> State:
    """What a web server says of a file: its tag, its date and its length; None if too little."""
    said = _asked(url)
    tags = [said.get(name) for name in ("ETag", "Last-Modified")]
    if not any(tags):
        return None
    length = str(said.get("Content-Range") or said.get("Content-Length")).rpartition("/")[2]
    return tokenize("url", public(url), tags, length)


def state_of_object(url: str, info: Mapping[str, Any]) -> State:
    """Of an object in a cloud, of which fsspec has told."""
    return tokenize("object", public(url), tidings(info))


def tidings(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What changes with an object, of all that is said of it."""
    # No dict: dask 2025.2 orders those differently in each process.
    return [(key, str(info[key])) for key in _CHANGING if info.get(key) is not None]


def state_of_files(paths: Iterable[str]) -> State:
    """Of several files, here or behind URLs, which a raster is made of."""
    here: list[State] = []
    urls = []
    for path in paths:
        url = _web(path)
        if url is not None:
            urls.append(url)
        else:
            here.append(state_of_file(path))
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        there = list(threads.map(state_of_url, urls))
    states = [*here, *there]
    return None if None in states else tokenize(states)


def _web(path: str) -> str | None:
    """The URL that is behind a path of GDAL."""
    url = path.removeprefix("/vsicurl/")
    return url if is_web(url) else None


def _asked(url: str) -> HTTPMessage | dict[str, str]:
    """Headers of a web server's answer to a question for one byte; none where it gives none."""
    # Not HEAD: a signed URL is signed for one method. Identity: not the length of what is packed.
    request = urllib.request.Request(
        url, headers={"Range": "bytes=0-0", "Accept-Encoding": "identity"}
    )
    for wait in (*_WAITS, None):
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return answer.headers  # type: ignore[no-any-return]
        except HTTPError as error:
            error.close()
            if error.code not in _PASSING:
                break
        except (OSError, HTTPException, ValueError):
            pass
        if wait is not None:
            time.sleep(wait)
    return {}
