"""Whether the borders of tiles show in an answer."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Integral
from statistics import NormalDist
from typing import Any

import numpy as np
import xarray as xr

from xdemsr import grid
from xdemsr.catalog import ModelLike, find
from xdemsr.errors import InputError
from xdemsr.grid import Grid
from xdemsr.jumps import APART, Plan, Plane, Sums, collect, loudest_phases, make_plan, score
from xdemsr.spec import Local, ModelSpec
from xdemsr.storage import check_values
from xdemsr.tiles import make_tiling


@dataclass(frozen=True)
class Contrast:
    """Jumps at tile borders, compared with those nearby.

    Attributes
    ----------
    ratio, error : float
        Their mean, over that nearby; and its standard error.
    z : float
        How far their ranks among those nearby are from the middle, in standard deviations.
    """

    ratio: float
    error: float
    z: float

    def __str__(self) -> str:
        return f"{self.ratio:.3g} ± {self.error:.2g} (z {self.z:+.1f})"


@dataclass(frozen=True)
class AxisSeams:
    """What was found at the tile borders that one meets along an axis.

    Attributes
    ----------
    dim : hashable
        Name of the axis.
    borders : int
        How many borders were looked at.
    roughness : Contrast
        Of the size of jumps: what each pixel shows.
    offset : Contrast
        Of the mean of jumps along a stretch of border: what neighbouring pixels share, such as
        tiles that lie at different heights.
    worst : int
        The pixel after the border that stands out most.
    worst_at : float
        Where that border is, in the axis's coordinate.
    worst_ratio : float
        The larger of its two ratios.
    """

    dim: Hashable
    borders: int
    roughness: Contrast
    offset: Contrast
    worst: int
    worst_at: float
    worst_ratio: float

    def __str__(self) -> str:
        return (
            f"along {self.dim}: {self.borders} borders, roughness {self.roughness}, offset "
            f"{self.offset}; worst before pixel {self.worst} ({self.dim} = {self.worst_at:.9g}): "
            f"{self.worst_ratio:.3g}"
        )


@dataclass(frozen=True, repr=False)
class Seams:
    """Whether tile borders show, along each axis that has any.

    Attributes
    ----------
    y, x : AxisSeams or None
        What was found along each axis; None where no tile borders cross it.
    limit : float
        The largest z that chance explains.
    false_alarm : float
        Chance that a raster without seams has a z beyond that.

    Examples
    --------
    >>> import xdemsr
    >>> seams = xdemsr.synthetic.terrain((200, 300)).demsr.upscale(2).demsr.check_seams()
    >>> seams.ok
    True
    """

    y: AxisSeams | None
    x: AxisSeams | None
    limit: float
    false_alarm: float

    @property
    def axes(self) -> tuple[AxisSeams, ...]:
        """The axes that have borders."""
        return tuple(axis for axis in (self.y, self.x) if axis is not None)

    @property
    def ok(self) -> bool:
        """Whether no border shows: rougher or smoother than chance explains."""
        found = [c.z for axis in self.axes for c in (axis.roughness, axis.offset)]
        return all(abs(z) <= self.limit for z in found)

    def __repr__(self) -> str:
        head = "no seams" if self.ok else "SEAMS"
        lines = [f"<xdemsr.Seams: {head}", *map(str, self.axes)]
        chance = f"|z| > {self.limit:.2f} in {self.false_alarm:.2g} of rasters without seams>"
        return "\n  ".join([*lines, chance])


def check_seams(
    obj: xr.DataArray,
    model: ModelLike | None = None,
    *,
    scale: int | None = None,
    period: int | tuple[int, int] | None = None,
    phase: tuple[int, int] | None = None,
    stride: int | None = None,
    false_alarm: float = 0.01,
) -> Seams:
    """Look for the borders of tiles in an answer.

    The jump at a gap between two pixels is the step across it, less the mean of the steps before
    and after. Along each border, in stretches of some pixels, the size of jumps and their mean are
    ranked among those at up to 16 gaps nearby. Where nothing but terrain is seen, every rank is
    as likely as another, whatever the terrain; so the sum of ranks has a known spread. It is taken
    to be wider where gaps between the borders say so, as in striped rasters.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        A whole answer of this library, not cut; or with ``period`` any raster. Elements of leading
        dimensions are taken together. Lazy arrays are read piece by piece. Stretches with voids
        are left out.
    model : str, Path, ModelSpec or Model, optional
        Whose tiles are meant. By default the one that the attribute ``xdemsr_model`` names.
    scale : int, optional
        Of that model, where its name does not say it: interpolations serve any.
    period : int or (int, int), optional
        Pixels (py, px) from border to border, instead of a model.
    phase : (int, int), optional
        With ``period``, the first row and column with a border before them. By default all are
        tried, and the limit raised accordingly.
    stride : int, optional
        With ``period``, borders are compared with gaps that are multiples of this away, since
        terrain between them differs: the scale of an upscaled raster. 1 by default.
    false_alarm : float, optional
        Chance that a raster without seams is said to have some.

    Returns
    -------
    Seams
        With ``ok``; and for each axis the borders' ratios, their standard errors and z-scores, and
        the worst border.

    Raises
    ------
    InputError
        If there are no two tiles, or too little data beside their borders; or the arguments do not
        say where borders are.
    ModelError
        If there is no such model.

    Notes
    -----
    What is found grows with the raster. In fractal terrain of 256 x 320 pixels, half of whose tiles
    of 64 pixels had been lifted, a step of a fifth of the mean difference between neighbouring
    pixels was found in 19 rasters of 20; in 512 x 640 pixels in 12 of 12, and a tenth in 9 of 12;
    in 2048 x 2048 a twentieth in 3 of 3. Of 400 untouched ones of 200 x 260 pixels, 2 were said to
    have seams.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((200, 300))
    >>> xdemsr.check_seams(dem.demsr.upscale(2)).ok
    True
    >>> lifted = dem.where(dem.x < dem.x[128], dem + 5.0)
    >>> seams = xdemsr.check_seams(lifted, period=128, phase=(0, 0))
    >>> seams.ok, seams.x.worst
    (False, 128)
    """
    check_values(grid.single(obj))
    if not 0 < false_alarm < 1:
        raise InputError(f"false_alarm={false_alarm} must lie between 0 and 1: a probability.")
    base = grid.of(obj)
    obj = obj.transpose(..., base.y_dim, base.x_dim)
    if period is None:
        if phase is not None or stride is not None:
            raise InputError("phase and stride belong to period=; a model says its own.")
        plans, tried = _plans_of_model(_spec_of(obj, model, scale), base.shape), [1, 1]
    elif model is not None or scale is not None:
        raise InputError("give a model or a period, not both.")
    else:
        plans, tried = _plans_of_period(obj, period, phase, 1 if stride is None else stride)
    if not any(len(plan.borders) for plan in plans):
        raise InputError(
            f"the raster of {base.shape[0]} x {base.shape[1]} pixels holds no two tiles that are "
            f"{APART + 2} pixels wide or more; there is no border to look at."
        )
    sums = collect(obj, plans)
    axes = [_summary(base, plans[k], sums[k], vertical=k == 0) for k in range(2)]
    if axes == [None, None]:
        raise InputError("no border has enough valid pixels on both sides; nothing to compare.")
    # Two contrasts for each axis (and each phase that was tried), rough or smooth.
    count = 2 * sum(n for n, axis in zip(tried, axes, strict=True) if axis is not None)
    limit = NormalDist().inv_cdf(1 - false_alarm / (2 * count))
    return Seams(axes[0], axes[1], limit, false_alarm)


def _spec_of(obj: xr.DataArray, model: ModelLike | None, scale: int | None) -> ModelSpec:
    named = obj.attrs.get("xdemsr_model") if model is None else model
    if named is None:
        raise InputError(
            "the raster does not say which model made it (no attribute 'xdemsr_model'). Give "
            "model=..., or the tiles' size in pixels: period=(py, px)."
        )
    return find(named, scale)


def _plans_of_model(spec: ModelSpec, shape: tuple[int, int]) -> list[Plan]:
    source = (shape[0] // spec.scale, shape[1] // spec.scale)
    if (source[0] * spec.scale, source[1] * spec.scale) != shape:
        raise InputError(
            f"the raster's {shape[0]} x {shape[1]} pixels are not whole multiples of the scale "
            f"{spec.scale} of model {spec.name!r}: it is not a whole answer of that model."
        )
    tiling = make_tiling(spec, source)
    strides = [spec.scale]
    if isinstance(spec.context, Local):
        # A network with a stride may answer in a pattern of its own.
        strides.insert(0, spec.scale * spec.context.multiple_of)
    plans = []
    for spans, length in zip((tiling.y, tiling.x), shape, strict=True):
        ends = {end * spec.scale for span in spans for end in (span.start, span.stop)}
        borders = sorted(end for end in ends if 0 < end < length)
        tried = [make_plan(borders, length, stride) for stride in strides]
        plans.append(max(tried, key=lambda plan: len(plan.borders)))
    return plans


def _plans_of_period(
    obj: xr.DataArray,
    period: int | tuple[int, int],
    phase: tuple[int, int] | None,
    stride: int,
) -> tuple[list[Plan], list[int]]:
    """Plans along y and x, and how many phases were tried for each."""
    periods = tuple(period) if isinstance(period, tuple | list) else (period, period)
    if not (_whole(periods, 2 * APART) and _whole((stride, stride), 1)):
        raise InputError(
            f"period={period!r} and stride={stride!r} must be whole numbers: an int or (py, px) of "
            f"{2 * APART} pixels or more, and 1 or more."
        )
    if phase is not None and not (isinstance(phase, tuple | list) and _whole(phase, -math.inf)):
        raise InputError(f"phase={phase!r} must be two whole numbers: a row and a column.")
    tried = [1, 1] if phase is not None else list(periods)
    phases = loudest_phases(obj, periods) if phase is None else phase
    plans = []
    for first, size, length in zip(phases, periods, obj.shape[-2:], strict=True):
        borders = [border for border in range(first % size, length, size) if border > 0]
        plans.append(make_plan(borders, length, stride))
    return plans, tried


def _whole(numbers: Sequence[Any], least: float) -> bool:
    """Whether these are two whole numbers, none of them less than so much."""
    return len(numbers) == 2 and all(isinstance(n, Integral) and int(n) >= least for n in numbers)


def _summary(base: Grid, plan: Plan, sums: Sums, vertical: bool) -> AxisSeams | None:
    seen = (sums.gaps[:, :, 1].sum(axis=1) > 0) & ~plan.sham
    if not seen.any():
        return None
    borders, found, sham = plan.gaps[seen], sums.gaps[seen], sums.gaps[plan.sham]
    roughness, offset = (_contrast(found[:, k], sham[:, k], sums, k) for k in range(2))
    scores = score(found[..., 0], found[..., 1])
    worst, kind = np.unravel_index(np.argmax(scores), scores.shape)
    affine, at = base.geobox.affine, int(borders[worst])
    place = affine.f + at * affine.e if vertical else affine.c + at * affine.a
    return AxisSeams(
        dim=base.y_dim if vertical else base.x_dim,
        borders=len(borders),
        roughness=roughness,
        offset=offset,
        worst=at,
        worst_at=float(place),
        worst_ratio=_ratio(found[worst, kind]),
    )


def _contrast(found: Plane, sham: Plane, sums: Sums, kind: int) -> Contrast:
    """From the sums at borders, and at gaps between them."""
    rank, variance, _, nearby = map(float, found.sum(axis=0))
    ratio, edges, products = _ratio(found.sum(axis=0)), sums.edges, sums.products[kind]
    # Of a ratio of means, as the jackknife has it for many edges.
    squared = float(products[0, 0] - 2 * ratio * products[0, 1] + ratio**2 * products[1, 1])
    spread = max(squared, 0.0) * edges / max(edges - 1, 1)
    error = math.sqrt(spread) / nearby if nearby and edges > 1 else math.nan
    variance *= _in_line(score(sham[:, 0], sham[:, 1]))
    return Contrast(ratio, error, rank / math.sqrt(variance) if variance else 0.0)


def _in_line(scores: Plane) -> float:
    """How much more ranks vary from gap to gap than chance explains, 1 at least.

    Stripes, and terrain in line with the axes, set whole rows and columns apart from those nearby.
    Then stretches of a border are not independent of each other, and gaps where no border is show
    it.
    """
    n = np.count_nonzero(scores)
    if not n:
        return 1.0
    # What the sum of n squares reaches by chance once in ten times (Wilson and Hilferty 1931).
    reached = n * (1 - 2 / (9 * n) + NormalDist().inv_cdf(0.9) * math.sqrt(2 / (9 * n))) ** 3
    return max(1.0, float(np.square(scores).sum()) / reached)


def _ratio(sums: Plane) -> float:
    return float(sums[2] / sums[3]) if sums[3] else math.inf
