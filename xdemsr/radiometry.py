"""The values of one image made to be distributed as another's: per band, lazily."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal, get_args

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.metadata import plain_attrs, wrap
from xdemsr.progress import KEY_PREFIX, watch_dask
from xdemsr.storage import check_values, void_values
from xdemsr.voids import valid_pixels
from xdemsr.window import Span, Tiling

Plane = NDArray[np.float64]
Matching = Literal["quantiles", "moments"]

#: Numbers that a distribution is told by, and the share of it left out at both ends of quantiles.
_POINTS, _ENDS = {"quantiles": 257, "moments": 2}, 1e-3
#: Windows that a distribution is told from, at most along each axis, and their size.
_ALONG, _SIZE = 8, 128
#: Known pixels that tell a distribution, at least.
_FEWEST = 64


def match_histograms(
    image: xr.DataArray, reference: xr.DataArray, *, method: Matching = "quantiles"
) -> xr.DataArray:
    """Give an image the distribution of values that another has, band by band.

    What the same place looks like to another sensor, on another day: values change, their order
    does not. The distributions are those of known pixels in at most 64 windows of 128 x 128 pixels,
    evenly spread over each image, so both should show the same place; see
    :func:`xdemsr.pair_images`.

    Parameters
    ----------
    image : DataArray, dims (..., y, x)
        Whose values are changed.
    reference : DataArray, dims (..., y, x)
        With the same bands in the same order; its grid does not matter.
    method : {"quantiles", "moments"}, optional
        ``"quantiles"``: quantiles are laid on quantiles, linearly between them, and beyond the
        outermost thousandth in proportion. ``"moments"``: means on means and standard deviations on
        standard deviations, which keeps the shape of the distribution.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        In the reference's unit, on the image's grid. Void where the image is. Lazy where the image
        is, with its chunks; the same numbers whatever these are.

    Raises
    ------
    InputError
        If the bands are not as many, or the method is unknown; when the answer is computed, if a
        band has hardly a known pixel, or one value only.

    References
    ----------
    Gonzalez, R. C. and Woods, R. E. (2008). Digital image processing, 3rd edition, section 3.3.2.

    Examples
    --------
    >>> import xdemsr
    >>> image = xdemsr.synthetic.terrain((96, 128))
    >>> matched = xdemsr.match_histograms(image**2, image)
    >>> bool(abs(matched - image).max() < 0.05 * image.std())
    True
    """
    if method not in get_args(Matching):
        raise InputError(f"method={method!r} is not one of {', '.join(get_args(Matching))}.")
    first, second = (_ordered(grid.single(array)) for array in (image, reference))
    if first.shape[:-2] != second.shape[:-2]:
        raise InputError(
            f"the image has {dict(image.sizes)} and the reference {dict(reference.sizes)}: give "
            "both the same bands. Choose: da.isel(...) or da.sel(...)."
        )
    voids = void_values(first)
    lines = delayed(_lines, pure=True)(
        _sample(first), voids, _sample(second), void_values(second), _POINTS[method]
    )
    if first.chunks is None:
        answer: Any = _mapped(first.values, compute(lines)[0], voids)
    else:
        watch_dask()
        answer = _lazily(first.data, lines, _POINTS[method], voids)
    attrs = {**plain_attrs(first), **_unit(second)}
    matched = wrap(answer, first.dims, first.coords, like=first, attrs=attrs)
    return matched.transpose(*image.dims)


def _ordered(array: xr.DataArray) -> xr.DataArray:
    check_values(array)
    return array.transpose(..., *grid.spatial_dims(array))


def _unit(array: xr.DataArray) -> dict[str, Any]:
    return {"units": array.attrs["units"]} if "units" in array.attrs else {}


def _sample(array: xr.DataArray) -> list[Any]:
    """Windows evenly spread over the array: the same ones whatever its chunks."""
    spans = Tiling.regular((array.shape[-2], array.shape[-1]), _SIZE)
    y_dim, x_dim = array.dims[-2:]
    parts = [
        {y_dim: slice(y.start, y.stop), x_dim: slice(x.start, x.stop)}
        for y, x in product(_spread(spans.y), _spread(spans.x))
    ]
    return [array.isel(part).data for part in parts]


def _spread(spans: Sequence[Span]) -> list[Span]:
    count = min(_ALONG, len(spans))
    return [spans[int((k + 0.5) * len(spans) / count)] for k in range(count)]


def _lines(
    first: list[NDArray[Any]],
    voids: tuple[float, ...],
    second: list[NDArray[Any]],
    other_voids: tuple[float, ...],
    points: int,
) -> Plane:
    """Lines that take values of the first to the second's: (leading..., 2, points)."""
    told = [_told(*args, points) for args in ((first, voids), (second, other_voids))]
    return np.stack(told, axis=-2)


