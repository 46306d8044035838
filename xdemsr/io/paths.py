"""Where files are."""

from __future__ import annotations

import re
from pathlib import Path

from xdemsr.errors import InputError


def is_remote(path: str | Path) -> bool:
    """Whether a path is a URL or one of GDAL's virtual ones, not a file here."""
    # A Path has lost one of the two slashes; a single letter before the colon is a drive.
    return str(path).startswith("/vsi") or re.match(r"\w{2,}:/", str(path)) is not None


def local(path: str | Path) -> Path:
    """The path of something to be written.

    Raises
    ------
    InputError
        If it is a URL, or its folder is a file.
    """
    if is_remote(path):
        raise InputError(
            f"xdemsr writes local files, not {path}. Write a Zarr store with xarray: "
            "da.to_zarr(url)."
        )
    # A link stays a link: what it leads to is written.
    found = Path(path).resolve()
    for parent in found.parents:
        if parent.is_file():
            raise InputError(f"{parent} is a file, not a folder to write {found.name} into.")
    return found
