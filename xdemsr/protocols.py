"""What a model sees in a comparison, and what it is scored on: two protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.inference import upscale
from xdemsr.mapping import map_function
from xdemsr.metadata import wrap
from xdemsr.metrics import evaluate
from xdemsr.window import Window

Plane = NDArray[np.float64]

#: Source pixels that the continuous protocol does not score: at the outer border, beside voids.
_EDGE, _BESIDE = 4, 3
_CHUNK = 2048


@dataclass(frozen=True)
class Trial:
    """A question to put to every model alike.

    Attributes
    ----------
    given : DataArray, dims (y, x) or (tile_row, tile_column, y, x)
        Coarse elevations; a model answers each leading element by itself.
    truth : DataArray, dims (y, x)
        Fine elevations, void where they are not scored.
    tile : int or None
        Size in fine pixels of tiles that are answered apart from each other.
    """

    given: xr.DataArray
    truth: xr.DataArray
    tile: int | None = None

    def placed(self, answer: xr.DataArray) -> xr.DataArray:
        """A model's answer to ``given``, on the grid of ``truth``."""
        if self.tile is None:
            return answer
        data = answer.data.transpose(0, 2, 1, 3).reshape(self.truth.shape)
        return wrap(data, self.truth.dims, self.truth.coords, like=self.truth)

    def scores(self, answer: xr.DataArray) -> pd.Series:
        """How far a model's answer to ``given`` is from the truth."""
        return evaluate(self.placed(answer), self.truth, tile=self.tile)


def continuous(obj: xr.DataArray, coarse: xr.DataArray, scale: int) -> Trial:
    """The whole raster at once, scored but for 4 source pixels at its border, 3 beside voids.

    Raises
    ------
    InputError
        If nothing is left to score.
    """
    base = grid.of(coarse)
    if min(base.shape) <= 2 * _EDGE:
        raise InputError(
            f"a raster of {obj.shape} pixels is {coarse.shape} at a scale of {scale}, and the "
            f"outer {_EDGE} are not scored: nothing is left. Give a larger raster or a smaller "
            "scale."
        )
    inner = map_function(coarse, _inner, "scored", halo=_BESIDE, shape=base.shape)
    return Trial(coarse, _where_scored(obj, inner, scale))


def isolated(obj: xr.DataArray, coarse: xr.DataArray, scale: int, tile: int) -> Trial:
    """Tiles that are restored each alone and scored whole; those with a void are left out.

    Parameters
    ----------
    obj : DataArray, dims (y, x)
        Fine elevations.
    coarse : DataArray, dims (y, x)
        The same, degraded; void wherever a fine pixel is.
    scale : int
        Fine pixels per coarse pixel.
    tile : int
        Size of a tile in coarse pixels; what does not fill one at the end is cut off.

    Raises
    ------
    InputError
        If no tile fits into the raster, or all have voids.
    """
    if tile < 1:
        raise InputError(f"tile={tile} must be 1 or more: source pixels.")
    base = grid.of(coarse)
    rows, columns = (length // tile for length in base.shape)
    if not rows * columns:
        raise InputError(
            f"a raster of {obj.shape} pixels is {coarse.shape} at a scale of {scale}, and no tile "
            f"of {tile} x {tile} fits. Give a larger raster, or a smaller scale or tile."
        )
    cut = coarse.isel({base.y_dim: slice(rows * tile), base.x_dim: slice(columns * tile)})
    whole = map_function(cut, _whole, "scored", halo=tile - 1, tile=tile)
    if not whole.notnull().any():
        raise InputError(
            f"no tile of {tile} x {tile} source pixels is without a void ({rows * columns} fit): "
            "nothing is left. Give a smaller tile."
        )
    return Trial(_apart(whole, tile), _where_scored(obj, whole, scale), tile * scale)


def _where_scored(obj: xr.DataArray, scored: xr.DataArray, scale: int) -> xr.DataArray:
    """The truth, void where the coarse raster ``scored`` is."""
    base = grid.of(scored)
    fine = upscale(scored, scale, "nearest")
    ny, nx = base.shape
    truth = obj.isel({base.y_dim: slice(0, ny * scale), base.x_dim: slice(0, nx * scale)})
    kept: xr.DataArray = truth.where(fine.notnull().data)
    return kept.assign_attrs(obj.attrs)


def _inner(z: Plane, core: Window, shape: tuple[int, int]) -> Plane:
    """The coarse pixels that are scored; the others void."""
    width = 2 * _BESIDE + 1
    valid = minimum_filter(np.isfinite(z), size=width)[_BESIDE:-_BESIDE, _BESIDE:-_BESIDE]
    for axis, (span, length) in enumerate(zip((core.y, core.x), shape, strict=True)):
        place = np.arange(span.start, span.stop)
        scored = (place >= _EDGE) & (place < length - _EDGE)
        valid = valid & (scored[:, None] if axis == 0 else scored)
    return np.where(valid, z[_BESIDE:-_BESIDE, _BESIDE:-_BESIDE], np.nan)


def _whole(z: Plane, core: Window, tile: int) -> Plane:
    """The pixels of tiles without a void; ``z`` holds a tile but one pixel on all sides."""
    halo = tile - 1
    starts = [halo - span.start % tile for span in (core.y, core.x)]
    counts = [-(-span.stop // tile) - span.start // tile for span in (core.y, core.x)]
    rows, columns = (slice(a, a + n * tile) for a, n in zip(starts, counts, strict=True))
    valid = np.isfinite(z[rows, columns]).reshape(counts[0], tile, counts[1], tile)
    known = valid.all(axis=(1, 3)).repeat(tile, 0).repeat(tile, 1)
    inside = tuple(slice(halo - a, halo - a + n) for a, n in zip(starts, core.shape, strict=True))
    ny, nx = core.shape
    return np.where(known[inside], z[halo : halo + ny, halo : halo + nx], np.nan)


def _apart(raster: xr.DataArray, tile: int) -> xr.DataArray:
    """Tiles as (tile_row, tile_column, y, x), at the place of the first."""
    base = grid.of(raster)
    rows, columns = (length // tile for length in base.shape)
    data: Any = raster.data
    if raster.chunks is not None:
        data = data.rechunk(tile * max(1, _CHUNK // tile))
    data = data.reshape(rows, tile, columns, tile).transpose(0, 2, 1, 3)
    first = raster.isel({base.y_dim: slice(tile), base.x_dim: slice(tile)})
    dims = ("tile_row", "tile_column", base.y_dim, base.x_dim)
    return wrap(data, dims, first.coords, like=raster)
