"""Pixels that are read where and when they are asked for, and are what they were."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from numpy.typing import NDArray

from xdemsr.io.states import State


class Source(Protocol):
    """Where pixels come from."""

    def read(self, part: tuple[slice | int, ...]) -> NDArray[Any]:
        """The pixels of a part of an array."""
        ...


@dataclass(frozen=True, eq=False)
class Pixels:
    """An array that is not read yet, as dask takes one."""

    source: Source
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, part: tuple[slice | int, ...]) -> NDArray[Any]:
        return self.source.read(part)


def lazily(
    raster: xr.DataArray,
    source: Source,
    state: State,
    chunks: Mapping[Hashable, int],
    what: Hashable = None,
) -> xr.DataArray:
    """The raster on a dask array that has the same name wherever the same is read.

    Parameters
    ----------
    raster : DataArray
        Whose pixels need not be there.
    source : Source
    state : str or None
        Of what it is read from; without, the name is one that nothing else has.
    chunks : mapping of dimension to int
    what : hashable, optional
        Which of several in one source.
    """
    sizes = tuple(chunks.get(dim, -1) for dim in raster.dims)
    token = uuid4().hex if state is None else tokenize(state, what, raster.dims, sizes)
    data = da.from_array(
        Pixels(source, raster.shape, raster.dtype),
        chunks=sizes,
        name=f"open-{token}",
        fancy=False,
        meta=np.empty((0,) * raster.ndim, raster.dtype),
    )
    return raster.copy(data=data)
