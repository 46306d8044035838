"""Plain functions over the windows of one raster: the engine without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr.chunking import split
from xdemsr.eager import compute_windows
from xdemsr.graph import Answer, Source, map_windows
from xdemsr.grid import Grid, of, single
from xdemsr.metadata import carried, wrap
from xdemsr.progress import KEY_PREFIX, watch_dask
from xdemsr.storage import check_values, void_values
from xdemsr.voids import bridge, valid_pixels
from xdemsr.window import Window

Plane = NDArray[np.float64]
WindowFunction = Callable[..., NDArray[Any]]

#: Pixels of the answer along a chunk; and the fewest, where each is many of the source.
_CHUNK, _SMALLEST = 2048, 256


@dataclass(frozen=True)
class FunctionTask:
    """Answers a window with a function of its padded pixels.

    Attributes
    ----------
    function : callable
        Of (values, core, **options): a padded plane in float64 with NaN at voids, and the window
        that it surrounds. Returns the core's values.
    shape : (ny, nx)
        Of the answer.
    coarsen : int
        Source pixels per pixel of the answer along each axis.
    halo : int
        Context in pixels of the answer. Beyond the array's border, slopes go on.
    voids : tuple of float
        Values that mean missing, beside NaN.
    bridged : bool
        Fill voids in what the function is given, and put them back after.
    options : mapping
        Keyword arguments of the function.
    """

    function: WindowFunction
    shape: tuple[int, int]
    coarsen: int = 1
    halo: int = 0
    voids: tuple[float, ...] = ()
    bridged: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def reading(self, core: Window) -> Window:
        """Pixels of the answer's grid that are needed to answer ``core``."""
        return core.pad(self.halo).clip(self.shape)

    def __call__(self, core: Window, read: Window, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Answer ``core``; the block holds one element of each leading dimension."""
        leading = blocks[0].shape[:-2]
        plane = blocks[0][(0,) * len(leading)]
        answer = self._answer(core, read, plane).astype(np.float32, copy=False)
        return answer.reshape(*leading, *core.shape)

    def _answer(self, core: Window, read: Window, block: NDArray[Any]) -> NDArray[Any]:
        valid = valid_pixels(block, self.voids)
        values = np.where(valid, block, np.nan).astype(np.float64)
        if not valid.any():
            return np.full(core.shape, np.nan)
        if self.bridged and not valid.all():
            values = bridge(values, valid, self.halo * self.coarsen)
        padded = core.pad(self.halo).padded
        missing = [
            ((inner.start - outer.start) * self.coarsen, (outer.stop - inner.stop) * self.coarsen)
            for inner, outer in ((read.padded.y, padded.y), (read.padded.x, padded.x))
        ]
        if any(map(any, missing)):
            values = np.pad(values, missing, mode="reflect", reflect_type="odd")
        answer = self.function(values, core, **self.options)
        if self.bridged and not valid.all():
            answer = np.where(valid[core.within(read)], answer, np.nan)
        return answer


def map_function(
    da: xr.DataArray,
    function: WindowFunction,
    name: str,
    *,
    coarsen: int = 1,
    halo: int = 0,
    bridged: bool = False,
    **options: Any,
) -> xr.DataArray:
    """Answer a raster with a function of its windows, on its grid or a coarser one.

    Lazy where the input is; the same numbers whatever its chunks.
    """
    base = of(single(da))
    check_values(da)
    voids = void_values(da)
    da = da.transpose(..., base.y_dim, base.x_dim)
    target = base if coarsen == 1 else base.coarsened(coarsen)
    task = FunctionTask(function, target.shape, coarsen, halo, voids, bridged, options)
    lazy = da.chunks is not None
    leading = [(1,) * size for size in da.shape[:-2]]
    # A pixel of a coarser grid is many to read.
    size = max(_SMALLEST, _CHUNK // coarsen)
    chunks = (*leading, split(target.shape[0], size), split(target.shape[1], size))
    answer = Answer(f"{KEY_PREFIX}{name}", chunks, np.float32, len(leading))
    data: Any
    if lazy:
        watch_dask()
        data = map_windows(task, [Source(da.data, coarsen, len(leading))], answer)
    else:
        data = compute_windows(task, [(da.values, coarsen, len(leading))], answer)
    return _wrap(data, da, target)


def _wrap(data: Any, da: xr.DataArray, target: Grid) -> xr.DataArray:
    coords = {**carried(da, {target.y_dim, target.x_dim}), **target.coordinates(da)}
    return wrap(data, da.dims, coords, like=da)
