"""Streams on made valleys, where it is known how the water runs."""

from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest
import xarray as xr

import xdemsr
from xdemsr.errors import GridError, InputError

pytest.importorskip("pyflwdir")


def valley(middle: float = 30.0, shape: tuple[int, int] = (80, 61)) -> xr.DataArray:
    """A V-shaped valley that falls towards the last row; its stream runs down one column."""
    ny, nx = shape
    y, x = np.mgrid[:ny, :nx]
    dem = xdemsr.synthetic.terrain(shape)
    return dem.copy(data=(2.0 * np.abs(x - middle) - 0.5 * y + 500).astype(np.float32))


def test_equal_rasters_agree() -> None:
    dem = xdemsr.synthetic.terrain((90, 140))
    assert xdemsr.drainage_agreement(dem, dem, cells=300, tolerance=0) == 1.0
    assert xdemsr.drainage_agreement(dem + 10, dem.chunk(31), cells=300, tolerance=0) == 1.0


@pytest.mark.parametrize(("shift", "tolerance", "share"), [(3, 2, 0.0), (3, 3, 1.0), (1, 2, 1.0)])
def test_a_stream_is_found_within_the_tolerance(shift: int, tolerance: int, share: float) -> None:
    moved, dem = valley(30.0 + shift), valley()
    found = xdemsr.drainage_agreement(moved, dem, cells=400, tolerance=tolerance)
    assert found == share


def test_a_dam_takes_the_stream_away() -> None:
    dem = valley()
    dammed = dem.copy()
    # The lake behind it overflows at the sides of the valley.
    dammed[40:] = 900 - np.abs(np.arange(61) - 30.0) * 2
    assert xdemsr.drainage_agreement(dammed, dem, cells=200, tolerance=1) < 0.3


def test_voids_are_shared() -> None:
    dem = valley()
    holed = dem.copy()
    holed[:, 40:50] = np.nan
    expected = xdemsr.drainage_agreement(holed, holed, cells=300)
    assert xdemsr.drainage_agreement(holed, dem, cells=300) == expected == 1.0
    whole = dem.round().fillna(-9999).astype("int16")
    whole[:, 40:50] = -9999
    assert xdemsr.drainage_agreement(whole, whole, cells=300) == 1.0


def test_what_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    dem = valley()
    with pytest.raises(GridError, match="different grids"):
        xdemsr.drainage_agreement(dem[1:], dem)
    with pytest.raises(InputError, match="it has no stream"):
        xdemsr.drainage_agreement(dem, dem, cells=100_000)
    with pytest.raises(InputError, match="nothing to compare"):
        xdemsr.drainage_agreement(dem, dem * np.nan)
    with pytest.raises(InputError, match="cells >= 1"):
        xdemsr.drainage_agreement(dem, dem, cells=0)
    memory = psutil.virtual_memory()._replace(available=100_000)
    with monkeypatch.context() as patch:
        patch.setattr(psutil, "virtual_memory", lambda: memory)
        with pytest.raises(InputError, match=r"80 x 61 pixels would take 0.0 GB.*at once"):
            xdemsr.drainage_agreement(dem.chunk(20), dem)
    monkeypatch.setitem(sys.modules, "pyflwdir", None)
    with pytest.raises(ImportError, match=r"pip install 'xdemsr\[hydro\]'"):
        xdemsr.drainage_agreement(dem, dem)
