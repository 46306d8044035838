"""Which patches there are: where they may lie, what is in them, which are taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xdemsr.errors import InputError
from xdemsr.gathering import Place
from xdemsr.reading import ChunkReader, Floats, Whole
from xdemsr.window import Span, Tiling, Window

Size = tuple[int, int]

#: Bytes of neighbouring chunks whose patches follow each other, and how many such regions are in
#: memory at once. Larger regions read fewer chunks twice; more of them shuffle better.
REGION_BYTES, REGIONS_AT_ONCE = 64 << 20, 4

#: Patches tried for each one wanted, beside a start: after that, voids are all over.
_TRIES, _START = 20, 1000
#: Random patches that are looked at together, at least.
_PORTION = 32
_STRATA = ("flat", "middle", "steep")
#: Mean slopes between these shares of the patches are divided into three equal parts.
_STEEPNESS = (0.02, 0.98)
_MEASURES = ("valid", "count", "mean", "min", "max", "slope")


def gridded(places: Sequence[Place], size: Size, stride: Size) -> pd.DataFrame:
    """Patches every ``stride`` source pixels; the last of a row or column is moved inward."""
    found = []
    for number, place in enumerate(places):
        shape = place.source.shape
        y = Tiling.overlapping(shape, size[0], size[0] - stride[0]).y
        x = Tiling.overlapping(shape, size[1], size[1] - stride[1]).x
        corners = np.meshgrid([s.start for s in y], [s.start for s in x], indexing="ij")
        found.append(_table(number, corners[0].ravel(), corners[1].ravel()))
    return pd.concat(found, ignore_index=True)


def scattered(
    places: Sequence[Place], size: Size, count: int, rng: np.random.Generator
) -> Iterator[pd.DataFrame]:
    """Random patches, no two the same, every position of every place as likely; in portions."""
    ways = [[n - m + 1 for n, m in zip(p.source.shape, size, strict=True)] for p in places]
    ends = np.cumsum([ny * nx for ny, nx in ways])
    total = int(ends[-1])
    if count > total:
        raise InputError(
            f"count={count} patches were asked for; there are {total} places to put one. Ask for "
            "fewer, or smaller ones."
        )
    drawn = rng.choice(total, min(total, _TRIES * count + _START), replace=False)
    portion = max(count, _PORTION)
    for start in range(0, len(drawn), portion):
        numbers = drawn[start : start + portion]
        place = np.searchsorted(ends, numbers, side="right")
        rest = numbers - np.concatenate([[0], ends])[place]
        y, x = np.divmod(rest, np.array(ways)[place, 1])
        yield _table(place, y, x)


def regions(places: Sequence[Place], table: pd.DataFrame) -> Whole:
    """A number for each patch: equal where they lie in the same chunks, or in a few beside them.

    What is in memory need not be read, so every patch of it has a number of its own.
    """
    numbers = np.arange(len(table), dtype=np.intp)
    number, y, x = (table[name].to_numpy() for name in ("place", "y", "x"))
    taken = len(table)
    for k, place in enumerate(places):
        here = number == k
        if place.in_memory or not here.any():
            continue
        side = max(1, math.isqrt(REGION_BYTES // place.pixel_bytes))
        layer = next((layer for layer in place.target if not layer.in_memory), None)
        scale = 1 if layer is None else place.scale
        tiling = (layer or place.inputs[0]).tiling
        row = _bins([s.start for s in tiling.y], y[here] * scale, side)
        column = _bins([s.start for s in tiling.x], x[here] * scale, side)
        width = int(column.max()) + 1
        numbers[here] = taken + row * width + column
        taken = int(numbers[here].max()) + 1
    return numbers


def ordered(places: Sequence[Place], table: pd.DataFrame) -> pd.DataFrame:
    """Place after place, region after region, row after row."""
    region = regions(places, table)
    region[region < len(table)] = 0
    keys = (table["x"], table["y"], region, table["place"])
    return table.iloc[np.lexsort(keys)].reset_index(drop=True)


def walk(
    places: Sequence[Place], table: pd.DataFrame, order: Whole, groups: Whole, size: Size
) -> Iterator[tuple[int, Place, Window, ChunkReader]]:
    """Patch after patch, what a group of them lies in read at once.

    Parameters
    ----------
    order : ndarray of int
        Rows of the table.
    groups : ndarray of int
        For each of them, equal where they are to be read together.
    """
    reader = ChunkReader()
    number, y, x = (table[name].to_numpy()[order] for name in ("place", "y", "x"))
    borders = np.flatnonzero(np.diff(groups)) + 1
    for some in np.split(np.arange(len(order)), borders):
        reader.turn()
        for k in np.unique(number[some]):
            here = some[number[some] == k]
            if not places[k].in_memory:
                places[k].fetch(reader, np.stack([y[here], x[here]], axis=1), size)
        for n in some.tolist():
            yield int(order[n]), places[number[n]], window_at(y[n], x[n], size), reader


def window_at(y: int, x: int, size: Size) -> Window:
    """The window of a patch, in source pixels."""
    return Window(Span(int(y), int(y) + size[0]), Span(int(x), int(x) + size[1]))


def measured(
    places: Sequence[Place], table: pd.DataFrame, size: Size, *, slopes: bool = False
) -> pd.DataFrame:
    """Read every patch once and say what is in it, in the order of :func:`ordered`.

    Adds the columns ``valid`` (share of pixels with data, of the target's or the inputs', whichever
    is less), ``count``, ``mean``, ``min`` and ``max`` (of the target's first band) and ``slope``
    (its mean, in degrees; NaN where not asked for).
    """
    table = ordered(places, table)
    values = np.full((len(table), len(_MEASURES)), np.nan)
    order = np.arange(len(table))
    for row, place, window, reader in walk(places, table, order, regions(places, table), size):
        target = place.read_target(reader, window)
        inputs = place.read_inputs(reader, window, target)
        values[row] = _measure(place, target, inputs, slopes)
    return table.assign(**dict(zip(_MEASURES, values.T, strict=True)))


def _measure(place: Place, target: Floats, inputs: Floats, slopes: bool) -> list[float]:
    known = np.isfinite(target).all(axis=0)
    share = float(known.mean())
    told = np.isfinite(inputs)
    if place.inputs:
        share = min(share, float(told.all(axis=0).mean()))
    elif not told.any(axis=(1, 2)).all():
        # Nothing to bridge voids from.
        share = 0.0
    heights = target[0][np.isfinite(target[0])]
    if not heights.size:
        return [share, 0, *[math.nan] * 4]
    mean = float(heights.mean(dtype=np.float64))
    slope = _mean_slope(target[0], place.fine.metres()) if slopes else math.nan
    return [share, heights.size, mean, float(heights.min()), float(heights.max()), slope]


def _mean_slope(z: Floats, gsd: tuple[float, float]) -> float:
    dy, dx = np.diff(z, axis=0)[:, :-1] / gsd[0], np.diff(z, axis=1)[:-1] / gsd[1]
    slopes = np.degrees(np.arctan(np.hypot(dy, dx)))
    known = np.isfinite(slopes)
    return float(slopes[known].mean()) if known.any() else math.nan


def choose_all(table: pd.DataFrame, min_valid: float) -> pd.DataFrame:
    """The patches with enough data.

    Raises
    ------
    InputError
        If there are none.
    """
    kept = table[table["valid"] >= min_valid]
    if kept.empty:
        raise InputError(
            f"none of {len(table)} patches has the share of data asked for, min_valid={min_valid}; "
            f"the best has {table['valid'].max():.2f}. Lower min_valid, or make patches smaller."
        )
    return kept


def balanced(
    table: pd.DataFrame, cuts: NDArray[Any], count: int | None, rng: np.random.Generator
) -> pd.DataFrame:
    """As many flat as middle and steep patches: ``count`` in all, or as many as there are.

    Raises
    ------
    InputError
        If one kind is missing, or there are too few of it.
    """
    table = table[table["slope"].notna()]  # A patch of voids is neither flat nor steep.
    kinds = np.digitize(table["slope"].to_numpy(), cuts)
    have = np.bincount(kinds, minlength=3)
    wanted = np.full(3, have.min()) if count is None else (count + np.arange(2, -1, -1)) // 3
    if (have < wanted).any() or not have.min():
        found = ", ".join(f"{n} {kind}" for n, kind in zip(have, _STRATA, strict=True))
        raise InputError(
            f"patches cannot be stratified: found {found}, by mean slopes below {cuts[0]:.2f}, up "
            f"to and above {cuts[1]:.2f} degrees. Give other limits, stratify=(low, high), or "
            "fewer patches, or stratify=False."
        )
    chosen = [
        rng.permutation(np.flatnonzero(kinds == kind))[:some] for kind, some in enumerate(wanted)
    ]
    return table.iloc[np.concatenate(chosen)]


def slope_limits(table: pd.DataFrame, stratify: bool | tuple[float, float]) -> NDArray[Any]:
    """Mean slopes, in degrees, between flat and middle and between middle and steep."""
    if isinstance(stratify, tuple):
        return np.array(stratify, dtype=np.float64)
    low, high = np.nanquantile(table["slope"], _STEEPNESS)
    return np.array([low + (high - low) / 3, high - (high - low) / 3])


def collect(
    portions: Iterator[pd.DataFrame],
    measure: Callable[[pd.DataFrame], pd.DataFrame],
    count: int,
    min_valid: float,
    stratify: bool | tuple[float, float],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Measure portion after portion until there are enough patches.

    Raises
    ------
    InputError
        If there are not so many.
    """
    kept = pd.DataFrame()
    cuts: NDArray[Any] | None = None
    tried = 0
    for portion in portions:
        tried += len(portion)
        found = measure(portion)
        found = found[found["valid"] >= min_valid]
        kept = found if kept.empty else pd.concat([kept, found], ignore_index=True)
        if stratify is False:
            if len(kept) >= count:
                return kept.iloc[np.sort(rng.permutation(len(kept))[:count])]
        elif len(kept):
            cuts = slope_limits(kept, stratify) if cuts is None else cuts
            slopes = kept["slope"].dropna().to_numpy()
            strata = np.bincount(np.digitize(slopes, cuts), minlength=3)
            if strata.min() >= -(-count // 3):
                return balanced(kept, cuts, count, rng)
    if cuts is not None:
        return balanced(kept, cuts, count, rng)
    raise InputError(
        f"count={count} patches were asked for; {len(kept)} of {tried} tried have the share of "
        f"data asked for, min_valid={min_valid}. Ask for fewer, lower min_valid, or make patches "
        "smaller."
    )


def pair_of(value: Any, what: str) -> Size:
    """A size along y and along x, from one number or two."""
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(map(is_count, pair)):
        raise InputError(
            f"{what}={value!r} must be a number of source pixels, 1 or more, or two: (ny, nx)."
        )
    return int(pair[0]), int(pair[1])


def is_count(value: object) -> bool:
    """Whether it is a whole number of at least 1."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) > 0


def _table(place: Whole | int, y: Whole, x: Whole) -> pd.DataFrame:
    return pd.DataFrame({"place": np.broadcast_to(place, y.shape), "y": y, "x": x})


def _bins(starts: list[int], pixels: Whole, side: int) -> Whole:
    """Neighbouring chunks put together in stretches of about ``side`` pixels."""
    chunk = np.searchsorted(starts, pixels, side="right") - 1
    return np.asarray(starts)[chunk] // side
