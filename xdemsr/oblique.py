"""Terrain seen from the side: a parallel projection, column by column, from front to back.

Upright lines stay upright in such a picture, so each of its columns sees one profile of the
terrain. Along a profile, what rises above all before it is seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]
Image = NDArray[np.float64]

#: Each pixel of a picture is the mean of so many squared.
_FINER = 2
#: Columns that are drawn at once.
_STRIP = 128
#: How far the block reaches below its lowest point, as a share of its longer side.
_PLINTH = 0.03
#: Colour of cut faces, and their light where they face east or west, and north or south.
_EARTH = np.array([0.50, 0.45, 0.40])
_SIDES = 0.72, 0.92


@dataclass(frozen=True)
class Scene:
    """Terrain with north up and east right.

    Attributes
    ----------
    heights : ndarray, shape (ny, nx)
        In metres, NaN at voids.
    colours : ndarray, shape (ny, nx, 3)
        Between 0 and 1, light and shade included.
    height, width : float
        Of a pixel, in metres.
    """

    heights: Plane
    colours: Image
    height: float
    width: float

    @property
    def extent(self) -> tuple[float, float]:
        """Metres from south to north, and from west to east."""
        ny, nx = self.heights.shape
        return ny * self.height, nx * self.width

    @property
    def foot(self) -> float:
        """Height of the block's lower face."""
        return float(np.nanmin(self.heights)) - _PLINTH * max(self.extent)


def draw(scene: Scene, azimuth: float, altitude: float, size: int) -> Image:
    """A picture of the terrain.

    Parameters
    ----------
    scene : Scene
    azimuth, altitude : float
        Where the viewer stands, in degrees: clockwise from north, and above the horizon.
    size : int
        Pixels along the picture's longer side.

    Returns
    -------
    ndarray, shape (rows, columns, 4)
        Red, green, blue and opacity, between 0 and 1; the first row is the uppermost.
    """
    view = _View.of(scene, azimuth, altitude, size * _FINER)
    strips = [
        view.strip(scene, view.right[k : k + _STRIP]) for k in range(0, len(view.right), _STRIP)
    ]
    fine = np.concatenate(strips, axis=1)[::-1]
    rows, columns = fine.shape[0] // _FINER, fine.shape[1] // _FINER
    blocks = fine[: rows * _FINER, : columns * _FINER]
    picture: Image = blocks.reshape(rows, _FINER, columns, _FINER, 4).mean(axis=(1, 3))
    # Colours were weighted by opacity.
    picture[..., :3] /= np.maximum(picture[..., 3:], 1e-9)
    return np.clip(picture, 0.0, 1.0)


