"""How far off an answer says it is, and whether it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.metrics import common_grid
from xdemsr.plotting.canvas import COLOURS, VOID, colour_bar, known, new_axes, show
from xdemsr.plotting.differences import known_heights
from xdemsr.views import thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Plane = NDArray[np.float64]

#: Even in brightness, and safe for colour-blind readers.
_SIZES = "viridis"
_SHOWN = 0.98


def standard_error_map(
    da: xr.DataArray,
    ax: Axes | None = None,
    *,
    limit: float | None = None,
    colorbar: bool = True,
    size: int = 1600,
) -> Axes:
    """Draw how uncertain each pixel says it is.

    Parameters
    ----------
    da : DataArray, dims (y, x)
        Standard errors in metres, as ``upscale(..., uncertainty=True)`` gives them.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own by default.
    limit : float, optional
        Standard error in metres of the brightest colour. By default 98 % of pixels have less.
    colorbar : bool, optional
        Say beside the map which colour is which.
    size : int, optional
        Pixels along the longer side, at most. Larger rasters are thinned to means of square blocks.

    Returns
    -------
    matplotlib.axes.Axes
        Of the map.

    Raises
    ------
    InputError
        If all is void.

    Examples
    --------
    >>> import xdemsr
    >>> fine = xdemsr.synthetic.fractal((60, 80)).demsr.upscale(4, uncertainty=True)
    >>> ax = xdemsr.plotting.standard_error_map(fine["elevation_standard_error"])
    >>> ax.get_xlabel()
    'km'
    """
    raster, _ = thinned(grid.plane(da), size)
    some = known(raster.values)
    if not some.size:
        raise InputError("no pixel is valid; there is nothing to see.")
    if limit is None:
        limit = float(np.quantile(some, _SHOWN)) or 1.0
    ax = new_axes(ax)
    image = show(ax, raster.values, raster, cmap=_SIZES, limits=(0, limit))
    ax.set_facecolor(VOID)
    if colorbar:
        beyond = bool((some > limit).any())
        colour_bar(ax, image, "standard error (m)", extend="max" if beyond else "neither")
    return ax


def calibration(
    da: xr.DataArray,
    standard_error: xr.DataArray,
    reference: xr.DataArray,
    ax: Axes | None = None,
    *,
    bins: int = 12,
) -> Axes:
    """Draw the errors that were found against those that were stated.

    Pixels are sorted by their stated standard error and put into bins of equal count; each is a
    point. On the line, what was stated is what was found; above it the answer is too sure of
    itself.

    Parameters
    ----------
    da, standard_error, reference : DataArray, dims (y, x)
        The answer, its standard error and the truth, in metres, on one grid. All pixels are held in
        memory.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own by default.
    bins : int, optional
        Points.

    Returns
    -------
    matplotlib.axes.Axes
        The title says which share of pixels lies within one and two standard errors.

    Raises
    ------
    GridError
        If the rasters are not on one grid.
    InputError
        If fewer pixels than bins are known in all three.

    Examples
    --------
    >>> import xdemsr
    >>> truth = xdemsr.synthetic.fractal((120, 160))
    >>> fine = truth.demsr.degrade(4).demsr.upscale(4, uncertainty=True)
    >>> ax = xdemsr.plotting.calibration(*fine.data_vars.values(), truth)
    >>> ax.get_xlabel()
    'stated standard error (m)'
    """
    planes = [known_heights(each) for each in (da, standard_error, reference)]
    common_grid(*planes)
    answer, stated, truth = (each.values.astype(np.float64) for each in planes)
    valid = np.isfinite(answer) & np.isfinite(stated) & np.isfinite(truth)
    if bins < 1 or valid.sum() < bins:
        raise InputError(
            f"{int(valid.sum())} pixels are known in all three rasters; that does not fill "
            f"bins={bins}."
        )
    error, spread = (answer - truth)[valid], stated[valid]
    ax = new_axes(ax, (4.6, 4.4))
    _points(ax, error, spread, bins)
    within = [np.mean(np.abs(error) <= times * spread) for times in (1, 2)]
    ax.set_title(f"{within[0]:.0%} within one, {within[1]:.0%} within two", fontsize="medium")
    return ax


def _points(ax: Axes, error: Plane, spread: Plane, bins: int) -> None:
    parts = np.array_split(np.argsort(spread, kind="stable"), bins)
    stated = np.array([np.sqrt(np.mean(np.square(spread[part]))) for part in parts])
    found = np.array([np.sqrt(np.mean(np.square(error[part]))) for part in parts])
    most = 1.08 * float(max(stated.max(), found.max()))
    ax.plot([0, most], [0, most], color="0.5", linestyle="--", linewidth=1, label="as stated")
    ax.plot(stated, found, "o-", color=COLOURS[0], markersize=5, label="found")
    ax.set(
        xlabel="stated standard error (m)",
        ylabel="RMS error found (m)",
        xlim=(0, most),
        ylim=(0, most),
        aspect="equal",
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left")
