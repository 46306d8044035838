"""The structure of TIFF files: tags and tiles taken out of small ones, put together to a large one.

GDAL makes the small ones, and compresses. What is done here is to say where each tile lies.

References
----------
TIFF, revision 6.0 (Adobe, 1992); BigTIFF, https://www.awaresystems.be/imaging/tiff/bigtiff.html;
https://gdal.org/en/stable/drivers/raster/cog.html (what stands between header and directory).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, LENGTH, SUBFILE = 256, 257, 254
_OFFSETS, _COUNTS = 324, 325
_SHORT, _LONG, _LONG8 = 3, 4, 16
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8, 17: 8}

#: What describes the file rather than its pixels, and stands with the first image alone: place,
#: metadata.
_OF_THE_FILE = (33550, 33922, 34264, 34735, 34736, 34737, 42112)

#: How the file is ordered. Readers that know this line need not ask for the sizes of tiles.
_STRUCTURE = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_STRUCTURE) + _STRUCTURE

#: Bytes before a tile and after it.
_LEADER, _TRAILER = 4, 4
_MOST_CLASSIC = 2**32


class Tag(NamedTuple):
    """A tag: its type as TIFF numbers them, how many values, and these as bytes."""

    kind: int
    number: int
    content: bytes


Tags = Mapping[int, Tag]


@dataclass(frozen=True)
class Image:
    """A raster of the file, the whole one or an overview.

    Attributes
    ----------
    tags : mapping of int to Tag
        Without the places of tiles.
    sizes : sequence of int
        Bytes of each tile, row by row.
    """

    tags: Tags
    sizes: Sequence[int]

    @property
    def end(self) -> int:
        """Bytes that all its tiles take."""
        return sum(self.sizes) + len(self.sizes) * (_LEADER + _TRAILER)


def read_tags(content: bytes | memoryview) -> dict[int, Tag]:
    """The tags of the first image of a TIFF of 4 GB or less, its lowest bytes first."""
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    tags = {}
    for place in range(first + 2, first + 2 + 12 * count, 12):
        code, kind, number = struct.unpack_from("<HHI", content, place)
        size = number * _BYTES[kind]
        start = place + 8 if size <= 4 else struct.unpack_from("<I", content, place + 8)[0]
        tags[code] = Tag(kind, number, bytes(content[start : start + size]))
    return tags


def read_tiles(content: bytes | memoryview) -> list[bytes]:
    """The compressed tiles of such a TIFF, row by row."""
    tags = read_tags(content)
    places = zip(_numbers(tags[_OFFSETS]), _numbers(tags[_COUNTS]), strict=True)
    return [bytes(content[start : start + size]) for start, size in places]


def resized(tags: Tags, shape: tuple[int, int], overview: bool) -> dict[int, Tag]:
    """The tags of an image of another size; of an overview, without what the first image says."""
    (ny, nx) = shape
    kept = {code: tag for code, tag in tags.items() if code not in (_OFFSETS, _COUNTS)}
    if overview:
        kept = {code: tag for code, tag in kept.items() if code not in _OF_THE_FILE}
        kept[SUBFILE] = _longs([1])
    return {**kept, WIDTH: _longs([nx]), LENGTH: _longs([ny])}


def header(images: Sequence[Image]) -> bytes:
    """All that stands before the tiles: images from fine to coarse, then tiles the other way round.

    A BigTIFF where it takes 4 GB or more.
    """
    for big in (False, True):
        length = len(_laid_out(images, [[0] * len(image.sizes) for image in images], big))
        if big or length + sum(image.end for image in images) < _MOST_CLASSIC:
            break
    offsets: list[list[int]] = []
    place = length
    for image in reversed(images):
        offsets.insert(0, [])
        for size in image.sizes:
            offsets[0].append(place + _LEADER)
            place += _LEADER + size + _TRAILER
    return _laid_out(images, offsets, big)


def framed(tile: bytes) -> bytes:
    """A tile between its size and its last bytes."""
    return struct.pack("<I", len(tile)) + tile + tile[-_TRAILER:]


def _laid_out(images: Sequence[Image], offsets: list[list[int]], big: bool) -> bytes:
    start = (
        struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if big else struct.pack("<2sHI", b"II", 42, 0)
    )
    made = bytearray(start + _GHOST)
    # Where the place of the next directory is to be said.
    pointer, number = (8, "<Q") if big else (4, "<I")
    for image, places in zip(images, offsets, strict=True):
        made.extend(b"\0" * (len(made) % 2))
        struct.pack_into(number, made, pointer, len(made))
        tags = {
            **image.tags,
            _OFFSETS: _long8s(places) if big else _longs(places),
            _COUNTS: _longs(image.sizes),
        }
        pointer = _directory(made, tags, big)
    return bytes(made)


def _directory(made: bytearray, tags: Tags, big: bool) -> int:
    """Add a directory and what does not fit into it; where the next one's place is to be said."""
    entry, number, room = ("<HHQ", "<Q", 8) if big else ("<HHI", "<I", 4)
    count = struct.pack("<Q" if big else "<H", len(tags))
    body = bytearray()
    beyond = len(made) + len(count) + len(tags) * (4 + 2 * room) + room
    for code, tag in sorted(tags.items()):
        said = tag.content
        if len(said) > room:
            body.extend(b"\0" * ((beyond + len(body)) % 2))
            said = struct.pack(number, beyond + len(body))
            body.extend(tag.content)
        count += struct.pack(entry, code, tag.kind, tag.number) + said.ljust(room, b"\0")
    made.extend(count)
    made.extend(b"\0" * room)
    made.extend(body)
    return beyond - room


def _longs(values: Sequence[int]) -> Tag:
    return Tag(_LONG, len(values), struct.pack(f"<{len(values)}I", *values))


def _long8s(values: Sequence[int]) -> Tag:
    return Tag(_LONG8, len(values), struct.pack(f"<{len(values)}Q", *values))


def _numbers(tag: Tag) -> tuple[int, ...]:
    letter = {_SHORT: "H", _LONG: "I"}[tag.kind]
    return struct.unpack(f"<{tag.number}{letter}", tag.content)
