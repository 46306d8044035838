"""Upscale a raster with workers that are SLURM jobs of their own.

    python slurm_jobqueue.py coarse.tif fine.zarr --jobs 4
    python slurm_jobqueue.py --stac https://.../v1 cop-dem-glo-30 86.8 27.9 87.0 28.1 fine.zarr

Run it where jobs can be submitted and where it may stay: in a small job, or in tmux on a login
node. SLURM may take workers away and give others; if this process dies, the same line goes on.
"""

import argparse

from dask_jobqueue import SLURMCluster

import xdemsr


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "source",
        nargs="+",
        help="a raster; after --stac: URL COLLECTION WEST SOUTH EAST NORTH",
    )
    parser.add_argument("target", help="a .zarr folder that all nodes see, or a URL")
    parser.add_argument("--stac", action="store_true")
    parser.add_argument("--scale", type=int, default=16)
    parser.add_argument("--model", help="by default, the shipped terrain model of the scale")
    parser.add_argument("--chunks", type=int, help="side of the answer's chunks, in its pixels")
    parser.add_argument("--jobs", type=int, default=2, help="at most so many at once")
    parser.add_argument("--cores", type=int, default=1, help="of one job")
    parser.add_argument("--memory", default="4GB", help="of one job")
    parser.add_argument("--hours", type=int, default=1, help="of one job")
    parser.add_argument("--partition")
    parser.add_argument("--gpus", type=int, default=0, help="of one job")
    return parser.parse_args()


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
    with SLURMCluster(
        queue=asked.partition,
        cores=asked.cores,
        memory=asked.memory,
        walltime=f"{asked.hours}:00:00",
        job_extra_directives=[f"--gpus={asked.gpus}"] if asked.gpus else [],
        processes=1,
        # A worker hands over and ends by itself before SLURM ends it.
        worker_extra_args=["--lifetime", f"{asked.hours * 60 - 8}m", "--lifetime-stagger", "4m"],
    ) as jobs:
        jobs.adapt(minimum_jobs=1, maximum_jobs=asked.jobs)
        with jobs.get_client() as client:
            print(xdemsr.write_zarr(fine, asked.target, resume=True, client=client))


if __name__ == "__main__":
    main()