def _told(parts: list[NDArray[Any]], voids: tuple[float, ...], points: int) -> Plane:
    """Numbers (leading..., points), ascending, that say how each band's values lie."""
    flat = [part.reshape(*part.shape[:-2], -1) for part in parts]
    values = np.concatenate(flat, axis=-1)
    rows = values.reshape(-1, values.shape[-1])
    found = [_distribution(row[valid_pixels(row, voids)], points) for row in rows]
    return np.array(found).reshape(*values.shape[:-1], points)


def _distribution(values: NDArray[Any], points: int) -> Plane:
    exact = values.astype(np.float64)
    found = np.zeros(points)
    if len(exact) >= _FEWEST:
        if points == _POINTS["moments"]:
            found = exact.mean() + exact.std() * np.array([-1.0, 1.0])
        else:
            found = np.quantile(exact, np.linspace(_ENDS, 1 - _ENDS, points))
    if not found[0] < found[-1]:
        raise InputError(
            f"a band has {len(exact)} known pixels where it was looked at, with "
            f"{len(np.unique(exact))} different values: no distribution to match. Leave the band "
            "out, or choose a part with more data."
        )
    return found


def _lazily(data: da.Array, lines: Delayed, points: int, voids: tuple[float, ...]) -> da.Array:
    """The image's chunks, each with the whole lines of its bands."""
    lead = data.ndim - 2
    table = da.from_delayed(lines, (*data.shape[:lead], 2, points), np.float64)
    table = table.rechunk((*data.chunks[:lead], 2, points))
    own = tuple(range(data.ndim))
    answer: da.Array = da.blockwise(
        _mapped,
        own,
        data,
        own,
        table,
        (*own[:lead], data.ndim, data.ndim + 1),
        voids=voids,
        token=f"{KEY_PREFIX}histogram",
        dtype=np.float32,
        concatenate=True,
        meta=np.empty((0,) * data.ndim, np.float32),
    )
    return answer


def _mapped(block: NDArray[Any], lines: Plane, voids: tuple[float, ...]) -> NDArray[np.float32]:
    """Values (leading..., ny, nx) through the line of their band; NaN at voids."""
    answer = np.full(block.shape, np.nan, np.float32)
    for index in np.ndindex(block.shape[:-2]):
        valid = valid_pixels(block[index], voids)
        answer[index][valid] = _along(block[index][valid].astype(np.float64), *lines[index])
    return answer


def _along(values: Plane, own: Plane, wanted: Plane) -> Plane:
    """Linear between points, and beyond the ends as steep as from end to end."""
    # Whole numbers share quantiles: what is equal must stay so.
    places, which = np.unique(own, return_inverse=True)
    means = np.bincount(which, wanted) / np.bincount(which)
    steep = (means[-1] - means[0]) / (places[-1] - places[0])
    inside = np.clip(values, places[0], places[-1])
    answer: Plane = np.interp(inside, places, means) + steep * (values - inside)
    return answer
