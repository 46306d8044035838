"""Peak memory, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys
import xdemsr
size, model, store = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dem = xdemsr.synthetic.terrain((size, size)).chunk(256)
xdemsr.write_zarr(dem.demsr.upscale(16, model), store)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


@pytest.mark.parametrize("model", ["terrain-x16"])
def test_memory_is_bounded_and_flat(model: str, tmp_path: object) -> None:
    peaks = []
    for size in (512, 1024, 2048):
        done = subprocess.run(
            [sys.executable, "-c", CODE, str(size), model, f"{tmp_path}/{size}.zarr"],
            check=True,
            capture_output=True,
            text=True,
        )
        peaks.append(float(done.stdout))
    print("\npeak GB at 512, 1024, 2048 source pixels:", peaks)
    assert max(peaks) < 2.0
    assert peaks[2] < 1.15 * peaks[1]
