"""A coarse raster laid where a fine one says it belongs: real pairs of coarse and fine terrain."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from xdemsr import grid
from xdemsr.errors import GridError, InputError
from xdemsr.mapping import map_function
from xdemsr.nesting import check_crs
from xdemsr.overlap import Cells, read_overlap
from xdemsr.resampling import resample
from xdemsr.spec import whole_scale
from xdemsr.voids import bridge
from xdemsr.window import Window

Plane = NDArray[np.float64]
Move = tuple[float, float]
Method = Literal["slope", "correlation"]

#: The largest shift that is looked for, in coarse pixels; and pixels that tell one, at least.
_REACH, _FEWEST = 8, 256
#: A step smaller than this, in coarse pixels, is none.
_STILL, _MOST_STEPS = 0.01, 30
#: Differences beyond so many NMAD are left out, found anew so many times.
_OUTLYING, _ROUNDS = 3.0, 3
#: Parts of a pixel that a peak of correlation is found to.
_PARTS = 100
#: Along the direction where it is told least: the standard error of a shift, in coarse pixels, at
#: most; the correlation of both rasters' slopes, at least, and so many of its standard errors.
_UNCERTAIN, _AGREEMENT, _CERTAIN = 0.25, 0.1, 4.0
#: Slopes are none below so many units in the last place of a float32 height, and below this share
#: of those across them.
_ROUNDING, _LINEATED, _TINY = 8.0, 0.02, 1e-30
#: Pixel sizes that differ by more than this factor are not one resolution.
_ALIKE = 1.25


@dataclass(frozen=True)
class Shift:
    """How far off a raster lies: what must be added to its coordinates and to its heights.

    Attributes
    ----------
    dx, dy : float
        To add to the coordinates, in the CRS's unit (metres, or degrees).
    dz : float
        To add to the heights, in their own unit.
    pixels : (float, float)
        The same move (dy, dx) along the raster's own rows and columns.
    nmad_before, nmad_after : float
        1.4826 times the median distance of the differences to the reference from their median, in
        the heights' unit.
    n : int
        Pixels that were compared.

    Examples
    --------
    >>> import xdemsr
    >>> fine = xdemsr.synthetic.terrain((240, 320), gsd=10.0)
    >>> coarse = fine.demsr.degrade(4)
    >>> moved = coarse.assign_coords(x=coarse.x + 10.0) - 2.0
    >>> shift = moved.demsr.coregister(fine)
    >>> abs(shift.dx + 10.0) < 1.0, abs(shift.dz - 2.0) < 0.1
    (True, True)
    """

    dx: float
    dy: float
    dz: float
    pixels: tuple[float, float]
    nmad_before: float
    nmad_after: float
    n: int

    def apply(self, obj: xr.DataArray) -> xr.DataArray:
        """Move a raster's coordinates and heights. Nothing is resampled.

        A raster of whole metres no longer says that it is one: its heights are moved by parts of a
        metre. Say its ``vertical_error`` (0.29) where it is used.

        Parameters
        ----------
        obj : DataArray, dims (..., y, x)
            What was co-registered, or another raster that is off by as much.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            The same pixels on a moved grid. Lazy where the input is.

        Raises
        ------
        GridError
            If the raster has neither coordinates nor a transform that could be moved.
        """
        raised = map_function(obj, _raised, "coregister", dz=self.dz)
        base = grid.of(raised)
        if not base.labelled and base.grid_mapping is None:
            raise GridError(
                "the raster has neither coordinates nor a transform that could be moved. Give it "
                "one: da.rio.write_transform(...)."
            )
        old = base.geobox.affine
        affine = Affine(old.a, 0.0, old.c + self.dx, 0.0, old.e, old.f + self.dy)
        moved = replace(base, geobox=GeoBox(base.shape, affine, base.geobox.crs))
        return raised.assign_coords(moved.coordinates(raised))

    def onto(self, obj: xr.DataArray, reference: xr.DataArray, scale: int) -> xr.DataArray:
        """Move a raster, and lay it on the reference's grid with pixels multiplied by ``scale``.

        This makes the coarse half of a training pair. Cubic convolution takes off some of the
        detail, and of the noise, between pixel centres.

        Parameters
        ----------
        obj : DataArray, dims (..., y, x)
            What was co-registered, or another raster that is off by as much.
        reference : DataArray, dims (..., y, x)
            The fine raster; its grid is used, and no pixel of it.
        scale : int
            Its pixels along a coarse one.

        Returns
        -------
        DataArray, dims (..., y, x), float32
            On the grid of ``reference.demsr.degrade(scale)``. Void where the nearest pixel is, and
            beyond the raster. Lazy where the input is.

        Raises
        ------
        GridError
            If the rasters are in different CRSs.
        InputError
            If the coarse pixels are not about ``scale`` fine ones.
        """
        moved, fine = self.apply(obj), grid.of(grid.single(reference))
        base = grid.of(moved)
        check_crs(base, fine)
        target = fine.coarsened(whole_scale(scale))
        for size, wanted in zip(base.pixel_size, target.pixel_size, strict=True):
            if not wanted / _ALIKE <= size <= wanted * _ALIKE:
                raise InputError(
                    f"pixels of {size:.6g} cannot be laid on pixels of {wanted:.6g}, which is "
                    f"{scale} times the reference's. Choose the scale that fits."
                )
        named = replace(
            target,
            y_dim=base.y_dim,
            x_dim=base.x_dim,
            labelled=base.labelled,
            grid_mapping=base.grid_mapping,
        )
        return resample(moved, named)


def coregister(obj: xr.DataArray, reference: xr.DataArray, *, method: Method = "slope") -> Shift:
    """Find how far a coarse raster lies from where a fine one says it belongs.

    The reference is averaged over the coarse pixels' areas, wherever they lie. What is left between
    the two tells a step; the areas are moved by it, and so on until they stand still. So the coarse
    raster is never resampled, and what a method has wrong at a distance does not matter at the end.

    Parameters
    ----------
    obj : DataArray, dims (y, x)
        Coarse elevations, at most 8 of its pixels from their place.
    reference : DataArray, dims (y, x)
        Elevations with pixels of the same size or smaller, in the same CRS and unit. The grids need
        not nest.
    method : {"slope", "correlation"}, optional
        ``"slope"``: differences are laid to slope times shift, as Nuth and Kääb do, without those
        beyond 3 NMAD; here the equation is multiplied by the tangent of the slope, so that flat
        pixels say little instead of being left out. ``"correlation"``: the peak of the
        cross-correlation, found by Fourier transforms of both without their planes. It is less
        exact, and is led astray where one raster holds trees or buildings.

    Returns
    -------
    Shift
        With :meth:`Shift.apply` and :meth:`Shift.onto`.

    Raises
    ------
    GridError
        If the rasters do not overlap, or are in different CRSs.
    InputError
        If the reference is coarser, fewer than 256 pixels are valid in both, they are farther
        apart than 8 pixels, or the shift cannot be told: flat terrain, a plane, valleys that all
        run in one direction, different places.

    Notes
    -----
    About a quarter of a million coarse pixels and 67 million fine ones under them are read at most:
    those in the middle of the overlap. Choose another part by slicing the coarse raster.

    References
    ----------
    Nuth, C. and Kääb, A. (2011). Co-registration and bias corrections of satellite elevation data
    sets for quantifying glacier thickness change. The Cryosphere 5, 271-290.

    Guizar-Sicairos, M., Thurman, S. T. and Fienup, J. R. (2008). Efficient subpixel image
    registration algorithms. Optics Letters 33(2), 156-158.

    Examples
    --------
    >>> import xdemsr
    >>> fine = xdemsr.synthetic.terrain((240, 320), gsd=2.0)
    >>> coarse = fine.demsr.degrade(8) + 3.0
    >>> off = coarse.assign_coords(x=coarse.x + 5.0)
    >>> shift = off.demsr.coregister(fine)
    >>> round(shift.dx, 2), round(shift.dz, 2)
    (-5.0, -3.0)
    >>> shift.onto(off, fine, 8).shape
    (30, 40)
    """
    if method not in _METHODS:
        raise InputError(f"method={method!r} is not one of {', '.join(_METHODS)}.")
    coarse, fine = read_overlap(grid.plane(obj), grid.plane(reference), _REACH)
    if min(coarse.shape) <= 2:
        raise InputError(
            f"the rasters share {coarse.shape} coarse pixels (ny, nx): too narrow to tell a shift."
        )
    before = _difference(coarse, fine, (0.0, 0.0))
    y = x = 0.0
    for _ in range(_MOST_STEPS):
        step = _METHODS[method](coarse, fine, (y, x))
        y, x = y + step[0], x + step[1]
        if not max(abs(y), abs(x)) <= _REACH:
            raise InputError(
                f"the rasters lie more than {_REACH} coarse pixels apart, or show different "
                "places. Bring them nearer first: da.assign_coords(...)."
            )
        after = _difference(coarse, fine, (y, x))
        if math.hypot(*step) < _STILL:
            break
    else:
        raise InputError(
            f"no shift was found in {_MOST_STEPS} steps, the last one of {math.hypot(*step):.2g} "
            "pixels. Choose a place with more relief, or another method."
        )
    _check_told(coarse, fine, (y, x), _nmad(after))
    affine = grid.of(obj).geobox.affine
    return Shift(
        dx=x * affine.a,
        dy=y * affine.e,
        dz=-float(np.median(after)),
        pixels=(y, x),
        nmad_before=_nmad(before),
        nmad_after=_nmad(after),
        n=after.size,
    )


def _difference(coarse: Plane, fine: Cells, shift: Move) -> Plane:
    """Heights above the reference, of all pixels that are valid in both."""
    difference = coarse - fine.under(coarse.shape, shift)
    known = np.isfinite(difference)
    _counted(known)
    heights: Plane = difference[known]
    return heights


def _counted(known: NDArray[np.bool_]) -> int:
    """How many pixels are known, if they are enough."""
    n = int(known.sum())
    if n < _FEWEST:
        raise InputError(
            f"{n} coarse pixels of {known.shape} (ny, nx) are valid in both rasters, neighbours "
            f"included; {_FEWEST} are needed to tell a shift. Choose a larger place, or one with "
            "fewer voids."
        )
    return n


def _nmad(values: Plane) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _by_slope(coarse: Plane, fine: Cells, shift: Move) -> Move:
    """Rows and columns of a step towards the right place: differences against slopes."""
    difference = coarse - fine.under(coarse.shape, shift)
    slopes = fine.slopes(coarse.shape, shift)
    known = np.isfinite(difference) & np.isfinite(slopes).all(axis=0)
    terms = np.stack([*slopes[:, known], np.ones(_counted(known))], axis=1)
    heights = difference[known]
    kept = np.ones(len(heights), bool)
    for _ in range(_ROUNDS):
        found = np.linalg.lstsq(terms[kept], heights[kept], rcond=None)[0]
        left = heights - terms @ found
        centre = float(np.median(left))
        kept = np.abs(left - centre) <= _OUTLYING * _nmad(left)
        if kept.sum() < terms.shape[1]:
            break
    return float(found[0]), float(found[1])


def _by_correlation(coarse: Plane, fine: Cells, shift: Move) -> Move:
    """Rows and columns of a step towards the right place: the peak of the cross-correlation."""
    from skimage.filters import window
    from skimage.registration import phase_cross_correlation

    under = fine.under(coarse.shape, shift)
    known = np.isfinite(coarse) & np.isfinite(under)
    places = np.indices(coarse.shape).reshape(2, -1).T
    terms = np.concatenate([places, np.ones((len(places), 1))], axis=1)
    plane = terms @ np.linalg.lstsq(terms[known.ravel()], under[known], rcond=None)[0]
    offset = np.median((coarse - under)[known])
    shade = window("hann", coarse.shape)
    flat = [
        shade * bridge(np.where(known, z - plane.reshape(z.shape), 0.0), known, _REACH)
        for z in (coarse - offset, under)
    ]
    # Not divided by the amplitudes: most frequencies of a noisy raster hold noise.
    moved, _, _ = phase_cross_correlation(
        flat[1], flat[0], upsample_factor=_PARTS, normalization=None
    )
    return float(moved[0]), float(moved[1])


_METHODS = {"slope": _by_slope, "correlation": _by_correlation}


def _check_told(coarse: Plane, fine: Cells, shift: Move, error: float) -> None:
    """Refuse a shift that is not told along every direction.

    The standard error that differences of ``error`` leave must be small, and the slopes of both
    rasters must agree.
    """
    inside = (slice(None), slice(1, -1), slice(1, -1))
    slopes = fine.slopes(coarse.shape, shift)[inside]
    own: Plane = np.stack([np.gradient(coarse, axis=axis) for axis in (0, 1)])[inside]
    known: NDArray[np.bool_] = np.isfinite(np.concatenate([slopes, own])).all(axis=0)
    n = _counted(known)
    # Eigenvalues ascend: along the first direction the reference's slopes vary least.
    spread, directions = np.linalg.eigh(np.cov(slopes[:, known]))
    least, most = np.sqrt(np.maximum(spread, 0.0)).tolist()
    tallest = float(np.nanmax(np.abs(coarse)))
    none = max(_ROUNDING * float(np.finfo(np.float32).eps) * tallest, _LINEATED * most, _TINY)
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (directions[:, 0] @ two[:, known] for two in (own, slopes))
        agreement = float(np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std()))
    uncertain = error / math.sqrt(n) / max(least, none)
    wanted = max(_AGREEMENT, _CERTAIN / math.sqrt(n))
    if least <= none or uncertain > _UNCERTAIN or not agreement >= wanted:
        raise InputError(
            "the shift cannot be told: along one direction, the slopes of both rasters vary by "
            f"{least:.2g} a pixel and agree to {agreement:.2f} (correlation; {wanted:.2f} is "
            "needed). The terrain is flat, a plane or all ridges of one direction, or these are "
            "different places. Choose a place with more relief: da.isel(...)."
        )


def _raised(z: Plane, core: Window, dz: float) -> Plane:
    return z + dz
