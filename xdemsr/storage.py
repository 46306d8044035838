"""How the numbers of a raster are stored: which mean missing, in what step, packed or not.

Works on the array's labels only; no pixel is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xdemsr.errors import InputError

_VOID_KEYS = ("_FillValue", "missing_value", "fill_value", "nodata", "nodatavals")


def check_values(da: xr.DataArray) -> None:
    """Refuse values that are not physical quantities.

    Raises
    ------
    InputError
        If they are not real numbers, are packed, or lie in dask chunks of unknown size.
    """
    if da.dtype.kind not in "iufb":
        raise InputError(
            f"{da.name!r} holds {da.dtype} values; xdemsr needs real numbers (integers or floats)."
        )
    if da.chunks is not None and any(math.isnan(sum(sizes)) for sizes in da.chunks):
        raise InputError(
            f"{da.name!r} has dask chunks of unknown size. Find them: "
            "da.data.compute_chunk_sizes()."
        )
    if is_packed(da.attrs):
        factor, offset = da.attrs.get("scale_factor", 1), da.attrs.get("add_offset", 0)
        raise InputError(
            f"{da.name!r} holds packed numbers: its attributes say scale_factor={factor} and "
            f"add_offset={offset}. Unpack them: xdemsr.open(path), "
            "rioxarray.open_rasterio(path, mask_and_scale=True), or xarray.decode_cf(ds)."
        )


def is_packed(source: Mapping[Any, Any]) -> bool:
    """Whether numbers are stored as other numbers; a factor of 1 and an offset of 0 are neither."""
    return bool(source.get("scale_factor", 1) != 1 or source.get("add_offset", 0) != 0)


def unpacked(encoding: Mapping[Any, Any]) -> dict[Any, Any]:
    """An encoding to write with: what is packed is written as it is, in its own type and unit."""
    return {} if is_packed(encoding) else dict(encoding)


def storage_step(da: xr.DataArray) -> float:
    """The step in which the raster is stored: 1 for whole numbers, 0 where it is not known.

    Looks at the type in memory, or at the ``dtype`` and ``scale_factor`` of the file it came from.
    """
    if da.dtype.kind in "iu":
        return 1.0
    stored = da.encoding.get("dtype")
    if stored is not None and np.dtype(stored).kind in "iu":
        return abs(float(da.encoding.get("scale_factor", 1.0)))
    return 0.0


def void_values(da: xr.DataArray) -> tuple[float, ...]:
    """Values that mean missing, as declared by attributes, rioxarray or the array's own file.

    The void value of a file with packed numbers (``scale_factor``, ``add_offset``) is packed too,
    and says nothing of the numbers in memory.
    """
    declared = {"nodata": da.rio.nodata}
    encoding = {} if is_packed(da.encoding) else da.encoding
    found: set[float] = set()
    for source in (declared, da.attrs, encoding):
        for key in _VOID_KEYS:
            for value in np.atleast_1d(source.get(key, ())):
                try:
                    number = float(value)
                except (TypeError, ValueError):
                    continue
                if math.isfinite(number):
                    found.add(number)
    return tuple(sorted(found))
