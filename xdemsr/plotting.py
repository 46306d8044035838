"""Pictures of elevations, with matplotlib imported inside the functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xdemsr import grid
from xdemsr.relief import hillshade

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Perceptually even and safe for colour-blind readers.
_TINT = "cividis"
_TINT_STRENGTH = 0.45


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
