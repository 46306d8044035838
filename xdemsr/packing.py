"""Rasters as whole numbers of a step, to be stored in half the room or less."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from xdemsr.errors import InputError
from xdemsr.grid import single
from xdemsr.metadata import plain_attrs
from xdemsr.storage import check_values, void_values
from xdemsr.voids import valid_pixels

Raster = TypeVar("Raster", xr.DataArray, xr.Dataset)


def pack(
    obj: Raster,
    dtype: DTypeLike = "int16",
    scale_factor: float = 1.0,
    add_offset: float = 0.0,
) -> Raster:
    """Make whole numbers of a raster, ready for :func:`xdemsr.write_zarr` or ``write_cog``.

    Where it is opened again, ``value = number * scale_factor + add_offset``: the numbers are off by
    half a step at most, and :func:`xdemsr.upscale` takes that as their vertical error.

    Parameters
    ----------
    obj : DataArray or Dataset
        Physical values; of a dataset, every variable.
    dtype : dtype, optional
        A type of whole numbers. Voids become its least value, or the greatest of an unsigned type.
    scale_factor : float, optional
        The step, in the raster's unit.
    add_offset : float, optional
        What 0 stands for.

    Returns
    -------
    DataArray or Dataset
        Lazy where the input is. ``scale_factor``, ``add_offset`` and ``_FillValue`` are in its
        attributes.

    Raises
    ------
    InputError
        If ``dtype`` is no type of whole numbers or the step is not positive; and, when it is
        computed, if a value is out of the type's range.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=30.0)
    >>> packed = xdemsr.pack(dem, "int16", 0.1)
    >>> packed.dtype, packed.attrs["scale_factor"]
    (dtype('int16'), 0.1)
    """
    if isinstance(obj, xr.Dataset):
        packed = {name: pack(obj[name], dtype, scale_factor, add_offset) for name in obj.data_vars}
        return obj.assign(packed)
    raster = single(obj)
    check_values(raster)
    kind = np.dtype(dtype)
    if kind.kind not in "iu":
        raise InputError(f"dtype={dtype!r} is no type of whole numbers. Use 'int16', 'uint16', ...")
    if not scale_factor > 0:
        raise InputError(f"scale_factor={scale_factor!r} must be more than 0: the step.")
    limits = np.iinfo(kind)
    void = limits.min if kind.kind == "i" else limits.max
    stored = partial(
        _packed, kind, float(scale_factor), float(add_offset), int(void), void_values(raster)
    )
    data: Any
    if raster.chunks is None:
        data = stored(raster.values)
    else:
        meta = np.empty((0,) * raster.ndim, kind)
        data = raster.data.map_blocks(stored, dtype=kind, meta=meta)
    made = raster.copy(data=data)
    # One on top of another would be read as neither.
    made.attrs = plain_attrs(raster) | {
        "scale_factor": float(scale_factor),
        "add_offset": float(add_offset),
        "_FillValue": kind.type(void),
    }
    kept = ("grid_mapping",)
    made.encoding = {key: raster.encoding[key] for key in kept if key in raster.encoding}
    return made


def _packed(
    kind: np.dtype[Any],
    step: float,
    offset: float,
    void: int,
    voids: tuple[float, ...],
    values: NDArray[Any],
) -> NDArray[Any]:
    valid = valid_pixels(values, voids) & np.isfinite(values)
    steps = np.rint((np.where(valid, values, offset).astype(np.float64) - offset) / step)
    limits = np.iinfo(kind)
    low, high = limits.min + (void == limits.min), limits.max - (void == limits.max)
    least, most = steps.min(initial=0), steps.max(initial=0)
    if least < low or most > high:
        found = least if least < low else most
        raise InputError(
            f"the value {found * step + offset:g} does not fit: {kind} in steps of {step:g} holds "
            f"{low * step + offset:g} to {high * step + offset:g}. Take a larger scale_factor, an "
            "add_offset, or a larger dtype."
        )
    return np.where(valid, steps, void).astype(kind)
