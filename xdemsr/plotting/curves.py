"""How a training went, from the logs that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from xdemsr.errors import InputError
from xdemsr.io.paths import local
from xdemsr.plotting.canvas import lines, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What is said of a measure on the axis, where its name is not enough.
_SAID = {"score": "score (below 1: better than no training)"}


def training_curves(
    folder: str | Path, ax: Axes | None = None, *, measures: Sequence[str] = ("loss", "score")
) -> Axes:
    r"""Draw loss and score over the steps of a training.

    Parameters
    ----------
    folder : str or Path
        Where :func:`xdemsr.train` kept its logs: its ``folder``, or the model's path without its
        ending. A run that went on after a kill is drawn as one.
    ax : matplotlib Axes, optional
        Where to draw; in a figure of its own by default.
    measures : sequence of str, optional
        Columns of the logs. ``"loss"`` is of one batch at a time; ``"score"`` is what chooses among
        the weights: lower is better, and 1 is the answer that needs no training.

    Returns
    -------
    matplotlib.axes.Axes
        The best score is ringed.

    Raises
    ------
    InputError
        If there are no logs, or they hold no such measure.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import xdemsr
    >>> folder = pathlib.Path(tempfile.mkdtemp(), "log", "version_0")
    >>> folder.mkdir(parents=True)
    >>> lines = "step,loss,score", "49,1.1,", "99,0.9,", "99,,0.8"
    >>> _ = (folder / "metrics.csv").write_text("\n".join(lines))
    >>> ax = xdemsr.plotting.training_curves(folder.parent.parent)
    >>> [line.get_label() for line in ax.lines]
    ['loss', 'score']
    """
    table = _logs(local(folder))
    for measure in measures:
        if measure not in table:
            there = ", ".join(name for name in table.columns if name not in ("epoch", "step"))
            raise InputError(f"the logs in {folder} have no {measure!r}; they have {there}.")
    ax = new_axes(ax, (6.4, 3.6))
    for measure, colour in zip(measures, lines(), strict=False):
        # Of a run that went on, steps that were done twice are drawn once.
        values = table.dropna(subset=[measure]).drop_duplicates("step", keep="last")
        steps, heights = values["step"].to_numpy() + 1, values[measure].to_numpy()
        if measure != "score":
            ax.plot(steps, heights, color=colour, linewidth=1, alpha=0.8, label=measure)
            continue
        ax.plot(steps, heights, "o-", color=colour, markersize=4, label=measure)
        best = heights.argmin()
        ax.scatter(steps[best], heights[best], s=90, facecolors="none", edgecolors=colour)
    ax.set(xlabel="step", ylabel=" and ".join(_SAID.get(measure, measure) for measure in measures))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


def _logs(folder: Path) -> pd.DataFrame:
    """All that was logged, in the order of its steps."""
    found = sorted(
        folder.glob("log/version_*/metrics.csv"),
        key=lambda path: int(path.parent.name.removeprefix("version_")),
    )
    if not found:
        raise InputError(
            f"{folder} holds no logs of a training (log/version_*/metrics.csv). Give the folder "
            "of the run: the model's path without its ending, unless train(folder=...) was told."
        )
    return pd.concat([pd.read_csv(path) for path in found]).reset_index(drop=True)
