"""Axes to draw on: made, to scale, with a bar that says how long things are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Okabe and Ito's colours, which colour-blind readers tell apart; without the yellow, which is
#: hard to see on white.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
#: Where nothing is known.
VOID = (0.85, 0.85, 0.85, 1.0)
#: Maps shorter than this, in metres, are measured in metres.
_SHORT = 2000.0
#: Share of a map's width that its scale bar has at most.
_BAR = 0.3


def new_axes(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """The axes given, or those of a new figure of so many inches."""
    import matplotlib.pyplot as plt

    if ax is not None:
        return ax
    return plt.figure(figsize=size, layout="constrained").add_subplot()


def lines() -> Iterator[str]:
    """Colours for lines, one after the other."""
    return cycle(COLOURS)


def north_up(values: NDArray[Any], base: Grid) -> NDArray[Any]:
    """Rows from north to south and columns from west to east."""
    affine = base.geobox.affine
    return values[:: -1 if affine.e > 0 else 1, :: -1 if affine.a < 0 else 1]


def extent(base: Grid) -> tuple[float, float, str]:
    """Height and width of a raster, and their unit."""
    height, width = (n * size for n, size in zip(base.shape, base.metres(), strict=True))
    if max(height, width) < _SHORT:
        return height, width, "m"
    return height / 1000, width / 1000, "km"


def show(
    ax: Axes,
    values: NDArray[Any],
    raster: xr.DataArray,
    *,
    cmap: str | None = None,
    limits: tuple[float | None, float | None] = (None, None),
) -> Any:
    """Draw an array on a raster's grid, to scale, north up, with axes and a scale bar."""
    base = grid.of(raster)
    height, width, unit = extent(base)
    image = ax.imshow(
        north_up(values, base),
        extent=(0, width, height, 0),
        cmap=cmap,
        vmin=limits[0],
        vmax=limits[1],
    )
    ax.set(xlabel=unit, ylabel=unit, aspect="equal")
    _scale_bar(ax, width, unit)
    return image


def _scale_bar(ax: Axes, width: float, unit: str) -> None:
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    length = _round(width * _BAR)
    bar = AnchoredSizeBar(
        ax.transData,
        length,
        f"{length:g} {unit}",
        "lower left",
        pad=0.3,
        borderpad=0.5,
        sep=3,
        color="black",
        size_vertical=width / 200,
        fontproperties={"size": 8},
    )
    bar.patch.set(facecolor="white", edgecolor="none", alpha=0.75)
    ax.add_artist(bar)


def _round(most: float) -> float:
    """The longest of 1, 2 and 5 times a power of ten that is no more."""
    power = 10.0 ** math.floor(math.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most))


def colour_bar(ax: Axes, mappable: Any, label: str, extend: str = "neither") -> None:
    """A colour bar as high as the map that it belongs to."""
    ax.figure.colorbar(mappable, ax=ax, label=label, extend=extend, shrink=0.8, pad=0.02)


def known(values: NDArray[Any]) -> NDArray[np.float64]:
    """The finite ones among them, in one row."""
    finite: NDArray[np.float64] = values[np.isfinite(values)].astype(np.float64)
    return finite
