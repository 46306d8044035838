"""Patches as a torch dataset: shuffled, shared among workers and ranks, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from xdemsr.errors import InputError

Sample = dict[str, Any]


class PatchLike(Protocol):
    """One patch, as :class:`xdemsr.Patches` gives it."""

    @property
    def inputs(self) -> NDArray[np.float32]: ...
    @property
    def target(self) -> NDArray[np.float32]: ...
    @property
    def valid(self) -> NDArray[np.bool_]: ...
    @property
    def place(self) -> str: ...
    @property
    def y(self) -> int: ...
    @property
    def x(self) -> int: ...


class PatchStream(Protocol):
    """Something that gives patches in an order that can be told again: :class:`xdemsr.Patches`."""

    def __len__(self) -> int: ...

    def stream(
        self,
        seed: int | None = ...,
        epoch: int = ...,
        shard: int = ...,
        shards: int = ...,
        start: int = ...,
    ) -> Iterator[PatchLike]:
        """Patch after patch of one shard, from ``start`` on."""
        ...


class PatchDataset(IterableDataset[Sample]):
    """Training samples for a ``DataLoader``, read chunk by chunk.

    A sample is a dict of ``inputs`` (float32, (bands, ny, nx)), ``target`` (float32, (bands,
    ny * scale, nx * scale)), ``valid`` (bool, (1, ny * scale, nx * scale)), ``place`` (str), and
    ``y`` and ``x`` (int). Every patch is given once an epoch, over all workers and ranks.

    Parameters
    ----------
    patches : Patches
        Of :func:`xdemsr.patches`.
    shuffle : bool, optional
        Another order every epoch; else that of ``patches``.
    seed : int, optional
        Of the order.
    transform : callable, optional
        Of a sample; what it returns is given instead. Must be picklable where there are workers.
    rank, world_size : int, optional
        Of this process among those that train together; torch.distributed's by default.

    Raises
    ------
    InputError
        If only one of ``rank`` and ``world_size`` is given, or they do not fit.

    Notes
    -----
    Lazy arrays are opened anew in each worker: give ``DataLoader`` ``multiprocessing_context=
    "spawn"`` or ``"forkserver"``. A forked worker would wait for ever for threads that did not come
    along, and is refused.

    Workers are copies, made when an epoch begins: say ``set_epoch`` before each, or keep them
    (``persistent_workers=True``), and each begins its next epoch by itself. Ranks may differ by one
    patch, and so in their number of batches: drop what one has more, or let torch's ``Join`` wait.

    Examples
    --------
    >>> import xdemsr
    >>> from torch.utils.data import DataLoader
    >>> from xdemsr.training import PatchDataset
    >>> dem = xdemsr.synthetic.terrain((96, 128))
    >>> loader = DataLoader(PatchDataset(dem.demsr.patches(8, 4)), batch_size=4)
    >>> next(iter(loader))["target"].shape
    torch.Size([4, 1, 32, 32])
    """

    def __init__(
        self,
        patches: PatchStream,
        *,
        shuffle: bool = True,
        seed: int = 0,
        transform: Callable[[Sample], Any] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if (rank is None) != (world_size is None):
            raise InputError(
                f"rank={rank} and world_size={world_size}: give both, or none and let "
                "torch.distributed say."
            )
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            raise InputError(f"rank={rank} must lie between 0 and world_size={world_size}.")
        if seed < 0:
            raise InputError(f"seed={seed} must be 0 or more.")
        self.patches, self.shuffle, self.seed, self.transform = patches, shuffle, seed, transform
        self.epoch = 0
        self._rank, self._world_size = rank, world_size
        self._position = self._start = 0

    def __len__(self) -> int:
        """Patches of this rank."""
        first, last = self._bounds(*self._ranks())
        return last - first

    def __iter__(self) -> Iterator[Any]:
        start, self._start = self._start, 0
        shard, shards = self._shard()
        seed = self.seed if self.shuffle else None
        self._position = start
        for patch in self.patches.stream(seed, self.epoch, shard, shards, start):
            # Counted before it is given: whoever has it may ask where we are.
            self._position += 1
            sample = _sample(patch)
            yield sample if self.transform is None else self.transform(sample)
        self.set_epoch(self.epoch + 1)

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch next, from its first patch on."""
        if epoch < 0:
            raise InputError(f"epoch={epoch} must be 0 or more.")
        self.epoch = epoch
        self._position = self._start = 0

    def state_dict(self) -> dict[str, int]:
        """Where this process is: to be loaded by the same rank and worker, among as many."""
        shard, shards = self._shard()
        return {
            "epoch": self.epoch,
            "position": self._position,
            "seed": self.seed,
            "patches": len(self.patches),
            "shard": shard,
            "shards": shards,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from there: the next iteration gives exactly the patches that were left.

        Raises
        ------
        InputError
            If the state is of other patches, another seed, or another rank or worker.
        """
        own = self.state_dict()
        if set(state) != set(own):
            raise InputError(
                f"the state has {', '.join(map(str, state))}; expected {', '.join(own)}."
            )
        for key in ("seed", "patches", "shard", "shards"):
            if state[key] != own[key]:
                raise InputError(
                    f"the state has {key}={state[key]}, the dataset {key}={own[key]}: it continues "
                    "only with the same patches and seed, on as many ranks and workers."
                )
        self.epoch = state["epoch"]
        self._position = self._start = state["position"]

    def _shard(self) -> tuple[int, int]:
        """Which share of the patches this process has, and of how many."""
        rank, world_size = self._ranks()
        worker = get_worker_info()
        if worker is None:
            return rank, world_size
        return rank * worker.num_workers + worker.id, world_size * worker.num_workers

    def _ranks(self) -> tuple[int, int]:
        if self._rank is not None and self._world_size is not None:
            return self._rank, self._world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def _bounds(self, shard: int, shards: int) -> tuple[int, int]:
        first, last = (len(self.patches) * k // shards for k in (shard, shard + 1))
        return first, last

    def __getstate__(self) -> dict[str, Any]:
        # Workers do not know the process group of the process they work for.
        rank, world_size = self._ranks()
        return {**self.__dict__, "_rank": rank, "_world_size": world_size}


def _sample(patch: PatchLike) -> Sample:
    return {
        "inputs": torch.from_numpy(patch.inputs),
        "target": torch.from_numpy(patch.target),
        "valid": torch.from_numpy(patch.valid),
        "place": patch.place,
        "y": patch.y,
        "x": patch.x,
    }
