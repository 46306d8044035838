"""Zarr stores by path, URL or object, and the objects in them by key."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ZipStore

from xdemsr.errors import InputError
from xdemsr.io.paths import is_remote

#: A path, a URL, a store of zarr, or one of the package obstore.
StoreLike = str | os.PathLike[str] | Store | Any

#: Keys at the root of a store, of version 3 or 2; attributes first.
ROOT_KEYS = ("zarr.json", ".zattrs", ".zgroup", ".zarray", ".zmetadata")

#: Objects asked for at once.
_AT_ONCE = 64

#: What zarr calls a file until it is whole.
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{32}\.partial$")


def zarr_store(
    target: StoreLike, *, read_only: bool, storage_options: Mapping[str, Any] | None = None
) -> Store:
    """The store of zarr that a path, a URL or an object stands for.

    Parameters
    ----------
    target : str, Path, zarr Store or obstore store
        URLs go through fsspec (``s3://``, ``gs://``, ``https://``, ``memory://``).
    read_only : bool
    storage_options : mapping, optional
        Of the file system that fsspec finds for a URL.

    Raises
    ------
    InputError
        If it is none of these, options are given to what is no URL, or a package is missing.
    """
    check_options(target, storage_options)
    if isinstance(target, Store):
        return target
    if type(target).__module__.split(".")[0] == "obstore":
        obstore: Any = target
        return zarr.storage.ObjectStore(obstore, read_only=read_only)
    if not isinstance(target, str | os.PathLike):
        raise InputError(
            f"a store is given as a path, a URL, a zarr Store or an obstore store, not as "
            f"{type(target).__name__}."
        )
    if isinstance(target, Path) and _is_url(target):
        raise InputError(f"{target} was a URL: give it as text, since a Path drops a slash.")
    if not _is_url(target):
        path = Path(target)
        if path.suffix == ".zip" and read_only:
            return ZipStore(path, mode="r")
        return LocalStore(path, read_only=read_only)
    try:
        return FsspecStore.from_url(
            str(target),
            storage_options=dict(storage_options) if storage_options else None,
            read_only=read_only,
        )
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{named(target)} cannot be reached: {error}. For stores in the cloud: "
            "pip install 'xdemsr[cloud]'."
        ) from error


def check_options(target: StoreLike, storage_options: Mapping[str, Any] | None) -> None:
    """Refuse options of a file system where none is asked for.

    Raises
    ------
    InputError
        If there are some, and the target is no URL.
    """
    if storage_options and not _is_url(target):
        raise InputError(f"storage_options are for URLs; {named(target)} is none. Leave them out.")


def local_path(target: StoreLike) -> Path | None:
    """The folder of a store on this machine's file system; None for any other."""
    if isinstance(target, LocalStore):
        return Path(target.root)
    if isinstance(target, str | os.PathLike) and not _is_url(target):
        return Path(target)
    return None


def named(target: StoreLike) -> str:
    """What a store is called in messages: without credentials, signatures or queries."""
    if not _is_url(target):
        return str(target)
    parts = urlsplit(str(target))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _is_url(target: StoreLike) -> bool:
    return isinstance(target, str | os.PathLike) and is_remote(str(target))


class Objects:
    """The objects of a store, read and written whole by key."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def read(self, key: str) -> bytes | None:
        """The bytes of an object; None if there is none."""
        found = sync(self.store.get(key, default_buffer_prototype()))
        return None if found is None else found.to_bytes()

    def write(self, key: str, content: bytes | memoryview) -> None:
        """Put an object in place."""
        buffer = default_buffer_prototype().buffer.from_bytes(content)
        sync(self.store.set(key, buffer))

    def replace(self, key: str, content: bytes | memoryview | None) -> None:
        """Put an object in place, or take it away."""
        if content is None:
            sync(self.store.delete(key))
        else:
            self.write(key, content)

    def sizes(self, keys: Iterable[str]) -> list[int | None]:
        """Bytes of each object; None for those that are not there."""
        return sync(self._sizes(list(keys)))

    def note_sizes(self, keys: Iterable[str], note: str) -> None:
        """Put the bytes of some objects, by key, into another as JSON."""
        sync(self._note_sizes(list(keys), note))

    def keys(self, prefix: str = "") -> list[str]:
        """Every key that begins with ``prefix``."""
        return sync(self._keys(prefix))

    def any(self) -> bool:
        """Whether there is an object at all."""
        return sync(self._any())

    def remove(self, prefix: str) -> None:
        """Remove every object under a folder."""
        try:
            sync(self.store.delete_dir(prefix))
        except OSError:
            # Another run on the same store puts some there, or takes them away.
            sync(self.store.delete_dir(prefix))

    def sweep(self) -> None:
        """Remove the files that a process was writing when it was killed."""
        if isinstance(self.store, LocalStore):
            for path in Path(self.store.root).rglob("*.partial"):
                if _HALF_WRITTEN.search(path.name):
                    path.unlink(missing_ok=True)

    async def _note_sizes(self, keys: list[str], note: str) -> None:
        sizes = dict(zip(keys, await self._sizes(keys), strict=True))
        content = json.dumps(sizes).encode()
        await self.store.set(note, default_buffer_prototype().buffer.from_bytes(content))

    async def _keys(self, prefix: str) -> list[str]:
        return [key async for key in self.store.list_prefix(prefix)]

    async def _any(self) -> bool:
        async for _ in self.store.list_prefix(""):
            return True
        return False

    async def _sizes(self, keys: list[str]) -> list[int | None]:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def size(key: str) -> int | None:
            async with gate:
                try:
                    return await self.store.getsize(key)
                except FileNotFoundError:
                    return None

        return list(await asyncio.gather(*map(size, keys)))
