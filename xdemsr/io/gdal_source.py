"""Pixels of files that GDAL reads: on the worker, tried again, and those of the file opened."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError, RasterioIOError

from xdemsr.io.paths import is_remote, is_web, public, redacted
from xdemsr.io.remote import filesystem
from xdemsr.io.rights import Rights
from xdemsr.io.states import State, state_of_files, state_of_object

#: GDAL's names for clouds.
CLOUDS = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}

#: Seconds before what failed otherwise, an answer that broke off, is read again.
_WAITS = (0.5, 1.0)
#: Seconds after which a server is asked again whether a file is what it was.
_ASK_AGAIN_S = 30.0
#: Files that are kept open for another read, at most.
_KEPT = 64

_lock = threading.Lock()
#: Open files that nobody reads from, by path, state and failures; GDAL shares none between threads.
_free: OrderedDict[tuple[str, str, int], list[Any]] = OrderedDict()
#: How often reading has failed in this process, by path.
_failures: dict[str, int] = {}
#: When the state of an origin was asked for, and what it was.
_asked: dict[tuple[str, ...], tuple[float, State]] = {}


@dataclass(frozen=True)
class Origin:
    """Where a file is, and how its state is asked for.

    Attributes
    ----------
    url : str
    files : tuple of str
        What it consists of, as far as GDAL knows.
    storage_options : mapping or None
        Of the file system that fsspec finds for a URL.
    """

    url: str = field(repr=False)
    files: tuple[str, ...] = field(default=(), repr=False)
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine alone."""
        return not is_remote(self.url) and not any(map(is_remote, self.files))

    def state(self) -> State:
        """What it is like now; None if that cannot be told."""
        in_cloud = _in_cloud(self.url)
        if in_cloud is None:
            return state_of_files(self.files)
        try:
            system, path = filesystem(in_cloud, self.storage_options)
            system.invalidate_cache()
            return state_of_object(in_cloud, system.info(path))
        except Exception:
            # Each package has errors of its own.
            return None

    def state_lately(self, seconds: float) -> State:
        """What it was like at most so many seconds ago; files here are looked at each time."""
        if self.is_here:
            return self.state()
        key = (self.url, *self.files)
        since, state = _asked.get(key, (-math.inf, None))
        if time.monotonic() - since >= seconds:
            state = self.state()
            _asked[key] = time.monotonic(), state
        return state


@dataclass(frozen=True)
class GdalSource:
    """A raster of a file, and how it is read.

    Attributes
    ----------
    path : str
        What GDAL opens.
    mark : str
        By which this state of the file is told from another.
    origin : Origin
    state : str or None
        Of the origin when it was opened; None where it is not to be compared.
    options : mapping
        Of GDAL.
    rights : mapping
        Those by which it is let in.
    shape : tuple of int
        Of the bands, y and x.
    dtype : dtype
        Of the numbers.
    packed : bool
        Whether others stand for them in the file.
    """

    path: str = field(repr=False)
    mark: str
    origin: Origin
    state: State
    options: Mapping[str, Any] = field(repr=False)
    rights: Mapping[str, str] = field(repr=False)
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] | str = "float32"
    packed: bool = False

    def read(self, part: tuple[slice | int, ...]) -> NDArray[Any]:
        """The pixels of a part of the raster.

        Raises
        ------
        RasterioIOError
            If they cannot be read, or the file is not the one that was opened.
        """
        self._check()
        for wait in (*(() if self.origin.is_here else _WAITS), None):
            try:
                with environment(self.options, self.rights), self._file() as file:
                    return self._pixels(file, part)
            except (RasterioError, OSError) as error:
                # Not chained: GDAL's own words hold the whole address.
                said = reason(error)
            _failures[self.path] = _failures.get(self.path, 0) + 1
            if wait is not None:
                time.sleep(wait)
        raise RasterioIOError(f"{public(self.path)} cannot be read: {said}")

    def _check(self) -> None:
        if self.state is None or self.origin.state_lately(_ASK_AGAIN_S) == self.state:
            return
        # What was heard a while ago may be older than the opening.
        now = self.origin.state_lately(0.0)
        if now is not None and now != self.state:
            raise RasterioIOError(
                f"{public(self.path)} has changed since it was opened. Open it again."
            )

    @contextmanager
    def _file(self) -> Iterator[Any]:
        """The file, open, for this thread alone."""
        key = (self.path, self.mark, _failures.get(self.path, 0))
        with _lock:
            free = _free.get(key, [])
            file = free.pop() if free else None
            others = [k for k in _free if k[0] == self.path and k != key]
            outdated = [old for other in others for old in _free.pop(other)]
        # While one is open, GDAL remembers what it read of it.
        for old in outdated:
            old.close()
        if file is None:
            file = rasterio.open(called(self.path, self.mark), sharing=False)
        try:
            yield file
        except BaseException:
            file.close()
            raise
        with _lock:
            _free.setdefault(key, []).append(file)
            _free.move_to_end(key)
            many = sum(map(len, _free.values())) > _KEPT
            outdated = _free.popitem(last=False)[1] if many else []
        for old in outdated:
            old.close()

    def _pixels(self, file: Any, part: tuple[slice | int, ...]) -> NDArray[Any]:
        """The rectangle that a part lies in, and of that the part."""
        wanted = [range(size)[index] for size, index in zip(self.shape, part, strict=True)]
        along = [range(found, found + 1) if isinstance(found, int) else found for found in wanted]
        if not all(along):
            return np.empty([len(r) for r in wanted if not isinstance(r, int)], self.dtype)
        bands, *window = ((min(r), max(r) + 1) for r in along)
        indexes = list(range(bands[0] + 1, bands[1] + 1))
        values = file.read(indexes, window=tuple(window), masked=self.packed)
        if self.packed:
            values = self._unpacked(values, file, indexes)
        steps = (0 if isinstance(r, int) else slice(None, None, r.step) for r in wanted)
        return np.asarray(values[tuple(steps)])

    def _unpacked(self, values: Any, file: Any, indexes: list[int]) -> NDArray[Any]:
        numbers = np.ma.filled(values.astype(self.dtype), np.nan)
        for band, index in zip(numbers, indexes, strict=True):
            band *= file.scales[index - 1]
            band += file.offsets[index - 1]
        return numbers


def environment(options: Mapping[str, Any], rights: Mapping[str, str]) -> Any:
    """GDAL's options in this thread, for a while."""
    return rasterio.Env(session=Rights(rights) if rights else None, **options)


def called(path: str, mark: str) -> str:
    """A URL by a name of its own for each of its states, since GDAL remembers what came by one.

    After a failure it is another name again.
    """
    if not is_web(path):
        return path
    # What follows the address is not sent to the server.
    return f"/vsicurl/{path}#{mark[:12]}-{_failures.get(path, 0)}"


def reason(error: BaseException) -> str:
    """What GDAL said, from its last word to its first, without passwords and signatures."""
    words: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = str(getattr(current, "errmsg", "") or current)
        words.append(re.sub(r"[?#][^\s,;:'\"]+", "", redacted(text)))
        current = current.__cause__
    return "; ".join(dict.fromkeys(words))


def _in_cloud(url: str) -> str | None:
    """A URL for fsspec, of what is neither here nor on the web."""
    for scheme, beginning in CLOUDS.items():
        if url.startswith(beginning):
            return f"{scheme}://{url.removeprefix(beginning)}"
    # What lies in archives is told by the archive's own state.
    near = {"http", "https", "file", "zip", "tar", "gzip"}
    return url if "://" in url and not set(urlsplit(url).scheme.split("+")) & near else None
