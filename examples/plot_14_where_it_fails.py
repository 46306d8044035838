"""
Where it fails
==============

A network that gains on average loses somewhere, and it is better to know where. Three inputs that
it should not be given as they are, each beside the spline, which has learnt nothing.
"""

import matplotlib.pyplot as plt
import numpy as np

import xdemsr

hills = xdemsr.synthetic.fractal((480, 640), gsd=2, wavelength=400, relief=40, seed=21)

# %%
# What is narrower than a pixel is not in the input
# -------------------------------------------------
# A wall, 4 m wide and 3 m high, seen in pixels of 16 m: all that a pixel says is that its mean is
# somewhat higher. No model can put the wall back, and none here does.
walled = hills.copy()
walled[:, 300:302] += 3
seen = walled.demsr.degrade(8)
answers = {name: seen.demsr.upscale(8, name) for name in ("spline", "terrain-x8")}
part = {"y": slice(160, 320), "x": slice(210, 400)}
shown = {"truth, with a wall": walled, **answers}
axes = xdemsr.plotting.compare({name: da.isel(part) for name, da in shown.items()})

# %%
# Along a line across it: a gentle rise at most, many times as wide.
y = float(hills.y[240])
line = (float(hills.x[260]), y), (float(hills.x[340]), y)
ax = xdemsr.plotting.profile(answers, walled, line=line)

# %%
# Picked pixels, and noise that nobody told of
# --------------------------------------------
# The networks take a pixel for the mean of its area, and floating-point numbers for exact ones.
# Pixels that were picked, one of every four along each axis, are no means; and what keeps the means
# of a noisy raster keeps its noise. Told how far off pixels are (``vertical_error``), the network
# is as good as the spline on the former and better on the latter.
noise = np.random.default_rng(0).normal(0, 0.5, (120, 160)).astype(np.float32)
inputs = {
    "picked pixels": (hills.demsr.degrade(4, sampling="nearest"), 0.25),
    "noise of 0.5 m": (hills.demsr.degrade(4) + noise, 0.5),
}
figure, rows = plt.subplots(2, 3, figsize=(9.6, 5.4), sharex=True, sharey=True, layout="compressed")
for axes, (what, (raster, error)) in zip(rows, inputs.items(), strict=True):
    restored = {
        "spline": raster.demsr.upscale(4, "spline"),
        "terrain-x4": raster.demsr.upscale(4),
        "terrain-x4, told": raster.demsr.upscale(4, vertical_error=error),
    }
    for ax, (name, answer) in zip(axes, restored.items(), strict=True):
        xdemsr.plotting.error_map(answer, hills, ax, limit=1.5, colorbar=ax is axes[-1])
        rmse = xdemsr.evaluate(answer, hills)["rmse"]
        ax.set_title(f"{what}\n{name}: RMSE {rmse:.2f} m", fontsize=10)
        ax.label_outer()
