"""Methods of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import xarray as xr

from xdemsr.accessor.looking import LookingAccessor

if TYPE_CHECKING:
    import pandas as pd

    from xdemsr.benchmarking import Protocol
    from xdemsr.catalog import ModelLike
    from xdemsr.chunking import Chunks
    from xdemsr.coregistration import Method, Shift
    from xdemsr.sensor import Sampling


@xr.register_dataarray_accessor("demsr")
class DataArrayAccessor(LookingAccessor):
    """Trained networks over terrain and imagery of any size: ``da.demsr``."""

    def degrade(
        self,
        scale: int,
        *,
        sampling: Sampling = "mean",
        fwhm: float = 1.0,
        mtf: float | None = None,
        noise: float = 0.0,
        stripes: float = 0.0,
        step: float = 0.0,
        seed: int = 0,
    ) -> xr.DataArray:
        """How a coarse sensor would have seen the raster: sampling, then noise, then rounding.

        Parameters
        ----------
        scale : int
            Fine pixels per coarse pixel along each axis.
        sampling : {"mean", "gaussian", "bilinear", "nearest"}, optional
            What a coarse pixel holds: the mean of its block, that under a Gaussian point-spread
            function, or what interpolating at its centre gives.
        fwhm, mtf : float, optional
            Width of the Gaussian: full width at half maximum in coarse pixels, or contrast left at
            half a cycle per coarse pixel.
        noise, stripes : float, optional
            Standard deviations of white noise, and of an offset that a row shares, in the raster's
            unit.
        step : float, optional
            Round to multiples of this; 1 gives whole metres.
        seed : int, optional
            Of noise and stripes.

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

        return degrade(
            self._obj,
            scale,
            sampling=sampling,
            fwhm=fwhm,
            mtf=mtf,
            noise=noise,
            stripes=stripes,
            step=step,
            seed=seed,
        )

    def imagery(
        self,
        model: ModelLike,
        *,
        ensemble: bool = False,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = "auto",
        chunks: Chunks = "auto",
    ) -> xr.DataArray:
        """Imagery that the terrain may have, from its elevations.

        Parameters
        ----------
        model : str, Path, ModelSpec or Model
            Takes one band of elevations.
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
        DataArray, dims (..., band, y, x), float32
            The model's bands, by name; void where the elevations are. Lazy where the input is.

        See Also
        --------
        xdemsr.imagery : The same as a function; says what is raised, and an example.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((24, 32))
        >>> image = dem.demsr.imagery("my-model.safetensors")  # doctest: +SKIP
        """
        from xdemsr.imaging import imagery

        return imagery(
            self._obj,
            model,
            ensemble=ensemble,
            device=device,
            precision=precision,
            batch_size=batch_size,
            chunks=chunks,
        )

    def coregister(self, reference: xr.DataArray, *, method: Method = "slope") -> Shift:
        """Find how far the raster lies from where a fine one says it belongs.

        Parameters
        ----------
        reference : DataArray, dims (y, x)
            Pixels of the same size or smaller, in the same CRS and unit.
        method : {"slope", "correlation"}, optional
            How: differences laid to slopes, or the peak of the cross-correlation.

        Returns
        -------
        Shift
            With ``apply``, which moves the raster, and ``onto``, which then lays it on the
            reference's grid, coarsened.

        See Also
        --------
        xdemsr.coregister : The same as a function; says how, what is raised, and when.

        Examples
        --------
        >>> import xdemsr
        >>> fine = xdemsr.synthetic.terrain((240, 320), gsd=2.0)
        >>> coarse = fine.demsr.degrade(8) + 3.0
        >>> round(coarse.demsr.coregister(fine).dz, 2)
        -3.0
        """
        from xdemsr.coregistration import coregister

        return coregister(self._obj, reference, method=method)

    def evaluate(
        self,
        reference: xr.DataArray,
        *,
        standard_error: xr.DataArray | None = None,
        tile: int | None = None,
        data_range: float | None = None,
    ) -> pd.Series:
        """Compare with the truth, on the same grid.

        Parameters
        ----------
        reference : DataArray, dims (y, x) or (band, y, x)
            Pixels void in either are left out.
        standard_error : DataArray, dims (y, x), optional
            Of the raster, as a model predicts it: adds ``within_1se`` and ``within_2se``.
        tile : int, optional
            Size in pixels of square tiles that were made apart from each other.
        data_range : float, optional
            What ``psnr`` and ``ssim`` take for the range of values; the reference's by default.

        Returns
        -------
        pandas.Series
            ``n``, ``mse``, ``rmse``, ``mae``, ``bias``, ``nmad``, ``le90``, ``within_1sd`` (share),
            ``slope_rmse`` (degrees), ``psnr`` (dB) and ``ssim``, in the raster's unit unless said
            otherwise.

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

        return evaluate(
            self._obj,
            reference,
            standard_error=standard_error,
            tile=tile,
            data_range=data_range,
        )

    def benchmark(
        self,
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
        """Degrade the raster, restore it with each model, and score against itself.

        Parameters
        ----------
        scale : int
            Fine pixels per coarse pixel along each axis.
        models : sequence of str, Path, ModelSpec or Model, optional
            By default every interpolation and every shipped model of that scale.
        protocol : {"continuous", "isolated"}, optional
            The raster whole, as a user has it; or in tiles that are each restored alone, as papers
            do.
        tile : int, optional
            Size of isolated tiles in source pixels.
        sampling, fwhm, mtf, noise, stripes, step, seed : optional
            As for ``degrade``.
        device, precision : str, optional
            As for ``upscale``.

        Returns
        -------
        pandas.DataFrame
            One row for each model.

        See Also
        --------
        xdemsr.benchmark : The same as a function; describes the protocols.

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
            protocol=protocol,
            tile=tile,
            sampling=sampling,
            fwhm=fwhm,
            mtf=mtf,
            noise=noise,
            stripes=stripes,
            step=step,
            seed=seed,
            device=device,
            precision=precision,
        )
