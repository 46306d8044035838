"""The benchmark's table as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from xdemsr.errors import InputError
from xdemsr.kernels import KERNELS
from xdemsr.plotting.canvas import COLOURS, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Blue and orange: trained models, and what needs no training.
_TRAINED, _UNTRAINED = COLOURS[:2]
#: What a column of the table is called, with its unit.
_MEASURES = {
    "of_best_classical": "MSE over that of the better of spline and histospline",
    "of_spline": "MSE over the spline's",
    "mse": "MSE (m²)",
    "rmse": "RMSE (m)",
    "mae": "MAE (m)",
    "bias": "bias (m)",
    "nmad": "NMAD (m)",
    "le90": "LE90 (m)",
    "slope_rmse": "RMSE of slopes (degrees)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
}


def benchmark(
    table: pd.DataFrame, ax: Axes | None = None, *, measure: str = "of_best_classical"
) -> Axes:
    """Draw one measure of a benchmark as bars, the best model on top.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`xdemsr.benchmark` gives it.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own by default.
    measure : str, optional
        The column that is drawn: ``"of_best_classical"``, ``"of_spline"``, ``"rmse"``, ... Ratios
        have a line at 1. Lengths are said to be in metres, as elevations should be.

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
    'RMSE (m)'
    """
    if measure not in table:
        raise InputError(
            f"the table has no column {measure!r}; it has {', '.join(map(str, table.columns))}."
        )
    ax = new_axes(ax, (6.4, 0.9 + 0.34 * len(table)))
    # Bars are drawn from the bottom up, and of these two measures more is better.
    values = table[measure].sort_values(ascending=measure in ("psnr", "ssim"))
    colours = [_UNTRAINED if name in KERNELS else _TRAINED for name in values.index]
    bars = ax.barh([str(name) for name in values.index], values.to_numpy(), color=colours)
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    ax.bar_label(bars, fmt="%#.3g", padding=3, bbox=ground)
    ax.margins(x=0.12)
    if measure.startswith("of_"):
        ax.axvline(1.0, color="0.2", linewidth=1, linestyle="--", zorder=0.5)
    ax.set_xlabel(_MEASURES.get(measure, measure))
    ax.spines[["top", "right"]].set_visible(False)
    return ax