@dataclass(frozen=True)
class _View:
    """Where the picture's columns, the profiles' points and the picture's rows lie, in metres."""

    right: Plane
    depth: Plane
    up: Plane
    forward: tuple[float, float]
    sin: float
    cos: float

    @classmethod
    def of(cls, scene: Scene, azimuth: float, altitude: float, size: int) -> _View:
        """The view of a scene from a direction, its longer side ``size`` pixels."""
        north, east = -math.cos(math.radians(azimuth)), -math.sin(math.radians(azimuth))
        sin, cos = math.sin(math.radians(altitude)), math.cos(math.radians(altitude))
        rise, reach = scene.extent
        half_width = (abs(north) * reach + abs(east) * rise) / 2
        half_depth = (abs(north) * rise + abs(east) * reach) / 2
        top = half_depth * sin + float(np.nanmax(scene.heights)) * cos
        bottom = -half_depth * sin + scene.foot * cos
        pixel = max(2 * half_width, top - bottom) / size
        step = min(scene.height, scene.width) / 2
        return cls(
            right=np.arange(-half_width, half_width, pixel) + pixel / 2,
            depth=np.arange(-half_depth, half_depth + step, step),
            up=np.arange(bottom, top + pixel, pixel),
            forward=(north, east),
            sin=sin,
            cos=cos,
        )

    def places(self, right: Plane, depth: Plane, scene: Scene) -> tuple[Plane, Plane]:
        """Row and column of points, in pixels."""
        north, east = self.forward
        rise, reach = scene.extent
        y = depth * north - right * east
        x = depth * east + right * north
        return (rise / 2 - y) / scene.height - 0.5, (x + reach / 2) / scene.width - 0.5

    def strip(self, scene: Scene, right: Plane) -> Image:
        """Some columns of the picture, the lowest row first; colours weighted by opacity."""
        heights = _heights(scene, *self.places(right[None, :], self.depth[:, None], scene))
        there = np.isfinite(heights)
        seen = np.where(there, self.depth[:, None] * self.sin + heights * self.cos, -np.inf)
        highest = np.maximum.accumulate(seen, axis=0)
        # The first point of each profile that hides each row of the picture.
        first = np.stack([np.searchsorted(profile, self.up) for profile in highest.T], axis=1)
        hit = first < len(self.depth)
        at = np.minimum(first, len(self.depth) - 1)
        before = np.maximum(at - 1, 0)
        columns = np.arange(len(right))
        upper, lower = seen[at, columns], seen[before, columns]
        rim = (at == 0) | ~np.isfinite(lower)
        with np.errstate(invalid="ignore", divide="ignore"):
            part = np.where(rim, 1.0, (self.up[:, None] - lower) / (upper - lower))
        depth = self.depth[before] + np.clip(part, 0, 1) * (self.depth[at] - self.depth[before])
        row, column = self.places(right[None, :], depth, scene)
        colours = _sampled(scene.colours, row, column)
        # Below a rim the block is cut open; below its foot there is nothing.
        cut = rim & (self.up[:, None] < upper - 1e-9)
        foot = self.depth[at] * self.sin + scene.foot * self.cos
        hit &= ~cut | (self.up[:, None] >= foot)
        colours = np.where(cut[..., None], _faces(scene, row, column), colours)
        return np.concatenate([colours, np.ones((*hit.shape, 1))], axis=-1) * hit[..., None]


def _heights(scene: Scene, row: Plane, column: Plane) -> Plane:
    """Interpolated between pixels' centres; NaN outside and where the nearest pixel is void."""
    ny, nx = scene.heights.shape
    nearest = np.rint(row), np.rint(column)
    inside = (nearest[0] >= 0) & (nearest[0] < ny) & (nearest[1] >= 0) & (nearest[1] < nx)
    y, x = (
        np.clip(place, 0, n - 1).astype(np.intp) for place, n in zip(nearest, (ny, nx), strict=True)
    )
    own = scene.heights[y, x]
    smooth = _sampled(scene.heights[..., None], row, column)[..., 0]
    # Beside a void there is nothing to interpolate with.
    found = np.where(np.isfinite(smooth), smooth, own)
    return np.where(inside, found, np.nan)


def _sampled(image: Image, row: Plane, column: Plane) -> Image:
    """Interpolated linearly between pixels' centres, and continued evenly beyond the outer ones."""
    ny, nx = image.shape[:2]
    y, x = np.clip(row, 0, ny - 1), np.clip(column, 0, nx - 1)
    top = np.minimum(y.astype(np.intp), max(ny - 2, 0))
    left = np.minimum(x.astype(np.intp), max(nx - 2, 0))
    bottom, right = np.minimum(top + 1, ny - 1), np.minimum(left + 1, nx - 1)
    v, u = (y - top)[..., None], (x - left)[..., None]
    upper = image[top, left] * (1 - u) + image[top, right] * u
    lower = image[bottom, left] * (1 - u) + image[bottom, right] * u
    sampled: Image = upper * (1 - v) + lower * v
    return sampled


def _faces(scene: Scene, row: Plane, column: Plane) -> Image:
    """Colour of cut faces, darker where they face east or west."""
    ny, nx = scene.heights.shape
    from_side = np.minimum(column, nx - 1 - column) * scene.width
    from_end = np.minimum(row, ny - 1 - row) * scene.height
    light = np.where(from_side < from_end, *_SIDES)
    faces: Image = _EARTH * light[..., None]
    return faces
