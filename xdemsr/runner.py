"""A network on a device: takes tiles, gives the answers of their cores."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xdemsr.crew import on_all_threads
from xdemsr.device import unmistakable
from xdemsr.errors import ModelError
from xdemsr.exact import exact
from xdemsr.execution import Execution
from xdemsr.models.network import Network
from xdemsr.spec import Local, ModelSpec
from xdemsr.turns import turn

Planes = NDArray[np.float32]

#: One array (bands, ny, nx) for each sampling of the inputs, halo included.
Tile = Sequence[Planes]

#: Pixels of one batch on a GPU where the caller asks for no other: of two tiles with their halo, as
#: many as an automatic chunk has sixteen times finer. What a batch lacks is filled up.
_GPU_BATCH_PIXELS = 1 << 16

#: Batches whose answers may be on their way from the GPU while the next is computed.
_COPIED_BESIDE = 1


class Runner:
    """Runs a network on tiles, always with the same bits for the same tile.

    Parameters
    ----------
    network : callable
        Gives the network that the calling thread may use.
    spec : ModelSpec
    device : torch.device
    precision : torch.dtype
    execution : Execution
    """

    def __init__(
        self,
        network: Callable[[], nn.Module],
        spec: ModelSpec,
        device: torch.device,
        precision: torch.dtype,
        execution: Execution,
    ) -> None:
        self.network, self.spec, self.device = network, spec, device
        self.ensemble, self.asked = execution.ensemble, execution.batch_size
        self.halo = spec.context.halo if isinstance(spec.context, Local) else 0
        self.precision = precision

    def answers(self, tiles: Iterable[Tile]) -> Iterator[Planes]:
        """Answer tiles of one shape, in order.

        Parameters
        ----------
        tiles : iterable of Tile
            Taken as they can be answered.

        Yields
        ------
        ndarray, shape (bands', ny * scale, nx * scale)
            Without the halo.
        """
        if self.device.type == "cpu":
            # The same bits whatever the batch: each tile by itself, on one thread.
            return on_all_threads(self._alone, tiles)
        return self._in_batches(iter(tiles))

    def _alone(self, tile: Tile) -> Planes:
        answer: Planes = self._answer([planes[None] for planes in tile])[0].numpy()
        return answer

    def _in_batches(self, tiles: Iterator[Tile]) -> Iterator[Planes]:
        """Batches of one shape, the last one filled up; halved where memory runs out."""
        waiting = list(islice(tiles, 1))
        size = self._batch_size(waiting[0]) if waiting else 0
        copied: deque[Callable[[], Planes]] = deque()
        while waiting:
            waiting += islice(tiles, max(size - len(waiting), 0))
            group = waiting[:size]
            filled = group + group[-1:] * (size - len(group))
            try:
                copied.append(self._batch(filled, len(group)))
            except (torch.OutOfMemoryError, MemoryError):
                if size == 1:
                    raise
                size = (size + 1) // 2
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            waiting = waiting[size:] or list(islice(tiles, 1))
            if len(copied) > _COPIED_BESIDE:
                yield from copied.popleft()()
        while copied:
            yield from copied.popleft()()

    def _batch_size(self, tile: Tile) -> int:
        """Padded tiles of this shape for one turn at the device."""
        if self.asked != "auto":
            return int(self.asked)
        return max(1, _GPU_BATCH_PIXELS // math.prod(tile[0].shape[-2:]))

    def _batch(self, tiles: Sequence[Tile], count: int) -> Callable[[], Planes]:
        """Compute a batch; what is returned waits for the answers of its first tiles."""
        stacked = [np.stack(planes) for planes in zip(*tiles, strict=True)]
        with turn(unmistakable(self.device)):
            try:
                return _fetching(self._answer(stacked)[:count])
            finally:
                _make_room(self.device)

    def _answer(self, planes: Sequence[Planes]) -> Tensor:
        """Answer one batch: arrays (n, bands, ny, nx) in, the cores on the device out."""
        inputs = [_sent(array, self.device) for array in planes]
        with torch.inference_mode(), exact:
            if not self.ensemble:
                return self._core(inputs)
            turns = [(quarter, flip) for quarter in range(4) for flip in (False, True)]
            total = _turn_back(self._core([_turn(x, *turns[0]) for x in inputs]), *turns[0])
            for each in turns[1:]:
                total += _turn_back(self._core([_turn(x, *each) for x in inputs]), *each)
            return total / len(turns)

    def _core(self, inputs: Sequence[Tensor]) -> Tensor:
        network = self.network()
        if isinstance(network, Network):
            answer: Tensor = network(*inputs, halo=self.halo)
            return answer
        half = self.precision != torch.float32
        with torch.autocast(self.device.type, self.precision if half else None, enabled=half):
            padded: Tensor = network(*inputs)
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


def _sent(array: Planes, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        # Pages that stay where they are are copied while the processor goes on.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _fetching(answer: Tensor) -> Callable[[], Planes]:
    """Begin to copy an answer from its device; what is returned waits for the copy.

    On a GPU it is copied by a stream of its own, so that the next batch is computed meanwhile. What
    computes is waited for here: while a batch is computed, nobody else shall have memory there.
    """
    if answer.device.type != "cuda":
        array: Planes = answer.cpu().numpy()
        return lambda: array
    answer = answer.contiguous()
    host = torch.empty(answer.shape, dtype=answer.dtype, pin_memory=True)
    computed = torch.cuda.current_stream(answer.device).record_event()
    stream = _copying(answer.device)
    with torch.cuda.stream(stream):
        stream.wait_event(computed)
        host.copy_(answer, non_blocking=True)
        copied = stream.record_event()
    # Or its memory would be given to the next batch while it is being copied.
    answer.record_stream(stream)
    computed.synchronize()

    def fetch() -> Planes:
        copied.synchronize()
        there: Planes = host.numpy()
        return there

    return fetch


@cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """The stream by which answers leave a GPU."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _turn(x: Tensor, quarter: int, flip: bool) -> Tensor:
    turned = torch.rot90(x, quarter, dims=(-2, -1))
    return turned.flip(-1) if flip else turned


def _turn_back(x: Tensor, quarter: int, flip: bool) -> Tensor:
    return torch.rot90(x.flip(-1) if flip else x, -quarter, dims=(-2, -1))


def _make_room(device: torch.device) -> None:
    """Give back what torch keeps of a GPU's memory for its next batch, where little is left."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        if free < total // 2:
            torch.cuda.empty_cache()
