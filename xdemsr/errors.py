"""What can go wrong, said in words: what was asked, what was found, what to do."""

from __future__ import annotations

import sys
import warnings


class XdemsrError(ValueError):
    """Base of every error this library raises on purpose.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32))
    >>> try:
    ...     dem.demsr.upscale(7)
    ... except xdemsr.XdemsrError as error:
    ...     print(type(error).__name__)
    ModelError
    """


class GridError(XdemsrError):
    """The raster's grid cannot be used: no spatial dimensions, irregular, rotated.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32))
    >>> try:
    ...     dem.isel(x=[0, 1, 2, 4, 8]).demsr.upscale(4)
    ... except xdemsr.GridError as error:
    ...     print(str(error).partition(":")[0])
    cannot use 'elevation'
    """


class InputError(XdemsrError):
    """The values or the arguments cannot be used: dtype, bands, scale, size.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32))
    >>> try:
    ...     dem.demsr.upscale(0)
    ... except xdemsr.InputError as error:
    ...     print(error)
    scale=0 must be a whole number, 1 or more: fine pixels per coarse pixel.
    """


class ModelError(XdemsrError):
    """The model cannot be found, built, or trusted.

    Examples
    --------
    >>> import xdemsr
    >>> try:
    ...     xdemsr.load_model("terain-x4")
    ... except xdemsr.ModelError as error:
    ...     print(str(error).partition(",")[0])
    no model is called 'terain-x4'. Nearest: terrain-x4
    """


class WeightsError(ModelError):
    """A weights file cannot be read safely, or is not the file it should be.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import xdemsr
    >>> path = Path(tempfile.mkdtemp(), "broken.safetensors")
    >>> _ = path.write_bytes(b"not a model")
    >>> try:
    ...     xdemsr.load_model(path)
    ... except xdemsr.WeightsError as error:
    ...     print(str(error).partition(": ")[0])
    broken.safetensors is not a safetensors file. xdemsr opens nothing that could run code
    """


class ClusterError(XdemsrError):
    """Workers died, or the scheduler did, and the work could not be finished.

    Examples
    --------
    What was written stays. Once the workers are back, the same call goes on:

    >>> import tempfile
    >>> import xdemsr
    >>> store = tempfile.mkdtemp() + "/fine.zarr"
    >>> fine = xdemsr.synthetic.terrain((24, 32)).demsr.upscale(4)
    >>> try:
    ...     _ = xdemsr.write_zarr(fine, store, resume=True)
    ... except xdemsr.ClusterError:
    ...     _ = xdemsr.write_zarr(fine, store, resume=True)
    >>> xdemsr.missing(store)
    []
    """


class GsdWarning(UserWarning):
    """The raster's ground sampling distance is far from what the model was trained on.

    Examples
    --------
    >>> import warnings
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=5000.0)
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     fine = dem.demsr.upscale(4)
    >>> said[0].category.__name__
    'GsdWarning'
    """


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line outside this package that made the call."""
    frame, depth = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("xdemsr."):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(message, category, stacklevel=depth)
