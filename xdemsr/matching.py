"""A raster put on another one's grid: any resolution, any CRS, lazy, the same whatever the chunks.

GDAL's warp of a chunk interpolates the transformation within that chunk, so its numbers depend on
where chunks begin. Here every pixel is placed on its own, in float64, from its place in the whole
raster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.chunking import split
from xdemsr.eager import compute_windows
from xdemsr.errors import GridError, InputError
from xdemsr.graph import Answer, Source, map_windows
from xdemsr.grid import Grid, XarrayObject
from xdemsr.metadata import carried, wrap
from xdemsr.placing import Placement
from xdemsr.progress import KEY_PREFIX, watch_dask
from xdemsr.storage import check_values, void_values
from xdemsr.voids import Mask, valid_pixels
from xdemsr.window import Span, Window

Plane = NDArray[np.float64]
MatchMethod = Literal["auto", "nearest", "bilinear", "cubic", "average"]

_METHODS = ("auto", "nearest", "bilinear", "cubic", "average")
#: Pixels of the answer along a chunk; and the fewest, where each is many of the source.
_CHUNK, _SMALLEST = 1024, 128
#: Source pixels around a place that its value may depend on.
_MARGIN = 3
#: Void pixels around what is read; and where before it lies what is farther off.
_PAD, _BEFORE = 4, -2
#: A target pixel may be this much wider than the source's before several are averaged.
_ALIKE = 1.05
#: Samples along a target pixel that are averaged, at most.
_MOST_SAMPLES = 64
#: The share of a pixel's area that must be known, where areas are averaged.
_KNOWN = 0.5
#: Attributes of rasters whose numbers are names.
_CLASSES = ("flag_values", "flag_meanings", "flag_masks")


def match_grid(
    obj: xr.DataArray, like: XarrayObject, *, method: MatchMethod = "auto"
) -> xr.DataArray:
    """Put a raster of any grid, resolution and CRS on the grid of another.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        What is put there. Other dimensions are carried through.
    like : DataArray or Dataset
        Whose grid is taken; none of its pixels is read.
    method : {"auto", "nearest", "bilinear", "cubic", "average"}, optional
        ``"nearest"``: the pixel that the centre of the new one lies in. ``"bilinear"``: between the
        four pixel centres around it. ``"cubic"``: cubic convolution of sixteen (Keys, a = -0.5);
        bilinear beside voids and borders. ``"average"``: the mean over the new pixel's area, of k
        by k bilinear samples, where k is how many of the old pixels lie along it, at most 64; where
        the grids nest, that is the mean of exactly the pixels inside. ``"auto"`` is ``"nearest"``
        for booleans and where attributes say that numbers are classes (``flag_values``,
        ``flag_meanings``), ``"average"`` where ``obj`` is the finer one, ``"bilinear"`` elsewhere.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        In the unit of ``obj``, with the coordinates of ``like``. Void outside ``obj``, where its
        nearest pixel is void, and where less than half of an averaged area is known; beside voids,
        weights are shared among the known pixels. Lazy where ``obj`` is; the same numbers whatever
        its chunks.

    Raises
    ------
    GridError
        If the grids do not overlap, or one is irregular or rotated.
    InputError
        If the values are not real numbers, or there is no such method.

    Notes
    -----
    Heights are not transformed between vertical datums. A raster without a CRS is taken to be in
    the other's. Class numbers are exact in float32 up to 16 million.

    References
    ----------
    Keys, R. (1981). Cubic convolution interpolation for digital image processing. IEEE Trans. ASSP
    29(6), 1153-1160.

    Examples
    --------
    >>> import xdemsr
    >>> dsm = xdemsr.synthetic.terrain((24, 32), gsd=2.0)
    >>> ortho = xdemsr.synthetic.terrain((96, 128), gsd=0.5, seed=3)
    >>> guide = xdemsr.match_grid(ortho, dsm)
    >>> guide.shape, bool((guide.x == dsm.x).all())
    ((24, 32), True)
    """
    if method not in _METHODS:
        raise InputError(f"method={method!r} is not one of {', '.join(_METHODS)}.")
    base = grid.of(grid.single(obj))
    target = grid.of(like)
    check_values(obj)
    obj = obj.transpose(..., base.y_dim, base.x_dim)
    placement = Placement.between(target, base)
    along = placement.pixels_along()
    if along is None:
        raise GridError(
            f"{obj.name or 'the raster'!r} does not overlap the raster it should be matched to: "
            f"{base.describe()}, and {target.describe()}. Look at their coordinates and their CRS."
        )
    samples = tuple(min(math.ceil(pixels / _ALIKE), _MOST_SAMPLES) for pixels in along)
    chosen = _automatic(obj, samples) if method == "auto" else method
    if chosen != "average":
        samples = (1, 1)
    task = _MatchTask(placement, chosen, (samples[0], samples[1]), void_values(obj))
    return _wrapped(_mapped(task, obj, target), obj, base, target, like)


def _automatic(obj: xr.DataArray, samples: tuple[int, ...]) -> str:
    if obj.dtype.kind == "b" or any(key in obj.attrs for key in _CLASSES):
        return "nearest"
    return "average" if max(samples) > 1 else "bilinear"


def _mapped(task: _MatchTask, obj: xr.DataArray, target: Grid) -> Any:
    leading = [(1,) * size for size in obj.shape[:-2]]
    sizes = [max(_SMALLEST, _CHUNK // k) for k in task.samples]
    spatial = [split(length, size) for length, size in zip(target.shape, sizes, strict=True)]
    answer = Answer(f"{KEY_PREFIX}match", (*leading, *spatial), np.float32, len(leading))
    if obj.chunks is None:
        return compute_windows(task, [(obj.values, 1, len(leading))], answer)
    watch_dask()
    separable = task.placement.crs is None
    return map_windows(task, [Source(obj.data, 1, len(leading))], answer, separable=separable)


def _wrapped(
    data: Any, obj: xr.DataArray, base: Grid, target: Grid, like: XarrayObject
) -> xr.DataArray:
    dims = (*obj.dims[:-2], target.y_dim, target.x_dim)
    coords = carried(obj, {base.y_dim, base.x_dim})
    coords.pop(base.grid_mapping, None)
    # As they are, to the last bit: xarray aligns by them.
    for name in (target.y_dim, target.x_dim, target.grid_mapping):
        if name in like.coords:
            coords[name] = like.coords[name].variable
    answer = wrap(data, dims, coords, like=obj)
    for said in (answer.attrs, answer.encoding):
        said.pop("grid_mapping", None)
    if target.grid_mapping is not None:
        answer.encoding["grid_mapping"] = target.grid_mapping
    return answer


@dataclass(frozen=True)
class _MatchTask:
    """Answers a window of the target grid from the source pixels under it.

    ``samples`` of the source are averaged along a target pixel's height and width.
    """

    placement: Placement
    method: str
    samples: tuple[int, int]
    voids: tuple[float, ...]

    def reading(self, core: Window) -> Window:
        """Source pixels that are needed to answer ``core``."""
        return self.placement.reading(core, _MARGIN)

    def __call__(self, core: Window, read: Window, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Answer ``core``; the block holds one element of each leading dimension."""
        leading = blocks[0].shape[:-2]
        block = blocks[0][(0,) * len(leading)]
        valid = valid_pixels(block, self.voids)
        answer = np.full(core.shape, np.nan, np.float32)
        if valid.any():
            values = np.where(valid, block, 0).astype(np.float64)
            raster = _Raster(values, valid, (read.padded.y.start, read.padded.x.start))
            answer = self._answer(core, raster).astype(np.float32)
        return answer.reshape(*leading, *core.shape)

    def _answer(self, core: Window, raster: _Raster) -> Plane:
        total, share = np.zeros(core.shape), np.zeros(core.shape)
        for dy, dx in product(*map(range, self.samples)):
            y, x = self.placement.at(
                _within(core.y, dy, self.samples[0]), _within(core.x, dx, self.samples[1])
            )
            heights, weights = _SAMPLERS[self.method](raster, y, x)
            total += heights
            share += weights
        enough = share > 0
        if self.method == "average":
            enough = share >= _KNOWN * self.samples[0] * self.samples[1]
        return np.where(enough, total / np.where(enough, share, 1.0), np.nan)


