"""Upscale a raster on all processors, or all GPUs, of one machine into a store that survives.

    python localcluster.py coarse.tif fine.zarr
    python localcluster.py --stac https://.../v1 cop-dem-glo-30 86.8 27.9 87.0 28.1 fine.zarr
    python localcluster.py --gpus coarse.tif fine.zarr

Whatever stops it, the same line goes on where it was.
"""

import argparse

import dask

import xdemsr


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "source",
        nargs="+",
        help="a raster; after --stac: URL COLLECTION WEST SOUTH EAST NORTH",
    )
    parser.add_argument("target", help="a .zarr folder or URL")
    parser.add_argument("--stac", action="store_true")
    parser.add_argument("--scale", type=int, default=16)
    parser.add_argument("--model", help="by default, the shipped terrain model of the scale")
    parser.add_argument("--chunks", type=int, help="side of the answer's chunks, in its pixels")
    parser.add_argument("--workers", type=int, help="by default, one for each processor")
    parser.add_argument("--memory", default="auto", help="of one worker, as 8GB")
    parser.add_argument("--gpus", action="store_true", help="one worker for each GPU")
    return parser.parse_args()


def cluster(asked: argparse.Namespace):
    """Workers on this machine."""
    if asked.gpus:
        # Each worker is shown one GPU: device="auto" finds it as its first.
        from dask_cuda import LocalCUDACluster

        return LocalCUDACluster(memory_limit=asked.memory)
    from distributed import LocalCluster

    # Where all workers have died and none comes back, waiting is of no use.
    dask.config.set({"distributed.scheduler.no-workers-timeout": "5 minutes"})
    # Processes of one thread each share nothing but the store.
    return LocalCluster(n_workers=asked.workers, threads_per_worker=1, memory_limit=asked.memory)


def opened(asked: argparse.Namespace):
    """The raster, lazily."""
    if asked.stac:
        url, collection, *bbox = asked.source
        return xdemsr.open_stac(url, collection, bbox=[float(edge) for edge in bbox])
    (path,) = asked.source
    return xdemsr.open(path)


def main() -> None:
    """Upscale, and write what is missing."""
    asked = arguments()
    fine = xdemsr.upscale(opened(asked), asked.scale, asked.model, chunks=asked.chunks or "auto")
    with cluster(asked) as workers, workers.get_client() as client:
        print(xdemsr.write_zarr(fine, asked.target, resume=True, client=client))


# Workers are processes that import this file.
if __name__ == "__main__":
    main()
