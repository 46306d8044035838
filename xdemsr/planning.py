"""What a call would do, before it does it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import xarray as xr
from dask.system import CPU_COUNT

from xdemsr.bands import VerticalError
from xdemsr.catalog import ModelLike, find
from xdemsr.chunking import Chunks
from xdemsr.execution import Execution
from xdemsr.grid import XarrayObject
from xdemsr.inference import Job, prepare
from xdemsr.levels import surveys
from xdemsr.refining import REFINEMENT, as_dataset, gathered
from xdemsr.spec import Windowed, whole_scale
from xdemsr.tiles import make_tiling

#: Bytes a process takes with torch and a network in it, before any pixel.
_PROCESS_BYTES = 450 << 20


@dataclass(frozen=True)
class Plan:
    """What ``upscale`` or ``apply`` would do with the same arguments.

    Attributes
    ----------
    model : str
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

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of each line, for people."""
        sizes = " x ".join(f"{max(c, default=0):,}" for c in self.chunks[-2:])
        count = math.prod(len(c) for c in self.chunks)
        return [
            ("model", self.model),
            ("input", " x ".join(f"{n:,}" for n in self.input_shape)),
            ("output", " x ".join(f"{n:,}" for n in self.output_shape)),
            ("output size", _bytes(self.output_bytes)),
            ("chunks", f"{count:,} of up to {sizes}"),
            ("tiles", f"{self.tiles:,}"),
            ("halo overhead", f"{self.halo_overhead:.2f} x"),
            ("dask tasks", f"{self.tasks:,}" if self.tasks else "none (in memory)"),
            ("operations", f"{self.flops / 1e12:.3g} TFLOP"),
            ("peak memory", f"about {_bytes(self.peak_bytes)}"),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:14} {value}" for name, value in self.rows())

    def __repr__(self) -> str:
        return f"<xdemsr.Plan>\n{self}"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self.rows()
        )
        return f"<table>{cells}</table>"


def plan(
    obj: XarrayObject,
    scale: int | None = None,
    model: ModelLike | None = None,
    *,
    vertical_error: VerticalError = "auto",
    uncertainty: bool = False,
    ensemble: bool = False,
    chunks: Chunks = "auto",
) -> Plan:
    """Say what a call would do: sizes, tiles, tasks, operations, memory. Reads no pixel.

    Parameters
    ----------
    obj : DataArray or Dataset
        For refinement, with all guides; what is derived from them is derived.
    scale : int, optional
        As for :func:`xdemsr.upscale`; may be left out where ``model`` has one of its own.
    model : str, Path, ModelSpec or Model, optional
    vertical_error, uncertainty, ensemble, chunks
        As for :func:`xdemsr.upscale`.

    Returns
    -------
    Plan

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((240, 320)).chunk(100)
    >>> dem.demsr.plan(16, "histospline").output_shape
    (3840, 5120)
    """
    spec = find(model, None if scale is None else whole_scale(scale))
    spec = spec.stating_error() if uncertainty else spec
    if spec.task == REFINEMENT and isinstance(obj, xr.DataArray | xr.Dataset):
        obj = gathered(as_dataset(obj), {}, spec)
    job = prepare(obj, spec, Execution(ensemble=ensemble), vertical_error, chunks)
    given, count = _network_pixels(job)
    surveyed, windows, survey_tasks = _survey(job)
    lead = math.prod(job.matched.first.sizes[dim] for dim in job.matched.leading)
    ny, nx = job.matched.grid.shape
    output_shape = tuple(sum(sizes) for sizes in job.answer.chunks)
    chunk_count = math.prod(len(sizes) for sizes in job.answer.chunks)
    turns = 8 if ensemble else 1
    flops = spec.flops * (_answered_pixels(job) + surveyed) * lead * turns
    return Plan(
        model=f"{spec.name} (version {spec.version})",
        input_shape=job.matched.first.shape,
        output_shape=output_shape,
        output_bytes=4 * math.prod(output_shape),
        chunks=job.answer.chunks,
        tiles=(count + windows) * lead * turns,
        halo_overhead=(given + surveyed) / (ny * nx),
        tasks=chunk_count + survey_tasks * lead if job.lazy else 0,
        flops=flops,
        peak_bytes=_peak_bytes(job, output_shape),
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
    """The process, and for each thread a chunk, its copy on the way out, and a tile's own."""
    scale, context = job.spec.scale, job.spec.context
    tile = context.size if isinstance(context, Windowed) else context.tile
    chunk = 4 * math.prod(max(sizes, default=0) for sizes in job.answer.chunks)
    one_thread = (2 if job.lazy else 1) * chunk + 3 * 4 * (tile * scale) ** 2
    whole = 0 if job.lazy else 4 * math.prod(output_shape)
    return _PROCESS_BYTES + CPU_COUNT * one_thread + whole


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    return ""
