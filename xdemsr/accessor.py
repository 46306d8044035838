"""The ``.demsr`` accessor: every method is a docstring and one call.

Each function is imported when it is called, so that ``import xdemsr`` stays light. Signatures are
those of the functions, without their first parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    import pandas as pd

    from xdemsr.bands import VerticalError
    from xdemsr.catalog import ModelLike
    from xdemsr.chunking import Chunks
    from xdemsr.planning import Plan


class _Accessor:
    """What arrays and datasets have in common."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def upscale(
        self,
        scale: int,
        model: ModelLike | None = None,
        *,
        vertical_error: VerticalError = "auto",
        ensemble: bool = False,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = "auto",
        chunks: Chunks = "auto",
    ) -> xr.DataArray:
        """Divide the pixels by a whole number, with a trained model or an interpolation.

        Parameters
        ----------
        scale : int
            Output pixels per input pixel along each axis.
        model : str, Path, ModelSpec or Model, optional
            A shipped name (:func:`xdemsr.list_models`), the path of a ``.safetensors`` file, or
            ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"spline"``, ``"histospline"``. The
            shipped terrain model of that scale by default.
        vertical_error : float, DataArray or "auto", optional
            Standard error of the elevations in their own unit, for models that ask for it;
            ``"auto"`` is what rounding has left in whole numbers, and 0 elsewhere.
        ensemble : bool, optional
            Average the answers to the eight flips and rotations; eight times the work.
        device, precision : str, optional
            ``"auto"``, or ``"cpu"``, ``"cuda"``, ...; and ``"fp32"``, ``"bf16"`` or ``"fp16"`` of
            the network's trunk.
        batch_size : int or "auto", optional
            Tiles given to a GPU at once.
        chunks : int, (int, int) or "auto", optional
            Size of the answer's chunks (ny, nx), in its own pixels.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            The same extent and unit. Lazy where the input is.

        See Also
        --------
        xdemsr.upscale : The same as a function; says what is raised, and when.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=30.0)
        >>> dict(dem.demsr.upscale(16).sizes)
        {'y': 384, 'x': 512}
        """
        from xdemsr.inference import upscale

        return upscale(
            self._obj,
            scale,
            model,
            vertical_error=vertical_error,
            ensemble=ensemble,
            device=device,
            precision=precision,
            batch_size=batch_size,
            chunks=chunks,
        )

    def apply(
        self,
        model: ModelLike,
        *,
        vertical_error: VerticalError = "auto",
        ensemble: bool = False,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = "auto",
        chunks: Chunks = "auto",
    ) -> xr.DataArray:
        """Run any model over the array or the dataset, tile by tile.

        Parameters
        ----------
        model : str, Path, ModelSpec or Model
            Its bands are found by name: variables of a dataset, or the array's band dimension.
        vertical_error : float, DataArray or "auto", optional
            Standard error of the elevations in their own unit, for models that ask for it;
            ``"auto"`` is what rounding has left in whole numbers, and 0 elsewhere.
        ensemble : bool, optional
            Average the answers to the eight flips and rotations; eight times the work.
        device, precision : str, optional
            ``"auto"``, or ``"cpu"``, ``"cuda"``, ...; and ``"fp32"``, ``"bf16"`` or ``"fp16"`` of
            the network's trunk.
        batch_size : int or "auto", optional
            Tiles given to a GPU at once.
        chunks : int, (int, int) or "auto", optional
            Size of the answer's chunks (ny, nx), in its own pixels.

        Returns
        -------
        DataArray, float32
            On the same grid, divided by the model's scale. Lazy where the input is.

        See Also
        --------
        xdemsr.apply : The same as a function.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=30.0)
        >>> dict(dem.demsr.apply("terrain-x16").sizes)
        {'y': 384, 'x': 512}
        """
        from xdemsr.inference import apply

        return apply(
            self._obj,
            model,
            vertical_error=vertical_error,
            ensemble=ensemble,
            device=device,
            precision=precision,
            batch_size=batch_size,
            chunks=chunks,
        )

    def plan(
        self,
        scale: int | None = None,
        model: ModelLike | None = None,
        *,
        vertical_error: VerticalError = "auto",
        ensemble: bool = False,
        chunks: Chunks = "auto",
    ) -> Plan:
        """What ``upscale`` or ``apply`` would do: sizes, tiles, tasks, operations, memory.

        Parameters
        ----------
        scale : int, optional
            May be left out where ``model`` has one of its own.
        model : str, Path, ModelSpec or Model, optional
        vertical_error, ensemble, chunks
            As for ``upscale``.

        Returns
        -------
        Plan

        See Also
        --------
        xdemsr.plan : The same as a function.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((240, 320)).chunk(100)
        >>> dem.demsr.plan(16).output_shape
        (3840, 5120)
        """
        from xdemsr.planning import plan

        return plan(
            self._obj,
            scale,
            model,
            vertical_error=vertical_error,
            ensemble=ensemble,
            chunks=chunks,
        )


