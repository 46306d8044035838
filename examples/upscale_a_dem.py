"""Upscale a DEM sixteen times, and see what that bought.

The DEM is SRTM around the Jacksboro fault in Tennessee, 3 arc-seconds in whole metres, which comes
with matplotlib. Reading, upscaling and shading are lazy: only the corner that is drawn is computed.
"""

import matplotlib.pyplot as plt

import xdemsr
from xdemsr.demo import jacksboro

dem = jacksboro().chunk(128)

# What the call would take, before it takes it.
print(dem.demsr.plan(16))

# Nothing is read here. That the raster is stored in whole metres is known from its type, so the
# network may mend half a metre of rounding, and keeps everything else.
fine = dem.demsr.upscale(16)
smooth = dem.demsr.upscale(16, "spline")

# One corner, under one light.
corner = {"y": slice(2600, 3400), "x": slice(3600, 4600)}
figure, axes = plt.subplots(1, 2, figsize=(12, 5), sharey=True, layout="constrained")
for ax, name, raster in zip(axes, ("cubic spline", "terrain-x16"), (smooth, fine), strict=True):
    raster.isel(corner).demsr.hillshade().plot.imshow(ax=ax, cmap="gray", add_colorbar=False)
    ax.set(title=name, aspect=1 / 0.8, xlabel="longitude", ylabel="latitude")
figure.savefig("upscale_a_dem.png", dpi=120)

# How far from the truth, on the same terrain seen from farther away.
print(xdemsr.benchmark(dem, 16)[["rmse", "slope_rmse", "of_best_classical"]].round(3))
