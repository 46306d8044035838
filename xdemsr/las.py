"""LAS and LAZ files, through laspy."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdemsr.errors import InputError
from xdemsr.grid import Grid

#: Steps of coordinates: metres (or feet), and degrees; ten times as large until whole numbers of 32
#: bits reach as far.
_STEP, _FINE_STEP = 1e-3, 1e-8
_REACH = 2.0**31


class LasFile:
    """A LAS 1.4 file that points are written into; LAZ where its name ends in that.

    Attributes
    ----------
    count : int
        Points that have been written.

    Raises
    ------
    InputError
        If laspy is not installed.
    """

    def __init__(self, path: Path, base: Grid, coloured: bool) -> None:
        try:
            import laspy
        except ModuleNotFoundError as error:
            raise InputError(
                "LAS and LAZ files need laspy, which is not installed: "
                "pip install 'xdemsr[pointcloud]'. PLY files need nothing."
            ) from error
        self.count = 0
        # 6 has no colours, 7 has; both say their CRS as WKT.
        header = laspy.LasHeader(version="1.4", point_format=7 if coloured else 6)
        header.offsets, header.scales = _steps(base)
        header.generating_software = "xdemsr"
        if base.geobox.crs is not None:
            header.add_crs(base.geobox.crs.proj)
        self._record = laspy.ScaleAwarePointRecord
        self._header = header
        self._writer = laspy.open(path, mode="w", header=header)

    def __enter__(self) -> LasFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        z: NDArray[Any],
        colours: NDArray[Any] | None,
    ) -> None:
        """Write points; colours are (n, 3) between 0 and 1."""
        points = self._record.zeros(len(x), header=self._header)
        low, high = float(np.min(z)), float(np.max(z))
        if max(-low, high) >= _STEP * _REACH:
            raise InputError(
                f"elevations reach from {low:.6g} to {high:.6g}: more than a LAS file holds in "
                f"steps of {_STEP:g}. Are these voids? Declare them: da.rio.write_nodata(...)."
            )
        points.x, points.y, points.z = x, y, z
        points.return_number[:] = 1
        points.number_of_returns[:] = 1
        if colours is not None:
            whole = np.rint(colours * 65535).astype(np.uint16)
            points.red, points.green, points.blue = whole.T
        self._writer.write_points(points)
        self.count += len(x)


def _steps(base: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets and scales of (x, y, z); the same whatever pixels there are."""
    affine, (ny, nx) = base.geobox.affine, base.shape
    middle = np.floor([affine.c + affine.a * nx / 2, affine.f + affine.e * ny / 2])
    farthest = max(abs(affine.a) * nx, abs(affine.e) * ny)
    crs = base.geobox.crs
    step = _STEP if crs is None or not crs.geographic else _FINE_STEP
    while farthest >= step * _REACH:
        step *= 10
    return np.array([*middle, 0.0]), np.array([step, step, _STEP])
