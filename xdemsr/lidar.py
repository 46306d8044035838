"""Folders of elevation rasters, read as the library reads them, for training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from xdemsr import grid, io
from xdemsr.errors import InputError
from xdemsr.storage import void_values
from xdemsr.training.places import Raster, load_packed
from xdemsr.voids import valid_pixels


def read_rasters(folder: str | Path) -> list[Raster]:
    """Read the elevation rasters of a folder.

    Parameters
    ----------
    folder : str or Path
        Holds GeoTIFFs (``*.tif``), or folders with a ``dtm.tif`` each, or ``.npz`` files with
        ``heights`` (NaN at voids) and ``gsd``.

    Raises
    ------
    InputError
        If there are none, or two have one name.
    """
    folder = Path(folder)
    rasters = [_read(path) for path in sorted([*folder.glob("*/dtm.tif"), *folder.glob("*.tif")])]
    rasters += [load_packed(path) for path in sorted(folder.glob("*.npz"))]
    if not rasters:
        raise InputError(
            f"no elevation rasters in {folder}: expected *.tif, */dtm.tif or *.npz there."
        )
    names = [raster.name for raster in rasters]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two rasters in {folder} are called {name!r}; rename one of them.")
    return rasters


def check_apart(train: Sequence[Raster], validation: Sequence[Raster]) -> None:
    """Refuse validation on what is learnt from: it would choose and score what was memorised.

    Raises
    ------
    InputError
        If a raster is in both.
    """
    learnt = {_fingerprint(raster): raster.name for raster in train}
    for raster in validation:
        twin = learnt.get(_fingerprint(raster))
        if twin is not None:
            raise InputError(
                f"the validation raster {raster.name!r} is the training raster {twin!r}. Keep "
                "places apart: what is learnt from cannot say how good a network is."
            )


def as_array(raster: Raster) -> xr.DataArray:
    """A raster as an array with coordinates in metres."""
    ny, nx = raster.heights.shape
    y = (np.arange(ny)[::-1] + 0.5) * raster.gsd
    x = (np.arange(nx) + 0.5) * raster.gsd
    return xr.DataArray(
        raster.heights.astype("float32"),
        dims=("y", "x"),
        coords={"y": y, "x": x},
        name="elevation",
        attrs={"units": "m"},
    )


def _read(path: Path) -> Raster:
    name = path.parent.name if path.name == "dtm.tif" else path.stem
    da = grid.plane(io.open(path))
    values = np.asarray(da.values)
    heights = np.where(valid_pixels(values, void_values(da)), values, np.nan).astype(np.float64)
    gsd = grid.of(da).gsd()
    if gsd is None:
        raise InputError(
            f"{path} says nothing of the size of its pixels. Give it a CRS and a transform."
        )
    return Raster(name, heights, gsd)


def _fingerprint(raster: Raster) -> str:
    return hashlib.sha256(np.ascontiguousarray(raster.heights, np.float32).tobytes()).hexdigest()
