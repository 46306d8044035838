"""What a user would write without the library: each answers ``source`` x16 into a Zarr store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import xdemsr

SCALE, HALO, CHUNK = 16, 23, 256
TILE = 128
Network = Callable[[Tensor], Tensor]


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


class Elevation(nn.Module):
    """The shipped network in float32, taking elevations alone: those without an error."""

    def __init__(self) -> None:
        super().__init__()
        self.network = xdemsr.load_model("terrain-x16").module

    def forward(self, x: Tensor) -> Tensor:
        return self.network(torch.cat([x, torch.zeros_like(x)], dim=1))


def answer(network: Network, block: np.ndarray) -> np.ndarray:
    """One block (ny, nx), its halo cut from the answer."""
    with torch.inference_mode():
        fine = network(torch.from_numpy(block)[None, None])[0, 0].numpy()
    cut = slice(HALO * SCALE, -HALO * SCALE)
    return np.ascontiguousarray(fine[cut, cut])


def map_overlap(source: xr.DataArray, network: Network, store: Path) -> None:
    """``dask.array.overlap``, the halo cut from the answer."""
    lazy = da.from_array(source.values, chunks=CHUNK)
    padded = da.overlap.overlap(lazy, depth=HALO, boundary="reflect")
    chunks = tuple(tuple(size * SCALE for size in sizes) for sizes in lazy.chunks)
    fine = padded.map_blocks(lambda block: answer(network, block), dtype=np.float32, chunks=chunks)
    to_zarr(fine, store)


def monai(source: xr.DataArray, network: Network, store: Path) -> None:
    """MONAI's sliding windows, overlapping by the halo."""
    from monai.inferers import sliding_window_inference

    window = TILE + 2 * HALO
    with torch.inference_mode():
        fine = sliding_window_inference(
            torch.from_numpy(source.values)[None, None],
            (window, window),
            4,
            network,
            overlap=2 * HALO / window,
        )
    to_zarr(da.from_array(fine[0, 0].numpy(), chunks=CHUNK * SCALE), store)


def xbatcher(source: xr.DataArray, network: Network, store: Path) -> None:
    """xbatcher's overlapping batches, merged by their coordinates."""
    from xbatcher import BatchGenerator

    padded = np.pad(source.values, HALO, mode="reflect")
    indexed = xr.DataArray(
        padded,
        dims=("y", "x"),
        coords={d: np.arange(n) for d, n in zip("yx", padded.shape, strict=True)},
    )
    window = TILE + 2 * HALO
    batches = BatchGenerator(
        indexed, {"y": window, "x": window}, input_overlap={"y": 2 * HALO, "x": 2 * HALO}
    )
    fine = np.empty([n * SCALE for n in source.shape], dtype=np.float32)
    for batch in batches:
        y, x = (int(batch[dim][0]) * SCALE for dim in "yx")
        part = answer(network, batch.values)
        fine[y : y + TILE * SCALE, x : x + TILE * SCALE] = part
    to_zarr(da.from_array(fine, chunks=CHUNK * SCALE), store)


def torchgeo(source: Path, network: Network, store: Path) -> None:
    """torchgeo's grid sampler over a GeoTIFF, answers stitched by their windows."""
    from torchgeo.datasets import RasterDataset
    from torchgeo.samplers import GridGeoSampler

    raster = RasterDataset(str(source))
    height, width = xr.open_dataarray(source, engine="rasterio").shape[-2:]
    fine = np.empty((height * SCALE, width * SCALE), dtype=np.float32)
    sampler = GridGeoSampler(raster, size=TILE + 2 * HALO, stride=TILE)
    x0, dx = raster.bounds[0].start, raster.bounds[0].step
    y1, dy = raster.bounds[1].stop, raster.bounds[1].step
    for query in sampler:
        block = raster[query]["image"].squeeze().numpy()
        left = round((query[0].start - x0) / dx)
        top = round((y1 - query[1].stop) / dy)
        with torch.inference_mode():
            part = network(torch.from_numpy(block)[None, None])[0, 0].numpy()
        # The sampler begins at the bottom left, and its last windows hang over.
        place = []
        for start, length, most in zip((top, left), block.shape, fine.shape, strict=True):
            first, last = start * SCALE, (start + length) * SCALE
            place.append((slice(max(first, 0), min(last, most)), slice(max(-first, 0), None)))
        (rows, from_row), (columns, from_column) = place
        part = part[from_row, from_column]
        fine[rows, columns] = part[: rows.stop - rows.start, : columns.stop - columns.start]
    to_zarr(da.from_array(fine, chunks=CHUNK * SCALE), store)


def to_zarr(fine: da.Array, store: Path) -> None:
    """Write, as xarray does."""
    raster = xr.DataArray(fine, dims=("y", "x"), name="elevation")
    raster.to_zarr(store, mode="w", consolidated=False)
