"""How long until there is something: imports, and a first answer in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from conftest import Findings, Times

FIRST = """
import xarray as xr
import xdemsr
dem = xdemsr.synthetic.terrain((512, 512)).chunk(256)
fine = dem.demsr.upscale(16{model})
fine[:64, :64].compute()
"""


def fresh(code: str) -> Callable[[], object]:
    """Run some lines in a process of their own."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    return lambda: subprocess.run(command, check=True, capture_output=True)


def test_start(race: Callable[..., Times], findings: Findings) -> None:
    jobs = {
        "`import xarray, rioxarray, dask.array`": fresh("import xarray, rioxarray, dask.array"),
        "`import xdemsr`": fresh("import xdemsr"),
        "`import torch`": fresh("import torch"),
        "first chunk of `bicubic` x16": fresh(FIRST.format(model=", 'bicubic'")),
        "first chunk of `terrain-x16`": fresh(FIRST.format(model="")),
    }
    times = race(jobs, rounds=7)
    plain = "`import xarray, rioxarray, dask.array`"
    rows = times.rows(plain)
    columns = ("in a fresh process", "fastest, s", "median, s", "ratio", "processors, s")
    findings.table("start", columns, rows)
    ratio = times.best("`import xdemsr`") / times.best(plain)
    findings.target(
        "`import xdemsr` over `import xarray, rioxarray, dask.array`", ratio, 1.2, most=True
    )
