"""Writing Zarr, region by region, so that a run that was killed goes on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xdemsr.errors import InputError
from xdemsr.grid import XarrayObject
from xdemsr.io.encoding import Sizes, laid_out
from xdemsr.io.fingerprint import differences
from xdemsr.io.paths import local
from xdemsr.io.sites import Site
from xdemsr.io.stores import (
    Objects,
    StoreLike,
    check_options,
    local_path,
    named,
    zarr_store,
)
from xdemsr.io.writing import NOTHING, State, Writing, regions_of, state_of

if TYPE_CHECKING:
    from distributed import Client

_FORMATS = (2, 3)


class Missing(NamedTuple):
    """A part of a store that is not written yet.

    Attributes
    ----------
    array : str
        Path of the array in the store.
    where : tuple of slice
        Along the dimensions of the array; none where all of it is missing.

    Examples
    --------
    >>> import xdemsr
    >>> xdemsr.Missing("elevation", (slice(0, 512), slice(512, 1024))).array
    'elevation'
    """

    array: str
    where: tuple[slice, ...]


def write_zarr(
    da: XarrayObject,
    store: StoreLike,
    *,
    resume: bool = False,
    overwrite: bool = False,
    chunks: Sizes = None,
    overviews: bool = False,
    zarr_format: int = 3,
    client: Client | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> StoreLike:
    """Write a raster into a Zarr store, region by region; what was killed goes on.

    Metadata is written first, then each chunk of the array, followed by a mark that it is done.
    When all are, the marks go.

    Parameters
    ----------
    da : DataArray or Dataset
        Lazy arrays are computed chunk by chunk. A dataset is one raster with its ancillary
        variables, as :func:`xdemsr.upscale` answers with ``uncertainty=True``.
    store : str, Path, zarr Store or obstore store
        A folder, or a URL (``s3://bucket/fine.zarr``) that every worker reaches.
    resume : bool, optional
        Go on with an unfinished store of the same array: only what is missing or torn is computed,
        and the end is the same, bit for bit. Where the store is complete, nothing is done. Another
        input, model or setting than the one it was begun with is refused.
    overwrite : bool, optional
        Replace a store that is there, once the new one is complete. Until then it lies beside it.
    chunks : int or (int, int), optional
        Size of the store's chunks along y and x, in pixels. Chunks of the array that are larger
        become shards. By default the store's chunks are the array's.
    overviews : bool, optional
        Add means of 2 x 2, 4 x 4, ... pixels in groups ``2``, ``4``, ..., until both sides are 512
        pixels or less.
    zarr_format : {3, 2}, optional
        2 for readers that do not know 3.
    client : distributed.Client, optional
        Who computes. By default the client that is there, else dask's own scheduler.
    storage_options : mapping, optional
        Of the file system that fsspec finds for a URL.

    Returns
    -------
    Path, or ``store`` where it is no folder
        ``xarray.open_zarr(path, decode_coords="all")`` reads it back with its CRS and transform;
        the conventions ``proj:``, ``spatial:`` and ``multiscales`` say them too.

    Raises
    ------
    FileExistsError
        If there is a store and neither ``resume`` nor ``overwrite`` is given.
    InputError
        If the store holds something else than what is to be resumed, what is to be replaced is not
        a Zarr store or lies in a cloud, or ``da`` is not one raster.

    Notes
    -----
    What is the same is told by the names of dask arrays, which hash all that they are computed
    from: files by path, size and time, models by sha256. Arrays of :func:`xdemsr.open` and
    :func:`xdemsr.open_stac` have such names; an array from random numbers without a seed has not.

    Examples
    --------
    >>> import tempfile
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=30.0).chunk(16)
    >>> path = tempfile.mkdtemp() + "/fine.zarr"
    >>> _ = xdemsr.write_zarr(dem.demsr.upscale(4, "bicubic"), path)
    >>> xdemsr.missing(path)
    []
    >>> _ = xdemsr.write_zarr(dem.demsr.upscale(4, "bicubic"), path, resume=True)  # nothing to do
    """
    if zarr_format not in _FORMATS:
        raise InputError(f"zarr_format={zarr_format!r} is not known; it is 3 or 2.")
    check_options(store, storage_options)
    folder = local_path(store)
    site = None if folder is None else Site(local(folder))
    job = Writing.of(laid_out(da, chunks, zarr_format), overviews, zarr_format)
    if site is None:
        objects = Objects(zarr_store(store, read_only=False, storage_options=storage_options))
        if _unfinished(job, objects, named(store), resume, overwrite):
            job.run(objects, named(store), client)
        return store
    site.settle()
    place = _place(job, site, resume, overwrite)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        job.run(Objects(zarr_store(place, read_only=False)), str(site.path), client)
        if place == site.new:
            site.swap()
    return site.path


def missing(
    store: StoreLike, *, verify: bool = False, storage_options: Mapping[str, Any] | None = None
) -> list[Missing]:
    """What is left to be written of a store that :func:`xdemsr.write_zarr` has begun.

    Parameters
    ----------
    store : str, Path, zarr Store or obstore store
        What was begun.
    verify : bool, optional
        Read all that is there and compare checksums, too.
    storage_options : mapping, optional
        Of the file system that fsspec finds for a URL.

    Returns
    -------
    list of Missing
        Empty where the store is complete.

    Raises
    ------
    InputError
        If there is no store, or not one of this library's.

    Examples
    --------
    >>> import tempfile
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=30.0).chunk(16)
    >>> store = xdemsr.write_zarr(dem, tempfile.mkdtemp() + "/dem.zarr")
    >>> xdemsr.missing(store, verify=True)
    []
    """
    objects = Objects(zarr_store(store, read_only=True, storage_options=storage_options))
    state = state_of(objects)
    if state.fingerprint is None:
        raise InputError(f"{named(store)} is not a store that xdemsr.write_zarr has begun.")
    left = []
    for regions in regions_of(objects, state):
        indices = [] if state.complete else regions.missing()
        if verify:
            indices += [k for k in regions.unreadable() if k not in set(indices)]
        left += [Missing(regions.path, regions.slices(index)) for index in sorted(indices)]
    return left


def _place(job: Writing, site: Site, resume: bool, overwrite: bool) -> Path | None:
    """The folder to write in; None where nothing is left to do."""
    for folder in (site.path, site.new) if resume else ():
        state = _state(folder)
        if state.fingerprint == job.fingerprint:
            if folder == site.path and state.complete:
                job.finish(Objects(zarr_store(folder, read_only=False)))
                return None
            return folder
    if site.new.exists():
        shutil.rmtree(site.new)
    if not site.path.exists():
        return site.path
    site.check()
    if overwrite:
        return site.new
    remedy = "replace it with overwrite=True (--overwrite)"
    objects = _reading(site.path)
    raise _refusal(job, state_of(objects), objects, str(site.path), resume, remedy)


def _unfinished(job: Writing, objects: Objects, name: str, resume: bool, overwrite: bool) -> bool:
    """Whether there is something to write into a store that is no folder."""
    state = state_of(objects)
    if resume and state.exists and state.fingerprint == job.fingerprint:
        if state.complete:
            job.finish(objects)
        return not state.complete
    if not state.exists and not objects.any():
        return True
    if overwrite:
        raise InputError(
            f"{name} is there already, and xdemsr replaces folders only: what it is made from may "
            "lie in it. Delete it first, or give another name."
        )
    raise _refusal(job, state, objects, name, resume, "delete it first")


def _refusal(
    job: Writing, state: State, objects: Objects, name: str, resume: bool, remedy: str
) -> FileExistsError | InputError:
    if resume and state.fingerprint is not None:
        return InputError(
            f"{name} cannot be gone on with: it is made of "
            f"{differences(job.fingerprint, state.fingerprint)}. Nothing was changed. To begin "
            f"anew, {remedy}, or give another name."
        )
    if state.complete:
        return FileExistsError(f"{name} exists; {remedy}.")
    left = sum(len(regions.missing()) for regions in regions_of(objects, state))
    return FileExistsError(
        f"{name} exists and is unfinished, {left} regions are missing; go on with resume=True "
        f"(--resume), or {remedy}."
    )


def _state(path: Path) -> State:
    return state_of(_reading(path)) if path.is_dir() else NOTHING


def _reading(path: Path) -> Objects:
    """The objects of a folder, which a store opened for writing would make."""
    return Objects(zarr_store(path, read_only=True))
