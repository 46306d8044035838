"""A network on a device: takes tiles, gives the answers of their cores."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn

from xdemsr.errors import InputError, ModelError
from xdemsr.execution import Execution
from xdemsr.models.network import Network
from xdemsr.spec import Local, ModelSpec

Planes = NDArray[np.float32]

#: Pixels of one batch on a GPU where the caller asks for no other.
_GPU_BATCH_PIXELS = 1 << 18

_DEVICES = "'auto', 'cpu', 'cuda' or 'mps'"

#: Seconds between two looks at whether another process has left the device.
_LOOK_S = 0.005


def resolve_device(name: str) -> torch.device:
    """The device of this machine that ``"auto"`` or a name stands for.

    Raises
    ------
    InputError
        If torch does not know the name, or the machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return _numbered(torch.device("cuda"))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device={name!r} is not a device: use {_DEVICES}.") from error
    usable = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not usable.get(device.type, False):
        raise InputError(f"torch finds no device {name!r} here. Use {_DEVICES}.")
    return _numbered(device)


def _numbered(device: torch.device) -> torch.device:
    """One name for one device: networks and locks are kept by it."""
    index: int | None = device.index
    if device.type == "cuda" and index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def resolve_precision(name: str, device: torch.device, spec: ModelSpec) -> torch.dtype:
    """The dtype of the trunk; ``"auto"`` is the half precision that the device does natively.

    A user's own network runs in float32 unless told otherwise: nobody has said which of its parts
    bear half precision.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if ":" in spec.architecture:
        return torch.float32
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu" and _native_bfloat16():
        return torch.bfloat16
    return torch.float32


def _native_bfloat16() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    # Older releases have it under a private name.
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return bool(older())


class Runner:
    """Runs a network on tiles, always with the same bits for the same tile."""

    def __init__(
        self,
        module: nn.Module,
        spec: ModelSpec,
        device: torch.device,
        precision: torch.dtype,
        execution: Execution,
    ) -> None:
        self.module, self.spec, self.device = module, spec, device
        self.ensemble, self.asked = execution.ensemble, execution.batch_size
        self.halo = spec.context.halo if isinstance(spec.context, Local) else 0
        self.precision = precision

    def batch_size(self, tile: tuple[int, int]) -> int:
        """Padded tiles of this shape (ny, nx) for one turn at the device."""
        if self.asked != "auto":
            return int(self.asked)
        if self.device.type == "cpu":
            return 1
        return max(1, _GPU_BATCH_PIXELS // (tile[0] * tile[1]))

    def __call__(self, tiles: Sequence[Sequence[Planes]], batch_size: int) -> list[Planes]:
        """Answer some tiles.

        Parameters
        ----------
        tiles : sequence of sequence of ndarray, shape (bands, ny, nx)
            For each tile, one array for each sampling of the inputs, halo included.
        batch_size : int
            How many of them the device is given at once.

        Returns
        -------
        list of ndarray, shape (bands', ny * scale, nx * scale)
            Without the halo.
        """
        if self.device.type == "cpu":
            # One tile at a time on one thread: the same bits whatever the batch, and as many tiles
            # side by side as the scheduler has threads.
            with _one_thread():
                return [self._answer([planes[None] for planes in tile])[0] for tile in tiles]
        with turn(_name(self.device)):
            try:
                return self._in_batches(tiles, batch_size)
            finally:
                _make_room(self.device)

    def _in_batches(self, tiles: Sequence[Sequence[Planes]], size: int) -> list[Planes]:
        """Batches of one shape, the last one filled up; halved where memory runs out."""
        answers: list[Planes] = []
        while len(answers) < len(tiles):
            group = list(tiles[len(answers) : len(answers) + size])
            filled = group + group[-1:] * (size - len(group))
            try:
                stacked = [np.stack(planes) for planes in zip(*filled, strict=True)]
                answers.extend(self._answer(stacked)[: len(group)])
            except (torch.OutOfMemoryError, MemoryError):
                if size == 1:
                    raise
                size = (size + 1) // 2
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
        return answers

    def _answer(self, planes: Sequence[Planes]) -> Planes:
        """Answer one batch: arrays (n, bands, ny, nx) in, the cores' array out."""
        inputs = [torch.from_numpy(array).to(self.device, non_blocking=True) for array in planes]
        with torch.inference_mode(), _exact:
            if not self.ensemble:
                return self._core(inputs).cpu().numpy()
            turns = [(quarter, flip) for quarter in range(4) for flip in (False, True)]
            total = _turn_back(self._core([_turn(x, *turns[0]) for x in inputs]), *turns[0])
            for turn in turns[1:]:
                total += _turn_back(self._core([_turn(x, *turn) for x in inputs]), *turn)
            return (total / len(turns)).cpu().numpy()

    def _core(self, inputs: Sequence[Tensor]) -> Tensor:
        if isinstance(self.module, Network):
            answer: Tensor = self.module(*inputs, halo=self.halo)
            return answer
        half = self.precision != torch.float32
        with torch.autocast(self.device.type, self.precision if half else None, enabled=half):
            padded: Tensor = self.module(*inputs)
        self._check_shape(padded, inputs[0])
        cut = self.halo * self.spec.scale
        ny, nx = padded.shape[-2] - 2 * cut, padded.shape[-1] - 2 * cut
        return padded.narrow(-2, cut, ny).narrow(-1, cut, nx).to(torch.float32)

    def _check_shape(self, answer: Tensor, first: Tensor) -> None:
        n, scale = first.shape[0], self.spec.scale
        wanted = (n, len(self.spec.outputs), first.shape[-2] * scale, first.shape[-1] * scale)
        if tuple(answer.shape) != wanted:
            raise ModelError(
                f"model {self.spec.name!r} answered an input of shape {tuple(first.shape)} with "
                f"{tuple(answer.shape)}; its specification promises {wanted} (n, bands, ny, nx)."
            )


class _Exact:
    """Single precision that is single, and algorithms that give the same bits each time.

    A GPU would multiply elevations in TF32, half a metre at 1000 m, and may choose its algorithms
    by the clock. torch keeps these settings for the process, so they are put back when the last
    thread leaves.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._inside = 0
        self._restore = ExitStack()

    def __enter__(self) -> None:
        with self._guard:
            if self._inside == 0:
                for read, write, value in _exact_settings():
                    self._restore.callback(write, read())
                    write(value)
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._guard:
            self._inside -= 1
            if self._inside == 0:
                self._restore.close()


Setting = tuple[Callable[[], Any], Callable[[Any], None], Any]


def _exact_settings() -> list[Setting]:
    """How each setting of torch is read and written, and what it must be."""

    def attribute(place: Any, name: str, value: Any) -> Setting:
        return partial(getattr, place, name), partial(setattr, place, name), value

    backends: Any = torch.backends
    chosen = [
        attribute(backends.cudnn, "benchmark", False),
        attribute(backends.cudnn, "deterministic", True),
    ]
    # Since torch 2.9 precision is set by kind of operation, and the two ways must not be mixed.
    if hasattr(backends.cuda.matmul, "fp32_precision"):
        gpu = (backends.cuda.matmul, backends.cudnn.conv)
        cpu = (backends.mkldnn.matmul, backends.mkldnn.conv)
        return [*chosen, *(attribute(kind, "fp32_precision", "ieee") for kind in (*gpu, *cpu))]
    matmul = (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest")
    return [*chosen, matmul, attribute(backends.cudnn, "allow_tf32", False)]


_exact = _Exact()


def _turn(x: Tensor, quarter: int, flip: bool) -> Tensor:
    turned = torch.rot90(x, quarter, dims=(-2, -1))
    return turned.flip(-1) if flip else turned


def _turn_back(x: Tensor, quarter: int, flip: bool) -> Tensor:
    return torch.rot90(x.flip(-1) if flip else x, -quarter, dims=(-2, -1))


@contextmanager
def _one_thread() -> Iterator[None]:
    # torch keeps the number of threads per calling thread; one that meets torch for the first time
    # meanwhile begins with this number.
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Turns:
    """One lock for each device, between the threads of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def of(self, name: str) -> threading.Lock:
        """The lock of a device."""
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())


_turns = _Turns()


@contextmanager
def turn(name: str) -> Iterator[None]:
    """Be the only one at a device: of this process's threads, and of this user's processes.

    Workers side by side on one GPU would otherwise hold a batch each, and run out of its memory
    together. The lock is a file on this machine; it goes with the process that holds it.

    Parameters
    ----------
    name : str
        The same for the same device in every process.
    """
    # Nobody may write into another user's file; where there are no numbers, folders are one's own.
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"xdemsr-{user}"
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / f"{name}.lock")
    with _turns.of(name), lock.acquire(poll_interval=_LOOK_S):
        yield


def _make_room(device: torch.device) -> None:
    """Give back what torch keeps of a GPU's memory for its next batch, where little is left."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        if free < total // 2:
            torch.cuda.empty_cache()


def _name(device: torch.device) -> str:
    """What tells this device from all others of the machine.

    The number does not: each worker of a GPU cluster is shown one GPU, as its first.
    """
    if device.type == "cuda":
        return f"gpu-{torch.cuda.get_device_properties(device).uuid}"
    return device.type
