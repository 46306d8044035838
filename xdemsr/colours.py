"""Bands of an image as red, green and blue on the grid of a raster."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.errors import GridError, InputError
from xdemsr.grid import Grid
from xdemsr.metadata import band_labels

_NAMES = ("red", "green", "blue")


def red_green_blue(rgb: xr.DataArray, base: Grid) -> xr.DataArray:
    """The bands that are seen, as (band, y, x). Reads no pixel.

    Bands called red, green and blue; else the first three, where there are three or four.

    Raises
    ------
    GridError
        If the image is on another grid than the raster.
    InputError
        If it has no such bands, or is not an array of numbers.
    """
    if grid.single(rgb).dtype.kind not in "uif":
        raise InputError(f"rgb holds {rgb.dtype} values; it must hold numbers.")
    found = grid.of(rgb)
    if not found.matches(base):
        raise GridError(
            f"rgb is on another grid than the elevations: {found.describe()}, and "
            f"{base.describe()}. Match it first: rgb.rio.reproject_match(dem)."
        )
    others = [dim for dim in rgb.dims if dim not in (found.y_dim, found.x_dim)]
    if len(others) != 1:
        raise InputError(
            f"rgb needs the dimensions (band, y, x); it has {tuple(map(str, rgb.dims))}."
        )
    chosen = _chosen(rgb, others[0])
    return rgb.isel({others[0]: chosen}).transpose(others[0], found.y_dim, found.x_dim)


def brightness(values: NDArray[Any]) -> NDArray[np.float32]:
    """Between 0 and 1: whole numbers over the largest of their type, others cut off there.

    Where nothing is known it is dark.
    """
    if values.dtype.kind in "ui":
        values = values / np.float32(np.iinfo(values.dtype).max)
    bright: NDArray[np.float32] = np.clip(np.nan_to_num(values), 0.0, 1.0).astype(np.float32)
    return bright


def _chosen(rgb: xr.DataArray, dim: Hashable) -> list[int]:
    names = [str(name).lower() for name in band_labels(rgb, dim)]
    if set(_NAMES) <= set(names):
        return [names.index(name) for name in _NAMES]
    if rgb.sizes[dim] not in (3, 4):
        raise InputError(
            f"rgb has {rgb.sizes[dim]} elements along {dim!r}, and none are called red, green and "
            f"blue. Choose three: rgb.isel({dim}=[...])."
        )
    return [0, 1, 2]
