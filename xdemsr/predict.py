"""One window, numpy to numpy: tiles cut out, answered on the device, pasted or blended, masked.

Every tile has a fixed size and a fixed place on the array's own pixel grid, so the answer to a
pixel does not depend on the window it was asked with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from xdemsr.agreement import SUMS, Blending
from xdemsr.device import resolve_device, resolve_precision
from xdemsr.execution import Execution
from xdemsr.loading import load_module
from xdemsr.runner import Planes, Runner
from xdemsr.spec import Border, ModelSpec, Windowed
from xdemsr.tiles import bridge_margin, bridge_reach, make_tiling
from xdemsr.voids import Mask, bridge
from xdemsr.window import Window


@dataclass(frozen=True)
class Layer:
    """Some of a model's input bands, over the window that was read.

    Attributes
    ----------
    bands : tuple of int
        Which of the model's inputs these are.
    values : ndarray of float32, shape (bands, ny * scale, nx * scale)
    valid : ndarray of bool, shape (ny * scale, nx * scale)
    scale : int
        Pixels per pixel of the model's input grid.
    """

    bands: tuple[int, ...]
    values: Planes
    valid: Mask
    scale: int = 1


def predict(
    spec: ModelSpec,
    execution: Execution,
    shape: tuple[int, int],
    core: Window,
    read: Window,
    layers: Sequence[Layer],
    constants: Mapping[int, float],
) -> Planes:
    """Answer one window of an array.

    Parameters
    ----------
    spec : ModelSpec
    execution : Execution
    shape : (ny, nx)
        Of the whole array, in input pixels; with ``spec`` it fixes where tiles lie.
    core : Window
        What to answer, in output pixels.
    read : Window
        What the layers hold, in input pixels, context included.
    layers : sequence of Layer
        The answer is void where the first one is; voids of the others are bridged.
    constants : mapping of int to float
        Inputs that are the same everywhere.

    Returns
    -------
    ndarray of float32, shape (bands', ny, nx)
        NaN where void.
    """
    place = core.coarsen(spec.scale)
    valid = layers[0].valid[place.within(read)]
    full = (len(spec.outputs), *core.shape)
    if not valid.any():
        return np.full(full, np.nan, dtype=np.float32)
    # Not filled first: what no tile answers is void, and masked at the end.
    answer = np.empty(full, dtype=np.float32)
    canvas = _Canvas(answer, core, spec, shape)
    cutter = _Cutter(spec, shape, read, layers, constants)
    tiles = [tile for tile in canvas.tiling.touching(place) if cutter.has_data(tile[1])]
    for tile, planes in _answers(spec, execution, cutter, tiles):
        canvas.add(*tile, planes)
    canvas.mask(~valid, place)
    return answer


def survey(
    spec: ModelSpec,
    execution: Execution,
    shape: tuple[int, int],
    windows: Window,
    read: Window,
    layers: Sequence[Layer],
    constants: Mapping[int, float],
) -> NDArray[np.float64]:
    """Sum up the answers of some windows of a model whose heights are relative.

    Parameters
    ----------
    windows : Window
        Which rows and columns of windows.
    spec, execution, shape, read, layers, constants
        As for :func:`predict`.

    Returns
    -------
    ndarray, shape (SUMS, rows, columns)
        As :meth:`xdemsr.agreement.Blending.sums` finds them; zero for windows without data.
    """
    blending = Blending.of(spec, shape)
    cutter = _Cutter(spec, shape, read, layers, constants)
    sums = np.zeros((SUMS, *windows.shape))
    rows, columns = (range(span.start, span.stop) for span in (windows.y, windows.x))
    places = [((i, j), blending.tiling[i, j]) for i, j in product(rows, columns)]
    tiles = [tile for tile in places if cutter.has_data(tile[1])]
    for (index, tile), planes in _answers(spec, execution, cutter, tiles):
        inside = tile.clip(shape)
        valid = np.zeros(tile.shape, dtype=bool)
        valid[inside.within(tile)] = layers[0].valid[inside.within(read)]
        fine = valid.repeat(spec.scale, axis=0).repeat(spec.scale, axis=1)
        place = index[0] - windows.y.start, index[1] - windows.x.start
        sums[:, *place] = blending.sums(index, planes[0], fine)
    return sums


#: Which tile, and where it lies.
_Tile = tuple[tuple[int, int], Window]


def _answers(
    spec: ModelSpec, execution: Execution, cutter: _Cutter, tiles: Sequence[_Tile]
) -> Iterator[tuple[_Tile, Planes]]:
    """The network's answer to each tile, as they come."""
    if not tiles:
        return
    device = resolve_device(execution.device)
    precision = resolve_precision(execution.precision, device, spec)
    network = partial(load_module, spec, device, precision)
    runner = Runner(network, spec, device, precision, execution)
    answers = runner.answers(cutter.inputs(window) for _, window in tiles)
    yield from zip(tiles, answers, strict=True)


class _Cutter:
    """Cuts padded tiles out of the layers; bridges voids and continues the array's border."""

    def __init__(
        self,
        spec: ModelSpec,
        shape: tuple[int, int],
        read: Window,
        layers: Sequence[Layer],
        constants: Mapping[int, float],
    ) -> None:
        self.spec, self.shape, self.read = spec, shape, read
        self.layers, self.constants = layers, constants
        self.reach = bridge_reach(spec)
        self.margin = bridge_margin(spec)

    def has_data(self, tile: Window) -> bool:
        """Whether any pixel of the tile's core is valid in the first layer."""
        inside = tile.core.clip(self.shape)
        return bool(self.layers[0].valid[inside.within(self.read)].any())

    def inputs(self, tile: Window) -> list[Planes]:
        """One array (bands, ny * scale, nx * scale) for each sampling, by increasing scale."""
        padded = tile.padded
        scales = sorted({band.scale for band in self.spec.inputs})
        arrays = []
        for scale in scales:
            members = [i for i, band in enumerate(self.spec.inputs) if band.scale == scale]
            array = np.empty((len(members), *padded.refine(scale).shape), dtype=np.float32)
            for layer in self.layers:
                if layer.scale == scale:
                    rows = [members.index(band) for band in layer.bands]
                    array[rows] = self._cut(layer, padded)
            for band, value in self.constants.items():
                if band in members:
                    array[members.index(band)] = value
            arrays.append(array)
        return arrays

    def _cut(self, layer: Layer, padded: Window) -> Planes:
        k = layer.scale
        inside = padded.clip(self.shape)
        around = padded.pad(self.margin).padded.clip(self.shape)
        cut = around.refine(k).within(self.read.refine(k))
        values, valid = layer.values[(slice(None), *cut)], layer.valid[cut]
        if not valid.any():
            values = np.zeros_like(values)
        elif not valid.all():
            values = np.stack([bridge(plane, valid, self.reach * k) for plane in values])
        values = values[(slice(None), *inside.refine(k).within(around.refine(k)))]
        missing = [
            ((inner.start - outer.start) * k, (outer.stop - inner.stop) * k)
            for inner, outer in ((inside.y, padded.y), (inside.x, padded.x))
        ]
        return _extend(values, missing, self.spec.border)


class _Canvas:
    """Puts the answers of tiles where they belong: pasted, or blended where windows overlap."""

    def __init__(
        self, answer: Planes, core: Window, spec: ModelSpec, shape: tuple[int, int]
    ) -> None:
        self.answer, self.core, self.scale = answer, core, spec.scale
        self.tiling = make_tiling(spec, shape)
        self.ramps: tuple[Sequence[NDArray[np.float32]], ...] = ()
        if isinstance(spec.context, Windowed):
            blending = Blending.of(spec, shape)
            self.ramps = (blending.y, blending.x)
            answer.fill(0.0)

    def add(self, index: tuple[int, int], tile: Window, planes: Planes) -> None:
        """Paste or blend the answer (bands, ny, nx) of a tile's core."""
        place = tile.core.refine(self.scale)
        shared = place.intersect(self.core)
        target, source = shared.within(self.core), shared.within(place)
        part = planes[(slice(None), *source)]
        if self.ramps:
            weights = [
                ramps[i][cut] for ramps, i, cut in zip(self.ramps, index, source, strict=True)
            ]
            self.answer[(slice(None), *target)] += weights[0][:, None] * weights[1] * part
        else:
            self.answer[(slice(None), *target)] = part

    def mask(self, void: Mask, place: Window) -> None:
        """Put NaN where ``void``, given on the input pixels of ``place``."""
        if void.any():
            fine = void.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
            self.answer[:, fine[self.core.within(place.refine(self.scale))]] = np.nan


def _extend(values: Planes, missing: Sequence[tuple[int, int]], border: Border) -> Planes:
    widths = [(0, 0), *missing]
    if border == "odd":
        return np.pad(values, widths, mode="reflect", reflect_type="odd")
    if border == "mirror":
        return np.pad(values, widths, mode="reflect")
    return np.pad(values, widths, mode="edge")