@xr.register_dataarray_accessor("demsr")
class DataArrayAccessor(_Accessor):
    """Trained networks over terrain and imagery of any size: ``da.demsr``."""

    def degrade(
        self, scale: int, *, noise: float = 0.0, step: float = 0.0, seed: int = 0
    ) -> xr.DataArray:
        """How a coarse sensor would have seen the raster: block means, then noise, then rounding.

        Parameters
        ----------
        scale : int
            Fine pixels per coarse pixel along each axis.
        noise : float, optional
            Standard deviation of white noise, in the raster's unit.
        step : float, optional
            Round to multiples of this; 1 gives whole metres.
        seed : int, optional
            Of the noise.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            Lazy where the input is.

        See Also
        --------
        xdemsr.degrade : The same as a function.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((48, 64))
        >>> dict(dem.demsr.degrade(16, step=1.0).sizes)
        {'y': 3, 'x': 4}
        """
        from xdemsr.degradation import degrade

        return degrade(self._obj, scale, noise=noise, step=step, seed=seed)

    def evaluate(self, reference: xr.DataArray) -> pd.Series:
        """Compare with the truth, on the same grid.

        Parameters
        ----------
        reference : DataArray, dims (y, x)
            Pixels void in either are left out.

        Returns
        -------
        pandas.Series
            ``n``, ``mse``, ``rmse``, ``mae``, ``bias``, ``nmad``, ``le90``, ``slope_rmse``
            (degrees), ``psnr`` (dB) and ``ssim``, in the raster's unit unless said otherwise.

        See Also
        --------
        xdemsr.evaluate : The same as a function; defines every score.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((48, 64))
        >>> float((dem + 2.0).demsr.evaluate(dem)["rmse"])
        2.0
        """
        from xdemsr.metrics import evaluate

        return evaluate(self._obj, reference)

    def benchmark(
        self,
        scale: int,
        models: Sequence[ModelLike] | None = None,
        *,
        noise: float = 0.0,
        step: float = 0.0,
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
    ) -> pd.DataFrame:
        """Degrade the raster, restore it with each model, and score against itself.

        Parameters
        ----------
        scale : int
            Fine pixels per coarse pixel along each axis.
        models : sequence of str, Path, ModelSpec or Model, optional
            By default every interpolation and every shipped model of that scale.
        noise, step, seed : optional
            As for ``degrade``.
        device, precision : str, optional
            As for ``upscale``.

        Returns
        -------
        pandas.DataFrame
            One row for each model.

        See Also
        --------
        xdemsr.benchmark : The same as a function; describes the protocol.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((192, 256))
        >>> list(dem.demsr.benchmark(8, ["bicubic"]).index)
        ['bicubic', 'spline', 'histospline']
        """
        from xdemsr.benchmarking import benchmark

        return benchmark(
            self._obj,
            scale,
            models,
            noise=noise,
            step=step,
            seed=seed,
            device=device,
            precision=precision,
        )

    def hillshade(
        self, *, azimuth: float = 315.0, altitude: float = 45.0, exaggeration: float = 1.0
    ) -> xr.DataArray:
        """Brightness of the terrain under a distant light.

        Parameters
        ----------
        azimuth : float, optional
            Where the light comes from, in degrees clockwise from north.
        altitude : float, optional
            Height of the light above the horizon, in degrees.
        exaggeration : float, optional
            Factor on the elevations.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            0 (dark) to 1 (facing the light). Lazy where the input is.

        See Also
        --------
        xdemsr.hillshade : The same as a function.

        Examples
        --------
        >>> import xdemsr
        >>> xdemsr.synthetic.terrain((24, 32)).demsr.hillshade().name
        'hillshade'
        """
        from xdemsr.relief import hillshade

        return hillshade(self._obj, azimuth=azimuth, altitude=altitude, exaggeration=exaggeration)

    def slope(self) -> xr.DataArray:
        """Steepest slope in degrees.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            Lazy where the input is.

        See Also
        --------
        xdemsr.slope : The same as a function.

        Examples
        --------
        >>> import xdemsr
        >>> xdemsr.synthetic.terrain((24, 32)).demsr.slope().attrs["units"]
        'degree'
        """
        from xdemsr.relief import slope

        return slope(self._obj)


@xr.register_dataset_accessor("demsr")
class DatasetAccessor(_Accessor):
    """Models over the variables of a dataset, found by name: ``ds.demsr``."""