def _within(span: Span, k: int, samples: int) -> Plane:
    """Places of the ``k``-th of some samples along each pixel of a span."""
    places: Plane = np.arange(span.start, span.stop, dtype=np.float64) + (k + 0.5) / samples
    return places


class _Raster:
    """A part of the source, with a void border of ``_PAD`` pixels around, as flat arrays."""

    def __init__(self, values: Plane, valid: Mask, origin: tuple[int, int]) -> None:
        self.shape, self.origin = values.shape, origin
        self.wide = values.shape[1] + 2 * _PAD
        self.values = np.pad(values, _PAD).ravel()
        self.valid = np.pad(valid, _PAD).ravel().astype(np.float64)

    def index(self, rows: Plane, columns: Plane) -> NDArray[np.int64]:
        """Places of pixels in the flat arrays; in the border for those that are not there."""
        y, x = (
            (pixels - first).clip(_BEFORE, length).astype(np.int64) + _PAD
            for pixels, first, length in zip((rows, columns), self.origin, self.shape, strict=True)
        )
        at: NDArray[np.int64] = y * self.wide + x
        return at


def _nearest(raster: _Raster, y: Plane, x: Plane) -> tuple[Plane, Plane]:
    """Values of the pixels that places lie in, and 1 where there is one."""
    at = raster.index(np.floor(y), np.floor(x))
    return raster.values[at], raster.valid[at]


