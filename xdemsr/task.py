"""The door between the map wing and the tensor wing.

``BlockTask`` stands in dask graphs and knows no torch; its call, on the worker, is the only place
where torch and weights are reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import normalize_token
from numpy.typing import NDArray

from xdemsr.execution import Execution
from xdemsr.spec import ModelSpec
from xdemsr.tiles import make_tiling, reading
from xdemsr.voids import valid_pixels
from xdemsr.window import Span, Window


@dataclass(frozen=True)
class BlockInput:
    """What one source brings.

    Attributes
    ----------
    bands : tuple of int
        Which of the model's inputs.
    scale : int
        Its pixels per pixel of the model's input grid.
    leading : int
        Leading dimensions it shares with the answer.
    stacked : bool
        Whether the bands lie along a dimension of its own, before (y, x).
    voids : tuple of float
        Values that mean missing, beside NaN.
    """

    bands: tuple[int, ...]
    scale: int = 1
    leading: int = 0
    stacked: bool = False
    voids: tuple[float, ...] = ()


@dataclass(frozen=True)
class BlockTask:
    """Answers one window of an array with a model.

    Attributes
    ----------
    spec : ModelSpec
    execution : Execution
    shape : (ny, nx)
        Of the whole array, in input pixels.
    inputs : tuple of BlockInput
        One for each source; the first one's voids are the answer's.
    constants : tuple of (int, float)
        Inputs of the model that are the same everywhere.
    banded : bool
        Whether the answer has a band dimension before (y, x).
    """

    spec: ModelSpec
    execution: Execution
    shape: tuple[int, int]
    inputs: tuple[BlockInput, ...]
    constants: tuple[tuple[int, float], ...] = ()
    banded: bool = False

    def reading(self, core: Window) -> Window:
        """Input pixels needed to answer ``core`` (output pixels)."""
        return reading(self.spec, self.shape, core)

    def __call__(
        self, core: Window, read: Window, blocks: Sequence[NDArray[Any]]
    ) -> NDArray[np.float32]:
        """Answer ``core``; blocks hold ``read``, and one element of each leading dimension."""
        from xdemsr.predict import predict

        layers = _layers(self.inputs, blocks)
        planes = predict(
            self.spec, self.execution, self.shape, core, read, layers, dict(self.constants)
        )
        leading = (1,) * self.inputs[0].leading
        return planes.reshape(*leading, *(planes.shape if self.banded else core.shape))

    def __dask_tokenize__(self) -> Any:
        return normalize_token(
            (
                "xdemsr.BlockTask",
                self.spec.identity(),
                self.execution,
                self.shape,
                self.inputs,
                self.constants,
                self.banded,
            )
        )


@dataclass(frozen=True)
class SurveyTask:
    """Sums up the answers of a model whose heights are relative: one pixel stands for one window.

    Attributes
    ----------
    block : BlockTask
        What answers the same array.
    """

    block: BlockTask

    def reading(self, core: Window) -> Window:
        """Input pixels needed to answer ``core`` (rows and columns of windows)."""
        tiling = make_tiling(self.block.spec, self.block.shape)
        rows, columns = tiling.y[core.slices[0]], tiling.x[core.slices[1]]
        y, x = (Span(spans[0].start, spans[-1].stop) for spans in (rows, columns))
        return Window(y, x).clip(self.block.shape)

    def __call__(
        self, core: Window, read: Window, blocks: Sequence[NDArray[Any]]
    ) -> NDArray[np.float64]:
        """Sums of the windows in ``core``, shape (1..., SUMS, rows, columns)."""
        from xdemsr.predict import survey

        block = self.block
        layers = _layers(block.inputs, blocks)
        sums = survey(
            block.spec, block.execution, block.shape, core, read, layers, dict(block.constants)
        )
        return sums.reshape(*(1,) * block.inputs[0].leading, *sums.shape)


def _layers(inputs: Sequence[BlockInput], blocks: Sequence[NDArray[Any]]) -> list[Any]:
    pairs = zip(inputs, blocks, strict=True)
    return [_layer(source, block[(0,) * source.leading]) for source, block in pairs]


def _layer(source: BlockInput, block: NDArray[Any]) -> Any:
    from xdemsr.predict import Layer

    planes = block if source.stacked else block[None]
    valid = valid_pixels(planes, source.voids)
    with np.errstate(over="ignore", invalid="ignore"):
        values = planes.astype(np.float32, copy=False)
    valid = np.all(valid & np.isfinite(values), axis=0)
    return Layer(source.bands, values, valid, source.scale)
