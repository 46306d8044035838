"""Pictures of elevations, with matplotlib imported inside the functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.kernels import KERNELS
from xdemsr.relief import hillshade

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Perceptually even and safe for colour-blind readers.
_TINT = "cividis"
_TINT_STRENGTH = 0.45
#: Okabe and Ito's blue and orange: trained models, and what needs no training.
_TRAINED, _UNTRAINED = "#0072b2", "#e69f00"
_MEASURES = {
    "of_best_classical": "MSE, of the better of spline and histospline",
    "of_spline": "MSE, of the spline's",
    "slope_rmse": "RMSE of slopes (degrees)",
}


def shaded_relief(
    da: xr.DataArray,
    ax: Axes | None = None,
    *,
    limits: tuple[float, float] | None = None,
    exaggeration: float = 1.0,
    azimuth: float = 315.0,
    altitude: float = 45.0,
) -> Axes:
    """Draw elevations as colour under a hillshade, to scale.

    Parameters
    ----------
    da : DataArray, dims (y, x)
        Elevations in metres.
    ax : matplotlib Axes, optional
    limits : (float, float), optional
        Elevations of the first and the last colour; the raster's own by default.
    exaggeration, azimuth, altitude : float, optional
        As for :func:`xdemsr.hillshade`.

    Returns
    -------
    matplotlib.axes.Axes
        In kilometres from the raster's upper left corner.
    """
    import matplotlib
    import matplotlib.pyplot as plt
    from matplotlib.colors import Normalize

    if ax is None:
        ax = plt.figure(layout="constrained").add_subplot()
    raster = grid.plane(da)
    shade = hillshade(raster, exaggeration=exaggeration, azimuth=azimuth, altitude=altitude)
    elevation, light = raster.values, shade.values
    low, high = limits or (float(np.nanmin(elevation)), float(np.nanmax(elevation)))
    colour = matplotlib.colormaps[_TINT](Normalize(low, high)(elevation))
    # A pale tint, so that the light is what one sees; flat ground keeps its colour.
    pale = 1 - _TINT_STRENGTH * (1 - colour[..., :3])
    flat = np.sin(np.radians(altitude))
    brightness = 0.25 + 0.75 * np.nan_to_num(light) / flat
    colour[..., :3] = np.clip(pale * brightness[..., None], 0, 1)
    colour[~np.isfinite(elevation)] = (0.85, 0.85, 0.85, 1.0)
    affine = grid.of(raster).geobox.affine
    colour = colour[:: -1 if affine.e > 0 else 1, :: -1 if affine.a < 0 else 1]
    height, width = (
        n * metres / 1000 for n, metres in zip(raster.shape, grid.of(raster).metres(), strict=True)
    )
    ax.imshow(colour, extent=(0, width, height, 0), interpolation="nearest")
    ax.set(xlabel="km", ylabel="km")
    return ax


def compare(
    rasters: Mapping[str, xr.DataArray],
    *,
    exaggeration: float = 1.0,
    title: str | None = None,
) -> Figure:
    """Draw rasters of one place side by side, under one light and one scale of colours.

    Parameters
    ----------
    rasters : mapping of str to DataArray
        Title and elevations of each panel.
    exaggeration : float, optional
        As for :func:`xdemsr.hillshade`.
    title : str, optional
        Of the whole picture.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt

    arrays = [grid.plane(da).compute() for da in rasters.values()]
    limits = (min(float(a.min()) for a in arrays), max(float(a.max()) for a in arrays))
    ny, nx = (
        n * metres for n, metres in zip(arrays[0].shape, grid.of(arrays[0]).metres(), strict=True)
    )
    panel = 4.2
    size = (panel * len(arrays), panel * ny / nx + (1.0 if title else 0.6))
    figure = plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(arrays), sharex=True, sharey=True, squeeze=False)[0]
    for ax, name, array in zip(axes, rasters, arrays, strict=True):
        shaded_relief(array, ax, limits=limits, exaggeration=exaggeration)
        ax.set_title(name)
        ax.label_outer()
    if title:
        figure.suptitle(title)
    return figure


def benchmark(
    table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "of_best_classical"
) -> Axes:
    """Draw one measure of a benchmark as bars, the best model on top.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`xdemsr.benchmark` gives it.
    ax : matplotlib Axes, optional
    measure : str, optional
        The column that is drawn: ``"of_best_classical"``, ``"of_spline"``, ``"rmse"``, ... Ratios
        have a line at 1.

    Returns
    -------
    matplotlib.axes.Axes
        Trained models are blue, interpolations orange.

    Raises
    ------
    InputError
        If the table has no such column.

    Examples
    --------
    >>> import xdemsr
    >>> table = xdemsr.synthetic.terrain((192, 256)).demsr.benchmark(8)
    >>> ax = xdemsr.plotting.benchmark(table, measure="rmse")
    >>> ax.get_xlabel()
    'RMSE'
    """
    import matplotlib.pyplot as plt

    if measure not in table:
        raise InputError(
            f"the table has no column {measure!r}; it has {', '.join(map(str, table.columns))}."
        )
    if ax is None:
        height = 0.9 + 0.34 * len(table)
        ax = plt.figure(figsize=(6.4, height), layout="constrained").add_subplot()
    # Bars are drawn from the bottom up, and of these two measures more is better.
    values = table[measure].sort_values(ascending=measure in ("psnr", "ssim"))
    colours = [_UNTRAINED if name in KERNELS else _TRAINED for name in values.index]
    bars = ax.barh([str(name) for name in values.index], values.to_numpy(), color=colours)
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    ax.bar_label(bars, fmt="%#.3g", padding=3, bbox=ground)
    ax.margins(x=0.12)
    if measure.startswith("of_"):
        ax.axvline(1.0, color="0.2", linewidth=1, linestyle="--", zorder=0.5)
    ax.set_xlabel(_MEASURES.get(measure, measure.upper()))
    ax.spines[["top", "right"]].set_visible(False)
    return ax
