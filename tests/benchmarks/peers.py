"""What a user would write without the library, and the bounds of what it could reach."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import dask.array as da
import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import xdemsr
from xdemsr.spec import Local

SCALE = 16
HALO = 20
CHUNK = 256


class PlainEDSR(nn.Module):
    """EDSR 8 x 64 with a x16 sub-pixel tail, as in the tutorials."""

    def __init__(self, features: int = 64, blocks: int = 8) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, features, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(features, features, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(features, features, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.end = nn.Conv2d(features, features, 3, padding=1)
        self.tail = nn.Sequential(
            nn.Conv2d(features, SCALE**2, 3, padding=1), nn.PixelShuffle(SCALE)
        )

    def forward(self, x: Tensor) -> Tensor:
        head = self.head(x)
        features = head
        for block in self.body:
            features = features + block(features)
        return self.tail(head + self.end(features))


def map_overlap_to_zarr(source: xr.DataArray, store: Path) -> None:
    """float32, ``dask.array.overlap``, halo cut from the answer, written by xarray."""
    network = PlainEDSR().eval()

    def answer(block: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            fine = network(torch.from_numpy(block)[None, None])[0, 0].numpy()
        cut = slice(HALO * SCALE, -HALO * SCALE)
        return np.ascontiguousarray(fine[cut, cut])

    lazy = da.from_array(source.values, chunks=CHUNK)
    padded = da.overlap.overlap(lazy, depth=HALO, boundary="reflect")
    chunks = tuple(tuple(size * SCALE for size in sizes) for sizes in lazy.chunks)
    fine = padded.map_blocks(answer, dtype=np.float32, chunks=chunks)
    write_to_zarr(fine, store)


def library_to_zarr(source: xr.DataArray, model: str, store: Path) -> None:
    """The same job through the library, written by xarray as the other is."""
    fine = source.chunk(CHUNK).demsr.upscale(SCALE, model)
    write_to_zarr(fine.data, store)


def library_all_through(source: xr.DataArray, model: str, store: Path) -> None:
    """The same job, written by the library too."""
    xdemsr.write_zarr(source.chunk(CHUNK).demsr.upscale(SCALE, model), store, overwrite=True)


def write_to_zarr(fine: da.Array, store: Path) -> None:
    """Write, as xarray does."""
    xr.DataArray(fine, dims=("y", "x"), name="elevation").to_zarr(
        store, mode="w", consolidated=False
    )


def bare_network(source: xr.DataArray, model: str) -> None:
    """The same network on the same tiles, on all processors, and nothing else."""
    loaded = xdemsr.load_model(model)
    context, module = loaded.spec.context, loaded.module
    assert isinstance(context, Local)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities.get("avx512_bf16"):
        module.set_precision(torch.bfloat16)  # type: ignore[operator]
    halo, tile = context.halo, context.tile
    padded = np.pad(source.values, halo, mode="reflect", reflect_type="odd")
    planes = np.stack([padded, np.zeros_like(padded)])

    def one(corner: tuple[int, int]) -> None:
        torch.set_num_threads(1)
        y, x = corner
        cut = planes[None, :, y : y + tile + 2 * halo, x : x + tile + 2 * halo]
        with torch.inference_mode():
            module(torch.from_numpy(np.ascontiguousarray(cut)), halo=halo)

    corners = product(*(range(0, n, tile) for n in source.shape))
    with ThreadPoolExecutor() as pool:
        list(pool.map(one, corners))
