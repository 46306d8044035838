"""Degrade, restore with each model, score: the table of a super-resolution paper, on your data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from xdemsr import grid
from xdemsr.catalog import ModelLike, find, shipped_models
from xdemsr.degradation import degrade
from xdemsr.errors import InputError
from xdemsr.inference import upscale
from xdemsr.kernels import CLASSICAL
from xdemsr.mapping import map_function
from xdemsr.metrics import evaluate
from xdemsr.spec import whole_scale
from xdemsr.window import Window

#: Source pixels that are not scored: at the raster's outer border, and beside voids.
_EDGE, _BESIDE = 4, 3


def benchmark(
    obj: xr.DataArray,
    scale: int,
    models: Sequence[ModelLike] | None = None,
    *,
    noise: float = 0.0,
    step: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
) -> pd.DataFrame:
    """Compare models on a raster whose truth is known.

    The raster is degraded by ``scale``, restored whole by each model, and scored against itself
    without the outer 4 source pixels and 3 beside voids: the *continuous* protocol.

    Parameters
    ----------
    obj : DataArray, dims (y, x)
        Fine elevations.
    scale : int
        Fine pixels per coarse pixel along each axis.
    models : sequence of str, Path, ModelSpec or Model, optional
        As for :func:`xdemsr.upscale`. By default every interpolation and every shipped model of
        that scale. The spline and the histospline are always among them.
    noise, step, seed : optional
        Of the degradation, as for :func:`xdemsr.degrade`. Models that ask for the vertical error
        are told it.
    device, precision : str, optional
        As for :func:`xdemsr.upscale`.

    Returns
    -------
    pandas.DataFrame
        One row for each model, the scores of :func:`xdemsr.evaluate` and ``of_best_classical``: its
        MSE as a ratio to the better one of spline and histospline.

    Raises
    ------
    InputError
        If the raster is so small that nothing is left to score.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((192, 256))
    >>> table = dem.demsr.benchmark(8, ["bicubic"])
    >>> list(table.index)
    ['bicubic', 'spline', 'histospline']

    References
    ----------
    Demiray, B. Z., Sit, M. and Demir, I. (2021). DEM super-resolution with EfficientNetV2.
    arXiv:2109.09661 (its Table 3, which scores isolated tiles).
    """
    scale = whole_scale(scale)
    obj = grid.plane(obj)
    coarse = degrade(obj, scale, noise=noise, step=step, seed=seed)
    error = math.hypot(noise, step / math.sqrt(12))
    truth = _scored(obj, coarse, scale)
    if min(coarse.shape) <= 2 * _EDGE:
        raise InputError(
            f"a raster of {obj.shape} pixels is {coarse.shape} at a scale of {scale}, and the "
            f"outer {_EDGE} are not scored: nothing is left. Give a larger raster or a smaller "
            "scale."
        )
    rows = {}
    for model in _all_models(models, scale):
        restored = upscale(
            coarse, scale, model, vertical_error=error, device=device, precision=precision
        )
        rows[find(model, scale).name] = evaluate(restored, truth)
    table = pd.DataFrame(rows).T
    table.index.name = "model"
    table["of_best_classical"] = table["mse"] / table.loc[list(CLASSICAL), "mse"].min()
    return table


def _all_models(models: Sequence[ModelLike] | None, scale: int) -> list[ModelLike]:
    if models is None:
        chosen: list[ModelLike] = ["nearest", "bilinear", "bicubic", *CLASSICAL]
        return chosen + [n for n, spec in shipped_models().items() if spec.scale == scale]
    names = {find(model, scale).name for model in models}
    return [*models, *(name for name in CLASSICAL if name not in names)]


def _scored(obj: xr.DataArray, coarse: xr.DataArray, scale: int) -> xr.DataArray:
    """The truth, void where it is not scored."""
    base = grid.of(coarse)
    inner = map_function(coarse, _inner, "scored", halo=_BESIDE, shape=base.shape)
    fine = upscale(inner, scale, "nearest")
    ny, nx = base.shape
    truth = obj.isel({base.y_dim: slice(0, ny * scale), base.x_dim: slice(0, nx * scale)})
    kept: xr.DataArray = truth.where(fine.notnull().data)
    return kept.assign_attrs(obj.attrs)


def _inner(z: NDArray[np.float64], core: Window, shape: tuple[int, int]) -> NDArray[np.float64]:
    """The coarse pixels that are scored; the others void."""
    width = 2 * _BESIDE + 1
    valid = minimum_filter(np.isfinite(z), size=width)[_BESIDE:-_BESIDE, _BESIDE:-_BESIDE]
    for axis, (span, length) in enumerate(zip((core.y, core.x), shape, strict=True)):
        place = np.arange(span.start, span.stop)
        scored = (place >= _EDGE) & (place < length - _EDGE)
        valid = valid & (scored[:, None] if axis == 0 else scored)
    return np.where(valid, z[_BESIDE:-_BESIDE, _BESIDE:-_BESIDE], np.nan)
