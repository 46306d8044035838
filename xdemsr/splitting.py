"""Dividing patches by spatial blocks, so that none is learnt from beside one that is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from xdemsr.grid import Grid, same_crs

Floats = NDArray[np.float64]
Whole = NDArray[np.intp]

#: Grids may be off by so much of a pixel and still be one.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Footprints:
    """Where the patches of one place lie.

    Attributes
    ----------
    grid : Grid
        Of the source pixels.
    corners : ndarray of int, shape (n, 2)
        First source pixel (y, x) of each patch.
    size : (ny, nx)
        Of all patches, in source pixels.
    """

    grid: Grid
    corners: Whole
    size: tuple[int, int]

    @property
    def pixel(self) -> Floats:
        """Height and width of a source pixel, in map units."""
        return np.array(self.grid.pixel_size)

    @property
    def extent(self) -> Floats:
        """Height and width of a patch, in map units."""
        return np.array(self.size) * self.pixel

    @property
    def centres(self) -> Floats:
        """Middles (y, x) of the patches, in map units."""
        affine = self.grid.geobox.affine
        middles = self.corners + np.array(self.size) / 2
        centres: Floats = np.array([affine.f, affine.c]) + middles * [affine.e, affine.a]
        return centres

    def comparable(self, other: Footprints) -> bool:
        """Whether distances between both are known: they are in one CRS."""
        mine, others = self.grid.geobox.crs, other.grid.geobox.crs
        return mine is not None and others is not None and same_crs(mine, others)


def divided(
    places: Sequence[Footprints],
    shares: Sequence[float],
    block: tuple[int, int],
    buffer: int,
    seed: int,
) -> Whole:
    """The part of each patch, place after place; -1 for those that are left out.

    Parameters
    ----------
    places : sequence of Footprints
    shares : sequence of float
        How much of all patches each part is to have.
    block : (ny, nx)
        Size in source pixels.
    buffer : int
        Source pixels between a patch and those of later parts; in the larger ones, where two places
        differ.
    """
    numbers = np.repeat(np.arange(len(places)), [len(place.corners) for place in places])
    blocks = [(p.corners + np.array(p.size) // 2) // np.array(block) for p in places]
    part = assign_blocks(np.column_stack([numbers, np.concatenate(blocks)]), shares, seed)
    kept = apart(places, [part[numbers == k] for k in range(len(places))], buffer)
    part[~np.concatenate(kept)] = -1
    return part


def assign_blocks(blocks: Whole, shares: Sequence[float], seed: int) -> Whole:
    """A part for each patch; all of one block have the same.

    Blocks are taken in random order; each goes to the part that lacks most.

    Parameters
    ----------
    blocks : ndarray of int, shape (n, k)
        The block each patch lies in.
    """
    if not len(blocks):
        return np.empty(0, np.intp)
    _, block, counts = np.unique(blocks, axis=0, return_inverse=True, return_counts=True)
    lacking = np.array(shares) * len(blocks)
    part = np.empty(len(counts), np.intp)
    for number in np.random.default_rng(seed).permutation(len(counts)):
        part[number] = np.argmax(lacking)
        lacking[part[number]] -= counts[number]
    return part[block.ravel()]


def apart(
    places: Sequence[Footprints], parts: Sequence[Whole], buffer: int
) -> list[NDArray[np.bool_]]:
    """Which patches have ``buffer`` source pixels or more between them and all of later parts.

    Parts are kept the better the later they come: those of the last one all stay.

    Parameters
    ----------
    parts : sequence of ndarray of int
        For each place, the part of each of its patches.
    """
    kept = [np.ones(len(part), dtype=bool) for part in parts]
    last = max((int(part.max(initial=0)) for part in parts), default=0)
    for number in range(last - 1, -1, -1):
        for i, mine in enumerate(places):
            here = np.flatnonzero(parts[i] == number)
            for j, other in enumerate(places):
                if i != j and not mine.comparable(other):
                    continue
                later = np.flatnonzero((parts[j] > number) & kept[j])
                if len(here) and len(later):
                    kept[i][here] &= _far(mine, here, other, later, buffer)
    return kept


def _far(
    mine: Footprints, here: Whole, other: Footprints, there: Whole, buffer: int
) -> NDArray[np.bool_]:
    pixel = np.maximum(mine.pixel, other.pixel)
    # Centres that are so far apart along one axis have the buffer between them.
    reach = (mine.extent + other.extent) / 2 + (buffer - _TOLERANCE) * pixel
    tree = cKDTree(other.centres[there] / reach)
    nearest, _ = tree.query(
        mine.centres[here] / reach, p=np.inf, distance_upper_bound=1.0, workers=1
    )
    far: NDArray[np.bool_] = np.isinf(nearest)
    return far
