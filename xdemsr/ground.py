"""Noise as heights on a grid of pixels: in memory, or lazily in chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from numpy.typing import NDArray

from xdemsr.chunking import split
from xdemsr.errors import InputError
from xdemsr.noise import Fractal
from xdemsr.progress import KEY_PREFIX, watch_dask

#: As dask takes them: a size, one for each axis, or all of them.
Chunks = int | tuple[int, int] | tuple[tuple[int, ...], ...]

#: Pixels along a piece that is made at once: what it takes stays in the processor's cache.
_PIECE = 256
#: Shares of terrain below its base, and above its base and its relief.
_LOW, _HIGH = 0.01, 0.99


@dataclass(frozen=True)
class Ground:
    """A field of noise, sampled at the centres of pixels.

    Attributes
    ----------
    field : Fractal
    seed : int
    gsd, wavelength : float
        In metres.
    relief, base : float
        In metres; see :func:`xdemsr.synthetic.perlin`.
    origin : (int, int)
        Row and column of the first pixel.
    """

    field: Fractal
    seed: int
    gsd: float
    wavelength: float
    relief: float
    base: float
    origin: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("gsd", "wavelength"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name}={getattr(self, name)} must be positive: metres.")
        if not (math.isfinite(self.relief) and math.isfinite(self.base)):
            raise InputError(f"relief={self.relief} and base={self.base} must be finite: metres.")
        if not 0 < self.field.persistence <= 1:
            raise InputError(f"persistence={self.field.persistence} must lie between 0 and 1.")

    def scaled(self) -> Ground:
        """The same, with base and relief in the field's own unit, so that pieces agree on it."""
        low, high = _spread(self.field)
        factor = self.relief / (high - low)
        return replace(self, relief=factor, base=self.base - low * factor)

    def heights(self, first: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.float32]:
        """Of a window, once scaled."""
        heights = np.empty(shape, np.float32)
        for y, ny in _steps(shape[0]):
            for x, nx in _steps(shape[1]):
                piece = self._piece((first[0] + y, first[1] + x), (ny, nx))
                heights[y : y + ny, x : x + nx] = piece
        return heights

    def _piece(self, first: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.floating[Any]]:
        y, x = (
            (np.arange(start, start + n, dtype=np.float64) + 0.5) * (self.gsd / self.wavelength)
            for start, n in zip(np.add(self.origin, first), shape, strict=True)
        )
        return self.field.at(y[:, None], x[None, :], self.seed) * self.relief + self.base


@lru_cache(maxsize=64)
def _spread(field: Fractal) -> tuple[float, float]:
    return field.spread(_LOW, _HIGH)


def count_octaves(octaves: int | None, wavelength: float, gsd: float, lacunarity: float) -> int:
    """As given; or down to the finest that pixels can show.

    Raises
    ------
    InputError
        If there are none, or they do not become finer.
    """
    if not 1 < lacunarity < math.inf:
        raise InputError(f"lacunarity={lacunarity} must be more than 1: frequencies grow.")
    if octaves is None:
        # Lengths that make no sense are refused later.
        finest = wavelength / (2 * gsd) if gsd > 0 and wavelength > 2 * gsd else 1.0
        return 1 + int(math.log(finest) / math.log(lacunarity)) if finest < math.inf else 1
    if octaves < 1 or octaves != int(octaves):
        raise InputError(f"octaves={octaves} must be a whole number, 1 or more.")
    return int(octaves)


def make(ground: Ground, shape: tuple[int, int], chunks: Chunks | None) -> Any:
    """Heights in memory, or lazily in chunks.

    Raises
    ------
    InputError
        If the shape is none.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"shape={shape} must be (ny, nx), each 1 or more.")
    ground = ground.scaled()
    if chunks is not None:
        if 0 in np.atleast_1d(np.asarray(chunks, dtype=object)):
            raise InputError(f"chunks={chunks} must be sizes in pixels, each 1 or more.")
        sizes = da.core.normalize_chunks(chunks, shape, dtype=np.float32)
        watch_dask()
        name = f"{KEY_PREFIX}noise-{tokenize(ground, sizes)}"
        meta = np.empty((0, 0), np.float32)
        return da.map_blocks(_block, ground=ground, chunks=sizes, name=name, meta=meta)
    return ground.heights((0, 0), shape)


def _steps(length: int) -> list[tuple[int, int]]:
    return [(k * _PIECE, size) for k, size in enumerate(split(length, _PIECE))]


def _block(ground: Ground, block_info: Any = None) -> NDArray[np.float32]:
    (top, bottom), (left, right) = block_info[None]["array-location"]
    return ground.heights((top, left), (bottom - top, right - left))
