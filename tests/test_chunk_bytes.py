"""The bytes of chunks: those that zarr would have written."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from xdemsr.io.chunk_bytes import ChunkBytes, compressors
from xdemsr.io.regions import Regions
from xdemsr.io.stores import Objects

SHAPE, CHUNKS = (2, 37, 53), (1, 16, 24)
REGIONS = ((1, 1), (16, 16, 5), (24, 24, 5))


def created(dtype: str, void: float, **options: object) -> zarr.Array:
    """An empty array in memory, packed as ours are."""
    options = {"compressors": compressors(), **options}
    store = zarr.storage.MemoryStore()
    return zarr.create_array(
        store, name="dem", shape=SHAPE, chunks=CHUNKS, dtype=dtype, fill_value=void, **options
    )


def objects(array: zarr.Array) -> dict[str, bytes]:
    """Everything in its store but our marks."""
    found = Objects(array.store)
    keys = [key for key in found.keys("") if ".xdemsr" not in key]
    return {key: found.read(key) for key in keys}


@pytest.mark.parametrize(
    ("dtype", "void"),
    [("float32", np.nan), ("float64", np.nan), ("float32", 0.0), ("int16", -32768), ("uint8", 0)],
)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_they_are_those_of_zarr(dtype: str, void: float, data: st.DataObject) -> None:
    ours, theirs = created(dtype, void), created(dtype, void)
    kind = np.dtype(dtype)
    few = st.sampled_from([kind.type(void), kind.type(0), kind.type(7)])
    values = data.draw(arrays.arrays(kind, SHAPE, elements=few, fill=few))
    regions = Regions(ours.store, "dem", REGIONS)
    for index in regions.indices:
        regions.write(index, values[regions.slices(index)])
    theirs[:] = values
    assert objects(ours) == objects(theirs)
    np.testing.assert_array_equal(ours[:], values)


def test_a_zero_below_zero_is_no_void() -> None:
    """Old releases of zarr lose it."""
    array = created("float32", 0.0)
    block = np.full((1, 16, 24), -0.0, np.float32)
    Regions(array.store, "dem", REGIONS).write((1, 0, 0), block)
    assert np.signbit(array[1:2, :16, :24]).all()
    assert "dem/c/1/0/0" in objects(array)


def test_a_void_chunk_takes_the_place_of_what_was_there() -> None:
    array = created("float32", np.nan)
    regions = Regions(array.store, "dem", REGIONS)
    block = np.arange(16 * 24, dtype=np.float32).reshape(1, 16, 24)
    regions.write((0, 1, 1), block)
    assert "dem/c/0/1/1" in objects(array)
    regions.write((0, 1, 1), np.full_like(block, np.nan))
    assert "dem/c/0/1/1" not in objects(array)
    assert regions.unmarked() == [i for i in regions.indices if i != (0, 1, 1)]


def test_chunks_packed_in_another_way_are_left_to_zarr() -> None:
    assert ChunkBytes.of(created("float32", np.nan)) is not None
    assert ChunkBytes.of(created("float32", np.nan, compressors="auto")) is None
    assert ChunkBytes.of(created("float32", np.nan, shards=(2, 32, 48))) is None
    assert ChunkBytes.of(created("complex64", 0)) is None
