"""PLY files: binary, little endian, points with colours and triangles between them."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdemsr.errors import InputError
from xdemsr.grid import Grid

_POINT = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
_COLOUR = [("red", "u1"), ("green", "u1"), ("blue", "u1")]
_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
_MOST = 2**31 - 1


class PlyFile:
    """A PLY file that points, and triangles between them, are written into.

    Coordinates are metres from the raster's lower left corner: what a viewer reads as 32 bits of
    floating point would not hold a northing.

    Attributes
    ----------
    count : int
        Points that have been written.
    """

    def __init__(self, path: Path, base: Grid, coloured: bool, faces: bool) -> None:
        self._base, self._coloured, self._faces = base, coloured, faces
        affine, (ny, nx) = base.geobox.affine, base.shape
        self._left = min(affine.c, affine.c + nx * affine.a)
        self._bottom = min(affine.f, affine.f + ny * affine.e)
        height, width = base.metres()
        self._metres = width / abs(affine.a), height / abs(affine.e)
        self.count, self._triangles = 0, 0
        self._above: NDArray[np.int64] | None = None
        self._path, self._face_path = path, path.with_suffix(".faces")
        self._file, self._face_file = path.open("wb"), self._face_path.open("wb")
        # The counts are known in the end; the header keeps their place.
        self._length = len(self._header(_MOST, 2 * _MOST)) + len("comment \n")
        self._file.write(bytes(self._length))

    def __enter__(self) -> PlyFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._face_file.close()
        with self._file:
            with self._face_path.open("rb") as faces:
                shutil.copyfileobj(faces, self._file)
            self._file.seek(0)
            header = self._header(self.count, self._triangles)
            filler = "comment " + " " * (self._length - len(header) - len("comment \n")) + "\n"
            self._file.write(header.replace("element", filler + "element", 1).encode("ascii"))
        self._face_path.unlink()

    def write(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        z: NDArray[Any],
        colours: NDArray[Any] | None,
    ) -> None:
        """Write points; colours are (n, 3) between 0 and 1."""
        if self.count + len(x) > _MOST:
            raise InputError("a PLY file numbers its points with 31 bits; thin them: stride=...")
        points = np.empty(len(x), dtype=_POINT + (_COLOUR if self._coloured else []))
        points["x"] = (x - self._left) * self._metres[0]
        points["y"] = (y - self._bottom) * self._metres[1]
        points["z"] = z
        if colours is not None:
            for (name, _), values in zip(_COLOUR, np.rint(colours.T * 255), strict=True):
                points[name] = values
        self._file.write(points.tobytes())
        self.count += len(x)

    def join(self, valid: NDArray[np.bool_]) -> None:
        """Write the triangles of whole rows, whose points have been written, and those above."""
        first = self.count - int(valid.sum())
        numbers = np.where(valid, first - 1 + np.cumsum(valid).reshape(valid.shape), -1)
        rows = numbers if self._above is None else np.concatenate([self._above, numbers])
        self._above = numbers[-1:]
        top_left, top_right = rows[:-1, :-1], rows[:-1, 1:]
        bottom_left, bottom_right = rows[1:, :-1], rows[1:, 1:]
        upper = np.stack([top_left, bottom_left, top_right], axis=-1)
        lower = np.stack([top_right, bottom_left, bottom_right], axis=-1)
        corners = np.stack([upper, lower], axis=-2).reshape(-1, 3)
        corners = corners[(corners >= 0).all(axis=1)]
        affine = self._base.geobox.affine
        if (affine.e > 0) != (affine.a < 0):
            # Counterclockwise from above, whichever way the axes run.
            corners = corners[:, ::-1]
        faces = np.empty(len(corners), dtype=_FACE)
        faces["count"], faces["corners"] = 3, corners
        self._face_file.write(faces.tobytes())
        self._triangles += len(faces)

    def _header(self, points: int, triangles: int) -> str:
        crs = self._base.geobox.crs
        authority = None if crs is None else crs.proj.to_authority()
        lines = [
            "ply",
            "format binary_little_endian 1.0",
            "comment made by xdemsr",
            f"comment origin {self._left!r} {self._bottom!r}",
            f"comment crs {'unknown' if authority is None else ':'.join(authority)}",
            f"element vertex {points}",
            *(f"property float {name}" for name, _ in _POINT),
            *(f"property uchar {name}" for name, _ in _COLOUR if self._coloured),
        ]
        if self._faces:
            lines += [f"element face {triangles}", "property list uchar int vertex_indices"]
        return "\n".join([*lines, "end_header"]) + "\n"
