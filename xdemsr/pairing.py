"""Images of two sensors made a pair: one nested grid, one day or nearly, few clouds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import xarray as xr

from xdemsr import grid
from xdemsr.conditions import cloud_share, days_apart
from xdemsr.degradation import degrade
from xdemsr.errors import InputError
from xdemsr.grid import Grid
from xdemsr.nesting import cropped, part_of, shared_pixels
from xdemsr.registration import Displacement, register_images
from xdemsr.resampling import resample
from xdemsr.spec import whole_scale
from xdemsr.window import Span, Window

#: Pixels may be divided by so much, beyond what the high image shows.
_ALIKE = 1.25
#: How far a ratio of pixel sizes may be from a whole number and be taken for it.
_NEAR = 0.05


@dataclass(frozen=True)
class Pair:
    """Two images of one place, the grid of one nested in the other's.

    Attributes
    ----------
    low, high : DataArray, dims (..., y, x)
        What is learnt from, and what is to be learnt: ``scale`` times as many pixels along each
        axis. ``xdemsr.patches(pair.high, size, pair.scale, coarse=pair.low)`` makes samples of
        them.
    scale : int
        Pixels of ``high`` along one of ``low``.
    days : float or None
        Between the two; None where it was not asked.
    clouds : tuple of float
        Shares of the place that clouds cover, one for each mask that was given.
    displacement : Displacement or None
        How far the low image lies from the high one, by which that was moved; None where it was
        not asked.

    Examples
    --------
    >>> import xdemsr
    >>> high = xdemsr.synthetic.imagery(xdemsr.synthetic.fractal((120, 160), gsd=5.0))
    >>> pair = xdemsr.pair_images(high.demsr.degrade(2), high)
    >>> pair.scale, pair.low.shape, pair.high.shape
    (2, (4, 60, 80), (4, 120, 160))
    """

    low: xr.DataArray
    high: xr.DataArray
    scale: int
    days: float | None = None
    clouds: tuple[float, ...] = ()
    displacement: Displacement | None = None


def pair_images(
    low: xr.DataArray,
    high: xr.DataArray,
    *,
    scale: int | None = None,
    clouds: xr.DataArray | Sequence[xr.DataArray] = (),
    max_cloud: float = 0.1,
    max_days: float | None = None,
    register: bool = False,
    band: Hashable | None = None,
) -> Pair:
    """Lay images of two sensors on one nested grid, cropped to what both show.

    The low image's pixels stay as they are. The high one is left as it is, too, where its grid is
    the low one's with pixels divided by ``scale``; elsewhere it is averaged, if its pixels are much
    smaller than that, and interpolated (cubic convolution).

    Parameters
    ----------
    low, high : DataArray, dims (..., y, x)
        On grids of their own, in one CRS.
    scale : int, optional
        High pixels per low pixel along each axis, to be had. By default the ratio of the pixels'
        sizes, where it is nearly a whole number.
    clouds : DataArray or sequence of DataArray, optional
        Masks or scene classifications of either image, on any grid in the same CRS; see
        :func:`xdemsr.cloud_share`. They are read where the pair lies.
    max_cloud : float, optional
        Largest share of clouds allowed, by each of them.
    max_days : float, optional
        Most days allowed between the images; see :func:`xdemsr.days_apart`.
    register : bool, optional
        Find how far the images lie apart, and move the high one by it; reads some windows of both.
        See :func:`xdemsr.register_images`.
    band : hashable, optional
        Band that is compared for that.

    Returns
    -------
    Pair
        Lazy where the images are.

    Raises
    ------
    GridError
        If they do not overlap, or are in different CRSs.
    InputError
        If there are too many clouds, or days between; the scale is not told by the pixels' sizes,
        or larger than these allow; or the displacement cannot be told.

    References
    ----------
    Galar, M. et al. (2019). Super-resolution for Sentinel-2 images. ISPRS Archives XLII-2/W16,
    95-102. (Pairs near in time, less than 10 % cloudy.)

    Examples
    --------
    >>> import xdemsr
    >>> scene = xdemsr.synthetic.terrain((120, 160), gsd=5.0)
    >>> pair = xdemsr.pair_images(scene.demsr.degrade(2)[5:], scene[:, 7:])
    >>> pair.scale, pair.low.shape, pair.high.shape
    (2, (55, 76), (110, 152))
    """
    if not 0 <= max_cloud <= 1:
        raise InputError(f"max_cloud={max_cloud} must be a share, from 0 to 1.")
    days = None if max_days is None else _checked_days(days_apart(low, high), max_days)
    base, other = grid.of(grid.single(low)), grid.of(grid.single(high))
    shared_pixels(base, other)
    scale = _told_scale(base, other) if scale is None else whole_scale(scale)
    displacement = None
    if register:
        displacement = register_images(low, high, band=band)
        high = displacement.reversed().apply(high)
    high = _averaged(high, base.refined(scale), scale)
    own = cropped(low, shared_pixels(base, grid.of(high)))
    place = grid.of(own)
    masks = (clouds,) if isinstance(clouds, xr.DataArray) else clouds
    shares = tuple(_checked_clouds(mask, place, max_cloud) for mask in masks)
    return Pair(own, _nested(high, place.refined(scale)), scale, days, shares, displacement)


def _checked_days(days: float, most: float) -> float:
    if days > most:
        raise InputError(
            f"the images were taken {days:.3g} days apart; max_days={most} are allowed."
        )
    return days


def _checked_clouds(clouds: xr.DataArray, place: Grid, most: float) -> float:
    there = shared_pixels(grid.of(grid.single(clouds)), place)
    share = cloud_share(cropped(clouds, there))
    if share > most:
        raise InputError(
            f"{clouds.name!r} says that clouds cover {share:.1%} of what both images show; "
            f"max_cloud={most} allows {most:.1%}."
        )
    return share


def _told_scale(low: Grid, high: Grid) -> int:
    ratios = [own / its for own, its in zip(low.pixel_size, high.pixel_size, strict=True)]
    scale = round(ratios[0])
    if scale < 1 or any(abs(ratio - scale) > _NEAR for ratio in ratios):
        raise InputError(
            f"pixels of the low image are {ratios[0]:.4g} times as high and {ratios[1]:.4g} times "
            "as wide as those of the high one: no whole number. Say which you want: scale=..."
        )
    return scale


def _averaged(high: xr.DataArray, wanted: Grid, scale: int) -> xr.DataArray:
    """The high image with pixels about as large as those wanted, as near to them as they come."""
    base = grid.of(high)
    sizes = zip(wanted.pixel_size, base.pixel_size, strict=True)
    shares = [size / its for size, its in sizes]
    if min(shares) * _ALIKE < 1:
        raise InputError(
            f"scale={scale} asks for pixels of {wanted.pixel_size} (y, x), and those of the high "
            f"image are {base.pixel_size}: it does not show so much. Choose a smaller scale."
        )
    count = int(min(shares) + _NEAR)
    if count < 2:
        return high
    # From where a pixel that is wanted begins: the rest may then nest.
    first = shared_pixels(base, part_of(wanted, shared_pixels(wanted, base)))
    rest = zip((first.y, first.x), base.shape, strict=True)
    return degrade(cropped(high, Window(*(Span(span.start, n) for span, n in rest))), count)


def _nested(high: xr.DataArray, target: Grid) -> xr.DataArray:
    """The high image on this grid: cropped where it is on it, resampled elsewhere."""
    base = grid.of(high)
    there = shared_pixels(base, target)
    if there.shape == target.shape:
        part = cropped(high, there)
        if grid.of(part).matches(target):
            return part
    named = replace(
        target,
        y_dim=base.y_dim,
        x_dim=base.x_dim,
        labelled=base.labelled,
        grid_mapping=base.grid_mapping,
    )
    return resample(high, named)
