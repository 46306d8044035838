"""Degrade, restore with each model, score: the table of a super-resolution paper, on your data."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Literal, get_args

import pandas as pd
import xarray as xr

from xdemsr import grid
from xdemsr.catalog import ModelLike, find, shipped_models
from xdemsr.degradation import degrade
from xdemsr.errors import InputError
from xdemsr.inference import upscale
from xdemsr.kernels import CLASSICAL
from xdemsr.metrics import evaluate
from xdemsr.protocols import Trial, continuous, isolated
from xdemsr.sensor import Sampling, Sensor
from xdemsr.spec import ModelSpec, whole_scale

Protocol = Literal["continuous", "isolated"]

_CHUNK = 512


def benchmark(
    obj: xr.DataArray,
    scale: int,
    models: Sequence[ModelLike] | None = None,
    *,
    protocol: Protocol = "continuous",
    tile: int = 25,
    sampling: Sampling = "mean",
    fwhm: float = 1.0,
    mtf: float | None = None,
    noise: float = 0.0,
    stripes: float = 0.0,
    step: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
) -> pd.DataFrame:
    """Compare models on a raster whose truth is known.

    The raster is degraded by ``scale``, restored by each model, and scored against itself. Figures
    of different protocols cannot be compared: name the protocol beside every one.

    Parameters
    ----------
    obj : DataArray, dims (y, x)
        Fine elevations. Where they are lazy they are read piece by piece, once for each model and
        a few times before; the degraded raster is held in memory.
    scale : int
        Fine pixels per coarse pixel along each axis.
    models : sequence of str, Path, ModelSpec or Model, optional
        As for :func:`xdemsr.upscale`. By default every interpolation and every shipped model of
        that scale. The spline and the histospline are always among them.
    protocol : {"continuous", "isolated"}, optional
        ``"continuous"``, what a user has: the raster is restored whole, and scored without the
        outer 4 source pixels and 3 beside voids. ``"isolated"``, what papers report: it is cut into
        tiles, each is restored alone, as if nothing were known around it, and all its pixels are
        scored; tiles with a void are left out.
    tile : int, optional
        Size of isolated tiles in source pixels; at a scale of 16, 25 gives the 400 x 400 pixels of
        the paper below.
    sampling, fwhm, mtf, noise, stripes, step, seed : optional
        Of the degradation, as for :func:`xdemsr.degrade`. Models that ask for the vertical error
        are told it: what noise, stripes and rounding come to, and for the samplings that alias
        (``"bilinear"``, ``"nearest"``) the RMS difference from block means.
    device, precision : str, optional
        As for :func:`xdemsr.upscale`.

    Returns
    -------
    pandas.DataFrame
        One row for each model: the scores of :func:`xdemsr.evaluate`, pooled over all pixels,
        ``of_spline``, its MSE as a ratio to that of the spline (scikit-image's, the papers'
        bicubic), and ``of_best_classical``, to the better one of spline and histospline.

    Raises
    ------
    InputError
        If there is no such protocol, or nothing is left to score: the raster is too small, or every
        tile has a void.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((192, 256))
    >>> table = dem.demsr.benchmark(8, ["bicubic"])
    >>> list(table.index)
    ['bicubic', 'spline', 'histospline']
    >>> alone = dem.demsr.benchmark(8, ["bicubic"], protocol="isolated", tile=12)
    >>> alone["n"].astype(int).to_list()
    [36864, 36864, 36864]

    References
    ----------
    Demiray, B. Z., Sit, M. and Demir, I. (2021). DEM super-resolution with EfficientNetV2.
    arXiv:2109.09661 (its Table 3, which scores isolated tiles).
    """
    scale = whole_scale(scale)
    obj = grid.plane(obj)
    coarse = degrade(
        obj,
        scale,
        sampling=sampling,
        fwhm=fwhm,
        mtf=mtf,
        noise=noise,
        stripes=stripes,
        step=step,
        seed=seed,
    )
    if coarse.chunks is not None:
        # Every model reads all of it. What is fine stays lazy, and waits for nothing.
        coarse = coarse.compute().chunk(_CHUNK)
    trial = _trial(protocol, obj, coarse, scale, tile)
    error = Sensor(noise=noise, stripes=stripes, step=step).error
    if sampling in ("bilinear", "nearest"):
        error = float(evaluate(coarse, degrade(obj, scale))["rmse"])
    rows: dict[str, pd.Series] = {}
    for model in _all_models(models, scale):
        answer = upscale(
            trial.given, scale, model, vertical_error=error, device=device, precision=precision
        )
        rows[_label(find(model, scale), rows)] = trial.scores(answer)
    return _table(rows)


def _label(spec: ModelSpec, taken: Container[str]) -> str:
    """The model's name; where another has it, with its version and the beginning of its sha256."""
    if spec.name not in taken:
        return spec.name
    sha = spec.weights.sha256[:8] if spec.weights else "no weights"
    return f"{spec.name} (version {spec.version}, {sha})"


def _trial(
    protocol: Protocol, obj: xr.DataArray, coarse: xr.DataArray, scale: int, tile: int
) -> Trial:
    if protocol == "continuous":
        return continuous(obj, coarse, scale)
    if protocol == "isolated":
        return isolated(obj, coarse, scale, tile)
    raise InputError(f"protocol={protocol!r} is not one of {', '.join(get_args(Protocol))}.")


def _table(rows: dict[str, pd.Series]) -> pd.DataFrame:
    table = pd.DataFrame(rows).T
    table.index.name = "model"
    classical = table["mse"].loc[list(CLASSICAL)]
    table["of_spline"] = table["mse"] / classical["spline"]
    table["of_best_classical"] = table["mse"] / classical.min()
    return table


def _all_models(models: Sequence[ModelLike] | None, scale: int) -> list[ModelLike]:
    if models is None:
        chosen: list[ModelLike] = ["nearest", "bilinear", "bicubic", *CLASSICAL]
        # Those of imagery take more bands than a DEM has.
        terrain = {n: s for n, s in shipped_models().items() if len(s.raster_inputs) == 1}
        return chosen + [name for name, spec in terrain.items() if spec.scale == scale]
    names = {find(model, scale).name for model in models}
    return [*models, *(name for name in CLASSICAL if name not in names)]
