"""
Chunks do not matter
====================

A network that is run on each chunk alone knows nothing of what lies beyond the chunk's border, and
its answers do not meet there. Here a chunk gets the context that the network needs, and tiles lie
on the grid of the array, so that the answer is the same, bit for bit, whatever the chunks.
"""

import matplotlib.pyplot as plt
import xarray as xr

import xdemsr

dem = xdemsr.synthetic.fractal((112, 150), seed=7)
whole = dem.demsr.upscale(4)

# %%
# Chunks of three shapes, of the source and of the answer, and numpy:
for (y, x), answer in (((50, 50), 128), ((112, 13), (333, 97)), ((41, 150), 1000)):
    found = dem.chunk(y=y, x=x).demsr.upscale(4, chunks=answer)
    print(f"source in chunks of {y} x {x}, identical: {bool((found == whole).all())}")

# %%
# The same network on chunks of 40 pixels, each alone:
rows = [
    xr.concat(
        [dem[y : y + 40, x : x + 40].demsr.upscale(4) for x in range(0, dem.sizes["x"], 40)], "x"
    )
    for y in range(0, dem.sizes["y"], 40)
]
alone = xr.concat(rows, "y")

# %%
# How far that is from the answer for the whole array: up to metres, along every border of a chunk.
# That of chunks in xdemsr is nowhere a bit away from it.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), sharey=True, layout="compressed")
xdemsr.plotting.shaded_relief(whole, axes[0])
axes[0].set_title("terrain-x4, in chunks of any shape")
xdemsr.plotting.error_map(alone, whole, axes[1], limit=2)
axes[1].set_title("what chunks alone would have been off")
axes[1].label_outer()
