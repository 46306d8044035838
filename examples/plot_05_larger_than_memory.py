"""
A raster larger than memory
===========================

Memory stays flat however large the answer. What a call would take is known before it takes it; and
while it runs, chunks are answered, written and forgotten.
"""

import tempfile
import threading
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import psutil

import xdemsr

folder = Path(tempfile.mkdtemp())

# %%
# A country
# ---------
# Made terrain of 40,000 x 60,000 pixels, lazily: a pixel is a function of its place alone. At four
# times finer the answer has 38 billion pixels. Planning it reads none of them.
country = xdemsr.synthetic.fractal((40_000, 60_000), chunks=2_000)
country.demsr.plan(4)

# %%
# A county of it
# --------------
# The same job, small enough for this page: its answer is watched while it is written.
county = country[:700, :900].compute().chunk(512)
fine = county.demsr.upscale(16, chunks=1024)
county.demsr.plan(16, chunks=1024)

# %%
process, seen, done = psutil.Process(), [], threading.Event()


def watch() -> None:
    """Note the memory of the process, and how much is written, ten times a second."""
    start = time.perf_counter()
    while not done.wait(0.1):
        share = sum(1 for path in folder.rglob("c/*/*[0-9]")) / fine.data.npartitions
        seen.append((time.perf_counter() - start, process.memory_info().rss, share * fine.nbytes))


watcher = threading.Thread(target=watch)
watcher.start()
xdemsr.write_zarr(fine, folder / "county.zarr")
done.set()
watcher.join()

# %%
# What the process takes is torch, the network and a few chunks; the answer passes through it.
seconds, memory, written = np.array(seen).T
figure, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
ax.plot(seconds, written / 1e6, color="#0072b2", label="answer, written")
ax.plot(seconds, (memory - memory[0]) / 1e6, color="#d55e00", label="memory taken for it")
ax.set(xlabel="seconds", ylabel="MB", ylim=(0, None), xlim=(0, None))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
