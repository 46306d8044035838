"""Under what conditions images were taken: how cloudy it was, and how many days apart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute

from xdemsr import grid
from xdemsr.errors import InputError
from xdemsr.storage import check_values, void_values

#: Sentinel-2 scene classification: cloud shadow, cloud (medium and high probability), thin cirrus;
#: and what was not seen: no data, saturated or defective.
_CLOUDY, _UNSEEN = (3, 8, 9, 10), (0, 1)
#: Where an image says when it was taken.
_TIMES = ("time", "datetime", "acquired", "acquisition_time", "acquisition_date")
_TIFF_TIME, _TIFF_FORMAT = "TIFFTAG_DATETIME", "%Y:%m:%d %H:%M:%S"

#: An image, or a date in any form that pandas reads.
Dated = xr.DataArray | xr.Dataset | str | date | np.datetime64


def cloud_share(clouds: xr.DataArray, *, classes: Sequence[int] = _CLOUDY) -> float:
    """Share of the pixels seen that clouds, their shadows or cirrus cover.

    Parameters
    ----------
    clouds : DataArray
        A boolean mask, True where it is cloudy; or the scene classification of Sentinel-2 level 2A
        (``SCL``), whose classes 0 and 1, no data and defective pixels, are not counted as seen.
    classes : sequence of int, optional
        Which classes of the latter are cloudy; by default shadow (3), cloud (8 and 9) and thin
        cirrus (10).

    Returns
    -------
    float
        From 0 to 1. A lazy array is read chunk by chunk.

    Raises
    ------
    InputError
        If no pixel was seen, or values are not numbers.

    References
    ----------
    European Space Agency (2021). Sentinel-2 level-2A algorithm theoretical basis document.

    Examples
    --------
    >>> import xarray as xr
    >>> import xdemsr
    >>> scl = xr.DataArray([[4, 4, 9, 0], [5, 3, 4, 4]], dims=("y", "x"))
    >>> round(xdemsr.cloud_share(scl), 3)
    0.286
    """
    check_values(grid.single(clouds))
    if clouds.dtype.kind == "b":
        seen, cloudy = xr.ones_like(clouds), clouds
    else:
        seen = clouds.notnull() & ~clouds.isin([*_UNSEEN, *void_values(clouds)])
        cloudy = seen & clouds.isin(list(classes))
    count, covered = (int(n) for n in compute(seen.sum().data, cloudy.sum().data))
    if not count:
        raise InputError(
            f"no pixel of {clouds.name!r} was seen: all are class 0 or 1, or void. Where 1 means "
            "cloudy, say so: mask.astype(bool)."
        )
    return covered / count


def days_apart(first: Dated, second: Dated) -> float:
    """Days between two images, whichever came first.

    Parameters
    ----------
    first, second : DataArray, Dataset, str, datetime or datetime64
        Dates; or images that say when they were taken, by a coordinate ``time`` of one element, or
        an attribute ``time``, ``datetime``, ``acquired``, ``acquisition_time``,
        ``acquisition_date`` or ``TIFFTAG_DATETIME``. Times without a zone are UTC.

    Returns
    -------
    float
        Days, and parts of one.

    Raises
    ------
    InputError
        If an image does not say when it was taken, or it cannot be understood.

    Examples
    --------
    >>> import xdemsr
    >>> xdemsr.days_apart("2018-08-03", "2018-08-01T12:00Z")
    1.5
    """
    apart = _when(first) - _when(second)
    return abs(apart / pd.Timedelta(days=1))


def _when(given: Dated) -> pd.Timestamp:
    said: Any = given
    if isinstance(given, xr.DataArray | xr.Dataset):
        said = _said(given)
    try:
        if isinstance(said, str) and said[4:5] == ":":
            found = pd.to_datetime(said, format=_TIFF_FORMAT)
        else:
            found = pd.Timestamp(said)
    except (TypeError, ValueError) as error:
        raise InputError(f"{said!r} is no date that can be understood: {error}.") from error
    if pd.isna(found):
        raise InputError(f"{said!r} is no date.")
    return found if found.tzinfo is None else found.tz_convert("UTC").tz_localize(None)


def _said(image: xr.DataArray | xr.Dataset) -> Any:
    if "time" in image.coords:
        times = np.unique(image["time"].values)
        if times.size != 1:
            raise InputError(
                f"the image has {times.size} times. Choose one: da.isel(time=...); or give the "
                "date itself."
            )
        return times[0]
    for name in (*_TIMES, _TIFF_TIME):
        if name in image.attrs:
            return image.attrs[name]
    raise InputError(
        "an image does not say when it was taken: it has no coordinate 'time' and none of the "
        f"attributes {', '.join((*_TIMES, _TIFF_TIME))}. Say it: "
        "da.assign_coords(time=...)."
    )
