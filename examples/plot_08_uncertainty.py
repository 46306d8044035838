"""
How far off it may be
=====================

``uncertainty=True`` gives a second variable: the standard error of each pixel. Is it true? On
terrain whose truth is known, errors that were found can be held against those that were stated.
"""

import matplotlib.pyplot as plt

import xdemsr
from xdemsr.demo import jacksboro

truth = jacksboro().astype("float32")
coarse = truth.demsr.degrade(4)
truth = truth[: 4 * coarse.sizes["y"], : 4 * coarse.sizes["x"]]
fine = coarse.demsr.upscale(4, uncertainty=True)
fine

# %%
# Steep and rough ground is uncertain, and level ground is not. The fine lattice is real: an answer
# keeps the mean of each source pixel, and is off by less in its middle than at its corners.
answer, spread = fine["elevation"], fine["elevation_standard_error"]
figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.0), sharey=True, layout="compressed")
xdemsr.plotting.shaded_relief(answer, axes[0], colorbar=True)
axes[0].set_title("terrain-x4")
xdemsr.plotting.standard_error_map(spread, axes[1])
axes[1].set_title("how far off it may be")
axes[1].label_outer()

# %%
# Pixels that say they may be off by more are off by more, and over all of them the sizes are about
# right: of a normal distribution 68 % would lie within one standard error and 95 % within two. But
# the differences between kinds of ground are overstated here. SRTM, taken for the truth, has noise
# of its own, some metres, which no network can foresee: so the smallest ones are too small.
ax = xdemsr.plotting.calibration(answer, spread, truth)

# %%
# The same as numbers:
scores = xdemsr.evaluate(answer, truth, standard_error=spread)
print(scores[["rmse", "within_1se", "within_2se"]].round(3).to_string())
