"""Where a model's tiles lie on an array, and how much must be read to answer a window."""

from __future__ import annotations

from functools import lru_cache

from xdemsr.spec import Local, ModelSpec, Windowed
from xdemsr.voids import SLOPING_RINGS
from xdemsr.window import Tiling, Window

#: Beyond this many pixels from the rim of a void, its fill need not be exact.
_LONGEST_BRIDGE = 32


@lru_cache(maxsize=256)
def _tiling(context: Local | Windowed, shape: tuple[int, int]) -> Tiling:
    if isinstance(context, Windowed):
        return Tiling.overlapping(shape, context.size, context.overlap)
    return Tiling.regular(shape, context.tile, halo=context.halo, multiple_of=context.multiple_of)


def make_tiling(spec: ModelSpec, shape: tuple[int, int]) -> Tiling:
    """The model's tiles on an array of this shape (ny, nx), in input pixels."""
    return _tiling(spec.context, shape)


def bridge_reach(spec: ModelSpec) -> int:
    """How far from its rim the network looks into a void."""
    if isinstance(spec.context, Windowed):
        return spec.context.size
    return min(spec.context.halo, _LONGEST_BRIDGE)


def bridge_margin(spec: ModelSpec) -> int:
    """How far beyond a tile's halo lies what its bridges over voids depend on."""
    return 0 if isinstance(spec.context, Windowed) else bridge_reach(spec) + SLOPING_RINGS


def reading(spec: ModelSpec, shape: tuple[int, int], core: Window) -> Window:
    """What must be read to answer ``core`` (output pixels): input pixels, context included.

    Whole tiles with their halo, and beyond a local network's halo what its bridges over voids
    depend on, so that tiles that share a void fill it alike.
    """
    place = core.coarsen(spec.scale)
    return make_tiling(spec, shape).reading(place, bridge_margin(spec), shape)
