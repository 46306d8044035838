"""Elevations as colour under a light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.plotting.canvas import VOID, colour_bar, extent, known, new_axes, show
from xdemsr.relief import hillshade
from xdemsr.views import thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

#: Perceptually even and safe for colour-blind readers.
_TINT = "cividis"
_TINT_STRENGTH = 0.45
#: Width of a panel in inches.
_PANEL = 3.4


def shaded_relief(
    da: xr.DataArray,
    ax: Axes | None = None,
    *,
    limits: tuple[float, float] | None = None,
    exaggeration: float = 1.0,
    azimuth: float = 315.0,
    altitude: float = 45.0,
    colorbar: bool = False,
    size: int = 1600,
) -> Axes:
    """Draw elevations as colour under a hillshade, to scale.

    Parameters
    ----------
    da : DataArray, dims (y, x)
        Elevations in metres. Lazy arrays are read piece by piece.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own by default.
    limits : (float, float), optional
        Elevations of the first and the last colour; the raster's own by default.
    exaggeration, azimuth, altitude : float, optional
        As for :func:`xdemsr.hillshade`.
    colorbar : bool, optional
        Say beside the map which colour is which elevation.
    size : int, optional
        Pixels along the longer side, at most. Larger rasters are thinned to means of square blocks.

    Returns
    -------
    matplotlib.axes.Axes
        In metres or kilometres from the raster's upper left corner.

    Raises
    ------
    GridError
        If the array is not one raster on a regular grid.
    InputError
        If all is void.

    Examples
    --------
    >>> import xdemsr
    >>> ax = xdemsr.plotting.shaded_relief(xdemsr.synthetic.fractal((60, 80)))
    >>> ax.get_xlabel(), ax.get_xlim()
    ('km', (np.float64(0.0), np.float64(2.4)))
    """
    raster, _ = thinned(grid.plane(da), size)
    low, high = limits or _limits([raster])
    light = hillshade(raster, exaggeration=exaggeration, azimuth=azimuth, altitude=altitude)
    colours, tint = _tinted(raster.values, low, high)
    # Flat ground keeps its colour.
    flat = np.sin(np.radians(altitude))
    brightness = 0.25 + 0.75 * np.nan_to_num(light.values) / flat
    colours[..., :3] = np.clip(colours[..., :3] * brightness[..., None], 0, 1)
    colours[~np.isfinite(raster.values)] = VOID
    ax = new_axes(ax)
    show(ax, colours, raster)
    if colorbar:
        colour_bar(ax, tint, "elevation (m)")
    return ax


def compare(
    rasters: Mapping[str, xr.DataArray],
    *,
    exaggeration: float = 1.0,
    azimuth: float = 315.0,
    altitude: float = 45.0,
    columns: int | None = None,
    title: str | None = None,
    size: int = 1600,
) -> NDArray[np.object_]:
    """Draw rasters of one place side by side, under one light and one scale of colours.

    Parameters
    ----------
    rasters : mapping of str to DataArray
        Title and elevations of each panel.
    exaggeration, azimuth, altitude : float, optional
        As for :func:`xdemsr.hillshade`.
    columns : int, optional
        Panels in a row; all of them by default.
    title : str, optional
        Of the whole picture.
    size : int, optional
        As for :func:`shaded_relief`.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        One for each raster, in order; ``axes[0].figure`` is the picture.

    Raises
    ------
    InputError
        If there is nothing to compare, or all of it is void.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.fractal((60, 80))
    >>> axes = xdemsr.plotting.compare({"before": dem, "after": dem.demsr.upscale(4, "spline")})
    >>> [ax.get_title() for ax in axes]
    ['before', 'after']
    """
    import matplotlib.pyplot as plt

    if not rasters:
        raise InputError("compare needs a raster at least: {title: raster, ...}.")
    thin = [thinned(grid.plane(da), size)[0] for da in rasters.values()]
    limits = _limits(thin)
    height, width, _ = extent(grid.of(thin[0]))
    across = min(columns or len(thin), len(thin))
    down = -(-len(thin) // across)
    panel = _PANEL * height / width + 0.35
    figure = plt.figure(
        figsize=(_PANEL * across + 0.9, panel * down + (0.7 if title else 0.4)),
        layout="compressed",
    )
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[len(thin) :]:
        ax.remove()
    drawn = axes[: len(thin)]
    for ax, name, raster in zip(drawn, rasters, thin, strict=True):
        shaded_relief(
            raster,
            ax,
            limits=limits,
            exaggeration=exaggeration,
            azimuth=azimuth,
            altitude=altitude,
            size=size,
        )
        ax.set_title(name)
        ax.label_outer()
    _, tint = _tinted(np.zeros((0, 0)), *limits)
    figure.colorbar(tint, ax=list(drawn), label="elevation (m)", shrink=0.8, pad=0.01)
    if title:
        figure.suptitle(title)
    return drawn


def _limits(rasters: list[xr.DataArray]) -> tuple[float, float]:
    values = [known(raster.values) for raster in rasters]
    if not any(each.size for each in values):
        raise InputError("no pixel is valid; there is nothing to see.")
    ends = [(each.min(), each.max()) for each in values if each.size]
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def _tinted(values: NDArray[Any], low: float, high: float) -> tuple[NDArray[Any], ScalarMappable]:
    """Pale colours of elevations, so that the light is what one sees; and what they mean."""
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    colours = matplotlib.colormaps[_TINT](np.linspace(0, 1, 256))
    pale = ListedColormap(1 - _TINT_STRENGTH * (1 - colours[:, :3]))
    tint = ScalarMappable(Normalize(low, high if high > low else low + 1), pale)
    return np.asarray(pale(tint.norm(values))), tint
