"""Windows and tilings against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdemsr.blend import partition_of_unity
from xdemsr.window import Span, Tiling, Window

lengths = st.integers(1, 90)
sizes = st.integers(1, 40)


@given(lengths, lengths, sizes, st.integers(0, 9), st.sampled_from([1, 2, 4, 8]))
def test_regular_tiles_cover_the_array_once(
    ny: int, nx: int, size: int, halo: int, multiple_of: int
) -> None:
    tiling = Tiling.regular((ny, nx), size, halo=halo, multiple_of=multiple_of)
    count = np.zeros((ny, nx), int)
    for i in range(tiling.shape[0]):
        for j in range(tiling.shape[1]):
            window = tiling[i, j]
            assert window.shape == tiling[0, 0].shape
            assert window.y.start % multiple_of == 0
            assert window.pad(0).padded.y.start == window.y.start - halo
            count[window.clip((ny, nx)).slices] += 1
    assert (count == 1).all()


@given(lengths, sizes, st.data())
def test_overlapping_windows_cover_the_array_and_stay_inside(
    length: int, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    spans = Tiling.overlapping((length, 1), size, overlap).y
    assert all(span.size == size for span in spans)
    if length >= size:
        assert spans[0].start == 0
        assert spans[-1].stop == length
    covered = np.zeros(length, bool)
    for span in spans:
        inside = span.clip(length)
        covered[inside.start : inside.stop] = True
    assert covered.all()
    steps = np.diff([span.start for span in spans])
    assert (steps <= size - overlap).all()
    assert (steps > 0).all()


@given(lengths, sizes, st.data(), st.integers(1, 4))
def test_weights_of_overlapping_windows_sum_to_one(
    length: int, size: int, data: st.DataObject, scale: int
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    spans = Tiling.overlapping((length, 1), size, overlap).y
    total = np.zeros(length * scale)
    for span, weight in zip(spans, partition_of_unity(spans, overlap, length, scale), strict=True):
        inside = span.clip(length).refine(scale)
        total[inside.start : inside.stop] += weight[inside.within(span.refine(scale))]
        assert (weight >= 0).all()
    np.testing.assert_allclose(total, 1.0, atol=1e-6)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.data())
def test_touching_finds_what_shares_pixels(chunks: list[int], data: st.DataObject) -> None:
    length = sum(chunks)
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    tiling = Tiling.from_chunks(chunks, [5])
    wanted = Window(Span(start, stop), Span(1, 2))
    found = {index[0] for index, _ in tiling.touching(wanted)}
    expected = {
        i for i, span in enumerate(tiling.y) if max(span.start, start) < min(span.stop, stop)
    }
    assert found == expected


@given(lengths, sizes, st.integers(0, 5), st.data())
def test_reading_holds_every_touched_tile_and_its_halo(
    length: int, size: int, halo: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    core = Window(Span(start, stop), Span(0, 1))
    tiling = Tiling.regular((length, 1), size, halo=halo)
    read = tiling.reading(core, 2, (length, 1)).padded.y
    for _, tile in tiling.touching(core):
        needed = tile.y.pad(2).padded.clip(length)
        assert read.start <= needed.start
        assert read.stop >= needed.stop
    assert read.start >= 0
    assert read.stop <= length


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 9))
def test_coarsen_undoes_refine(start: int, size: int, scale: int) -> None:
    span = Span(start, start + size)
    assert span.refine(scale).coarsen(scale) == span


def test_clip_cuts_core_and_context() -> None:
    span = Span(-2, 12, 3, 4).clip(10)
    assert span == Span(0, 10, 0, 0)
    assert Span(4, 8, 6, 6).clip(10) == Span(4, 8, 4, 2)


def test_within_gives_indices_of_an_array_that_holds_the_padded_other() -> None:
    other = Span(10, 20, 3, 2)
    assert Span(12, 15).within(other) == slice(5, 8)


@pytest.mark.parametrize("shape", [(3, 500), (1, 1), (500, 3)])
def test_small_arrays_waste_little(shape: tuple[int, int]) -> None:
    tiling = Tiling.regular(shape, 128)
    covered = tiling.shape[0] * tiling[0, 0].shape[0] * tiling.shape[1] * tiling[0, 0].shape[1]
    assert covered <= 1.1 * shape[0] * shape[1]
