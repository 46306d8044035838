"""Bands that follow from others, pixel by pixel: a vegetation index, and where all have data."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from xdemsr import grid
from xdemsr.errors import GridError, InputError
from xdemsr.grid import Grid
from xdemsr.storage import check_values, void_values
from xdemsr.voids import valid_pixels

#: What models call these bands.
NDVI, NODATA_MASK = "ndvi", "nodata_mask"


def ndvi(red: xr.DataArray, nir: xr.DataArray) -> xr.DataArray:
    """Normalised difference vegetation index, ``(nir - red) / (nir + red)``.

    Parameters
    ----------
    red, nir : DataArray, dims (..., y, x)
        Reflectances, or numbers proportional to them without an offset, on one grid.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        From -1 to 1; what negative reflectances put beyond is clipped. Void where either is, and
        where their sum is not positive. (DeepDEM sets such pixels to 0 and marks them as missing.)
        Lazy where an input is; the same numbers whatever the chunks.

    Raises
    ------
    GridError
        If they are on different grids.

    References
    ----------
    Rouse, J. W. et al. (1974). Monitoring vegetation systems in the Great Plains with ERTS. Third
    Earth Resources Technology Satellite-1 Symposium, NASA SP-351, 309-317.

    Examples
    --------
    >>> import xarray as xr, xdemsr
    >>> red = xr.DataArray([[0.05, 0.2, 0.0]], dims=("y", "x"))
    >>> nir = xr.DataArray([[0.45, 0.2, 0.0]], dims=("y", "x"))
    >>> xdemsr.ndvi(red, nir).values
    array([[0.8, 0. , nan]], dtype=float32)
    """
    answer = _by_pixel(_ndvi, [red, nir], np.float32).rename(NDVI)
    answer.attrs = {"units": "1", "long_name": "normalised difference vegetation index"}
    return answer


def nodata_mask(*arrays: xr.DataArray) -> xr.DataArray:
    """Where all of some rasters have data.

    Parameters
    ----------
    *arrays : DataArray, dims (..., y, x)
        One or more, on one grid.

    Returns
    -------
    DataArray, dims (..., y, x), uint8
        1 where every raster is valid, 0 where one is void: as DeepDEM's band of this name. Lazy
        where an input is; the same numbers whatever the chunks.

    Raises
    ------
    GridError
        If they are on different grids.
    InputError
        If there is none.

    Examples
    --------
    >>> import numpy as np, xarray as xr, xdemsr
    >>> dsm = xr.DataArray([[412.0, np.nan, 409.5]], dims=("y", "x"))
    >>> ortho = xr.DataArray([[0.1, 0.2, 0.3]], dims=("y", "x"))
    >>> xdemsr.nodata_mask(dsm, ortho).values
    array([[1, 0, 1]], dtype=uint8)
    """
    if not arrays:
        raise InputError("nodata_mask needs at least one raster.")
    answer = _by_pixel(_known, list(arrays), np.uint8).rename(NODATA_MASK)
    answer.attrs = {
        "flag_values": [0, 1],
        "flag_meanings": "void valid",
        "long_name": "pixels where every raster has data",
    }
    return answer


def _by_pixel(
    function: Callable[..., NDArray[Any]], arrays: list[xr.DataArray], dtype: DTypeLike
) -> xr.DataArray:
    """A function of pixels, whose coordinates are the first raster's."""
    base = grid.of(grid.single(arrays[0]))
    variables = []
    chunks: dict[Hashable, tuple[int, ...]] = {}
    for da in arrays:
        own = grid.of(grid.single(da))
        check_values(da)
        if not own.matches(base):
            raise GridError(
                f"{da.name!r} is on another grid than {arrays[0].name!r}: {own.describe()}; "
                f"expected {base.describe()}. Match it first: xdemsr.match_grid(other, first)."
            )
        # Without coordinates: those that agree to a hundredth of a pixel may differ in a bit.
        plain = da.drop_vars(list(da.coords)).rename(_renaming(own, base))
        if plain.chunks is not None:
            # Where the borders of different chunks cross, there would be too many.
            plain = plain.chunk({dim: n for dim, n in chunks.items() if dim in plain.dims})
            chunks = {**plain.chunksizes, **chunks}
        variables.append(plain.variable)
    answer = xr.apply_ufunc(
        function,
        *variables,
        kwargs={"voids": tuple(map(void_values, arrays))},
        dask="parallelized",
        output_dtypes=[dtype],
        keep_attrs=False,
    ).transpose(..., base.y_dim, base.x_dim)
    coords = {
        name: coord.variable
        for da in reversed(arrays)
        for name, coord in da.coords.items()
        if da is arrays[0] or (name in answer.dims and name not in (base.y_dim, base.x_dim))
    }
    return xr.DataArray(answer, coords=coords)


def _renaming(own: Grid, base: Grid) -> dict[Hashable, Hashable]:
    pairs = [(own.y_dim, base.y_dim), (own.x_dim, base.x_dim)]
    return {old: new for old, new in pairs if old != new}


def _ndvi(
    red: NDArray[Any], nir: NDArray[Any], voids: tuple[tuple[float, ...], ...]
) -> NDArray[np.float32]:
    low, high = red.astype(np.float64), nir.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        total = high + low
        known = _known(red, nir, voids=voids).astype(bool) & (total > 0)
        index = np.clip((high - low) / np.where(known, total, 1.0), -1.0, 1.0)
    return np.where(known, index, np.nan).astype(np.float32)


def _known(*planes: NDArray[Any], voids: tuple[tuple[float, ...], ...]) -> NDArray[np.uint8]:
    known: Any = np.uint8(1)
    for plane, missing in zip(planes, voids, strict=True):
        known = known & valid_pixels(plane, missing).astype(np.uint8)
    return np.asarray(known, np.uint8)
