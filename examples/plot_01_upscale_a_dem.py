"""
Upscale a DEM
=============

Sixteen times finer, from whole metres, on one corner of a real DEM: SRTM around the Jacksboro fault
in Tennessee, 3 arc-seconds, which comes with matplotlib.
"""

import xdemsr
from xdemsr.demo import jacksboro

dem = jacksboro().chunk(128)
dem

# %%
# What the call would take, before it takes it. Nothing is computed for this.

dem.demsr.plan(16)

# %%
# Nothing is read here, either. That the raster is stored in whole metres is known from its type, so
# the network may mend half a metre of rounding, and keeps everything else.

fine = dem.demsr.upscale(16)
smooth = dem.demsr.upscale(16, "spline")
fine

# %%
# One corner under one light. Only what is drawn is computed.

coarse_corner = {"y": slice(160, 210), "x": slice(225, 290)}
corner = {dim: slice(16 * part.start, 16 * part.stop) for dim, part in coarse_corner.items()}
axes = xdemsr.plotting.compare(
    {
        "SRTM, 3 arc-seconds": dem.isel(coarse_corner),
        "cubic spline, x16": smooth.isel(corner),
        "terrain-x16": fine.isel(corner),
    },
    exaggeration=1.5,
)
