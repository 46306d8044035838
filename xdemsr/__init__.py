"""Trained PyTorch networks over terrain and imagery of any size, through xarray and Dask.

Importing the package registers the accessor ``.demsr`` on arrays and datasets. Everything else is
imported when it is first used; torch, when a block is first computed.
"""

import lazy_loader as _lazy

try:
    import rioxarray as _rioxarray  # noqa: F401  (.rio, which users of .demsr rely on)

    from xdemsr import accessor as _accessor  # noqa: F401
except ModuleNotFoundError as _error:
    # A machine that only trains may do without the packages of the map wing.
    if _error.name not in ("rioxarray", "xarray"):
        raise

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
