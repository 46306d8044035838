"""Where water runs: whether two rasters of one place have the same streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, maximum_filter

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.metrics import common_grid
from xdemsr.storage import check_values, void_values
from xdemsr.voids import valid_pixels

#: What flow accumulation takes, measured, and the share of the free memory that it may take.
_BYTES_PER_PIXEL, _SHARE = 48, 0.8


def drainage_agreement(
    obj: xr.DataArray, reference: xr.DataArray, *, cells: int = 1000, tolerance: int = 2
) -> float:
    """Share of the reference's streams that a raster has as well.

    Water is let run over both rasters: depressions are filled, each pixel drains to one of its
    eight neighbours, and a pixel to which ``cells`` or more drain is a stream. This follows water
    from the divides to the border, so it needs both rasters whole in memory: unlike
    :func:`xdemsr.evaluate`, it does not work chunk by chunk. Needs the extra ``hydro``.

    Parameters
    ----------
    obj, reference : DataArray, dims (y, x)
        On one grid. Pixels void in either are void in both; water that reaches them, or the border,
        is gone. The pixels beside them do not count.
    cells : int, optional
        Pixels, itself among them, that drain to a pixel of a stream.
    tolerance : int, optional
        How many pixels apart, along each axis, two streams are still the same. Half a source pixel,
        where ``obj`` was upscaled, is a fair choice.

    Returns
    -------
    float
        Between 0 and 1: stream pixels of the reference with a stream pixel of the raster within the
        tolerance, over all.

    Raises
    ------
    GridError
        If the two are on different grids.
    InputError
        If the rasters are too large for the free memory, the reference has no stream of that many
        pixels, or an argument is out of its range.
    ImportError
        If pyflwdir is not installed.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((96, 128))
    >>> xdemsr.drainage_agreement(dem, dem, cells=200)
    1.0

    References
    ----------
    O'Callaghan, J. F. and Mark, D. M. (1984). The extraction of drainage networks from digital
    elevation data. Comput. Vis. Graph. Image Process. 28(3), 323-344.

    Wang, L. and Liu, H. (2006). An efficient method for identifying and filling surface depressions
    in digital elevation models. Int. J. Geogr. Inf. Sci. 20(2), 193-213.
    """
    if cells < 1 or tolerance < 0:
        raise InputError(
            f"drainage_agreement needs cells >= 1 and tolerance >= 0; got {cells} and {tolerance}."
        )
    flow_directions = _pyflwdir()
    for da in (obj, reference):
        check_values(grid.single(da))
    planes = [grid.plane(obj), grid.plane(reference)]
    _check_memory(common_grid(*planes).shape)
    blocks = [np.asarray(da.values) for da in planes]
    voids = [void_values(da) for da in (obj, reference)]
    known = [valid_pixels(block, values) for block, values in zip(blocks, voids, strict=True)]
    valid = known[0] & known[1]
    if not valid.any():
        raise InputError("no pixel is valid in both rasters; there is nothing to compare.")
    found, wanted = (_streams(flow_directions, block, valid, cells) for block in blocks)
    if not wanted.any():
        raise InputError(
            f"nowhere do {cells} pixels of the reference {wanted.shape} drain to one: it has no "
            "stream. Give fewer cells."
        )
    near = maximum_filter(found, size=2 * tolerance + 1, mode="constant")
    return float(near[wanted].mean())


def _pyflwdir() -> Any:
    try:
        import pyflwdir
    except ImportError as error:
        raise ImportError(
            "drainage_agreement needs pyflwdir, which is not installed: pip install 'xdemsr[hydro]'"
        ) from error
    return pyflwdir


def _check_memory(shape: tuple[int, int]) -> None:
    needed = _BYTES_PER_PIXEL * shape[0] * shape[1]
    free = psutil.virtual_memory().available
    if needed > _SHARE * free:
        raise InputError(
            f"drainage of {shape[0]} x {shape[1]} pixels would take {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory are free. Water is followed over the whole raster at "
            "once: give a part of it (a catchment: da.sel(...)), or coarser ones "
            "(xdemsr.degrade)."
        )


def _streams(
    flow_directions: Any, block: NDArray[Any], valid: NDArray[np.bool_], cells: int
) -> NDArray[np.bool_]:
    elevation = np.where(valid, block, np.nan).astype(np.float32)
    directions = flow_directions.from_dem(elevation, nodata=np.nan)
    # Along the rim water is led to the lowest outlet, which says nothing of the terrain.
    inside = binary_erosion(valid, np.ones((3, 3), bool))
    streams: NDArray[np.bool_] = inside & (directions.upstream_area(unit="cell") >= cells)
    return streams
