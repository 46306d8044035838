"""A chunk of a Zarr array as its store holds it, made on the thread that has the numbers.

zarr compares every chunk with the void value, and adds checksums to copies, on one thread for the
whole process: beside networks on many threads that is what all wait for. The bytes are the same.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal

import google_crc32c
import numpy as np
import zarr
from numcodecs import Blosc
from numpy.typing import NDArray
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec

#: Bytes of equal weight are put side by side first: those of sign and exponent hardly change from
#: pixel to pixel, and the last ones of a mantissa are noise to any compressor. So LZ4 is twice as
#: fast as Zstandard is on the numbers as they are, and its files are a third smaller.
_NAME: Literal["lz4"] = "lz4"
_LEVEL = 5

#: Bytes of a checksum.
_CHECKSUM = 4

#: Types of numbers that have an unsigned integer of their size.
_KINDS = "biuf"


def compressors() -> list[BytesBytesCodec]:
    """How chunks of a store of version 3 are packed; the checksum finds what a disk has lost."""
    return [BloscCodec(cname=_NAME, clevel=_LEVEL, shuffle="shuffle"), Crc32cCodec()]


@dataclass(frozen=True)
class ChunkBytes:
    """Makes the bytes of whole chunks that are packed by :func:`compressors`.

    Attributes
    ----------
    chunks : tuple of int
        Shape of one.
    void : numpy scalar
        What a chunk is full of that is not written.
    """

    chunks: tuple[int, ...]
    void: Any

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> ChunkBytes | None:
        """For an array; None where its chunks are packed in another way, or in shards."""
        plain = array.metadata.zarr_format == 3 and array.shards is None and not array.filters
        simple = array.dtype.kind in _KINDS and array.dtype.isnative and sys.byteorder == "little"
        if not (plain and simple and _said(array.compressors) == _said(compressors())):
            return None
        return cls(array.chunks, np.asarray(array.fill_value, array.dtype)[()])

    def __call__(self, block: NDArray[Any]) -> memoryview | None:
        """The bytes of a chunk, which at the array's border may be cut; None where all is void."""
        block = block.astype(self.void.dtype, copy=False)
        if self._is_void(block):
            return None
        if block.shape != self.chunks:
            whole = np.full(self.chunks, self.void)
            whole[tuple(map(slice, block.shape))] = block
            block = whole
        packed = _packed(np.ascontiguousarray(block))
        # Not joined as bytes: numpy asks for memory in large pages, which is four times as fast.
        content = np.empty(len(packed) + _CHECKSUM, np.uint8)
        content[:-_CHECKSUM] = np.frombuffer(packed, np.uint8)
        checksum = google_crc32c.value(packed).to_bytes(_CHECKSUM, "little")
        content[-_CHECKSUM:] = np.frombuffer(checksum, np.uint8)
        return content.data

    def _is_void(self, block: NDArray[Any]) -> bool:
        # Seldom more than one number is looked at.
        return _same(block[(slice(1),) * block.ndim], self.void) and _same(block, self.void)


def _same(block: NDArray[Any], void: Any) -> bool:
    """Whether all numbers are the void one, bit for bit, or not numbers as it is."""
    if block.dtype.kind == "f" and np.isnan(void):
        return bool(np.isnan(block).all())
    bits = np.dtype(f"u{block.dtype.itemsize}")
    return bool((np.ascontiguousarray(block).view(bits) == void.view(bits)).all())


def _packed(block: NDArray[Any]) -> bytes:
    # On one thread, as zarr has set it: several put pieces down in the order they are done.
    packed: bytes = Blosc(cname=_NAME, clevel=_LEVEL, shuffle=Blosc.SHUFFLE).encode(block)
    return packed


def _said(codecs: Any) -> list[tuple[Any, ...]]:
    """What codecs are, but for the size of numbers, which each array's own have."""
    keys = ("cname", "clevel", "shuffle", "blocksize")
    return [(type(codec), *(getattr(codec, key, None) for key in keys)) for codec in codecs]
