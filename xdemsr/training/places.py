"""Fine elevation rasters as sources of training samples: any place, any block size, at once.

Block means of any size at any pixel come from a table of running sums, so a sample costs four
look-ups a block and nothing is resampled while training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from xdemsr.errors import InputError

Heights = NDArray[np.float64]

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
    fine : ndarray, shape (n * step, n * step)
    valid : ndarray of bool, shape (n, n)
        Where the truth is known.
    """

    coarse: Heights
    fine: Heights
    valid: NDArray[np.bool_]


class Place:
    """A raster that can be sampled.

    Parameters
    ----------
    raster : Raster
    step : int
        Fine blocks per coarse pixel along each axis.
    """

    def __init__(self, raster: Raster, step: int) -> None:
        self.name, self.gsd, self.step = raster.name, raster.gsd, step
        valid = np.isfinite(raster.heights)
        heights = _filled(raster.heights, valid)
        margin = min(_MARGIN, *(n - 1 for n in heights.shape))
        heights = np.pad(heights - heights.mean(), margin, mode="reflect", reflect_type="odd")
        self.shape = heights.shape
        self.area = int(valid.sum())
        self._sums = _running_sum(heights)
        self._counts = _running_sum(np.pad(valid, margin).astype(np.int32))

    def sample(self, y: int, x: int, shape: tuple[int, int], block: int) -> Sample:
        """Coarse pixels of ``step * block`` fine pixels from (y, x) on, ``shape`` of them."""
        ny, nx = shape
        fine = _block_sums(self._sums, y, x, (ny * self.step, nx * self.step), block) / block**2
        coarse = fine.reshape(ny, self.step, nx, self.step).mean(axis=(1, 3))
        pixel = self.step * block
        counts = _block_sums(self._counts, y, x, shape, pixel)
        return Sample(coarse, fine, counts == pixel**2)

    def whole(self, block: int) -> Sample:
        """As many coarse pixels as the place holds."""
        pixel = self.step * block
        return self.sample(0, 0, (self.shape[0] // pixel, self.shape[1] // pixel), block)

    def fits(self, size: int, block: int) -> bool:
        """Whether a patch of ``size`` coarse pixels fits."""
        return bool(min(self.shape) >= size * self.step * block)


def load_rasters(folder: str | Path) -> list[Raster]:
    """Read the elevation rasters of a folder.

    Parameters
    ----------
    folder : str or Path
        Holds GeoTIFFs, or folders with a ``dtm.tif`` each, or ``.npz`` files with ``heights``
        (NaN at voids) and ``gsd``.

    Raises
    ------
    InputError
        If there are none.
    """
    folder = Path(folder)
    rasters = list(_read_all(folder))
    if not rasters:
        raise InputError(
            f"no elevation rasters in {folder}: expected *.tif, */dtm.tif or *.npz there."
        )
    return rasters


def _read_all(folder: Path) -> Iterator[Raster]:
    for path in sorted([*folder.glob("*/dtm.tif"), *folder.glob("*.tif")]):
        name = path.parent.name if path.name == "dtm.tif" else path.stem
        yield _read_tif(name, path)
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            yield Raster(path.stem, file["heights"].astype(np.float64), float(file["gsd"]))


def _read_tif(name: str, path: Path) -> Raster:
    import rasterio

    with rasterio.open(path) as file:
        heights = file.read(1).astype(np.float64)
        if file.nodata is not None:
            heights[heights == file.nodata] = np.nan
        gsd = abs(file.res[0])
        if file.crs is not None and file.crs.is_geographic:
            gsd *= 111_320.0
    return Raster(name, heights, gsd)


def _filled(heights: Heights, valid: NDArray[np.bool_]) -> Heights:
    """Voids take their nearest neighbour; what is made of them is never scored."""
    if valid.all():
        return heights
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    filled: Heights = heights[tuple(nearest)]
    return filled


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
