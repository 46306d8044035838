"""Mosaics of relative heights without steps: every window at the level that suits its neighbours.

Three passes, all of them in one graph. The first answers every window and sums up where it overlaps
others; the second solves for all levels at once; the third answers the windows again, blends them,
and adds their levels, blended alike. So the network runs twice over each window, and nothing is
kept between the passes but a few numbers a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from xdemsr.again import read_again
from xdemsr.agreement import SUMS, Blending, levels
from xdemsr.answering import Arrays, answer_windows
from xdemsr.chunking import split
from xdemsr.graph import Answer, Source, map_windows
from xdemsr.task import BlockTask, SurveyTask
from xdemsr.tiles import make_tiling
from xdemsr.window import Span, Window

#: Input pixels along the windows that one task surveys, about.
_SURVEYED = 512


def levelled(task: BlockTask, arrays: Arrays, answer: Answer) -> Any:
    """Answer every chunk, with all windows at levels that suit each other.

    Parameters
    ----------
    task : BlockTask
        Of a model whose heights are relative.
    arrays : sequence of (array, int, int)
        As for :func:`xdemsr.answering.answer_windows`.
    answer : Answer

    Returns
    -------
    ndarray or dask.array.Array
        The mean is zero over each part that voids leave connected.
    """
    lead, name = answer.chunks[: answer.leading], answer.name
    rows, columns = surveys(task)
    survey = Answer(f"{name}-survey", (*lead, (SUMS,), rows, columns), np.float64, len(lead))
    sums = answer_windows(SurveyTask(task), arrays, survey)
    whole = Answer(f"{name}-levels", (*lead, (sum(rows),), (sum(columns),)), np.float32, len(lead))
    found = answer_windows(_LevelTask(), [(sums, 1, len(lead))], whole)
    if isinstance(found, da.Array):
        known = found.min()
        sources = [
            Source(read_again(array, known), scale, leading) for array, scale, leading in arrays
        ]
        table = Source(found, 1, len(lead), whole=True)
        return map_windows(_LevelledTask(task), [*sources, table], answer)
    blended = answer_windows(task, arrays, answer)
    raised = replace(answer, name=f"{name}-raised")
    blended += answer_windows(_RaiseTask(task), [(found, 1, len(lead))], raised)
    return blended


def surveys(task: BlockTask) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How many rows and columns of windows each task of the first pass looks at."""
    tiling = make_tiling(task.spec, task.shape)
    rows, columns = (
        split(len(spans), max(1, _SURVEYED // _step(spans))) for spans in (tiling.y, tiling.x)
    )
    return rows, columns


def _step(spans: Sequence[Span]) -> int:
    return spans[1].start - spans[0].start if len(spans) > 1 else spans[0].size


@dataclass(frozen=True)
class _LevelTask:
    """Finds the levels of all windows from their sums."""

    def reading(self, core: Window) -> Window:
        """Windows whose sums are needed: those of ``core``, which are all."""
        return core

    def __call__(self, core: Window, read: Window, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Levels of the windows; the block holds one element of each leading dimension."""
        lead = blocks[0].shape[:-3]
        return levels(blocks[0][(0,) * len(lead)]).reshape(*lead, *core.shape)


@dataclass(frozen=True)
class _RaiseTask:
    """Blends the levels of windows as their answers are blended."""

    block: BlockTask

    def reading(self, core: Window) -> Window:
        """Rows and columns of the windows that share pixels with ``core`` (output pixels)."""
        tiling = make_tiling(self.block.spec, self.block.shape)
        place = core.coarsen(self.block.spec.scale)
        return Window(_touched(tiling.y, place.y), _touched(tiling.x, place.x))

    def __call__(self, core: Window, read: Window, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """What is to be added to the blended answer of ``core``."""
        lead = blocks[0].shape[:-2]
        blending = Blending.of(self.block.spec, self.block.shape)
        by_window = blocks[0][(0,) * len(lead)]
        raised = np.zeros(core.shape, np.float32)
        # Added up one by one, so that a chunk's borders change no bit.
        for i, along in zip(range(read.y.start, read.y.stop), by_window, strict=True):
            row = np.zeros(core.shape[1], np.float32)
            for j, level in zip(range(read.x.start, read.x.stop), along, strict=True):
                place, weights = _on(core.x, blending.tiling.x[j], blending.x[j], blending.scale)
                row[place] += weights * level
            place, weights = _on(core.y, blending.tiling.y[i], blending.y[i], blending.scale)
            raised[place] += weights[:, None] * row
        return raised.reshape(*lead, *((1,) if self.block.banded else ()), *core.shape)


@dataclass(frozen=True)
class _LevelledTask:
    """Answers a window, and raises it: one task, or dask might keep answers that wait for it."""

    block: BlockTask

    def reading(self, core: Window) -> Window:
        """Input pixels needed to answer ``core`` (output pixels)."""
        return self.block.reading(core)

    def __call__(self, core: Window, read: Window, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Answer ``core``; the last block is the levels of all windows."""
        *own, table = blocks
        raising = _RaiseTask(self.block)
        touched = raising.reading(core)
        raised = raising(core, touched, [table[(..., *touched.slices)]])
        answer: NDArray[Any] = self.block(core, read, own) + raised
        return answer


def _touched(spans: Sequence[Span], place: Span) -> Span:
    """Which of sorted spans share pixels with one."""
    touching = [k for k, span in enumerate(spans) if span.intersect(place).size > 0]
    return Span(touching[0], touching[-1] + 1)


def _on(
    core: Span, span: Span, ramp: NDArray[np.float32], scale: int
) -> tuple[slice, NDArray[np.float32]]:
    """Where a window lies within a core along one axis, and its weights there."""
    fine = span.refine(scale)
    shared = fine.intersect(core)
    return shared.within(core), ramp[shared.within(fine)]
