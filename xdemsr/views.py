"""Terrain in three dimensions: a picture, or a page on which it can be turned."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.colours import brightness, red_green_blue
from xdemsr.errors import InputError
from xdemsr.grid import Grid
from xdemsr.io.paths import local
from xdemsr.mapping import map_function
from xdemsr.oblique import Image, Scene, draw
from xdemsr.relief import hillshade
from xdemsr.viewer import viewer_page
from xdemsr.window import Window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Plane = NDArray[np.float64]

#: Elevations from low to high; lighter as they rise, which colour-blind readers see as well.
_TINTS = ("#4f7358", "#7f9a68", "#b3a97c", "#c4ad92", "#dccfc4", "#fbfaf8")
#: Shares of an image's values that are black and white at most.
_ENDS = (0.01, 0.99)
#: Where the light stands; and how bright it is where it does not reach, beside level ground. An
#: image has shadows of its own.
_LIGHT = (315.0, 45.0)
_SHADE, _SHADE_ON_IMAGE = 0.3, 0.7
#: A figure's longer side, and its width with a caption at least; dots per inch below which that is
#: a smear.
_INCHES, _NARROWEST, _LEGIBLE = 9.0, 3.0, 5.0
#: Heights over the raster's longer side, at most.
_TALLEST = 50.0


def view_3d(
    obj: xr.DataArray,
    path: str | Path | None = None,
    *,
    rgb: xr.DataArray | None = None,
    exaggeration: float = 1.0,
    azimuth: float = 200.0,
    altitude: float = 35.0,
    size: int = 1000,
) -> Axes | Path:
    """Draw elevations in three dimensions, or make a page on which they can be turned.

    Parameters
    ----------
    obj : DataArray, dims (y, x)
        Elevations in metres. Lazy arrays are read piece by piece. Voids are open.
    path : str or Path, optional
        Of a picture (``.png``), or of a page (``.html``) that needs neither a network nor any other
        file. What is there is replaced. By default the picture is drawn and not written.
    rgb : DataArray, dims (band, y, x), optional
        An image to lay over them, on the same grid: bands called red, green and blue, or the first
        three of three or four. Shown from its 1st to its 99th percentile, or whole where it has 8
        bits. Elevations are tinted by default.
    exaggeration : float, optional
        Factor on heights.
    azimuth, altitude : float, optional
        Where the viewer stands, in degrees: clockwise from north, and above the horizon.
    size : int, optional
        Pixels along the longer side, at most. Larger rasters are thinned to means of square blocks,
        and the picture says so. A picture has so many pixels along its own longer side.

    Returns
    -------
    matplotlib.axes.Axes or Path
        The picture; with ``path``, that of what was written.

    Raises
    ------
    GridError
        If the array is not one raster on a regular grid, or ``rgb`` is on another.
    InputError
        If a number makes no sense, the path ends in something else, all is void, or heights are
        fifty times the raster's length.

    Notes
    -----
    Light comes from the north-west, 45 degrees above the horizon, as in a hillshade. The picture is
    a parallel projection: lengths compare from front to back.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.fractal((48, 64))
    >>> ax = xdemsr.view_3d(dem, exaggeration=1.5, size=200)
    >>> len(ax.images)
    1
    """
    _check(exaggeration, azimuth, altitude, size)
    target = None if path is None else local(path)
    if target is not None and target.suffix.lower() not in (".png", ".html"):
        raise InputError(f"cannot write {target}: its name must end in .png or .html.")
    raster = grid.plane(obj)
    thin, step = thinned(raster, size)
    if not np.isfinite(thin.values).any():
        raise InputError("no pixel is valid; there is nothing to see.")
    base = grid.of(thin)
    colours = _tinted(thin.values) if rgb is None else _image(rgb, grid.of(raster), step)
    scene = Scene(_northward(thin.values, base), _northward(colours, base), *base.metres())
    _check_heights(scene, exaggeration)
    shade = _SHADE if rgb is None else _SHADE_ON_IMAGE
    if target is not None and target.suffix.lower() == ".html":
        page = viewer_page(
            scene,
            title=str(obj.name or "elevation"),
            caption=_caption(base, 1.0, step),
            exaggeration=exaggeration,
            eye=(azimuth, altitude),
            light=_LIGHT,
            shade=shade,
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page, encoding="utf-8")
        return target
    light = hillshade(thin, exaggeration=exaggeration, azimuth=_LIGHT[0], altitude=_LIGHT[1])
    lit = _lit(scene, _northward(light.values, base), shade, exaggeration)
    picture = draw(lit, azimuth, altitude, size)
    return _shown(picture, _caption(base, exaggeration, step), target)


def thinned(raster: xr.DataArray, size: int) -> tuple[xr.DataArray, int]:
    """A raster in memory with at most ``size`` pixels along its longer side, and how far apart.

    Each of its pixels is the mean of what is known in a square block; voids are NaN.
    """
    step = -(-max(raster.shape) // size)
    if min(raster.shape) < step:
        raise InputError(
            f"a raster of {raster.shape[0]} x {raster.shape[1]} pixels is narrower than the blocks "
            f"of {step} x {step} that size={size} thins it to. Choose a larger size."
        )
    return map_function(raster, _block_mean, "thin", coarsen=step, step=step).compute(), step


def _lit(scene: Scene, light: Plane, shade: float, exaggeration: float) -> Scene:
    """The scene with its heights exaggerated, and its colours as bright as the light makes them."""
    level = math.sin(math.radians(_LIGHT[1]))
    bright = shade + (1 - shade) * np.nan_to_num(light) / level
    return replace(
        scene,
        heights=scene.heights * exaggeration,
        colours=np.clip(scene.colours * bright[..., None], 0, 1),
    )


def _shown(picture: Image, caption: str, path: Path | None) -> Axes | Path:
    import matplotlib.pyplot as plt

    rows, columns = picture.shape[:2]
    inches = _INCHES / max(rows, columns)
    figure = plt.figure(
        figsize=(max(columns * inches, _NARROWEST), rows * inches + 0.4), layout="constrained"
    )
    ax = figure.add_subplot()
    ax.imshow(picture, interpolation="antialiased")
    ax.set_axis_off()
    ax.set_title(caption, y=-0.02, va="top", fontsize="small", color="0.3")
    if path is None:
        return ax
    path.parent.mkdir(parents=True, exist_ok=True)
    if 1 / inches < _LEGIBLE:
        ax.set_title("")
    figure.savefig(path, dpi=1 / inches)
    plt.close(figure)
    return path


def _check(exaggeration: float, azimuth: float, altitude: float, size: int) -> None:
    if not (0 < exaggeration < math.inf and math.isfinite(azimuth)):
        raise InputError(
            f"exaggeration={exaggeration} must be positive, and azimuth={azimuth} finite."
        )
    if not 0 < altitude <= 90:
        raise InputError(f"altitude={altitude} must be above the horizon: 90 degrees at most.")
    if size < 16 or size != int(size):
        raise InputError(f"size={size} must be a whole number of pixels, 16 or more.")


def _check_heights(scene: Scene, exaggeration: float) -> None:
    """Refuse what would be a needle: nearly always a raster in degrees that does not say so."""
    rise = float(np.nanmax(scene.heights) - np.nanmin(scene.heights)) * exaggeration
    if rise > _TALLEST * max(scene.extent):
        raise InputError(
            f"heights span {rise:.4g} m over a raster of {max(scene.extent):.4g} m. Are its "
            "coordinates in degrees, or has it none? Say so: da.rio.write_crs(...), or "
            "da.assign_coords(...)."
        )


def _block_mean(z: Plane, core: Window, step: int) -> Plane:
    """Mean of what is known in each block."""
    ny, nx = core.shape
    blocks = z.reshape(ny, step, nx, step)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0.0).sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _tinted(heights: NDArray[np.float32]) -> Image:
    from matplotlib.colors import LinearSegmentedColormap

    low, high = float(np.nanmin(heights)), float(np.nanmax(heights))
    relative = (np.nan_to_num(heights, nan=low) - low) / (high - low or 1.0)
    tints: Image = LinearSegmentedColormap.from_list("tints", _TINTS)(relative)[..., :3]
    return tints


def _image(rgb: xr.DataArray, base: Grid, step: int) -> Image:
    bands = red_green_blue(rgb, base)
    thin = map_function(bands, _block_mean, "thin", coarsen=step, step=step).values
    if bands.dtype == np.uint8:
        stretched = thin / 255
    else:
        known = thin[np.isfinite(thin)]
        low, high = np.quantile(known, _ENDS) if known.size else (0.0, 1.0)
        stretched = (thin - low) / (high - low or 1.0)
    return np.moveaxis(brightness(stretched), 0, -1).astype(np.float64)


def _northward(values: NDArray[np.floating], base: Grid) -> NDArray[np.float64]:
    """With the first row in the north and the first column in the west."""
    affine = base.geobox.affine
    turned = values[:: -1 if affine.e > 0 else 1, :: -1 if affine.a < 0 else 1]
    return turned.astype(np.float64)


def _caption(base: Grid, exaggeration: float, step: int) -> str:
    ny, nx = base.shape
    height, width = base.metres()
    parts = [_length(nx * width) + " x " + _length(ny * height)]
    if exaggeration != 1:
        parts.append(f"heights x {exaggeration:g}")
    if step > 1:
        parts.append(f"means of {step} x {step} pixels")
    return ", ".join(parts)


def _length(metres: float) -> str:
    return f"{metres / 1000:.3g} km" if metres >= 1000 else f"{metres:.3g} m"
