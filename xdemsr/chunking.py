"""Sizes of the answer's chunks."""

from __future__ import annotations

import math
from numbers import Integral

from xdemsr.errors import InputError
from xdemsr.spec import ModelSpec, Windowed
from xdemsr.tiles import make_tiling

Chunks = int | tuple[int, int] | str

#: Bytes of one automatic chunk, at most: few, since a run holds some of them for each thread.
_LARGEST = 32 << 20
#: Where windows overlap, those at a border of two chunks are answered for both: fewer borders.
_LARGEST_WINDOWED = 128 << 20
#: Where no dask is involved.
_LARGEST_EAGER = 16 << 20
#: Automatic chunks are this many at least, so that one is compressed while another is answered.
_FEWEST = 2


def largest_chunk(spec: ModelSpec, lazy: bool) -> int:
    """Bytes of an automatic chunk, at most."""
    if isinstance(spec.context, Windowed):
        return _LARGEST_WINDOWED
    return _LARGEST if lazy else _LARGEST_EAGER


def spatial_chunks(
    chunks: Chunks,
    spec: ModelSpec,
    shape: tuple[int, int],
    pixel_bytes: int,
    largest: int,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Chunks of the answer along y and x, in its own pixels.

    Parameters
    ----------
    chunks : int, (int, int) or "auto"
        As asked. ``"auto"`` holds as many whole tiles as fit in ``largest`` and in half of the
        answer, so that no tile is computed twice; where windows overlap, all of a small answer.
    spec : ModelSpec
    shape : (ny, nx)
        Of the model's input.
    pixel_bytes : int
        Bytes of one pixel of the answer, all that lies at one place in a chunk.
    largest : int
        Bytes of an automatic chunk, at most (unless one tile is more).

    Raises
    ------
    InputError
        If ``chunks`` is none of these.
    """
    if isinstance(chunks, str):
        if chunks != "auto":
            raise InputError(f"chunks={chunks!r} must be 'auto', an int or (ny, nx).")
        sizes = _automatic(spec, shape, pixel_bytes, largest)
    else:
        pair = chunks if isinstance(chunks, tuple | list) else (chunks, chunks)
        if len(pair) != 2 or not all(map(_is_size, pair)):
            raise InputError(
                f"chunks={chunks!r} must be 'auto', or the size of the answer's chunks in its own "
                "pixels: an int or (ny, nx)."
            )
        sizes = (int(pair[0]), int(pair[1]))
    rows, columns = (
        split(length * spec.scale, size) for length, size in zip(shape, sizes, strict=True)
    )
    return rows, columns


def _is_size(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) > 0


def split(length: int, size: int) -> tuple[int, ...]:
    """Chunks of at most ``size`` that add up to ``length``."""
    whole, rest = divmod(length, size)
    return (size,) * whole + ((rest,) if rest else ())


def _automatic(
    spec: ModelSpec, shape: tuple[int, int], pixel_bytes: int, largest: int
) -> tuple[int, int]:
    whole = math.prod(shape) * spec.scale**2 * pixel_bytes
    if isinstance(spec.context, Windowed) and whole <= largest:
        # Windows overlap, and those at a border of two chunks are answered for both.
        return shape[0] * spec.scale, shape[1] * spec.scale
    largest = min(largest, whole // _FEWEST)
    tiling = make_tiling(spec, shape)
    steps = [
        (spans[1].start - spans[0].start if len(spans) > 1 else spans[0].size) * spec.scale
        for spans in (tiling.y, tiling.x)
    ]
    rows, columns = ((max(1, math.isqrt(largest // pixel_bytes) // step) * step) for step in steps)
    # One more along an axis may still fit.
    while rows * (columns + steps[1]) * pixel_bytes <= largest:
        columns += steps[1]
    while (rows + steps[0]) * columns * pixel_bytes <= largest:
        rows += steps[0]
    return rows, columns
