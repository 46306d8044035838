"""The least that must be done: the network on its tiles, and the write."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import torch
import xarray as xr

import xdemsr
from xdemsr.catalog import ModelLike, find
from xdemsr.device import resolve_precision
from xdemsr.execution import Execution
from xdemsr.loading import load_module
from xdemsr.models.network import Network
from xdemsr.spec import Local
from xdemsr.tiles import make_tiling

CPU = torch.device("cpu")


class BareNetwork:
    """A network on the tiles that the library would give it, on all processors, and nothing else.

    Parameters
    ----------
    model, scale
        As for ``upscale``.
    shape : (ny, nx)
        Of the raster; its values are made.
    precision : str
    """

    def __init__(
        self,
        model: ModelLike | None,
        scale: int | None,
        shape: tuple[int, int],
        precision: str = "auto",
    ) -> None:
        spec = find(model, scale)
        dtype = resolve_precision(Execution("cpu", precision).precision, CPU, spec)
        self.module = load_module(spec, CPU, dtype)
        assert isinstance(self.module, Network)
        self.halo = spec.context.halo if isinstance(spec.context, Local) else 0
        tiling = make_tiling(spec, shape)
        self.tiles = [tiling[i, j] for i, j in product(*map(range, tiling.shape))]
        self.margin = max(max(tile.padded.shape) for tile in self.tiles)
        padded = tuple(length + 2 * self.margin for length in shape)
        values = np.random.default_rng(0).normal(500, 50, (len(spec.inputs), *padded))
        self.planes = torch.from_numpy(values.astype(np.float32))

    def __call__(self) -> None:
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(threads, initializer=self._alone) as pool:
            list(pool.map(self._answer, range(len(self.tiles))))
        # torch takes the last number said for that of new threads.
        torch.set_num_threads(threads)

    @staticmethod
    def _alone() -> None:
        torch.get_num_threads()
        torch.set_num_threads(1)

    def _answer(self, number: int) -> None:
        window = self.tiles[number].padded.pad(0)
        y, x = (
            slice(span.start + self.margin, span.stop + self.margin)
            for span in (window.y, window.x)
        )
        with torch.inference_mode():
            self.module(self.planes[None, :, y, x].contiguous(), halo=self.halo)


def bare_write(fine: xr.DataArray, store: Path) -> None:
    """What ``write_zarr`` takes for an answer that is there already."""
    xdemsr.write_zarr(fine, store)


def computed(fine: xr.DataArray) -> xr.DataArray:
    """A lazy answer, computed, in the chunks it would have been written in."""
    return fine.compute().chunk(fine.chunksizes)
