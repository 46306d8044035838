"""What a call would do, before it does it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr
from dask.system import CPU_COUNT

from xdemsr.bands import MatchedInput, VerticalError
from xdemsr.batches import MOST_NEEDED
from xdemsr.calibration import made_like, tiles_a_second
from xdemsr.catalog import ModelLike, find
from xdemsr.chunking import Chunks
from xdemsr.execution import Execution
from xdemsr.grid import XarrayObject
from xdemsr.inference import SOURCE_CHUNK, Job, prepare
from xdemsr.levels import surveys
from xdemsr.listing import as_html, as_text
from xdemsr.progress import KEY_PREFIX
from xdemsr.refining import REFINEMENT, as_dataset, gathered
from xdemsr.spec import Windowed, whole_scale
from xdemsr.tiles import make_tiling
from xdemsr.window import Span, Tiling

#: Bytes a process takes with torch and a small network in it, before any pixel.
_PROCESS_BYTES = 400 << 20
#: What a thread keeps of torch's own: features of a tile, matrices of an interpolation.
_THREAD_BYTES = 32 << 20
#: Blocks of this size and more are given back to the system by the C library, smaller ones kept.
_KEPT_BLOCK = 32 << 20
#: Bytes of a pixel while a filter makes it: float64, as it was, opened, bridged, and between.
_DERIVING = 6 * 8


@dataclass(frozen=True)
class Plan:
    """What ``upscale`` or ``apply`` would do with the same arguments.

    Attributes
    ----------
    model : str
        Name and version.
    input_shape, output_shape : tuple of int
        Sizes of all dimensions.
    output_bytes : int
        Of the whole answer in memory, float32.
    chunks : tuple of tuple of int
        Of the answer.
    tiles : int
        Tiles or windows given to the network, repeated ones included. Where heights are relative,
        every window is given once more, to find its level.
    halo_overhead : float
        Input pixels given to the network over input pixels answered.
    tasks : int
        Dask tasks that answer, beyond the input's own; 0 where the call is not lazy. Joining source
        chunks of a few pixels, where a task would need very many, comes on top, and so does taking
        elevations and their standard errors apart.
    flops : float
        Floating-point operations of the network.
    peak_bytes : int
        Memory at the peak on this machine, estimated.
    seconds : float or None
        To read, answer, compress and write it on all processors of this machine; None where nothing
        was tried. Starting Python and loading the network, some seconds, come on top.

    Examples
    --------
    >>> import xdemsr
    >>> plan = xdemsr.synthetic.terrain((240, 320)).demsr.plan(4)
    >>> plan.output_shape, plan.output_bytes, plan.tiles
    ((960, 1280), 4915200, 6)
    """

    model: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    output_bytes: int
    chunks: tuple[tuple[int, ...], ...]
    tiles: int
    halo_overhead: float
    tasks: int
    flops: float
    peak_bytes: int
    seconds: float | None = None

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each line, for people."""
        sizes = " x ".join(f"{max(c, default=0):,}" for c in self.chunks[-2:])
        count = math.prod(len(c) for c in self.chunks)
        time = [] if self.seconds is None else [("time", f"about {_duration(self.seconds)}")]
        return [
            ("model", self.model),
            ("input", " x ".join(f"{n:,}" for n in self.input_shape)),
            ("output", " x ".join(f"{n:,}" for n in self.output_shape)),
            ("output size", _bytes(self.output_bytes)),
            ("chunks", f"{count:,} of up to {sizes}"),
            ("tiles", f"{self.tiles:,}"),
            ("halo overhead", f"{self.halo_overhead:.2f} x"),
            ("dask tasks", f"{self.tasks:,}" if self.tasks else "none (in memory)"),
            ("operations", _operations(self.flops)),
            ("peak memory", f"about {_bytes(self.peak_bytes)}"),
            *time,
        ]

    def __str__(self) -> str:
        return as_text(self.rows())

    def __repr__(self) -> str:
        return f"<xdemsr.Plan>\n{self}"

    def _repr_html_(self) -> str:
        return as_html("xdemsr.Plan", self.rows())


