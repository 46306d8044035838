"""
A job that is killed
====================

Batch systems kill jobs, and disks run full. A store that is written with ``resume=True`` goes on
where it was: the same call again, in another process or on another machine, and it ends as it would
have without the interruption.
"""

import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import xdemsr

folder = Path(tempfile.mkdtemp())
dem = xdemsr.synthetic.fractal((500, 660), seed=15)
xdemsr.write_cog(dem, folder / "dem.tif")

# %%
# The job, as a script of its own. ``xdemsr upscale dem.tif fine.zarr --scale 8 --resume`` does the
# same from a shell; scripts for SLURM and others are in ``examples/batch``.
(folder / "job.py").write_text(
    """
import xdemsr

dem = xdemsr.open("dem.tif", chunks=256)
xdemsr.write_zarr(dem.demsr.upscale(8, chunks=512), "fine.zarr", resume=True)
"""
)


def written() -> np.ndarray:
    """Which chunks of the store are there."""
    there = np.zeros((8, 11), bool)
    for path in folder.glob("fine.zarr/elevation/c/*/*[0-9]"):
        there[int(path.parent.name), int(path.name)] = True
    return there


# %%
# Begun, and killed without warning when a third is there.
job = subprocess.Popen([sys.executable, "job.py"], cwd=folder)
while job.poll() is None and written().mean() < 0.33:
    time.sleep(0.02)
job.kill()
job.wait()
before = written()
print(f"killed with {before.sum()} of {before.size} chunks there")

# %%
# What is unfinished is refused, since what is missing would read as void.
try:
    xdemsr.open(folder / "fine.zarr")
except xdemsr.InputError as error:
    print(textwrap.fill(str(error).replace(str(folder), "..."), 90))

# %%
# Begun again. Chunks that are there stay; those that are missing, or were torn, are computed.
subprocess.run([sys.executable, "job.py"], cwd=folder, check=True)
fine = xdemsr.open(folder / "fine.zarr")
print("as without the kill:", bool((fine == dem.demsr.upscale(8)).all()))

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="compressed")
left.imshow(before, cmap="cividis", vmin=0, vmax=1.4, extent=(0, 11, 8, 0))
left.set(title="chunks there (light) when it was killed", xticks=range(12), yticks=range(9))
left.set(xlabel="chunk along x", ylabel="chunk along y")
left.grid(color="white", linewidth=1.5)
xdemsr.plotting.shaded_relief(fine, right)
right.set_title("the finished store")
