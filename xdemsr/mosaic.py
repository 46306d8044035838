"""Answers to patches, put back on the map."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xdemsr.errors import InputError
from xdemsr.gathering import Place
from xdemsr.grid import Grid
from xdemsr.metadata import carried, wrap
from xdemsr.window import Span, Window


def mosaic(
    place: Place, size: tuple[int, int], answers: Iterable[tuple[ArrayLike, int, int]]
) -> xr.DataArray:
    """The mean of all answers at each pixel of a place, NaN where there is none.

    Parameters
    ----------
    place : Place
    size : (ny, nx)
        Of a patch, in source pixels.
    answers : iterable of (array, int, int)
        Each with its patch's first source pixel (y, x).

    Raises
    ------
    InputError
        If there are none, their shapes differ or fit no patch, or one lies outside the place.
    """
    total: NDArray[np.float64] | None = None
    shape: tuple[int, ...] = ()
    parts = 0
    for answer, y, x in answers:
        values = np.asarray(answer, dtype=np.float64)
        if total is None:
            shape, parts = values.shape, _parts(values.shape, size)
            bands = shape[0] if len(shape) == 3 else 1
            total = np.zeros((2, bands, *_grid(place, parts).shape))
        if values.shape != shape:
            raise InputError(f"answers have the shapes {shape} and {values.shape}: give one shape.")
        window = Window(Span(y, y + size[0]), Span(x, x + size[1]))
        if window.clip(place.source.shape) != window:
            raise InputError(
                f"no patch of {size} source pixels lies at ({y}, {x}) in {place.name!r}."
            )
        known = np.isfinite(values)
        inside = (..., *window.refine(parts).slices)
        total[0][inside] += np.where(known, values, 0.0)
        total[1][inside] += known
    if total is None:
        raise InputError(f"there are no answers at {place.name!r} to put on the map.")
    mean = np.full_like(total[0], np.nan)
    np.divide(total[0], total[1], out=mean, where=total[1] > 0)
    return _labelled(mean.astype(np.float32), place, _grid(place, parts))


def _parts(shape: tuple[int, ...], size: tuple[int, int]) -> int:
    """Answer's pixels per source pixel along each axis."""
    parts = shape[-1] // size[1] if len(shape) in (2, 3) else 0
    if not parts or shape[-2:] != (size[0] * parts, size[1] * parts):
        raise InputError(
            f"an answer has the shape {shape}; expected (ny, nx) or (bands, ny, nx), with (ny, nx) "
            f"the patch's {size} source pixels or a whole multiple."
        )
    return parts


def _grid(place: Place, parts: int) -> Grid:
    # The target's own grid may have pixels at the end that fill no source pixel.
    return place.fine if parts == place.scale else place.source.refined(parts)


def _labelled(data: NDArray[np.float32], place: Place, grid: Grid) -> xr.DataArray:
    like = place.template
    dims: tuple[Hashable, ...] = (grid.y_dim, grid.x_dim)
    coords: dict[Hashable, Any] = {**carried(like, set(dims)), **grid.coordinates(like)}
    if len(data) == 1:
        return wrap(data[0], dims, coords, like=like)
    if len(data) == len(place.bands):
        coords["band"] = ("band", list(place.bands))
    return wrap(data, ("band", *dims), coords, like=like)
