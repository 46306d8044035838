"""Rasters as points: LAS, LAZ and PLY, written piece by piece."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.chunking import split
from xdemsr.colours import brightness, red_green_blue
from xdemsr.errors import InputError
from xdemsr.grid import Grid
from xdemsr.io.paths import local
from xdemsr.las import LasFile
from xdemsr.ply import PlyFile
from xdemsr.storage import check_values, void_values
from xdemsr.voids import valid_pixels
from xdemsr.window import Tiling, Window

#: Pixels along a piece of a raster that has no chunks; pixels that are read at once, at least (or
#: one chunk); and points that are written at once.
_PIECE, _AT_ONCE, _LOT = 1024, 1 << 24, 1 << 20
_ENDINGS = (".las", ".laz", ".ply")


def to_point_cloud(
    obj: xr.DataArray,
    path: str | Path,
    *,
    rgb: xr.DataArray | None = None,
    stride: int = 1,
    faces: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a raster's pixels as points, each at its pixel's centre; voids are left out.

    Parameters
    ----------
    obj : DataArray, dims (y, x)
        Elevations. Lazy arrays are computed chunk by chunk; the points are those of the same array
        in memory, in the order of the chunks.
    path : str or Path
        Ends in ``.laz``, ``.las`` or ``.ply``.
    rgb : DataArray, dims (band, y, x), optional
        Colours, on the same grid: bands called red, green and blue, or the first three of three or
        four. Whole numbers are taken to reach to the largest of their type, others to 1.
    stride : int, optional
        Of so many rows and columns, one.
    faces : bool, optional
        For ``.ply``: two triangles between each four points, voids left open. A row of chunks is
        then held in memory.
    overwrite : bool, optional
        Replace a file that is there.

    Returns
    -------
    Path
        Of the file. LAS and LAZ: version 1.4, coordinates of the raster's CRS, which the file
        says; steps of 1 mm, or, in degrees, of a hundred-millionth, and ten times as large where
        the raster is too wide for that. PLY: little endian, metres
        east and north of the raster's lower left corner, which a comment gives in the CRS's own
        unit; on geographic grids metres are those at the raster's middle latitude.

    Raises
    ------
    FileExistsError
        If there is a file and ``overwrite`` is not given.
    GridError
        If the array is not one raster on a regular grid, or ``rgb`` is on another.
    InputError
        If the path ends in something else or is a folder, no pixel is valid, elevations are larger
        than the file holds, or laspy is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((48, 64))
    >>> path = tempfile.mkdtemp() + "/terrain.ply"
    >>> xdemsr.to_point_cloud(dem, path, stride=2, faces=True).name
    'terrain.ply'
    """
    path = local(path)
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise InputError(f"cannot write {path}: its name must end in {', '.join(_ENDINGS)}.")
    if faces and ending != ".ply":
        raise InputError("faces are written to .ply; a LAS file holds points alone.")
    if stride < 1 or stride != int(stride):
        raise InputError(
            f"stride={stride} must be a whole number, 1 or more: of so many rows and columns, one."
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; replace it with overwrite=True.")
    check_values(grid.single(obj))
    raster = grid.plane(obj)
    base = grid.of(raster)
    image = None if rgb is None else red_green_blue(rgb, base)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".xdemsr-") as folder:
        made = Path(folder) / path.name
        file = _open(made, base, image is not None, faces)
        with file:
            _write(file, _Pieces(raster, image, int(stride), faces), base, void_values(obj), stride)
        if not file.count:
            raise InputError("no pixel is valid; there are no points to write.")
        made.replace(path)
    return path


def _open(path: Path, base: Grid, coloured: bool, faces: bool) -> LasFile | PlyFile:
    if path.suffix.lower() == ".ply":
        return PlyFile(path, base, coloured, faces)
    return LasFile(path, base, coloured)


def _write(
    file: LasFile | PlyFile,
    pieces: _Pieces,
    base: Grid,
    voids: tuple[float, ...],
    stride: int,
) -> None:
    affine = base.geobox.affine
    for window, heights, colours in pieces:
        valid = valid_pixels(heights, voids)
        rows, columns = np.nonzero(valid)
        for k in range(0, len(rows), _LOT):
            row, column = rows[k : k + _LOT], columns[k : k + _LOT]
            file.write(
                affine.c + ((column + window.x.start) * stride + 0.5) * affine.a,
                affine.f + ((row + window.y.start) * stride + 0.5) * affine.e,
                heights[row, column].astype(np.float64),
                None if colours is None else brightness(colours[:, row, column].T),
            )
        if pieces.in_rows and isinstance(file, PlyFile):
            file.join(valid)


@dataclass(frozen=True)
class _Pieces:
    """A raster and its colours, thinned, read some chunks at once: (window, heights, colours)."""

    raster: xr.DataArray
    image: xr.DataArray | None
    stride: int
    in_rows: bool

    def __iter__(self) -> Iterator[tuple[Window, NDArray[Any], NDArray[Any] | None]]:
        every = slice(None, None, self.stride)
        raster = self.raster[every, every]
        layers = [raster] if self.image is None else [raster, self.image[:, every, every]]
        lot: list[Window] = []
        pixels = 0
        windows = self._windows(raster)
        for window in windows:
            lot.append(window)
            pixels += window.shape[0] * window.shape[1]
            if pixels >= _AT_ONCE or window is windows[-1]:
                read = compute([[da[(..., *w.slices)] for da in layers] for w in lot])[0]
                for one, (heights, *colours) in zip(lot, read, strict=True):
                    yield one, heights.values, colours[0].values if colours else None
                lot, pixels = [], 0

    def _windows(self, raster: xr.DataArray) -> list[Window]:
        ny, nx = raster.shape
        rows = max(1, _PIECE**2 // nx) if self.in_rows else _PIECE
        heights, widths = raster.chunks or (split(ny, rows), split(nx, _PIECE))
        tiling = Tiling.from_chunks(heights, (nx,) if self.in_rows else widths)
        every = (tiling[i, j] for i, j in product(*map(range, tiling.shape)))
        # Thinning leaves nothing of a narrow chunk.
        return [window for window in every if min(window.shape) > 0]
