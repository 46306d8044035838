"""What plans say beside what happens, each job in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import Findings

import xdemsr

IN_A_PROCESS = r"""
import json, re, sys, time
from pathlib import Path
import xarray as xr
import xdemsr
paths, store, options = sys.argv[1].split("|"), sys.argv[2], json.loads(sys.argv[3])
rasters = [xdemsr.open(path) for path in paths]
obj = xr.Dataset({"dsm": rasters[0], "rgb": rasters[1]}) if rasters[1:] else rasters[0]
said = dict(options)
trial = said.pop("trial")
plan = obj.demsr.plan(**said, calibrate=trial)
if isinstance(said.get("chunks"), list):
    said["chunks"] = tuple(said["chunks"])
if rasters[1:]:
    fine = xdemsr.refine(obj)
else:
    fine = obj.demsr.upscale(said.pop("scale"), **said)
start = time.perf_counter()
xdemsr.write_zarr(fine, store, overwrite=True)
seconds = time.perf_counter() - start
peak = 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
print(json.dumps([plan.peak_bytes, peak, plan.seconds, seconds]))
"""

# What it is, sources, arguments.
JOBS: dict[str, tuple[str, dict[str, object]]] = {
    "terrain x16": ("terrain", {"scale": 16}),
    "terrain x16, small chunks": ("terrain", {"scale": 16, "chunks": 2048}),
    "terrain x16, large chunks": ("terrain", {"scale": 16, "chunks": 8192}),
    "terrain x16 with standard error": ("terrain", {"scale": 16, "uncertainty": True}),
    "terrain x4": ("large", {"scale": 4}),
    "bicubic x16": ("terrain", {"scale": 16, "model": "bicubic"}),
    "histospline x8": ("large", {"scale": 8, "model": "histospline", "chunks": 1024}),
    "nearest x1": ("large", {"scale": 1, "model": "nearest"}),
    "s2-x2": ("sentinel", {"scale": 2, "model": "s2-x2"}),
    "dtm-from-dsm": ("dsm|rgb", {"model": "dtm-from-dsm"}),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, quick: bool) -> Path:
    """Zarr stores of several kinds."""
    folder = tmp_path_factory.mktemp("sources")
    one = 768 if quick else 1024

    def colours(like: xr.DataArray, names: list[str], most: float) -> xr.DataArray:
        values = np.random.default_rng(0).uniform(0, most, (len(names), *like.shape))
        coords = {"band": names, **like.coords}
        return xr.DataArray(
            values.astype(np.float32), dims=("band", "y", "x"), coords=coords, name="colours"
        )

    terrain = xdemsr.synthetic.terrain((one, one))
    large = xdemsr.synthetic.terrain((2 * one, 3 * one))
    surface = xdemsr.synthetic.terrain((2 * one, 2 * one), gsd=1.0)
    rasters = {
        "terrain": terrain,
        "large": large,
        "dsm": surface,
        "rgb": colours(surface, ["red", "green", "blue"], 1.0),
        "sentinel": colours(terrain, ["red", "green", "blue", "nir"], 4000.0),
    }
    for name, raster in rasters.items():
        xdemsr.write_zarr(raster.astype(np.float32).chunk(y=512, x=512), folder / name)
    return folder


@pytest.mark.parametrize("job", JOBS)
def test_plans(job: str, sources: Path, findings: Findings, tmp_path: Path) -> None:
    names, options = JOBS[job]
    paths = "|".join(str(sources / name) for name in names.split("|"))

    def run(trial: bool) -> list[float]:
        said = json.dumps({**options, "trial": trial})
        command = [sys.executable, "-W", "ignore", "-c", IN_A_PROCESS, paths, "fine.zarr", said]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
        return list(json.loads(done.stdout.splitlines()[-1]))

    found: list[list[float]] = []
    # Memory without a trial, whose own would count.
    findings.once(lambda: found.extend([run(False), run(True)]))
    (memory, peak, *_), (_, _, said, seconds) = found
    findings.table(
        "plans",
        ("job", "memory said, GB", "found, GB", "ratio", "time said, s", "found, s", "ratio"),
        [
            [
                job,
                f"{memory / 1e9:.2f}",
                f"{peak / 1e9:.2f}",
                f"{memory / peak:.2f}",
                f"{said:.1f}",
                f"{seconds:.1f}",
                f"{said / seconds:.2f}",
            ]
        ],
    )
