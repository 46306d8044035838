"""What a store is made of, as far as names tell: to go on with the same, and with nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import xarray as xr
from dask.base import tokenize

#: What is compared, and what to call it where it differs.
_PARTS = {
    "model": "another model",
    "layout": "another shape, other chunks, another type, format or overviews",
    "labels": "other coordinates or attributes",
    "data": "another input, or other settings",
    "versions": "other versions of the software",
}

Fingerprint = dict[str, str]


def fingerprint(ds: xr.Dataset, overviews: bool) -> Fingerprint:
    """What tells one write from another, part by part; the same in every process.

    A lazy array's name is a hash of all that it is computed from: files and their states, the
    model and its sha256, settings.

    Parameters
    ----------
    ds : Dataset
        Lazy, as it is to be stored.
    overviews : bool
        Whether overviews belong to it.
    """
    rasters = {str(name): raster for name, raster in sorted(ds.data_vars.items(), key=_key)}
    # Pairs in order, not mappings: early releases of dask hash those in the order of the process.
    layout = [
        (name, raster.dims, raster.shape, str(raster.dtype), _described(raster.encoding))
        for name, raster in rasters.items()
    ]
    labels = [(name, _pairs(raster.attrs)) for name, raster in rasters.items()]
    coordinates = [
        (str(name), coord.dims, coord.data, _pairs(coord.attrs))
        for name, coord in sorted(ds.coords.items(), key=_key)
    ]
    return {
        "model": _models(ds),
        "layout": tokenize(layout, overviews),
        "labels": tokenize(labels, coordinates, _pairs(ds.attrs)),
        "data": tokenize([(name, raster.data.name) for name, raster in rasters.items()]),
        "versions": ", ".join(f"{name} {_version(name)}" for name in ("xdemsr", "torch")),
    }


def differences(asked: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs, in words; empty where nothing does."""
    parts = [part for part in _PARTS if asked.get(part) != found.get(part)]
    # Another model gives another name to the data, and so do other chunks.
    if len(parts) > 1:
        parts = [part for part in parts if part != "data"]
    shown = {part: f" ({found.get(part)}, not {asked[part]})" for part in ("model", "versions")}
    return ", ".join(_PARTS[part] + shown.get(part, "") for part in parts)


def _models(ds: xr.Dataset) -> str:
    said = []
    for raster in ds.data_vars.values():
        attrs = raster.attrs
        if "xdemsr_model" in attrs:
            sha = str(attrs.get("xdemsr_model_sha256", ""))[:12]
            parts = [attrs["xdemsr_model"], attrs.get("xdemsr_model_version", ""), sha]
            said.append(" ".join(str(part) for part in parts if part != ""))
    return ", ".join(dict.fromkeys(said)) or "none"


def _pairs(attrs: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    return [(str(key), attrs[key]) for key in sorted(attrs, key=str)]


def _described(encoding: Mapping[Any, Any]) -> list[tuple[str, str]]:
    return [(key, repr(value)) for key, value in _pairs(encoding)]


def _key(item: tuple[Hashable, Any]) -> str:
    return str(item[0])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
