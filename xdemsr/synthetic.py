"""Made terrain, for documentation, tests and first steps."""

from __future__ import annotations

import numpy as np
import xarray as xr
from affine import Affine

from xdemsr.errors import InputError


def terrain(
    shape: tuple[int, int],
    gsd: float = 30.0,
    *,
    relief: float = 500.0,
    roughness: float = 2.2,
    base: float = 1000.0,
    crs: str = "EPSG:32611",
    seed: int = 0,
) -> xr.DataArray:
    """Fractal terrain by spectral synthesis, georeferenced.

    Parameters
    ----------
    shape : (ny, nx)
        Size in pixels.
    gsd : float, optional
        Pixel size in metres.
    relief : float, optional
        Height between the lowest and the highest pixel, in metres.
    roughness : float, optional
        Exponent of the spectrum's decay: amplitudes fall as frequency to the power of minus this.
        Real terrain lies between about 2 and 2.5; more is smoother.
    base : float, optional
        Lowest elevation, in metres.
    crs : str, optional
        A projected CRS in metres.
    seed : int, optional
        Same seed, same terrain.

    Returns
    -------
    DataArray, dims (y, x), float32
        Elevations in metres, y descending.

    Raises
    ------
    InputError
        If a size is less than 1.

    Examples
    --------
    >>> from xdemsr import synthetic
    >>> dem = synthetic.terrain((48, 64), gsd=30.0, relief=400.0)
    >>> dem.shape, round(float(dem.max() - dem.min()))
    ((48, 64), 400)

    References
    ----------
    Voss, R. F. (1988). Fractals in nature: from characterization to simulation. In The Science of
    Fractal Images, Springer.
    """
    ny, nx = shape
    if ny < 1 or nx < 1:
        raise InputError(f"shape={shape} must be (ny, nx), each 1 or more.")
    # Twice the extent, so that the field's periodicity does not show.
    rows, columns = 2 * ny, 2 * nx
    noise = np.random.default_rng(seed).standard_normal((rows, columns))
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(noise) * frequency**-roughness
    field = np.fft.irfft2(spectrum, s=(rows, columns))[:ny, :nx]
    spread = float(np.ptp(field))
    heights = (field - field.min()) * (relief / spread if spread else 0.0) + base
    affine = Affine(gsd, 0, 500_000.0, 0, -gsd, 4_100_000.0)
    dem = xr.DataArray(
        heights.astype(np.float32),
        dims=("y", "x"),
        coords={
            "y": affine.f + (np.arange(ny) + 0.5) * affine.e,
            "x": affine.c + (np.arange(nx) + 0.5) * affine.a,
        },
        name="elevation",
        attrs={"units": "m", "long_name": "elevation"},
    )
    placed: xr.DataArray = dem.rio.write_crs(crs).rio.write_transform(affine)
    return placed
