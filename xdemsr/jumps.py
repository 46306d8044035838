"""Jumps between pixels, and how those at some gaps rank among those at gaps nearby.

At each gap between two pixels the *jump* is the step across it, less the mean of the steps before
and after: what a tile border adds to the terrain. Stretch by stretch, jumps at chosen gaps are
ranked among those nearby in the same rows, which is right for terrain of any roughness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from xdemsr.chunking import split
from xdemsr.storage import void_values
from xdemsr.voids import valid_pixels
from xdemsr.window import Span, Window

Plane = NDArray[np.float64]
Whole = NDArray[np.intp]

#: Pixels along a window of one plane, windows that are under way at once, pixels along a cell.
_CHUNK, _LOT, _CELL = 2048, 32, 512
#: Gaps on each side that a border is compared with, and the fewest in all.
_CONTROLS, _FEWEST = 8, 4
#: A jump reads two pixels on each side of its gap; those of gaps nearer than APART share a step.
_REACH, APART = 2, 3
#: Share of the largest score that makes a phase one of the loudest.
_AS_LOUD = 0.9
#: Pixels along a border whose jumps are taken together, for each that repeats.
_STRETCH = 16


@dataclass(frozen=True)
class Plan:
    """The gaps along one axis that are looked at. A gap has the number of the pixel after it.

    Attributes
    ----------
    cells : tuple of Span
        Divide the axis at borders, and further where that leaves them long.
    gaps : ndarray of int, shape (n,)
    sham : ndarray of bool, shape (n,)
        Which of them are no borders, but lie between them.
    candidates : ndarray of int, shape (n, candidates)
        Each gap, and those it is compared with; -1 where there is none.
    stretch : int
        Pixels along a border whose jumps are taken together.
    """

    cells: tuple[Span, ...]
    gaps: Whole
    sham: NDArray[np.bool_]
    candidates: Whole
    stretch: int

    @property
    def borders(self) -> Whole:
        """Those gaps that are borders."""
        return self.gaps[~self.sham]


@dataclass
class Sums:
    """What all edges contribute; an edge is a piece of a gap between two cells.

    ``gaps`` holds for each gap and contrast: ranks from the middle, their variance under chance,
    jumps, and jumps nearby. ``products`` the sums over borders' edges of the last two's products.
    """

    gaps: Plane
    products: Plane
    edges: int = 0


def make_plan(borders: Sequence[int], length: int, stride: int, phases: int | None = None) -> Plan:
    """How the borders along an axis are looked at.

    Parameters
    ----------
    borders : sequence of int
        Sorted; those without enough gaps to be compared with are left out.
    length : int
        Pixels along the axis.
    stride : int
        Distances of gaps to be compared with are multiples of this.
    phases : int, optional
        The borders are those of all phases of this period, to be told apart later. Each is looked
        at as if it were the only one.
    """
    unit = max(stride, 2)
    multiples = unit * np.arange(1, _CONTROLS + 2)
    distances = multiples[multiples >= APART][:_CONTROLS]
    # Beyond the axis nothing is in the way; what lies there is left out below.
    ends = np.array([-length, *borders, 2 * length], dtype=np.intp)
    bounds = np.array([0, *borders, length], dtype=np.intp)
    third = np.diff(bounds) // 3
    sham = np.concatenate([bounds[:-1] + third, bounds[1:] - third])
    # Where they lie in what repeats, the borders lie too.
    sham -= (sham - bounds[1]) % stride
    gaps = np.concatenate([ends[1:-1], sham if phases is None else sham[:0]])
    before = ends[np.searchsorted(ends, gaps, side="left") - 1]
    after = ends[np.searchsorted(ends, gaps, side="right")]
    spaces = [gaps - before, after - gaps] if phases is None else [np.full(len(gaps), phases)] * 2
    near = [
        np.where(distances <= space[:, None] - APART, gaps[:, None] + sign * distances, -1)
        for space, sign in zip(spaces, (-1, 1), strict=True)
    ]
    candidates = np.concatenate([gaps[:, None], *near], axis=1)
    inside = (candidates >= _REACH) & (candidates <= length - _REACH)
    kept = inside[:, 0] & (inside[:, 1:].sum(axis=1) >= _FEWEST)
    is_sham = np.arange(len(gaps)) >= len(borders)
    # A sham that lies beside a border shares its step.
    kept &= ~is_sham | (np.minimum(*spaces) >= APART)
    candidates = np.where(inside, candidates, -1)[kept]
    cells = _cells(borders if phases is None else [], length)
    return Plan(cells, gaps[kept], is_sham[kept], candidates, _STRETCH * stride)


def _cells(borders: Sequence[int], length: int) -> tuple[Span, ...]:
    cells = []
    for start, stop in zip([0, *borders], [*borders, length], strict=True):
        at = start
        for size in split(stop - start, _CELL):
            cells.append(Span(at, at + size))
            at += size
    return tuple(cells)


def _windows(plans: list[Plan], planes: int) -> list[Window]:
    """Whole cells together, some millions of pixels each."""
    size = max(1, math.isqrt(_CHUNK**2 // planes))
    axes: list[list[Span]] = []
    for plan in plans:
        spans: list[Span] = []
        for cell in plan.cells:
            if spans and cell.stop - spans[-1].start <= size:
                spans[-1] = Span(spans[-1].start, cell.stop)
            else:
                spans.append(cell)
        axes.append(spans)
    return [Window(y, x) for y, x in product(*axes)]


def _reach(plans: list[Plan]) -> int:
    """Pixels around a window that its borders are compared with, or that a jump reads."""
    widest = 0
    for plan in plans:
        distances = np.abs(plan.candidates - plan.candidates[:, :1])[plan.candidates >= 0]
        widest = max(widest, int(distances.max(initial=0)))
    return widest + _REACH


def _found(obj: xr.DataArray, plans: list[Plan]) -> Iterator[list[tuple[Whole, Plane]]]:
    """What :func:`_edges` finds in each window."""
    reach, voids = _reach(plans), void_values(obj)
    shape = (obj.shape[-2], obj.shape[-1])
    cores = _windows(plans, math.prod(obj.shape[:-2]))
    reads = [core.pad(reach).clip(shape) for core in cores]
    # One lot after the other: in one graph, dask may read far ahead of what is looked at.
    for k in range(0, len(reads), _LOT):
        tasks = []
        for read in reads[k : k + _LOT]:
            # Of the variable, since asking a file that is indexed lazily for its data reads it all.
            block = obj.variable[(..., *read.padded.slices)].data
            tasks.append(delayed(_edges)(block, voids, read, plans))
        yield from compute(*tasks)


def collect(obj: xr.DataArray, plans: list[Plan]) -> list[Sums]:
    """Sums over all edges, for each axis. Reads the raster once, piece by piece."""
    totals = [Sums(np.zeros((len(plan.gaps), 2, 4)), np.zeros((2, 2, 2))) for plan in plans]
    for window in _found(obj, plans):
        for total, plan, (gaps, edges) in zip(totals, plans, window, strict=True):
            np.add.at(total.gaps, gaps, edges)
            jumps = edges[~plan.sham[gaps], :, 2:]
            total.products += np.einsum("eci,ecj->cij", jumps, jumps)
            total.edges += len(jumps)
    return totals


def loudest_phases(obj: xr.DataArray, periods: Sequence[int]) -> tuple[int, int]:
    """The phases along y and x at which gaps stand out most from those nearby."""
    axes = list(zip(obj.shape[-2:], periods, strict=True))
    plans = [make_plan(range(1, length), length, 1, size) for length, size in axes]
    totals = [np.zeros((size, 2, 4)) for size in periods]
    for window in _found(obj, plans):
        for total, plan, (gaps, edges) in zip(totals, plans, window, strict=True):
            np.add.at(total, plan.gaps[gaps] % len(total), edges)
    y, x = map(_loudest, totals)
    return y, x


def _loudest(sums: Plane) -> int:
    scores = score(sums[..., 0], sums[..., 1]).max(axis=1)
    # Gaps beside a step share it, and ranks cannot tell which of them jumps most.
    ratios = np.divide(
        sums[..., 2], sums[..., 3], where=sums[..., 3] > 0, out=np.zeros_like(sums[..., 2])
    )
    return int(np.argmax(np.where(scores >= _AS_LOUD * scores.max(), ratios.max(axis=1), -1.0)))


def _edges(
    block: NDArray[Any], voids: tuple[float, ...], read: Window, plans: list[Plan]
) -> list[tuple[Whole, Plane]]:
    """For each axis: the gap that each edge belongs to, and its sums, (edges, contrasts, 4)."""
    answers = []
    for z, along, across, plan, other in _oriented(block, voids, read, plans):
        chosen = np.nonzero((plan.gaps >= across.start) & (plan.gaps < across.stop))[0]
        found = []
        for cell in other.cells:
            if cell.start < along.start or cell.stop > along.stop or not len(chosen):
                continue
            rows = z[:, cell.within(along)]
            ranked = _ranked(_profile(rows, plan.stretch), plan.candidates[chosen], across)
            found.append(ranked.sum(axis=1).transpose(1, 0, 2))
        edges = np.concatenate(found) if found else np.zeros((0, 2, 4))
        gaps = np.tile(chosen, len(found))
        seen = edges[:, 0, 1] + edges[:, 1, 1] > 0
        answers.append((gaps[seen], edges[seen]))
    return answers


def _oriented(
    block: NDArray[Any], voids: tuple[float, ...], read: Window, plans: list[Plan]
) -> list[tuple[Plane, Span, Span, Plan, Plan]]:
    """The pixels (planes, along the borders, across them) for each axis, with their spans."""
    pixels = np.asarray(block)
    z = np.where(valid_pixels(pixels, voids), pixels, np.nan).astype(np.float64)
    z = z.reshape(-1, *z.shape[-2:])
    if len(z) > 1:
        # So that bands of different units count alike.
        size = np.array([np.nanmean(np.abs(np.diff(plane))) if _any(plane) else 1 for plane in z])
        z = z / np.where(size > 0, size, 1.0)[:, None, None]
    return [
        (z.swapaxes(-1, -2), read.x, read.y, plans[0], plans[1]),
        (z, read.y, read.x, plans[1], plans[0]),
    ]


def _any(plane: Plane) -> bool:
    return bool(np.isfinite(np.diff(plane)).any())


def _profile(rows: Plane, stretch: int) -> Plane:
    """Mean size and size of the mean of jumps: (contrasts, stretches, gaps from the second on)."""
    step = np.diff(rows)
    jump = step[..., 1:-1] - (step[..., :-2] + step[..., 2:]) / 2
    count = max(1, jump.shape[1] // stretch)
    starts = [jump.shape[1] * k // count for k in range(count)]
    sizes = np.diff([*starts, jump.shape[1]])[:, None]
    rough = np.add.reduceat(np.abs(jump), starts, axis=1) / sizes
    offset = np.abs(np.add.reduceat(jump, starts, axis=1)) / sizes
    profile: Plane = np.stack([rough.mean(axis=0), offset.mean(axis=0)])
    return profile


def _ranked(profile: Plane, candidates: Whole, across: Span) -> Plane:
    """Rank from the middle, its variance, jump and mean jump nearby: (contrasts, ..., 4)."""
    first = across.start - across.before + _REACH
    index = candidates - first
    there = (candidates >= 0) & (index >= 0) & (index < profile.shape[-1])
    values = np.where(there, profile[..., np.where(there, index, 0)], np.nan)
    known = np.isfinite(values)
    n = known.sum(axis=-1)
    usable = known[..., 0] & (n > _FEWEST)
    below = (values[..., None, :] < values[..., None]).sum(axis=-1)
    equal = (values[..., None, :] == values[..., None]).sum(axis=-1)
    ranks = (below + equal / 2) / np.maximum(n, 1)[..., None] - 0.5
    variance = np.where(known, ranks**2, 0.0).sum(axis=-1) / np.maximum(n, 1)
    nearby = np.where(known, values, 0.0)[..., 1:].sum(axis=-1) / np.maximum(n - 1, 1)
    found = np.stack([ranks[..., 0], variance, values[..., 0], nearby], axis=-1)
    return np.where(usable[..., None], found, 0.0)


def score(rank: Plane, variance: Plane) -> Plane:
    """Sums of ranks from the middle, in standard deviations; 0 where there are none."""
    found: Plane = rank / np.sqrt(np.where(variance > 0, variance, np.inf))
    return found
