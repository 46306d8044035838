"""A model over an array: check, plan, map, wrap. The functions behind the accessor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack, overload

import dask.array as da
import numpy as np
import xarray as xr

from xdemsr.answering import answer_windows
from xdemsr.bands import Matched, VerticalError, match
from xdemsr.catalog import ModelLike, find
from xdemsr.chunking import Chunks, largest_chunk, spatial_chunks
from xdemsr.errors import GsdWarning, warn
from xdemsr.execution import Execution
from xdemsr.graph import Answer
from xdemsr.grid import XarrayObject, not_xarray
from xdemsr.levels import levelled
from xdemsr.metadata import label, with_standard_error
from xdemsr.progress import KEY_PREFIX
from xdemsr.spec import ModelSpec, whole_scale
from xdemsr.task import BlockTask

#: How many times finer or coarser than its training a raster may be without a warning.
_GSD_SLACK = 2.0
#: Pixels along the chunks of a source that has none, where the answer is to be lazy.
SOURCE_CHUNK = 1024


@dataclass(frozen=True)
class Job:
    """A call, checked and ready: what goes in, what is done, what comes out."""

    spec: ModelSpec
    matched: Matched
    task: BlockTask
    answer: Answer
    lazy: bool


class Options(TypedDict, total=False):
    """How a call is run: the keywords of :func:`upscale` and :func:`apply`."""

    vertical_error: VerticalError
    ensemble: bool
    device: str
    precision: str
    batch_size: int | str
    chunks: Chunks


@overload
def upscale(
    obj: xr.DataArray,
    scale: int,
    model: ModelLike | None = ...,
    *,
    uncertainty: Literal[True],
    **options: Unpack[Options],
) -> xr.Dataset: ...


@overload
def upscale(
    obj: xr.DataArray,
    scale: int,
    model: ModelLike | None = ...,
    *,
    uncertainty: Literal[False] = ...,
    **options: Unpack[Options],
) -> xr.DataArray: ...


@overload
def upscale(
    obj: xr.DataArray,
    scale: int,
    model: ModelLike | None = ...,
    *,
    uncertainty: bool,
    **options: Unpack[Options],
) -> xr.DataArray | xr.Dataset: ...


def upscale(
    obj: xr.DataArray,
    scale: int,
    model: ModelLike | None = None,
    *,
    vertical_error: VerticalError = "auto",
    uncertainty: bool = False,
    ensemble: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    chunks: Chunks = "auto",
) -> xr.DataArray | xr.Dataset:
    """Divide the pixels of a raster by a whole number, with a trained model or an interpolation.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        Elevations (or what the model takes) on a regular grid, in any order of y; other dimensions
        are carried through. Voids are NaN, the declared void values, and in integer rasters that
        declare none -9999, -32768 and -32767.
    scale : int
        Output pixels per input pixel along each axis.
    model : str, Path, ModelSpec or Model, optional
        A shipped name (see :func:`xdemsr.list_models`), the path of a ``.safetensors`` file, a
        loaded model, or one of ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"spline"``,
        ``"histospline"``. The shipped terrain model of that scale by default.
    vertical_error : float, DataArray or "auto", optional
        Standard error of the input elevations in their own unit, for models that ask for it.
        ``"auto"`` is step / sqrt(12) where the raster is stored as whole numbers (times its
        ``scale_factor``), and 0 elsewhere.
    uncertainty : bool, optional
        Answer the standard error of each pixel as well, for models that state it: the shipped
        terrain models do.
    ensemble : bool, optional
        Average the answers to the eight flips and rotations; eight times the work.
    device : str, optional
        ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ...
    precision : str, optional
        Of the network's trunk: ``"auto"`` (the half precision that the device does natively),
        ``"fp32"``, ``"bf16"`` or ``"fp16"``. Processors of different kinds give the same answer to
        some millimetres with ``"auto"``, and to rounding with ``"fp32"``.
    batch_size : int or "auto", optional
        Tiles given to a GPU at once. Never changes the numbers.
    chunks : int, (int, int) or "auto", optional
        Size of the answer's chunks (ny, nx), in its own pixels; ``"auto"`` holds whole tiles, at
        most 32 MiB (128 MiB of overlapping windows). Given explicitly, the answer is lazy also
        where the input is in memory. Chunks that cut through tiles repeat work:
        :func:`xdemsr.plan` says how much.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        The same extent with pixels divided by ``scale``; the unit, CRS, name and attributes of the
        input. Lazy where the input is. With ``uncertainty``, a Dataset of it (called ``elevation``
        where the input has no name) and of its ``..._standard_error``, an ancillary variable as CF
        has it.

    Raises
    ------
    GridError
        If the grid is irregular, rotated, or has no spatial dimensions.
    InputError
        If the values or arguments cannot be used, or an eager answer would not fit in memory.
    ModelError
        If there is no such model, it has another scale, or it states no standard error.

    Warns
    -----
    GsdWarning
        If the raster's spacing is far from what the model was trained on.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=30.0)
    >>> fine = dem.demsr.upscale(4, "histospline")
    >>> dict(fine.sizes), fine.rio.resolution()
    ({'y': 96, 'x': 128}, (7.5, -7.5))
    """
    spec = find(model, whole_scale(scale))
    execution = Execution(device, precision, batch_size, ensemble)
    if not uncertainty:
        return run(prepare(obj, spec, execution, vertical_error, chunks))
    both = run(prepare(obj, spec.stating_error(), execution, vertical_error, chunks))
    return with_standard_error(both, obj)


def apply(
    obj: XarrayObject,
    model: ModelLike,
    *,
    vertical_error: VerticalError = "auto",
    ensemble: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    chunks: Chunks = "auto",
) -> xr.DataArray:
    """Run any model over an array or a dataset, tile by tile.

    Parameters
    ----------
    obj : DataArray or Dataset
        A model of one band takes the array itself. One of several takes variables of a dataset by
        name, or the array's band dimension (by name where it has names, by order elsewhere).
    model : str, Path, ModelSpec or Model
        A shipped name, the path of a ``.safetensors`` file, or a loaded model.
    vertical_error, ensemble, device, precision, batch_size, chunks
        As in :func:`xdemsr.upscale`.

    Returns
    -------
    DataArray, float32
        On the input's grid, divided by the model's scale. Several output bands lie along a band
        dimension before (y, x).

    See Also
    --------
    upscale : The same, for super-resolution.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((24, 32), gsd=30.0)
    >>> smooth = xdemsr.apply(dem, xdemsr.load_model("bilinear", scale=2))
    >>> dict(smooth.sizes)
    {'y': 48, 'x': 64}
    """
    execution = Execution(device, precision, batch_size, ensemble)
    return run(prepare(obj, find(model), execution, vertical_error, chunks))


def prepare(
    obj: XarrayObject,
    spec: ModelSpec,
    execution: Execution,
    vertical_error: VerticalError,
    chunks: Chunks,
) -> Job:
    """Check a call and lay out its answer; reads no pixel and loads no network."""
    if not isinstance(obj, xr.DataArray | xr.Dataset):
        raise not_xarray(obj)
    matched = match(obj, spec, vertical_error)
    _warn_gsd(matched, spec)
    lazy = chunks != "auto" or any(item.array.chunks is not None for item in matched.inputs)
    banded = len(spec.outputs) > 1 or matched.band_dim is not None
    task = BlockTask(
        spec.for_worker(),
        execution,
        matched.grid.shape,
        tuple(item.block for item in matched.inputs),
        tuple(sorted(matched.constants.items())),
        banded,
    )
    return Job(spec, matched, task, _lay_out(matched, spec, chunks, lazy, banded), lazy)


def run(job: Job) -> xr.DataArray:
    """Do a job: build its graph where it is lazy, compute it where it is not."""
    arrays = [
        (
            _as_dask(item.array) if job.lazy else item.array.values,
            item.block.scale,
            item.block.leading,
        )
        for item in job.matched.inputs
    ]
    answer = levelled if job.spec.relative else answer_windows
    data = answer(job.task, arrays, job.answer)
    return label(data, job.matched, job.spec, job.task.execution)


def _lay_out(matched: Matched, spec: ModelSpec, chunks: Chunks, lazy: bool, banded: bool) -> Answer:
    first = matched.first
    bands = ((len(spec.outputs),),) if banded else ()
    sizes = tuple(first.sizes[dim] for dim in matched.leading)
    # A chunk holds one element of each leading dimension, whatever the source's chunks.
    leading = [(1,) * size for size in sizes]
    # Where pixels are hardly divided, what a chunk reads weighs as much as what it holds.
    pixel_bytes = 4 * len(spec.outputs) + 4 * len(spec.raster_inputs) // spec.scale**2
    spatial = spatial_chunks(
        chunks, spec, matched.grid.shape, pixel_bytes, largest_chunk(spec, lazy)
    )
    name = f"{KEY_PREFIX}{spec.name}"
    return Answer(name, (*leading, *bands, *spatial), np.float32, len(leading))


def _as_dask(array: xr.DataArray) -> da.Array:
    if array.chunks is not None:
        data: da.Array = array.data
        return data
    sizes = dict.fromkeys(array.dims[:-2], 1)
    sizes.update(dict.fromkeys(array.dims[-2:], SOURCE_CHUNK))
    chunked: da.Array = array.chunk(sizes).data
    return chunked


def _warn_gsd(matched: Matched, spec: ModelSpec) -> None:
    found = matched.grid.gsd()
    if spec.gsd is None or found is None:
        return
    low, high = spec.gsd
    if not low / _GSD_SLACK <= found <= high * _GSD_SLACK:
        warn(
            f"the raster's pixels are {_metres(found)}, and model {spec.name!r} was trained on "
            f"{_metres(low)} to {_metres(high)}: its detail may not be what such terrain looks "
            "like.",
            GsdWarning,
        )


def _metres(length: float) -> str:
    return f"{length:,.0f} m" if length >= 100 else f"{length:.3g} m"
