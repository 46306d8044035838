"""Places in a raster, in whole pixels: spans, windows and tilings.

One geometry serves dask blocks, device tiles and training patches. Nothing here knows an array.
Order is always (y, x). A *core* is what must be answered, *padded* is the core with its context.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of pixels along one axis: the core ``[start, stop)`` and context on both sides."""

    start: int
    stop: int
    before: int = 0
    after: int = 0

    @property
    def size(self) -> int:
        """Number of core pixels."""
        return self.stop - self.start

    @property
    def padded(self) -> Span:
        """The whole stretch, context included, as a span without context."""
        return Span(self.start - self.before, self.stop + self.after)

    def pad(self, width: int) -> Span:
        """Put ``width`` more pixels of context on both sides."""
        return Span(self.start, self.stop, self.before + width, self.after + width)

    def clip(self, length: int) -> Span:
        """Cut off what lies outside ``[0, length)``, core and context alike."""
        start, stop = max(self.start, 0), min(self.stop, length)
        lower, upper = max(self.start - self.before, 0), min(self.stop + self.after, length)
        return Span(start, stop, start - lower, upper - stop)

    def refine(self, scale: int) -> Span:
        """The same place on a grid ``scale`` times finer."""
        return Span(self.start * scale, self.stop * scale, self.before * scale, self.after * scale)

    def coarsen(self, scale: int) -> Span:
        """The smallest core on a grid ``scale`` times coarser that covers this core."""
        return Span(self.start // scale, -(-self.stop // scale))

    def intersect(self, other: Span) -> Span:
        """The core shared with another span's core."""
        return Span(max(self.start, other.start), min(self.stop, other.stop))

    def within(self, other: Span) -> slice:
        """Where this core lies in an array that holds the padded ``other``."""
        origin = other.start - other.before
        return slice(self.start - origin, self.stop - origin)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels: a span along y and a span along x."""

    y: Span
    x: Span

    @property
    def shape(self) -> tuple[int, int]:
        """Core size (ny, nx)."""
        return self.y.size, self.x.size

    @property
    def core(self) -> Window:
        """The core alone, without context."""
        return Window(Span(self.y.start, self.y.stop), Span(self.x.start, self.x.stop))

    @property
    def padded(self) -> Window:
        """The whole rectangle, context included, as a window without context."""
        return Window(self.y.padded, self.x.padded)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The core as indices (y, x) of the whole array."""
        return slice(self.y.start, self.y.stop), slice(self.x.start, self.x.stop)

    def pad(self, width: int) -> Window:
        """Put ``width`` more pixels of context on all four sides."""
        return Window(self.y.pad(width), self.x.pad(width))

    def clip(self, shape: tuple[int, int]) -> Window:
        """Cut off what lies outside an array of this shape."""
        return Window(self.y.clip(shape[0]), self.x.clip(shape[1]))

    def refine(self, scale: int) -> Window:
        """The same place on a grid ``scale`` times finer."""
        return Window(self.y.refine(scale), self.x.refine(scale))

    def coarsen(self, scale: int) -> Window:
        """The smallest core on a grid ``scale`` times coarser that covers this core."""
        return Window(self.y.coarsen(scale), self.x.coarsen(scale))

    def intersect(self, other: Window) -> Window:
        """The core shared with another window's core."""
        return Window(self.y.intersect(other.y), self.x.intersect(other.x))

    def within(self, other: Window) -> tuple[slice, slice]:
        """Where this core lies in an array that holds the padded ``other``."""
        return self.y.within(other.y), self.x.within(other.x)


@dataclass(frozen=True)
class Tiling:
    """Rows and columns of windows: the product of sorted spans along y and along x.

    Spans of one axis may touch (dask chunks), reach beyond the array (fixed-size tiles) or
    overlap (windows that will be blended).
    """

    y: tuple[Span, ...]
    x: tuple[Span, ...]

    @classmethod
    def from_chunks(cls, heights: Sequence[int], widths: Sequence[int]) -> Tiling:
        """Windows side by side with the given sizes, as dask chunks are."""
        return cls(_adjacent(heights), _adjacent(widths))

    @classmethod
    def regular(
        cls, shape: tuple[int, int], size: int, *, halo: int = 0, multiple_of: int = 1
    ) -> Tiling:
        """Equal tiles of at most about ``size``, anchored at the array's first pixel.

        An axis is divided into equal parts, so a small or awkward array wastes little. The last
        tile may reach beyond the array. All depends on the array's shape alone.
        """
        ny, nx = (_equal(length, size, halo, multiple_of) for length in shape)
        return cls(ny, nx)

    @classmethod
    def overlapping(cls, shape: tuple[int, int], size: int, overlap: int) -> Tiling:
        """Windows of exactly ``size`` every ``size - overlap`` pixels; the last is moved inward.

        Where the array is smaller than a window, one window is centred on it.
        """
        ny, nx = (_overlapping(length, size, overlap) for length in shape)
        return cls(ny, nx)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of windows (along y, along x)."""
        return len(self.y), len(self.x)

    def __getitem__(self, index: tuple[int, int]) -> Window:
        return Window(self.y[index[0]], self.x[index[1]])

    def touching(self, window: Window) -> Iterator[tuple[tuple[int, int], Window]]:
        """Indices and windows whose cores share pixels with the window's core, row by row."""
        columns = self._touching_x(window.x)
        for i in self._touching_y(window.y):
            for j in columns:
                yield (i, j), Window(self.y[i], self.x[j])

    def reading(self, window: Window, margin: int, shape: tuple[int, int]) -> Window:
        """The window with all context needed to answer it: whole tiles, their halo, a margin."""
        rows, columns = self._touching_y(window.y), self._touching_x(window.x)
        y = _hull(window.y, self.y[rows[0]], self.y[rows[-1]], margin)
        x = _hull(window.x, self.x[columns[0]], self.x[columns[-1]], margin)
        return Window(y, x).clip(shape)

    def _touching_y(self, span: Span) -> range:
        return _touching(self._y_starts, self._y_stops, span)

    def _touching_x(self, span: Span) -> range:
        return _touching(self._x_starts, self._x_stops, span)

    @cached_property
    def _y_starts(self) -> list[int]:
        return [span.start for span in self.y]

    @cached_property
    def _y_stops(self) -> list[int]:
        return [span.stop for span in self.y]

    @cached_property
    def _x_starts(self) -> list[int]:
        return [span.start for span in self.x]

    @cached_property
    def _x_stops(self) -> list[int]:
        return [span.stop for span in self.x]


def _touching(starts: list[int], stops: list[int], span: Span) -> range:
    return range(bisect_right(stops, span.start), bisect_left(starts, span.stop))


def _hull(core: Span, first: Span, last: Span, margin: int) -> Span:
    lower = min(core.start, first.start - first.before) - margin
    upper = max(core.stop, last.stop + last.after) + margin
    return Span(core.start, core.stop, core.start - lower, upper - core.stop)


def _adjacent(sizes: Sequence[int]) -> tuple[Span, ...]:
    stops = list(accumulate(sizes))
    return tuple(Span(stop - size, stop) for size, stop in zip(sizes, stops, strict=True))


def _equal(length: int, size: int, halo: int, multiple_of: int) -> tuple[Span, ...]:
    count = -(-length // size)
    even = -(-length // count)
    step = -(-even // multiple_of) * multiple_of
    return tuple(Span(k, k + step, halo, halo) for k in range(0, length, step))


def _overlapping(length: int, size: int, overlap: int) -> tuple[Span, ...]:
    if length <= size:
        start = -((size - length) // 2)
        return (Span(start, start + size),)
    starts = [*range(0, length - size, size - overlap), length - size]
    return tuple(Span(start, start + size) for start in starts)
