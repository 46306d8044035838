"""Made terrain and made imagery of it, for documentation, tests and first steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from xdemsr import grid
from xdemsr.colouring import BANDS, reflectance
from xdemsr.errors import InputError
from xdemsr.ground import Ground, count_octaves, make
from xdemsr.noise import Fractal
from xdemsr.relief import hillshade, slope
from xdemsr.storage import void_values
from xdemsr.voids import valid_pixels

#: Upper left corner of made terrain, in its CRS.
_LEFT, _TOP = 500_000.0, 4_100_000.0


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
        If a size is less than 1, pixels have none, or the CRS is not a projected one in metres.

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
    return _placed(heights.astype(np.float32), gsd, crs)


def perlin(
    shape: tuple[int, int],
    gsd: float = 30.0,
    *,
    wavelength: float = 6000.0,
    relief: float = 500.0,
    base: float = 1000.0,
    octaves: int | None = None,
    persistence: float = 0.5,
    lacunarity: float = 2.0,
    crs: str = "EPSG:32611",
    seed: int = 0,
    origin: tuple[int, int] = (0, 0),
    chunks: int | tuple[int, int] | None = None,
) -> xr.DataArray:
    """Terrain of Perlin's gradient noise, octave upon octave.

    A pixel is a function of its place and the seed alone: terrain of any size, made piece by piece.

    Parameters
    ----------
    shape : (ny, nx)
        Size in pixels.
    gsd : float, optional
        Pixel size in metres. The same terrain, sampled; see ``octaves``.
    wavelength : float, optional
        From hill to hill in the first octave, in metres.
    relief, base : float, optional
        In metres: of endless such terrain, one hundredth lies below ``base`` and one hundredth
        above ``base + relief``.
    octaves : int, optional
        By default down to two pixels.
    persistence, lacunarity : float, optional
        Amplitude and frequency of each octave, relative to those of the one before.
    crs : str, optional
        A projected CRS in metres.
    seed : int, optional
        Same seed, same terrain.
    origin : (int, int), optional
        Row and column of the first pixel, counted from the upper left corner that all made terrain
        has: terrain with another origin continues this one. May be negative.
    chunks : int or (int, int), optional
        Make it lazily, in chunks of so many pixels. The numbers are the same.

    Returns
    -------
    DataArray, dims (y, x), float32
        Elevations in metres, y descending.

    Raises
    ------
    InputError
        If a size, length or factor makes no sense.

    See Also
    --------
    fractal : The same with crests, valleys and a bent course.

    Examples
    --------
    >>> from xdemsr import synthetic
    >>> dem = synthetic.perlin((48, 64), wavelength=900.0)
    >>> lazy = synthetic.perlin((20, 64), wavelength=900.0, origin=(28, 0), chunks=16)
    >>> bool((lazy == dem[28:]).all())
    True

    References
    ----------
    Perlin, K. (2002). Improving noise. ACM Transactions on Graphics 21(3), 681-682.
    """
    octaves = count_octaves(octaves, wavelength, gsd, lacunarity)
    field = Fractal(octaves, persistence, lacunarity)
    ground = Ground(field, seed, gsd, wavelength, relief, base, origin)
    return _placed(make(ground, shape, chunks), gsd, crs, origin)


def fractal(
    shape: tuple[int, int],
    gsd: float = 30.0,
    *,
    wavelength: float = 8000.0,
    relief: float = 1200.0,
    base: float = 600.0,
    octaves: int | None = None,
    persistence: float = 0.45,
    lacunarity: float = 2.0,
    ridges: float = 0.8,
    erosion: float = 0.2,
    warp: float = 0.1,
    crs: str = "EPSG:32611",
    seed: int = 0,
    origin: tuple[int, int] = (0, 0),
    chunks: int | tuple[int, int] | None = None,
) -> xr.DataArray:
    """Mountains: gradient noise with crests, worn slopes and a bent course.

    A pixel is a function of its place and the seed alone: terrain of any size, made piece by piece.
    Water does not run in it as in real terrain: no fluvial erosion can be had point by point.

    Parameters
    ----------
    shape, gsd, wavelength, relief, base, octaves, persistence, lacunarity
        As for :func:`perlin`.
    ridges : float, optional
        From 0, plain noise, to 1, folded at its zeros: crests instead of rounded hills.
    erosion : float, optional
        How much slopes weaken the finer octaves, so that they are smooth and crests are rough; 0
        is not at all, 1 is much.
    warp : float, optional
        How far another field bends this one, in wavelengths.
    crs, seed, origin, chunks
        As for :func:`perlin`.

    Returns
    -------
    DataArray, dims (y, x), float32
        Elevations in metres, y descending.

    Raises
    ------
    InputError
        If a size, length or factor makes no sense.

    Examples
    --------
    >>> from xdemsr import synthetic
    >>> dem = synthetic.fractal((48, 64), seed=3)
    >>> bool((synthetic.fractal((48, 64), seed=3, chunks=(20, 30)) == dem).all())
    True

    References
    ----------
    Musgrave, F. K., Kolb, C. E. and Mace, R. S. (1989). The synthesis and rendering of eroded
    fractal terrains. SIGGRAPH Computer Graphics 23(3), 41-50.

    Quilez, I. (2008). Value noise derivatives. https://iquilezles.org/articles/morenoise
    """
    octaves = count_octaves(octaves, wavelength, gsd, lacunarity)
    for name, value, most in (("ridges", ridges, 1.0), ("erosion", erosion, math.inf)):
        if not 0 <= value <= most or math.isinf(value):
            raise InputError(f"{name}={value} must be 0 or more{', at most 1' * (most == 1)}.")
    if not math.isfinite(warp):
        raise InputError(f"warp={warp} must be a finite number of wavelengths.")
    field = Fractal(octaves, persistence, lacunarity, ridges, erosion, warp, turned=True)
    ground = Ground(field, seed, gsd, wavelength, relief, base, origin)
    return _placed(make(ground, shape, chunks), gsd, crs, origin)


def imagery(
    dem: xr.DataArray,
    *,
    treeline: float = 1500.0,
    snowline: float = 2000.0,
    azimuth: float = 150.0,
    altitude: float = 45.0,
    seed: int = 0,
) -> xr.DataArray:
    """What a satellite might see of terrain: forest and meadows, rock, snow, sun and shade.

    To show and test what takes images where there are none. Not a simulation: colours follow
    elevation, slope, light and noise by a few plain rules.

    Parameters
    ----------
    dem : DataArray, dims (y, x)
        Elevations in metres.
    treeline, snowline : float, optional
        In metres. Forest thins out around the first, and snow lies on gentle ground above the
        second.
    azimuth, altitude : float, optional
        Where the sun stands, in degrees: clockwise from north, and above the horizon.
    seed : int, optional
        Of the patchwork of forest and meadows.

    Returns
    -------
    DataArray, dims (band, y, x), float32
        Reflectance of the bands red, green, blue and nir, between 0 and 1; NaN at voids. Lazy
        where the input is.

    Raises
    ------
    GridError
        If the array is not one raster on a regular grid.
    InputError
        If a number makes no sense.

    Examples
    --------
    >>> from xdemsr import synthetic
    >>> dem = synthetic.fractal((48, 64), gsd=30.0)
    >>> image = synthetic.imagery(dem)
    >>> image.dims, image.band.values.tolist()
    (('band', 'y', 'x'), ['red', 'green', 'blue', 'nir'])
    """
    if not (math.isfinite(treeline) and math.isfinite(snowline) and 0 < altitude <= 90):
        raise InputError(
            f"imagery needs finite heights and a sun above the horizon; got treeline={treeline}, "
            f"snowline={snowline}, altitude={altitude} (0 to 90 degrees)."
        )
    raster = grid.plane(dem)
    base = grid.of(raster)
    gsd = math.sqrt(math.prod(base.metres()))
    patches = Ground(Fractal(6, 0.6, turned=True), seed, gsd, 50 * gsd, 1.0, 0.0, (0, 0))
    # Their coordinates may differ from the raster's in the last bit.
    layers = slope(raster), hillshade(raster, azimuth=azimuth, altitude=altitude)
    found = xr.apply_ufunc(
        _seen,
        raster,
        *(raster.copy(data=layer.data) for layer in layers),
        raster.copy(data=make(patches, base.shape, raster.chunks)),
        kwargs={
            "voids": void_values(dem),
            "lines": (treeline, snowline),
            "flat": math.sin(math.radians(altitude)),
        },
        keep_attrs="override",
        output_core_dims=[["band"]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"band": len(BANDS)}},
    )
    image: xr.DataArray = found.transpose("band", base.y_dim, base.x_dim)
    image = image.assign_coords(band=list(BANDS)).rename("reflectance")
    image.attrs = {"units": "1", "long_name": "reflectance"}
    return image


def _seen(
    heights: NDArray[Any],
    steepness: NDArray[Any],
    light: NDArray[Any],
    patches: NDArray[Any],
    *,
    voids: tuple[float, ...],
    lines: tuple[float, float],
    flat: float,
) -> NDArray[np.float32]:
    known = np.where(valid_pixels(heights, voids), heights, np.nan)
    return reflectance(known, steepness, light / flat, patches, *lines)


def _placed(heights: Any, gsd: float, crs: str, origin: tuple[int, int] = (0, 0)) -> xr.DataArray:
    if not 0 < gsd < math.inf:
        raise InputError(f"gsd={gsd} must be positive: metres.")
    top, left = _TOP - origin[0] * gsd, _LEFT + origin[1] * gsd
    affine = Affine(gsd, 0, left, 0, -gsd, top)
    ny, nx = heights.shape
    dem = xr.DataArray(
        heights,
        dims=("y", "x"),
        coords={
            "y": affine.f + (np.arange(ny) + 0.5) * affine.e,
            "x": affine.c + (np.arange(nx) + 0.5) * affine.a,
        },
        name="elevation",
        attrs={"units": "m", "long_name": "elevation"},
    )
    placed: xr.DataArray = dem.rio.write_crs(_in_metres(crs)).rio.write_transform(affine)
    return placed


def _in_metres(crs: str) -> str:
    try:
        found = CRS.from_user_input(crs)
    except CRSError as error:
        raise InputError(f"crs={crs!r} is no CRS that PROJ knows: {error}.") from error
    if not found.is_projected or found.linear_units_factor[1] != 1:
        raise InputError(f"crs={crs!r} must be a projected CRS in metres, such as 'EPSG:32611'.")
    return crs
