"""What can go wrong, said in words: what was asked, what was found, what to do."""

from __future__ import annotations

import sys
import warnings


class XdemsrError(ValueError):
    """Base of every error this library raises on purpose."""


class GridError(XdemsrError):
    """The raster's grid cannot be used: no spatial dimensions, irregular, rotated."""


class InputError(XdemsrError):
    """The values or the arguments cannot be used: dtype, bands, scale, size."""


class ModelError(XdemsrError):
    """The model cannot be found, built, or trusted."""


class WeightsError(ModelError):
    """A weights file cannot be read safely, or is not the file it should be."""


class ClusterError(XdemsrError):
    """Workers died, or the scheduler did, and the work could not be finished."""


class GsdWarning(UserWarning):
    """The raster's ground sampling distance is far from what the model was trained on."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line outside this package that made the call."""
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("xdemsr."):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, category, stacklevel=depth)
