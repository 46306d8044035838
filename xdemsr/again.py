"""Sources that a call passes over twice: read a second time, not kept from the first.

dask keeps what it has read for as long as some task still wants it. Where every task of a second
pass waits for the whole of the first, that would be the whole raster. Here the second pass has a
source of its own, that reads the same and does not begin before the first pass has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
from dask._task_spec import Task, TaskRef, convert_legacy_graph
from dask.base import tokenize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph


def read_again(array: da.Array, after: da.Array) -> da.Array:
    """The same array by other keys, read once ``after`` is known.

    ``dask.graph_manipulation.bind`` is meant for this, and breaks graphs that slice or rechunk.

    Parameters
    ----------
    array : dask.array.Array
    after : dask.array.Array
        Of one chunk.
    """
    token = tokenize(array.name, after.name)
    wanted = set(flatten(array.__dask_keys__()))
    graph: Mapping[Any, Any] = array.dask.cull(wanted)
    new = {key: _renamed(key, token) for key in graph}
    known = TaskRef(next(flatten(after.__dask_keys__())))
    # What a cluster holds already (futures) is no task, and waits for nothing.
    nodes = {key: task for key, task in graph.items() if not isinstance(task, TaskRef)}
    layer: dict[Any, Any] = {new[key]: graph[key] for key in graph.keys() - nodes.keys()}
    nodes = convert_legacy_graph(nodes, graph.keys())
    for key, node in nodes.items():
        inputs = {given: new[given] for given in node.dependencies if given in new}
        moved = node.substitute(inputs, key=new[key])
        begins = not any(isinstance(nodes.get(given), Task) for given in inputs)
        waits = begins and isinstance(node, Task)
        layer[new[key]] = Task(new[key], _read, known, moved) if waits else moved
    name = _renamed(array.name, token)
    dependencies: Sequence[Any] = [after]
    lazy = HighLevelGraph.from_collections(name, layer, dependencies=dependencies)
    return da.Array(lazy, name, chunks=array.chunks, dtype=array.dtype)


def _renamed(key: Any, token: str) -> Any:
    if isinstance(key, tuple):
        return (_renamed(key[0], token), *key[1:])
    return f"{key}-{token}"


def _read(known: object, value: Any) -> Any:
    return value
