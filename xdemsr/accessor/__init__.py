"""The ``.demsr`` accessor: every method is a docstring and one call.

Each function is imported when it is called, so that ``import xdemsr`` stays light. Signatures are
those of the functions, without their first parameter.
"""

from __future__ import annotations

import xarray as xr

from xdemsr.accessor.arrays import DataArrayAccessor as DataArrayAccessor
from xdemsr.accessor.common import Accessor


@xr.register_dataset_accessor("demsr")
class DatasetAccessor(Accessor):
    """Models over the variables of a dataset, found by name: ``ds.demsr``."""
