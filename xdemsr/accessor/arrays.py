"""Methods of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import xarray as xr

from xdemsr.accessor.common import Accessor

if TYPE_CHECKING:
    import pandas as pd

    from xdemsr.benchmarking import Protocol
    from xdemsr.catalog import ModelLike
    from xdemsr.coregistration import Method, Shift
    from xdemsr.sensor import Sampling


@xr.register_dataarray_accessor("demsr")
class DataArrayAccessor(Accessor):
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
    ) -> pd.Series:
        """Compare with the truth, on the same grid.

        Parameters
        ----------
        reference : DataArray, dims (y, x)
            Pixels void in either are left out.
        standard_error : DataArray, dims (y, x), optional
            Of the raster, as a model predicts it: adds ``within_1se`` and ``within_2se``.
        tile : int, optional
            Size in pixels of square tiles that were made apart from each other.

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

        return evaluate(self._obj, reference, standard_error=standard_error, tile=tile)

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
