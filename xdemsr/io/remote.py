"""File systems of URLs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xdemsr.errors import InputError
from xdemsr.io.paths import public


def filesystem(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The file system that fsspec finds for a URL, and the path in it.

    Raises
    ------
    InputError
        If there is none, or its package is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(url, **(storage_options or {}))
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{public(url)} cannot be reached: {error}. For clouds: pip install 'xdemsr[cloud]'."
        ) from error
    return files, path
