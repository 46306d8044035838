"""Where a store is built: in its place, or beside the one that it is to replace."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from xdemsr.errors import InputError
from xdemsr.io.stores import ROOT_KEYS


@dataclass(frozen=True)
class Site:
    """A folder for a store, and folders beside it while another is replaced.

    A run that dies while it swaps the two leaves the old one under ``old``: it is put back when
    next looked at.
    """

    path: Path

    @property
    def new(self) -> Path:
        """Where a store is built that is to replace one."""
        return self.path.parent / f".{self.path.name}.xdemsr-new"

    @property
    def old(self) -> Path:
        """Where the replaced one is for a moment."""
        return self.path.parent / f".{self.path.name}.xdemsr-old"

    def settle(self) -> None:
        """Put back what a run that died between two renamings has left."""
        if self.old.exists():
            if self.path.exists():
                shutil.rmtree(self.old)
            else:
                self.old.rename(self.path)

    def check(self) -> None:
        """Refuse a folder of other things.

        Raises
        ------
        InputError
            If there is something that is no Zarr store.
        """
        found = self.path
        if found.exists() and not any((found / name).is_file() for name in ROOT_KEYS):
            raise InputError(
                f"{found} is not a Zarr store, and is not replaced. Give another name."
            )

    def swap(self) -> None:
        """Put the new one in place of the old."""
        self.path.rename(self.old)
        try:
            self.new.rename(self.path)
        except OSError:
            self.old.rename(self.path)
            raise
        shutil.rmtree(self.old)
