"""What the benchmarks share."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr

import xdemsr

SIZE = 1024


@pytest.fixture(scope="session")
def source() -> xr.DataArray:
    """A terrain of 1024 x 1024 pixels."""
    return xdemsr.synthetic.terrain((SIZE, SIZE))


@pytest.fixture(scope="session")
def model() -> str:
    """The shipped model."""
    return "terrain-x16"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where to write."""
    return tmp_path / "answer.zarr"