def _bilinear(raster: _Raster, y: Plane, x: Plane) -> tuple[Plane, Plane]:
    """Weighted values of the four pixels around places, and their weights.

    Nothing where the nearest one is void.
    """
    (row, down), (column, right) = _before(y), _before(x)
    at = raster.index(row, column)
    total, share = np.zeros(at.shape), np.zeros(at.shape)
    for dy, dx in product((0, 1), repeat=2):
        near = at + (dy * raster.wide + dx)
        weight = (down if dy else 1 - down) * (right if dx else 1 - right)
        total += weight * raster.values[near]
        share += weight * raster.valid[near]
    nearest = at + (down >= 0.5) * raster.wide + (right >= 0.5)
    known = raster.valid[nearest]
    return total * known, share * known


def _cubic(raster: _Raster, y: Plane, x: Plane) -> tuple[Plane, Plane]:
    """Cubic convolution where all sixteen pixels around a place are valid; bilinear elsewhere."""
    total, share = _bilinear(raster, y, x)
    (row, down), (column, right) = _before(y), _before(x)
    at = raster.index(row, column)
    along_y, along_x = _keys(down), _keys(right)
    smooth, known = np.zeros(at.shape), np.zeros(at.shape)
    for dy, dx in product(range(4), repeat=2):
        near = at + ((dy - 1) * raster.wide + dx - 1)
        smooth += along_y[dy] * along_x[dx] * raster.values[near]
        known += raster.valid[near]
    complete = known == 16
    return np.where(complete, smooth, total), np.where(complete, 1.0, share)


_SAMPLERS = {
    "nearest": _nearest,
    "bilinear": _bilinear,
    "average": _bilinear,
    "cubic": _cubic,
}


def _before(places: Plane) -> tuple[Plane, Plane]:
    """The pixels whose centres lie before places along an axis, and how far on they are."""
    centres = places - 0.5
    below = np.floor(centres)
    # What the CRS does not reach is infinite, and lies in the border.
    with np.errstate(invalid="ignore"):
        return below, np.where(np.isfinite(centres), centres - below, 0.0)


def _keys(t: Plane) -> tuple[Plane, Plane, Plane, Plane]:
    """Cubic weights of the four pixel centres around a place, ``t`` after the second."""
    return (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