def plan(
    obj: XarrayObject,
    scale: int | None = None,
    model: ModelLike | None = None,
    *,
    vertical_error: VerticalError = "auto",
    uncertainty: bool = False,
    ensemble: bool = False,
    chunks: Chunks = "auto",
    device: str = "auto",
    precision: str = "auto",
    calibrate: bool = False,
) -> Plan:
    """Say what a call would do: sizes, tiles, tasks, operations, memory. Reads no pixel.

    Parameters
    ----------
    obj : DataArray or Dataset
        For refinement, with all guides; what is derived from them is derived.
    scale : int, optional
        As for :func:`xdemsr.upscale`; may be left out where ``model`` has one of its own.
    model : str, Path, ModelSpec or Model, optional
        As for :func:`xdemsr.upscale` or :func:`xdemsr.apply`.
    vertical_error, uncertainty, ensemble, chunks, device, precision
        As for :func:`xdemsr.upscale`.
    calibrate : bool, optional
        Do a little of it on this machine for five seconds, on made values, to say how long the
        whole will take. What is written meanwhile goes to the folder for temporary files.

    Returns
    -------
    Plan
        A table where it is printed; its attributes are the numbers.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((240, 320)).chunk(100)
    >>> dem.demsr.plan(16, "histospline").output_shape
    (3840, 5120)
    """
    spec = find(model, None if scale is None else whole_scale(scale))
    spec = spec.stating_error() if uncertainty else spec
    execution = Execution(device, precision, ensemble=ensemble)
    if spec.task == REFINEMENT and isinstance(obj, xr.DataArray | xr.Dataset):
        obj = gathered(as_dataset(obj), {}, spec)
    job = prepare(obj, spec, execution, vertical_error, chunks)
    given, count = _network_pixels(job)
    surveyed, windows, survey_tasks = _survey(job)

    lead = math.prod(job.matched.first.sizes[dim] for dim in job.matched.leading)
    ny, nx = job.matched.grid.shape
    output_shape = tuple(sum(sizes) for sizes in job.answer.chunks)
    chunk_count = math.prod(len(sizes) for sizes in job.answer.chunks)
    turns = 8 if ensemble else 1
    tiles = (count + windows) * lead
    flops = spec.flops * (_answered_pixels(job) + surveyed) * lead * turns
    return Plan(
        model=f"{spec.name} (version {spec.version})",
        input_shape=job.matched.first.shape,
        output_shape=output_shape,
        output_bytes=4 * math.prod(output_shape),
        chunks=job.answer.chunks,
        tiles=tiles * turns,
        halo_overhead=(given + surveyed) / (ny * nx),
        tasks=chunk_count + survey_tasks * lead if job.lazy else 0,
        flops=flops,
        peak_bytes=_peak_bytes(job, output_shape),
        seconds=tiles / tiles_a_second(made_like(job)) if calibrate else None,
    )


def _spans(job: Job) -> list[tuple[int, int, int]]:
    """For y and x: tiles, pixels given and pixels answered, over all chunks of the answer."""
    tiling = make_tiling(job.spec, job.matched.grid.shape)
    found = []
    for spans, sizes in zip((tiling.y, tiling.x), job.answer.chunks[-2:], strict=True):
        count = given = answered = start = 0
        for size in sizes:
            first, last = start // job.spec.scale, -(-(start + size) // job.spec.scale)
            touched = [span for span in spans if span.start < last and span.stop > first]
            count += len(touched)
            given += sum(span.padded.size for span in touched)
            answered += sum(span.size for span in touched)
            start += size
        found.append((count, given, answered))
    return found


def _network_pixels(job: Job) -> tuple[int, int]:
    y, x = _spans(job)
    return y[1] * x[1], y[0] * x[0]


def _answered_pixels(job: Job) -> int:
    y, x = _spans(job)
    return y[2] * x[2]


def _survey(job: Job) -> tuple[int, int, int]:
    """Input pixels, windows and tasks of the pass that finds the levels of relative heights."""
    if not job.spec.relative:
        return 0, 0, 0
    tiling = make_tiling(job.spec, job.matched.grid.shape)
    pixels = math.prod(sum(span.size for span in spans) for spans in (tiling.y, tiling.x))
    return pixels, math.prod(tiling.shape), math.prod(map(len, surveys(job.task))) + 1


