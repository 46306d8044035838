"""
Compare models
==============

How far is each model from the truth? Make a raster coarse, restore it with each, and look.

SRTM is the truth here, and what a sensor of eight times larger pixels would have seen of it is the
input. What a model gains on your own terrain is found out in the same way.
"""

import matplotlib.pyplot as plt

import xdemsr
from xdemsr.demo import jacksboro

truth = jacksboro().astype("float32")
coarse = truth.demsr.degrade(8)
names = ["spline", "histospline", "terrain-x8"]
answers = {name: coarse.demsr.upscale(8, name) for name in names}
truth = truth[: 8 * coarse.sizes["y"], : 8 * coarse.sizes["x"]]

# %%
# Under one light
# ---------------
part = {"y": slice(96, 216), "x": slice(136, 296)}
shown = {"truth": truth, **{name: answers[name] for name in ("spline", "terrain-x8")}}
axes = xdemsr.plotting.compare({name: da.isel(part) for name, da in shown.items()})

# %%
# Where they are off
# ------------------
# One limit for the colours, so that the two maps can be compared.
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.9), sharey=True, layout="compressed")
for ax, name in zip(axes, ("spline", "terrain-x8"), strict=True):
    xdemsr.plotting.error_map(answers[name], truth, ax, limit=60, colorbar=ax is axes[-1])
    ax.set_title(name)
    ax.label_outer()

# %%
# How often, and along a line
# ---------------------------
figure, (top, bottom) = plt.subplots(2, 1, figsize=(7.5, 6.6), layout="constrained")
xdemsr.plotting.error_histogram(answers, truth, top)
y = float(truth.y[150])
line = (float(truth.x[150]), y), (float(truth.x[230]), y)
xdemsr.plotting.profile(answers, truth, bottom, line=line)

# %%
# All in one table
# ----------------
# ``benchmark`` does all of the above and gives the scores. MSE is also given as a ratio to the
# better of spline and histospline: below 1 is better than what needs no training.
table = xdemsr.benchmark(truth, 8)
table[["rmse", "mae", "nmad", "slope_rmse", "of_best_classical"]].round(3)

# %%
ax = xdemsr.plotting.benchmark(table)
