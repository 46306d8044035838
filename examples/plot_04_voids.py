"""
Voids
=====

A missing pixel spoils no valid one, and stays missing. Here a tenth of a DEM is missing, as radar
shadow and lakes are in real ones: some pixels alone, some in patches.
"""

import matplotlib.pyplot as plt
import numpy as np

import xdemsr

truth = xdemsr.synthetic.fractal((400, 520), gsd=10, wavelength=1800, relief=300, seed=5)
coarse = truth.demsr.degrade(4)

rng = np.random.default_rng(3)
holes = xdemsr.synthetic.perlin(coarse.shape, gsd=40, wavelength=700, seed=8)
missing = (holes > holes.quantile(0.9)).values | (rng.random(coarse.shape) < 0.004)
gappy = coarse.where(~missing)
print(f"{missing.mean():.1%} of {missing.size:,} pixels are missing")

# %%
# Nothing has to be filled, masked or told: voids are NaN, or the value that the raster declares.
fine = gappy.demsr.upscale(4)
stays = np.kron(missing, np.ones((4, 4), bool))
print("void exactly where the input is:", bool((np.isnan(fine.values) == stays).all()))

# %%
# Zeros in place of voids, which is what many a script does, would have been seen as pits of half a
# kilometre's depth and more: every pixel near them is spoilt.
spoilt = gappy.fillna(0).demsr.upscale(4).where(~stays)

figure, axes = plt.subplots(1, 3, figsize=(10.8, 3.1), sharey=True, layout="compressed")
xdemsr.plotting.shaded_relief(fine, axes[0])
axes[0].set_title("terrain-x4, voids kept")
for ax, name, raster in zip(axes[1:], ("voids", "zeros instead"), (fine, spoilt), strict=True):
    xdemsr.plotting.error_map(raster, truth, ax, limit=10, colorbar=ax is axes[-1])
    rmse = xdemsr.evaluate(raster, truth)["rmse"]
    ax.set_title(f"{name}: RMSE {rmse:.2f} m")
    ax.label_outer()
