"""What a Zarr array is like now, told by its objects' sizes, times and tags; no chunk is read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import zarr
from dask.base import tokenize
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, WrapperStore, ZipStore

from xdemsr.io.states import State, state_of_file, state_of_folder, state_of_url, tidings

#: Where the metadata of an array lies, in version 3 or 2.
_METADATA = ("zarr.json", ".zarray", ".zattrs")


def state_of_array(store: Store, path: str) -> State:
    """Of all objects of an array; None for stores that do not tell.

    A web server lists nothing: there the metadata, the first chunk and the last are asked for.

    Parameters
    ----------
    store : zarr Store
    path : str
        Of the array in the store.
    """
    if isinstance(store, WrapperStore):
        return state_of_array(store._store, path)
    if isinstance(store, LocalStore):
        return state_of_folder(os.path.join(store.root, path))
    if isinstance(store, ZipStore):
        zipped = state_of_file(store.path)
        return None if zipped is None else tokenize(zipped, path)
    if isinstance(store, MemoryStore):
        return tokenize(path, sorted(_in_memory(store, path)))
    if isinstance(store, ObjectStore):
        return tokenize("objects", path, sorted(_in_object_store(store, path)))
    if isinstance(store, FsspecStore):
        return _on_web(store, path) if _is_web(store) else _in_file_system(store, path)
    return None


def _in_memory(store: MemoryStore, path: str) -> Iterator[tuple[str, str]]:
    for key, content in store._store_dict.items():
        if key.startswith(f"{path}/"):
            yield key, tokenize(content.to_bytes())


def _in_object_store(store: Any, path: str) -> Iterator[tuple[str, str]]:
    import obstore

    for several in obstore.list(store.store, prefix=path):
        for one in several:
            yield one["path"], str(tidings(one))


def _in_file_system(store: FsspecStore, path: str) -> State:
    # What was listed before may have changed since.
    store.fs.invalidate_cache()
    found: Mapping[str, Any] = sync(store.fs._find(f"{store.path}/{path}", detail=True))
    return tokenize("objects", sorted((key, str(tidings(info))) for key, info in found.items()))


def _is_web(store: FsspecStore) -> bool:
    said = store.fs.protocol
    return bool({"http", "https"} & set((said,) if isinstance(said, str) else said))


def _on_web(store: FsspecStore, path: str) -> State:
    asked = {key: state_of_url(f"{store.path}/{path}/{key}") for key in _METADATA}
    if not any(asked.values()):
        return None
    array = zarr.open_array(store, path=path, mode="r")
    sizes = array.shards or array.chunks
    last = tuple((length - 1) // size for length, size in zip(array.shape, sizes, strict=True))
    for index in ((0,) * len(last), last):
        key = array.metadata.encode_chunk_key(index)
        asked[key] = state_of_url(f"{store.path}/{path}/{key}")
    return tokenize(sorted(asked.items()))
