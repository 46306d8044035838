"""Fine elevation rasters as sources of training samples: any place, any block size, at once.

Block means of any size at any pixel come from a table of running sums, so a sample costs four
look-ups a block and nothing is resampled while training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xdemsr.sensor import Sensor

Heights = NDArray[np.float64]

#: Block means without an error.
EXACT = Sensor()

#: Fine pixels that a place is continued by beyond its border, slopes going on.
_MARGIN = 160


@dataclass(frozen=True)
class Raster:
    """A fine raster: name, heights (ny, nx) in metres with NaN at voids, pixel size in metres."""

    name: str
    heights: Heights
    gsd: float

    def turned(self, rng: np.random.Generator, stretch: tuple[float, float]) -> Raster:
        """A copy turned by a random angle, with pixels a random factor larger."""
        angle = rng.uniform(0, 2 * np.pi)
        factor = float(np.exp(rng.uniform(*np.log(stretch))))
        valid = np.isfinite(self.heights)
        filled = _filled(self.heights, valid)
        if factor > 1:
            # Pixels that are skipped are averaged in first.
            filled = ndimage.gaussian_filter(filled, 0.4 * (factor - 1))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        size = np.array(self.heights.shape)
        corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * size / 2
        shape = tuple(np.ceil(2 * np.abs(corners @ turn).max(axis=0) / factor).astype(int))
        matrix = turn * factor
        offset = size / 2 - matrix @ (np.array(shape) / 2)
        heights = ndimage.affine_transform(
            filled, matrix, offset, output_shape=shape, order=3, cval=np.nan
        )
        share = ndimage.affine_transform(
            valid.astype(np.float32), matrix, offset, output_shape=shape, order=1
        )
        heights[share < 0.99] = np.nan
        return Raster(self.name, heights, self.gsd * factor)


@dataclass(frozen=True)
class Sample:
    """One coarse patch and the means of blocks ``step`` times finer.

    Attributes
    ----------
    coarse : ndarray, shape (n, n)
        Exact block means.
    fine : ndarray, shape (n * step, n * step)
    valid : ndarray of bool, shape (n, n)
        Where the truth is known.
    sampled : ndarray, shape (n, n)
        What the sensor takes for the block means, before its errors.
    """

    coarse: Heights
    fine: Heights
    valid: NDArray[np.bool_]
    sampled: Heights


class Place:
    """A raster that can be sampled.

    Parameters
    ----------
    raster : Raster
    share : float
        How much it counts beside others of its size.
    """

    def __init__(self, raster: Raster, share: float = 1.0) -> None:
        self.name, self.gsd, self.share = raster.name, raster.gsd, share
        valid = np.isfinite(raster.heights)
        self.area = int(valid.sum())
        heights = _filled(raster.heights, valid) if self.area else np.zeros_like(raster.heights)
        margin = min(_MARGIN, *(n - 1 for n in heights.shape))
        heights = np.pad(heights - heights.mean(), margin, mode="reflect", reflect_type="odd")
        self.shape = heights.shape
        self._sums = _running_sum(heights)
        self._counts = _running_sum(np.pad(valid, margin).astype(np.int32))

    def sample(
        self,
        y: int,
        x: int,
        shape: tuple[int, int],
        step: int,
        block: int,
        sensor: Sensor = EXACT,
    ) -> Sample:
        """Coarse pixels of ``step * block`` fine pixels from (y, x) on, ``shape`` of them.

        Truth are means of blocks of ``block`` fine pixels, ``step`` of them to a coarse pixel.
        """
        ny, nx = shape
        fine = _block_sums(self._sums, y, x, (ny * step, nx * step), block) / block**2
        coarse = _block_means(fine, step)
        pixel = step * block
        counts = _block_sums(self._counts, y, x, shape, pixel)
        sampled = coarse
        if sensor.sampling == "gaussian":
            sampled = _blurred(fine, step, sensor.sigma)
        elif sensor.sampling != "mean":
            width = 2 - pixel % 2 if sensor.sampling == "bilinear" else 1
            sampled = self._centres(y, x, shape, pixel, width)
        return Sample(coarse, fine, counts == pixel**2, sampled)

    def _centres(self, y: int, x: int, shape: tuple[int, int], pixel: int, width: int) -> Heights:
        """Means of the ``width`` x ``width`` fine pixels in the middle of each coarse pixel."""
        first = (pixel - width + 1) // 2
        rows, columns = (
            start + first + pixel * np.arange(n) for start, n in zip((y, x), shape, strict=True)
        )
        corners = [
            self._sums[np.ix_(rows + dy, columns + dx)]
            for dy, dx in ((width, width), (0, width), (width, 0), (0, 0))
        ]
        sums: Heights = corners[0] - corners[1] - corners[2] + corners[3]
        return sums / width**2

    def whole(self, step: int, block: int) -> Sample:
        """As many coarse pixels as the place holds."""
        pixel = step * block
        return self.sample(0, 0, (self.shape[0] // pixel, self.shape[1] // pixel), step, block)

    def fits(self, size: int, pixel: int) -> bool:
        """Whether a patch of ``size`` coarse pixels of ``pixel`` fine ones fits."""
        return bool(self.area and min(self.shape) >= size * pixel)


def make_places(
    rasters: Sequence[Raster], variants: int, rng: np.random.Generator, share: float = 1.0
) -> list[Place]:
    """Rasters as places, each with ``variants`` turned and stretched copies beside itself.

    Together they count ``share``: a raster by the square root of its area, evenly divided among
    its copies.
    """
    roots = np.array([np.isfinite(raster.heights).sum() ** 0.5 for raster in rasters])
    places = []
    for raster, root in zip(rasters, roots, strict=True):
        copies = [raster, *(raster.turned(rng, (0.75, 1.8)) for _ in range(variants))]
        part = share * root / max(roots.sum(), 1.0) / len(copies)
        places += [Place(copy, part) for copy in copies]
    return places


def load_packed(path: Path) -> Raster:
    """The raster of an ``.npz`` file with ``heights`` (NaN at voids) and ``gsd``, in metres."""
    with np.load(path) as file:
        return Raster(path.stem, file["heights"].astype(np.float64), float(file["gsd"]))


def _filled(heights: Heights, valid: NDArray[np.bool_]) -> Heights:
    """Voids take their nearest neighbour; what is made of them is never scored."""
    if valid.all():
        return heights
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    filled: Heights = heights[tuple(nearest)]
    return filled


def _block_means(fine: Heights, step: int) -> Heights:
    ny, nx = (n // step for n in fine.shape)
    means: Heights = fine.reshape(ny, step, nx, step).mean(axis=(1, 3))
    return means


def _blurred(fine: Heights, step: int, sigma: float) -> Heights:
    """Seen through a Gaussian of ``sigma`` coarse pixels, at the coarse pixels' centres."""
    margin = min(-(-int(4 * sigma * step + 1) // step) * step, min(fine.shape) - 1)
    padded = np.pad(fine, margin, mode="reflect", reflect_type="odd")
    smooth = ndimage.gaussian_filter(padded, sigma * step)[margin:-margin, margin:-margin]
    inner = slice((step - 1) // 2, step // 2 + 1)
    ny, nx = (n // step for n in fine.shape)
    centres: Heights = smooth.reshape(ny, step, nx, step)[:, inner, :, inner].mean(axis=(1, 3))
    return centres


def _running_sum(values: NDArray[Any]) -> NDArray[Any]:
    total = np.zeros((values.shape[0] + 1, values.shape[1] + 1), values.dtype)
    total[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    return total


def _block_sums(
    sums: NDArray[Any], y: int, x: int, shape: tuple[int, int], block: int
) -> NDArray[Any]:
    ny, nx = shape
    corners: NDArray[Any] = sums[y : y + ny * block + 1 : block, x : x + nx * block + 1 : block]
    sides: NDArray[Any] = corners[1:, 1:] - corners[:-1, 1:] - corners[1:, :-1] + corners[:-1, :-1]
    return sides
