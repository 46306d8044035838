"""Training samples a second beside those of xbatcher and torchgeo, from the same terrain.

Each gives patches of 64 x 64 pixels in random order, through torch's DataLoader, in batches of 64;
seconds are those of the faster of two epochs after one that is not counted, workers running.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
import xarray as xr
from conftest import Findings
from torch.utils.data import DataLoader

import xdemsr
from xdemsr.training import PatchDataset

SHAPE, CHUNK, SIZE, BATCH = (1536, 2048), 512, 64, 64
PATCHES = SHAPE[0] * SHAPE[1] // SIZE**2

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture(scope="module")
def zarr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Zarr store of terrain."""
    dem = xdemsr.synthetic.terrain(SHAPE).chunk(CHUNK)
    return xdemsr.write_zarr(dem, tmp_path_factory.mktemp("samples") / "dem.zarr")


@pytest.fixture(scope="module")
def rates() -> dict[tuple[str, int], float]:
    """Samples a second that are known already."""
    return {}


def rate(dataset: Any, workers: int, **options: Any) -> float:
    """Samples a second."""
    if workers:
        options |= {"multiprocessing_context": "spawn", "persistent_workers": True}
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=workers, **options)
    seconds = []
    for _ in range(3):
        start = perf_counter()
        count = sum(len(b["target"] if isinstance(b, dict) else b) for b in loader)
        seconds.append(perf_counter() - start)
        assert count == PATCHES
    return PATCHES / min(seconds[1:])


def xdemsr_samples(zarr: Path, workers: int) -> float:
    """Through the library: a whole pass over the store an epoch, voids looked for."""
    return rate(PatchDataset(xdemsr.open(zarr).demsr.patches(SIZE)), workers)


def xbatcher_samples(zarr: Path, workers: int, chunks: dict[str, int] | None) -> float:
    """Through xbatcher's map-style dataset, as its documentation shows."""
    import xbatcher
    from xbatcher.loaders.torch import MapDataset

    elevation = xr.open_zarr(zarr, chunks=chunks)["elevation"]
    sizes = {"y": SIZE, "x": SIZE}
    generator = xbatcher.BatchGenerator(elevation, input_dims=sizes, preload_batch=False)
    return rate(MapDataset(generator), workers, shuffle=True)


def xbatcher_with_dask(zarr: Path, workers: int) -> float:
    """xbatcher over dask chunks."""
    return xbatcher_samples(zarr, workers, {})


def xbatcher_without_dask(zarr: Path, workers: int) -> float:
    """xbatcher over a store that xarray reads without dask."""
    return xbatcher_samples(zarr, workers, None)


def torchgeo_samples(zarr: Path, workers: int) -> float:
    """Through torchgeo's random sampler, from a tiled GeoTIFF of the same terrain."""
    from torchgeo import datasets
    from torchgeo.samplers import RandomGeoSampler

    path = zarr.with_suffix(".tif")
    if not path.exists():
        xdemsr.write_cog(xdemsr.open(zarr), path)
    raster = datasets.RasterDataset(str(path))
    sampler = RandomGeoSampler(raster, size=SIZE, length=PATCHES)
    return rate(raster, workers, sampler=sampler, collate_fn=images)


def images(samples: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """A batch of torchgeo's samples."""
    return torch.stack([sample["image"] for sample in samples])


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(
    ("job", "least"),
    [
        (xdemsr_samples, 1.0),
        (xbatcher_with_dask, 5.0),
        (xbatcher_without_dask, 5.0),
        (torchgeo_samples, 1.0),
    ],
)
def test_samples_a_second(
    job: Callable[[Path, int], float],
    least: float,
    workers: int,
    zarr: Path,
    rates: dict[tuple[str, int], float],
    findings: Findings,
) -> None:
    name = job.__name__.removesuffix("_samples").replace("_", " ")
    # Before anything is timed: torchgeo needs a torchvision that goes with this torch.
    package = name.split()[0]
    pytest.importorskip(
        package if package != "torchgeo" else "torchgeo.datasets", exc_type=ImportError
    )
    findings.once(lambda: rates.setdefault((name, workers), job(zarr, workers)))
    found = rates[name, workers]
    ratio = rates["xdemsr", workers] / found
    row = [name, workers, f"{found:,.0f}", f"{ratio:.1f}"]
    findings.table("samples", ("", "workers", "samples a second", "xdemsr's over it"), [row])
    if name != "xdemsr":
        findings.target(f"samples a second over {name}, {workers} workers", ratio, least)
