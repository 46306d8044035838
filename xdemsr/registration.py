"""How far one image lies from where another says it belongs, whatever their colours."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from xdemsr import grid
from xdemsr.errors import GridError, InputError
from xdemsr.metadata import band_labels
from xdemsr.nesting import cropped, shared_pixels
from xdemsr.overlap import Cells, read_overlap
from xdemsr.window import Span, Tiling, Window

Plane = NDArray[np.float64]
Move = tuple[float, float]

#: Size of a window and of the largest shift, in coarse pixels; windows, and fine pixels under them,
#: at most.
_SIZE, _REACH, _WINDOWS, _MOST_FINE = 128, 8, 36, 1 << 24
#: Pixels along each axis that both must share, and the share of a window that must be known.
_SMALLEST, _KNOWN = 32, 0.5
#: A step smaller than this, in coarse pixels, is none.
_STILL, _MOST_STEPS = 0.02, 12
#: Parts of a pixel that a peak of correlation is found to.
_PARTS = 100
#: Edges stronger than so many times the usual one count as little more than that.
_STRONG = 3.0
#: Correlation of edges from which on a window is believed; where there are fewer windows than a
#: few, which cannot contradict each other, it must be higher.
_AGREEMENT, _ALONE, _FEW = 0.3, 0.6, 3
#: The standard error of a displacement, in coarse pixels, at most.
_UNCERTAIN = 0.1


@dataclass(frozen=True)
class Displacement:
    """How far off an image lies: what must be added to its coordinates.

    Attributes
    ----------
    dx, dy : float
        To add to the coordinates, in the CRS's unit (metres, or degrees).
    pixels : (float, float)
        The same move (dy, dx) along the image's own rows and columns.
    error : float
        Standard error of the move along the worse axis, in pixels, from how far the windows
        disagree; NaN where there are fewer than three.
    correlation : float
        Of the edges of both images after the move: the median over windows.
    windows : int
        That were believed.

    Examples
    --------
    >>> import numpy as np
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.fractal((240, 320), gsd=10.0)
    >>> image = xdemsr.synthetic.imagery(dem)
    >>> moved = image.assign_coords(x=image.x + 5.0)
    >>> found = xdemsr.register_images(moved, image)
    >>> abs(found.dx + 5.0) < 1.0
    True
    """

    dx: float
    dy: float
    pixels: tuple[float, float]
    error: float
    correlation: float
    windows: int

    def apply(self, obj: xr.DataArray) -> xr.DataArray:
        """Move an image's coordinates. No pixel is changed or read.

        Parameters
        ----------
        obj : DataArray, dims (..., y, x)
            What was registered, or another image that is off by as much.

        Returns
        -------
        DataArray, dims (..., y, x)
            The same pixels on a moved grid.

        Raises
        ------
        GridError
            If the image has neither coordinates nor a transform that could be moved.
        """
        base = grid.of(grid.single(obj))
        if not base.labelled and base.grid_mapping is None:
            raise GridError(
                "the image has neither coordinates nor a transform that could be moved. Give it "
                "one: da.rio.write_transform(...)."
            )
        old = base.geobox.affine
        affine = Affine(old.a, 0.0, old.c + self.dx, 0.0, old.e, old.f + self.dy)
        moved = replace(base, geobox=GeoBox(base.shape, affine, base.geobox.crs))
        return obj.assign_coords(moved.coordinates(obj))

    def reversed(self) -> Displacement:
        """The move of the reference to where the image lies."""
        y, x = self.pixels
        return replace(self, dx=-self.dx, dy=-self.dy, pixels=(-y, -x))


def register_images(
    image: xr.DataArray, reference: xr.DataArray, *, band: Hashable | None = None
) -> Displacement:
    """Find how far an image lies from where a finer one says it belongs.

    The reference is averaged over the image's pixels, wherever they lie. Where the edges of both
    correlate best tells a step; the pixels are moved by it, and so on until they stand still. So
    the image is never resampled. Edges know no gain and no offset, strong ones (of clouds) count
    little more than others, and the median is taken over windows, so that parts that have changed
    lead nothing astray.

    Parameters
    ----------
    image : DataArray, dims (band, y, x) or (y, x)
        At most 8 of its pixels from its place.
    reference : DataArray, dims (band, y, x) or (y, x)
        With pixels of the same size or smaller, in the same CRS. The grids need not nest.
    band : hashable, optional
        Name of the band that is compared. By default the first name that both have; the first band
        of each where there is none.

    Returns
    -------
    Displacement
        With :meth:`Displacement.apply`.

    Raises
    ------
    GridError
        If the images do not overlap, or are in different CRSs.
    InputError
        If the reference is coarser, there is no such band, less than 32 x 32 pixels are shared, or
        the displacement cannot be told: nothing to see, clouds, different places.

    See Also
    --------
    xdemsr.coregister : The same for terrain, whose heights are comparable and tell more.

    Notes
    -----
    Reads at most 36 windows of 128 x 128 pixels, evenly spread, and the reference under them.

    References
    ----------
    Argyriou, V. and Vlachos, T. (2006). A study of sub-pixel motion estimation using phase
    correlation. BMVC. (Correlating gradients.)

    Guizar-Sicairos, M., Thurman, S. T. and Fienup, J. R. (2008). Efficient subpixel image
    registration algorithms. Optics Letters 33(2), 156-158.

    Examples
    --------
    >>> import xdemsr
    >>> fine = xdemsr.synthetic.terrain((300, 400), gsd=5.0)
    >>> coarse = 0.001 * fine.demsr.degrade(2) + 0.1
    >>> off = coarse.assign_coords(x=coarse.x + 4.0)
    >>> round(xdemsr.register_images(off, fine).dx, 1)
    -4.0
    """
    first, second = _bands(grid.single(image), grid.single(reference), band)
    pairs = list(_read(first, second))
    y = x = 0.0
    for _ in range(_MOST_STEPS):
        told = _told(np.array([_step(plane, cells, (y, x)) for plane, cells in pairs]))
        step = np.median(told[:, :2], axis=0)
        y, x = y + float(step[0]), x + float(step[1])
        if not max(abs(y), abs(x)) <= _REACH:
            raise InputError(
                f"the images lie more than {_REACH} pixels apart, or show different places. Bring "
                "them nearer first: da.assign_coords(...)."
            )
        if math.hypot(*step) < _STILL:
            break
    else:
        raise InputError(
            f"no displacement was found in {_MOST_STEPS} steps, the last one of "
            f"{math.hypot(*step):.2g} pixels. Choose a place with more to see."
        )
    affine = grid.of(image).geobox.affine
    return Displacement(
        dx=x * affine.a + 0.0,  # Not minus nothing.
        dy=y * affine.e + 0.0,
        pixels=(y, x),
        error=_standard_error(told),
        correlation=float(np.median(told[:, 2])),
        windows=len(told),
    )


def _bands(
    image: xr.DataArray, reference: xr.DataArray, band: Hashable | None
) -> tuple[xr.DataArray, xr.DataArray]:
    """The plane of each that is compared."""
    names = [band_names(da) for da in (image, reference)]
    if band is None:
        band = next((name for name in names[0] if name in names[1]), None)
    elif any(band not in found for found in names):
        raise InputError(
            f"band={band!r} is not in both images: they have {names[0] or 'no names'} and "
            f"{names[1] or 'no names'}."
        )
    planes = []
    for da, found in zip((image, reference), names, strict=True):
        others = [dim for dim in da.dims if dim not in grid.spatial_dims(da)]
        number = found.index(band) if band is not None else 0
        planes.append(grid.plane(da.isel(dict.fromkeys(others[-1:], number))))
    return planes[0], planes[1]


def band_names(da: xr.DataArray) -> list[Hashable]:
    """Names or labels along the dimension beside y and x; none where there are none."""
    others = [dim for dim in da.dims if dim not in grid.spatial_dims(da)]
    return band_labels(da, others[-1]) if others else []


def _read(image: xr.DataArray, reference: xr.DataArray) -> Iterator[tuple[Plane, Cells]]:
    """Windows of the image, evenly spread over what both share, and the reference under them."""
    base, other = grid.of(image), grid.of(reference)
    shared = shared_pixels(base, other)
    if min(shared.shape) < _SMALLEST:
        raise InputError(
            f"the images share {shared.shape} pixels (ny, nx): too few to tell a displacement, "
            f"which needs {_SMALLEST} x {_SMALLEST}."
        )
    sizes = zip(base.pixel_size, other.pixel_size, strict=True)
    fine = math.prod((_SIZE + 2 * _REACH) * max(own / its, 1.0) for own, its in sizes)
    along = math.isqrt(max(1, min(_WINDOWS, int(_MOST_FINE / fine))))
    tiling = Tiling.regular(shared.shape, _SIZE)
    for row, column in product(_spread(tiling.y, along), _spread(tiling.x, along)):
        window = Window(row, column).clip(shared.shape)
        part = cropped(cropped(image, shared), window)
        yield read_overlap(part, reference, _REACH)


def _spread(spans: tuple[Span, ...], count: int) -> list[Span]:
    """At most so many of them, evenly spread."""
    count = min(count, len(spans))
    return [spans[int((k + 0.5) * len(spans) / count)] for k in range(count)]


def _step(image: Plane, reference: Cells, shift: Move) -> tuple[float, float, float]:
    """Rows and columns of a step towards the right place, and the correlation of edges there."""
    from skimage.filters import window
    from skimage.registration import phase_cross_correlation

    first, second = _edges(image), _edges(reference.under(image.shape, shift))
    known = np.isfinite(first) & np.isfinite(second)
    if known.mean() < _KNOWN:
        return 0.0, 0.0, 0.0
    shade = window("hann", image.shape)
    fields = [
        shade * np.where(known, edges - edges[known].mean(), 0.0) for edges in (first, second)
    ]
    if not all(field.any() for field in fields):
        return 0.0, 0.0, 0.0
    # Not divided by the amplitudes: most frequencies of edges hold noise.
    moved, error, _ = phase_cross_correlation(
        fields[1], fields[0], upsample_factor=_PARTS, normalization=None
    )
    return float(moved[0]), float(moved[1]), math.sqrt(max(1.0 - float(error) ** 2, 0.0))


def _edges(image: Plane) -> Plane:
    """How steeply grey changes, relative to how it usually does; NaN beside voids."""
    strength = np.hypot(*np.gradient(image))
    known = np.isfinite(strength)
    usual = float(np.median(strength[known])) if known.any() else 0.0
    edges: Plane = np.tanh(strength / (_STRONG * usual)) if usual else strength
    return edges


def _told(steps: Plane) -> Plane:
    """The windows that are believed: rows, columns and correlations of their steps."""
    told = steps[steps[:, 2] >= (_AGREEMENT if len(steps) >= _FEW else _ALONE)]
    if len(told) < min(len(steps), _FEW):
        raise InputError(
            f"the displacement cannot be told: of {len(steps)} windows, {len(told)} show the same "
            f"edges in both images (correlations up to {steps[:, 2].max():.2f}). There is nothing "
            "to see, or clouds, or these are different places."
        )
    return told


def _standard_error(told: Plane) -> float:
    """Of the median step along the worse axis; that of one window is not known."""
    if len(told) < _FEW:
        return math.nan
    apart = np.abs(told[:, :2] - np.median(told[:, :2], axis=0))
    # A median is a quarter less certain than a mean; and a peak is found to parts of a pixel.
    error = 1.25 * 1.4826 * float(np.median(apart, axis=0).max()) / math.sqrt(len(told))
    error = math.hypot(error, 0.5 / _PARTS)
    if error > _UNCERTAIN:
        raise InputError(
            f"the displacement cannot be told: {len(told)} windows disagree, and leave a standard "
            f"error of {error:.2f} pixels. Choose dates nearer to each other, or another band."
        )
    return error