def _peak_bytes(job: Job, output_shape: tuple[int, ...]) -> int:
    """The process, what each thread works on at once, and what threads share."""
    if not job.lazy:
        return _PROCESS_BYTES + CPU_COUNT * _working(job, 0) + 4 * math.prod(output_shape)
    sources = [_Reading.of(item, job) for item in job.matched.inputs]
    held = sum(source.held for source in sources)
    prepared = sum(source.prepared for source in sources)
    derived = max(source.derived for source in sources)
    thread = held + max(_working(job, prepared), _writing(job), derived)
    return _PROCESS_BYTES + CPU_COUNT * thread + sum(source.row for source in sources)


def _chunk_bytes(job: Job) -> int:
    return 4 * math.prod(max(sizes, default=0) for sizes in job.answer.chunks)


def _tile_bytes(job: Job) -> int:
    context = job.spec.context
    tile = context.size if isinstance(context, Windowed) else context.tile
    ny, nx = (min(tile, length) * job.spec.scale for length in job.matched.grid.shape)
    return 4 * len(job.spec.outputs) * ny * nx


def _working(job: Job, prepared: int) -> int:
    """While a chunk is answered: what it is made of, itself, and tiles before they are put there.

    One waits, and the last step of another is under way, which takes twice its room.
    """
    return prepared + _chunk_bytes(job) + 3 * _tile_bytes(job) + _THREAD_BYTES


def _writing(job: Job) -> int:
    """While a chunk is written: itself, and compressed, which takes as much for some moments.

    Of the last tile, blocks that are not large enough to be given back are there as well.
    """
    tile = _tile_bytes(job)
    return 2 * _chunk_bytes(job) + (2 * tile if tile < _KEPT_BLOCK else 0) + _THREAD_BYTES


@dataclass(frozen=True)
class _Reading:
    """Bytes of one source that are in memory for one chunk of the answer.

    Attributes
    ----------
    held : int
        Chunks of the source: dask lets them go when the answer's chunk is done, that is, written.
    prepared : int
        The pixels pasted, as float32, and while voids are looked for once more.
    row : int
        Chunks of the source that the next row of the answer's chunks needs as well: those of a
        batch, where the raster is wider.
    derived : int
        Where it is made of another raster, while a chunk of it is made.
    """

    held: int
    prepared: int
    row: int
    derived: int

    @classmethod
    def of(cls, item: MatchedInput, job: Job) -> _Reading:
        """What is read of an input in the middle of the raster."""
        windows = Tiling.from_chunks(*job.answer.chunks[-2:])
        core = windows[windows.shape[0] // 2, windows.shape[1] // 2]
        read = job.task.reading(core).padded.refine(item.block.scale)
        array = item.array
        sizes = array.chunks or tuple((min(length, SOURCE_CHUNK),) for length in array.shape)
        planes = math.prod(array.shape[item.block.leading : -2])
        lead = math.prod(max(axis) for axis in sizes[: item.block.leading])
        y, x = (
            _covered(axis, span) for axis, span in zip(sizes[-2:], (read.y, read.x), strict=True)
        )
        one = array.dtype.itemsize
        pasted = planes * math.prod(read.shape)
        alike = array.dtype == "float32"
        return cls(
            held=one * lead * planes * y * x,
            prepared=pasted * (one + (4 if alike else 8)),
            row=one * lead * planes * max(sizes[-2]) * min(array.shape[-1], _across(sizes)),
            derived=_DERIVING * max(sizes[-2]) * max(sizes[-1]) if _is_derived(array) else 0,
        )


def _across(sizes: Sequence[Sequence[int]]) -> int:
    """Pixels from one side of a batch to the other: it is square where the raster allows it."""
    rows = min(len(sizes[-2]), math.isqrt(MOST_NEEDED))
    return MOST_NEEDED // rows * max(sizes[-1])


def _is_derived(array: xr.DataArray) -> bool:
    """Whether the library itself makes it, lazily."""
    return array.chunks is not None and array.data.name.startswith(KEY_PREFIX)


def _covered(sizes: Sequence[int], span: Span) -> int:
    """Pixels of the chunks along one axis that share some with a span."""
    return sum(
        chunk.size
        for chunk in Tiling.from_chunks(sizes, ()).y
        if chunk.start < span.stop and chunk.stop > span.start
    )


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def _operations(count: float) -> str:
    tera = count / 1e12
    return f"{tera:.3g} TFLOP" if tera < 1000 else f"{tera / 1000:.3g} PFLOP"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return ""
