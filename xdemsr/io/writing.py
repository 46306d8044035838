"""One write of a dataset into a Zarr store: begun, gone on with, finished."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import xarray as xr
from dask.highlevelgraph import HighLevelGraph

from xdemsr import grid
from xdemsr.chunking import split
from xdemsr.errors import InputError
from xdemsr.io.conventions import placed, scaled
from xdemsr.io.encoding import stored_values, void_of
from xdemsr.io.fingerprint import Fingerprint, fingerprint
from xdemsr.io.pyramid import averaging, coarser, factors, overview
from xdemsr.io.regions import Regions, writing
from xdemsr.io.skeleton import Skeleton, skeleton
from xdemsr.io.stores import ROOT_KEYS, Objects
from xdemsr.progress import KEY_PREFIX
from xdemsr.running import run_tasks

if TYPE_CHECKING:
    from distributed import Client

#: Attributes of the root. The first is there, and false, until the store is finished.
COMPLETE, FINGERPRINT, REGIONS = "xdemsr_complete", "xdemsr_fingerprint", "xdemsr_regions"


class State(NamedTuple):
    """What a store says of itself.

    Attributes
    ----------
    exists, complete : bool
    fingerprint : mapping or None
        None where another program has written it.
    regions : mapping
        Sizes of the regions of each array, by its path.
    """

    exists: bool
    complete: bool
    fingerprint: Fingerprint | None
    regions: dict[str, list[int]]


#: Of what is not there.
NOTHING = State(False, False, None, {})


def state_of(objects: Objects) -> State:
    """What a store says of itself."""
    attrs: dict[str, Any] | None = None
    for key in ROOT_KEYS:
        content = objects.read(key)
        if content is not None:
            said = json.loads(content)
            attrs = said if key == ".zattrs" else said.get("attributes", {})
            break
    if attrs is None:
        return NOTHING
    return State(True, attrs.get(COMPLETE, True), attrs.get(FINGERPRINT), attrs.get(REGIONS, {}))


def regions_of(objects: Objects, state: State) -> Iterator[Regions]:
    """The regions of a store that is there; an array that is not there yet is one region."""
    import zarr

    for path, sizes in state.regions.items():
        try:
            shape = zarr.open_array(objects.store, path=path, mode="r").shape
        except FileNotFoundError:
            # The run was killed while it wrote the metadata, of which the root is the first.
            yield Regions(objects.store, path, ())
            continue
        chunks = tuple(split(length, size) for length, size in zip(shape, sizes, strict=True))
        yield Regions(objects.store, path, chunks)


@dataclass(frozen=True)
class Writing:
    """What is to be written: a dataset laid out for a store, and its overviews.

    Attributes
    ----------
    ds : Dataset
        Lazy, in the chunks it is written in.
    overviews : tuple of (int, Dataset)
        Factors, and datasets of their shapes.
    zarr_format : int
    """

    ds: xr.Dataset
    overviews: tuple[tuple[int, xr.Dataset], ...]
    zarr_format: int
    fingerprint: Fingerprint

    @classmethod
    def of(cls, ds: xr.Dataset, overviews: bool, zarr_format: int) -> Writing:
        """Lay out the overviews of a dataset, if they are asked for; no pixel is read."""
        wanted = factors(grid.of(ds).shape) if overviews else []
        levels = tuple((factor, overview(ds, factor)) for factor in wanted)
        return cls(ds, levels, zarr_format, fingerprint(ds, overviews))

    def run(self, objects: Objects, name: str, client: Client | None) -> None:
        """Write what is missing in a store that is empty, or holds the beginnings of this write.

        Parameters
        ----------
        objects : Objects
        name : str
            Of the store, in messages.
        client : distributed.Client or None

        Raises
        ------
        InputError
            If what the workers wrote did not arrive in the store.
        """
        for key, content in self._begun.items():
            objects.write(key, content)
        self._write_rasters(objects, name, client)
        for level in range(len(self.overviews)):
            self._write_overview(level, objects, name, client)
        self.finish(objects)

    def finish(self, objects: Objects) -> None:
        """Say that all is there, and take away the marks and what was left half written."""
        finished = self._skeleton(complete=True)
        # The root last: it is what is believed.
        for key in sorted(finished, key=lambda key: key in ROOT_KEYS):
            if finished[key] != self._begun[key]:
                objects.write(key, finished[key])
        for level in range(len(self.overviews) + 1):
            for regions in self._regions(objects, level).values():
                regions.clear()
        objects.sweep()

    def _write_rasters(self, objects: Objects, name: str, client: Client | None) -> None:
        tasks = {}
        for variable, regions in self._regions(objects, 0).items():
            values = stored_values(self.ds[variable])
            key = f"{KEY_PREFIX}write-{variable}-{uuid4().hex}"
            wanted = regions.missing()
            tasks[key] = writing(key, regions, values, wanted), wanted, [values]
        _compute(tasks, client, f"writing {name}")
        self._check(0, objects, name)

    def _write_overview(
        self, level: int, objects: Objects, name: str, client: Client | None
    ) -> None:
        below, regions = (self._regions(objects, k) for k in (level, level + 1))
        tasks: dict[str, Any] = {}
        for variable in regions:
            key = f"{KEY_PREFIX}overview-{variable}-{uuid4().hex}"
            wanted = regions[variable].missing()
            void = void_of(self.ds[variable])
            made = averaging(key, below[variable], regions[variable], wanted, void)
            tasks[key] = made, wanted, []
        _compute(tasks, client, f"overview 1:{self.overviews[level][0]}")
        self._check(level + 1, objects, name)

    def _check(self, level: int, objects: Objects, name: str) -> None:
        """Whether what was written is where it was to be."""
        left = sum(len(regions.unmarked()) for regions in self._regions(objects, level).values())
        # Another run that ends first takes the marks away.
        if left and not self._finished(objects):
            raise InputError(
                f"{left} regions of {name} were computed, and are not there: the workers wrote "
                "elsewhere. Give a store that they share: a folder they all see, or a URL."
            )

    def _finished(self, objects: Objects) -> bool:
        state = state_of(objects)
        return state.complete and state.fingerprint == self.fingerprint

    def _regions(self, objects: Objects, level: int) -> dict[Hashable, Regions]:
        """The regions of each variable at one level."""
        group, ds = ("", self.ds) if level == 0 else self._group(level)
        return {
            variable: Regions(objects.store, f"{group}{variable}", self._chunks(ds, variable))
            for variable in ds.data_vars
        }

    def _group(self, level: int) -> tuple[str, xr.Dataset]:
        factor, ds = self.overviews[level - 1]
        return f"{factor}/", ds

    def _chunks(self, ds: xr.Dataset, variable: Hashable) -> tuple[tuple[int, ...], ...]:
        sizes = (axis[0] for axis in self.ds[variable].data.chunks)
        return tuple(map(split, ds[variable].shape, sizes))

    @cached_property
    def _begun(self) -> Skeleton:
        return self._skeleton(complete=False)

    def _skeleton(self, complete: bool) -> Skeleton:
        found = grid.of(self.ds)
        levels = [(factor, coarser(found, factor)) for factor, _ in self.overviews]
        names = [str(name) for name in self.ds.data_vars]
        where = scaled(found, names, levels) if levels else placed(found)
        sizes = {
            f"{group}{variable}": [axis[0] for axis in self._chunks(ds, variable)]
            for group, ds in [("", self.ds), *map(self._group, range(1, len(levels) + 1))]
            for variable in ds.data_vars
        }
        said = {} if complete else {COMPLETE: False}
        attrs = {**where, **said, FINGERPRINT: self.fingerprint, REGIONS: sizes}
        overviews = [
            (factor, ds.assign_attrs({**placed(place), **said}))
            for (factor, ds), (_, place) in zip(self.overviews, levels, strict=True)
        ]
        return skeleton(self.ds, overviews, attrs, self.zarr_format)


def _compute(tasks: Mapping[str, Any], client: Client | None, what: str) -> None:
    layers = [
        HighLevelGraph.from_collections(name, layer, dependencies=values)
        for name, (layer, _, values) in tasks.items()
    ]
    keys = [(name, *index) for name, (_, wanted, _) in tasks.items() for index in wanted]
    if keys:
        run_tasks(HighLevelGraph.merge(*layers), keys, client=client, what=what)
