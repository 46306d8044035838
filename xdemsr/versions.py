"""What is installed, for reports of what goes wrong.

In neither wing: it looks at both from outside.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

from xdemsr.listing import as_text

#: What answers depend on, then what only some of the library does.
_NEEDED = (
    *("xdemsr", "numpy", "scipy", "scikit-image", "pandas", "xarray", "dask", "zarr"),
    *("rasterio", "rioxarray", "odc-geo", "torch", "safetensors", "matplotlib"),
)
_OPTIONAL = (
    *("distributed", "dask-jobqueue", "fsspec", "s3fs", "obstore", "odc-stac", "pystac-client"),
    *("lightning", "onnx", "onnxruntime", "spandrel", "segmentation-models-pytorch"),
    *("torchvision", "laspy", "pyflwdir"),
)


def show_versions(file: TextIO | None = None) -> None:
    """Print the versions of all that xdemsr rests on, and what this machine is.

    Put it into reports of what goes wrong. Imports torch, to ask for devices; says neither paths
    nor names of this machine.

    Parameters
    ----------
    file : text file, optional
        Where to; standard output by default.

    Returns
    -------
    None
        It is printed.

    Examples
    --------
    >>> import io
    >>> import xdemsr
    >>> said = io.StringIO()
    >>> xdemsr.show_versions(said)
    >>> xdemsr.__version__ in said.getvalue()
    True
    """
    found = [
        ("python", platform.python_version()),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("processors", str(os.cpu_count())),
        *((name, _version(name)) for name in _NEEDED),
        *_libraries(),
        *_devices(),
        *((name, _version(name)) for name in _OPTIONAL),
    ]
    print(as_text(found), file=file or sys.stdout)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"


def _libraries() -> list[tuple[str, str]]:
    """Those that Python's packages wrap."""
    try:
        import rasterio
    except ImportError as error:
        return [("gdal", f"cannot be asked: {error}")]
    return [("gdal", rasterio.__gdal_version__), ("proj", rasterio.__proj_version__)]


def _devices() -> list[tuple[str, str]]:
    """What torch can compute on."""
    try:
        import torch
    except ImportError as error:
        return [("devices", f"torch cannot be imported: {error}")]
    cpu = [("threads of torch", str(torch.get_num_threads()))]
    if not torch.cuda.is_available():
        return [*cpu, ("gpu", "none that torch can use")]
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [*cpu, ("gpu", f"{', '.join(names)}; CUDA {torch.version.cuda}")]
