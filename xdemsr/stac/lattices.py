"""Assets whose pixels lie on one lattice: found, and given one grid to be pasted on.

Tiles of a product share a lattice, and lie on it side by side or over one another. Where a product
changes its spacing (GLO-30 at 50 degrees) or its zone, there are several.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from affine import Affine
from odc.geo.geobox import GeoBox

from xdemsr.errors import GridError, InputError
from xdemsr.stac.assets import TOLERANCE, Asset, Lattice, flat_crs
from xdemsr.window import Span, Window

Bounds = tuple[float, float, float, float]

#: An edge so near to that of a pixel, in pixels, is meant to be it.
_ON_IT = 1e-3


@dataclass(frozen=True)
class Piece:
    """An asset and the pixels that it covers on its group's grid."""

    asset: Asset
    window: Window


@dataclass(frozen=True)
class Group:
    """Assets on one lattice.

    Attributes
    ----------
    lattice : Lattice
        That of the first asset: the place that pixels are counted from.
    pieces : tuple of Piece
        In the order of the assets that were given.
    """

    lattice: Lattice
    pieces: tuple[Piece, ...]

    @property
    def crs(self) -> str:
        """Name of the CRS."""
        return self.lattice.crs

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Height and width, without sign."""
        return abs(self.lattice.transform[4]), abs(self.lattice.transform[0])

    @property
    def window(self) -> Window:
        """The smallest window that holds all pieces."""
        windows = [piece.window for piece in self.pieces]
        return Window(_union(w.y for w in windows), _union(w.x for w in windows))

    def covering(self, bounds: Bounds) -> Window:
        """The pixels that share an area with bounds in the group's CRS."""
        left, bottom, right, top = bounds
        a, _, x0, _, e, y0 = self.lattice.transform
        return Window(
            _whole((top - y0) / e, (bottom - y0) / e), _whole((left - x0) / a, (right - x0) / a)
        )

    def cut(self, window: Window) -> Group:
        """The same lattice counted from a window's first pixel, without what lies outside."""
        a, b, x0, d, e, y0 = self.lattice.transform
        y, x = window.y.start, window.x.start
        # What begins where an asset does begins there to the last bit.
        tops = [p.asset.grid.bounds[3] for p in self.pieces if p.window.y.start == y]
        lefts = [p.asset.grid.bounds[0] for p in self.pieces if p.window.x.start == x]
        top, left = min(tops, default=y0 + y * e), min(lefts, default=x0 + x * a)
        moved = (a, b, left, d, e, top)
        kept = tuple(
            Piece(p.asset, Window(_moved(p.window.y, y), _moved(p.window.x, x)))
            for p in self.pieces
            if (shared := p.window.intersect(window)).y.size > 0 and shared.x.size > 0
        )
        return Group(Lattice(window.shape, moved, self.crs), kept)

    @property
    def geobox(self) -> GeoBox:
        """Shape, affine and CRS."""
        return GeoBox(self.lattice.shape, Affine(*self.lattice.transform), self.crs)


def check_axes(asset: Asset) -> None:
    """Refuse rasters whose rows and columns do not run along the axes of their CRS.

    Raises
    ------
    GridError
        If they are rotated, or columns run from east to west.
    """
    a, b, _, d, e, _ = asset.grid.transform
    if b or d or a <= 0 or e == 0:
        raise GridError(
            f"{asset.named} is rotated or mirrored (transform {list(asset.grid.transform)}). "
            "Reproject it first: gdalwarp."
        )


def group(assets: Sequence[Asset]) -> list[Group]:
    """Assets by their lattices, those with the largest pixels first.

    The lattice of a group is that of its first asset in the order of places, whatever the order in
    which the assets are given; so one and the same set of assets always has the same grids.
    """
    ranked = sorted(assets, key=lambda asset: (asset.grid.bounds, asset.item, asset.key))
    first: list[Lattice] = []
    members: dict[int, set[Asset]] = {}
    for asset in ranked:
        own = _flat(asset)
        index = next((k for k, lattice in enumerate(first) if _shares(own, lattice)), len(first))
        if index == len(first):
            first.append(own)
        members.setdefault(index, set()).add(asset)
    groups = [
        Group(lattice, tuple(_piece(asset, lattice) for asset in assets if asset in members[k]))
        for k, lattice in enumerate(first)
    ]
    return sorted(groups, key=lambda g: (-math.prod(g.pixel_size), g.crs, g.lattice.transform))


def _flat(asset: Asset) -> Lattice:
    """North up, and without what the CRS says of heights."""
    return replace(asset.grid.north_up(), crs=flat_crs(asset.grid.crs))


def _shares(own: Lattice, other: Lattice) -> bool:
    """Whether two lattices are one: the same CRS, spacing and phase."""
    if own.crs != other.crs:
        return False
    (a, _, x, _, e, y), (step_x, _, x0, _, step_y, y0) = own.transform, other.transform
    # Over its own width, an asset must not leave the other's pixels by more than it may.
    if abs(a / step_x - 1) * own.shape[1] > TOLERANCE:
        return False
    if abs(e / step_y - 1) * own.shape[0] > TOLERANCE:
        return False
    return all(abs(off - round(off)) <= TOLERANCE for off in ((x - x0) / step_x, (y - y0) / step_y))


def _piece(asset: Asset, lattice: Lattice) -> Piece:
    own = _flat(asset)
    a, _, x0, _, e, y0 = lattice.transform
    row = round((own.transform[5] - y0) / e)
    column = round((own.transform[2] - x0) / a)
    ny, nx = own.shape
    return Piece(asset, Window(Span(row, row + ny), Span(column, column + nx)))


def _whole(start: float, stop: float) -> Span:
    if not (math.isfinite(start) and math.isfinite(stop)):
        raise InputError("the place that was asked for is not on the map of the items' CRS.")
    first = math.floor(start + _ON_IT)
    return Span(first, max(first + 1, math.ceil(stop - _ON_IT)))


def _moved(span: Span, by: int) -> Span:
    return Span(span.start - by, span.stop - by)


def _union(spans: Iterable[Span]) -> Span:
    found = list(spans)
    return Span(min(span.start for span in found), max(span.stop for span in found))
