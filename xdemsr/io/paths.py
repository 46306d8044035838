"""Where files are."""

from __future__ import annotations

import os
import re
from pathlib import Path

from xdemsr.errors import InputError


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL or one of GDAL's virtual ones, not a file here."""
    # A Path has lost one of the two slashes; a single letter before the colon is a drive.
    return str(path).startswith("/vsi") or re.match(r"\w{2,}:/", str(path)) is not None


def is_web(path: object) -> bool:
    """Whether it is read through HTTP."""
    return isinstance(path, str) and path.startswith(("http://", "https://"))


def public(path: object) -> str:
    """What a path or URL is called in messages: without users, passwords, queries, signatures."""
    if not isinstance(path, str | os.PathLike) or not is_remote(path):
        return str(path)
    return re.sub(r"//[^/@]*@", "//", re.split(r"[?#]", str(path))[0])


def lost_slash(path: object) -> InputError | None:
    """The error for a URL that was made a Path, and is no URL any more; None for all else."""
    if isinstance(path, Path) and is_remote(path) and not str(path).startswith("/vsi"):
        return InputError(f"{public(path)} was a URL: give it as text, since a Path drops a slash.")
    return None


def redacted(text: str) -> str:
    """A message in which every URL is called as :func:`public` calls it."""
    return re.sub(r"\w+://[^\s'\"]+", lambda url: public(url[0]), text)


def local(path: str | os.PathLike[str]) -> Path:
    """The path of something to be written.

    Raises
    ------
    InputError
        If it is a URL, or its folder is a file.
    """
    if is_remote(path):
        raise InputError(
            f"{public(path)} is a URL; this writes files on this machine only. write_cog and "
            "write_zarr take URLs."
        )
    # A link stays a link: what it leads to is written.
    found = Path(path).resolve()
    for parent in found.parents:
        if parent.is_file():
            raise InputError(f"{parent} is a file, not a folder to write {found.name} into.")
    return found
