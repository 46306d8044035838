"""How far answers are from the truth: where, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.mapping import map_function
from xdemsr.metrics import common_grid
from xdemsr.plotting.canvas import VOID, colour_bar, known, lines, new_axes, show
from xdemsr.views import thinned
from xdemsr.window import Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Plane = NDArray[np.float64]

#: Blue too low, red too high; white is right.
_SIGNED = "RdBu_r"
#: Share of errors that the colours tell apart.
_SHOWN = 0.98
_BINS = 121


def error_map(
    da: xr.DataArray,
    reference: xr.DataArray,
    ax: Axes | None = None,
    *,
    limit: float | None = None,
    colorbar: bool = True,
    size: int = 1600,
) -> Axes:
    """Draw where a raster is too high and where too low.

    Parameters
    ----------
    da, reference : DataArray, dims (y, x)
        The answer and the truth, on one grid, in metres.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own by default.
    limit : float, optional
        Error in metres of the darkest colours. By default 98 % of errors are less.
    colorbar : bool, optional
        Say beside the map which colour is which error.
    size : int, optional
        Pixels along the longer side, at most. Larger rasters are thinned to mean errors of square
        blocks.

    Returns
    -------
    matplotlib.axes.Axes
        Red is too high, blue too low, grey unknown.

    Raises
    ------
    GridError
        If the two are not on one grid.
    InputError
        If no pixel is known in both.

    Examples
    --------
    >>> import xdemsr
    >>> truth = xdemsr.synthetic.fractal((120, 160))
    >>> answer = truth.demsr.degrade(4).demsr.upscale(4, "spline")
    >>> ax = xdemsr.plotting.error_map(answer, truth)
    >>> ax.get_xlabel()
    'km'
    """
    errors = _errors(da, reference, size)
    some = known(errors.values)
    if limit is None:
        limit = float(np.quantile(np.abs(some), _SHOWN)) or 1.0
    ax = new_axes(ax)
    image = show(ax, errors.values, errors, cmap=_SIGNED, limits=(-limit, limit))
    ax.set_facecolor(VOID)
    if colorbar:
        beyond = bool((np.abs(some) > limit).any())
        colour_bar(ax, image, "error (m)", extend="both" if beyond else "neither")
    return ax


def error_histogram(
    rasters: Mapping[str, xr.DataArray],
    reference: xr.DataArray,
    ax: Axes | None = None,
    *,
    limit: float | None = None,
    size: int = 1600,
) -> Axes:
    """Draw how often errors of each size are made.

    Parameters
    ----------
    rasters : mapping of str to DataArray, dims (y, x)
        Names and answers, in metres.
    reference : DataArray, dims (y, x)
        The truth, on the same grid.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own by default.
    limit : float, optional
        Largest error that is drawn, in metres. By default 98 % of the worst answer's are less.
    size : int, optional
        As for :func:`error_map`.

    Returns
    -------
    matplotlib.axes.Axes
        Share of pixels per metre of error; the legend says each one's root mean square.

    Raises
    ------
    GridError
        If the rasters are not on one grid.
    InputError
        If there is no raster, or no pixel is known in one of them and in the reference.

    Examples
    --------
    >>> import xdemsr
    >>> truth = xdemsr.synthetic.fractal((120, 160))
    >>> coarse = truth.demsr.degrade(4)
    >>> answers = {name: coarse.demsr.upscale(4, name) for name in ("nearest", "spline")}
    >>> ax = xdemsr.plotting.error_histogram(answers, truth)
    >>> ax.get_xlabel()
    'error (m)'
    """
    if not rasters:
        raise InputError("error_histogram needs an answer at least: {name: raster, ...}.")
    found = {name: known(_errors(da, reference, size).values) for name, da in rasters.items()}
    if limit is None:
        limit = max(float(np.quantile(np.abs(errors), _SHOWN)) for errors in found.values()) or 1.0
    bins = np.linspace(-limit, limit, _BINS)
    ax = new_axes(ax, (6.4, 3.6))
    for (name, errors), colour in zip(found.items(), lines(), strict=False):
        counts, _ = np.histogram(errors, bins)
        rms = float(np.sqrt(np.mean(np.square(errors))))
        share = counts / errors.size / np.diff(bins)
        ax.stairs(share, bins, color=colour, linewidth=1.6, label=f"{name}: RMSE {rms:.3g} m")
    ax.axvline(0, color="0.6", linewidth=0.8, zorder=0.5)
    ax.set(xlabel="error (m)", ylabel="share of pixels per metre", xlim=(-limit, limit))
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def _errors(da: xr.DataArray, reference: xr.DataArray, size: int) -> xr.DataArray:
    """Answer less truth, void where either is, thinned."""
    answer, truth = known_heights(da), known_heights(reference)
    common_grid(answer, truth)
    errors, _ = thinned(answer.copy(data=answer.data - truth.data), size)
    if not np.isfinite(errors.values).any():
        raise InputError("no pixel is known in both the answer and the reference.")
    return errors


def known_heights(da: xr.DataArray) -> xr.DataArray:
    """One raster as float32 with NaN at its voids."""
    return map_function(grid.plane(da), _as_it_is, "known")


def _as_it_is(values: Plane, core: Window) -> Plane:
    return values
