"""
From a surface model to bare earth
==================================

``dtm-from-dsm`` takes the highest lidar returns and their colour, at about 1 m, and gives the
ground. It learnt from wooded hills in Kentucky; here it meets made ones, with made trees and
houses.
"""

import numpy as np
import xarray as xr

import xdemsr

rng = np.random.default_rng(4)
ny, nx = 380, 520
ground = xdemsr.synthetic.fractal(
    (ny, nx), gsd=1.0, wavelength=400, relief=70, persistence=0.4, seed=11
)

# %%
# A thousand crowns, where a field of noise says forest, and some houses where it does not.
forest = xdemsr.synthetic.perlin((ny, nx), gsd=1.0, wavelength=250, seed=2)
wooded = (forest > forest.median()).values
rows, columns = np.mgrid[:ny, :nx]
above = np.zeros((ny, nx))
while np.count_nonzero(above[wooded]) < 0.75 * wooded.sum():
    y, x, radius = rng.integers(ny), rng.integers(nx), rng.uniform(2, 5)
    if wooded[y, x]:
        part = np.s_[max(y - 6, 0) : y + 7, max(x - 6, 0) : x + 7]
        distance = np.hypot(rows[part] - y, columns[part] - x) / radius
        crown = rng.uniform(8, 20) * np.sqrt(np.clip(1 - distance**2, 0, None))
        above[part] = np.maximum(above[part], crown)
above *= rng.uniform(0.8, 1.0, (ny, nx))
houses = np.zeros((ny, nx), bool)
for y, x in rng.integers((10, 10), (ny - 30, nx - 30), (60, 2)):
    part = np.s_[y : y + rng.integers(8, 14), x : x + rng.integers(8, 18)]
    if not wooded[part].any():
        houses[part] = True
        above[part] = 6
dsm = (ground + above.astype("float32")).rename("dsm")

# %%
# What an aerial photograph would show of it, in 8 bits.
light = dsm.demsr.hillshade().values
colour = np.where((above > 0)[..., None], (62, 84, 48), (126, 138, 92))
colour = np.where(houses[..., None], (150, 110, 100), colour) * (0.4 + 0.9 * light[..., None])
rgb = xr.DataArray(
    np.moveaxis(colour, -1, 0).clip(0, 255).astype(np.uint8),
    {"band": ["red", "green", "blue"], "y": dsm.y, "x": dsm.x},
    ("band", "y", "x"),
).rio.write_crs(dsm.rio.crs)

# %%
# The call itself. The ground filter, whose answer the network starts from, needs no training.
dtm = xdemsr.refine(dsm, guides={"rgb": rgb})
filtered = xdemsr.ground_filter(dsm)

for name, answer in (("surface model", dsm), ("ground filter", filtered), ("dtm-from-dsm", dtm)):
    scores = xdemsr.evaluate(answer, ground)
    print(f"{name:14} MAE {scores['mae']:5.2f} m, RMSE {scores['rmse']:5.2f} m")

# %%
axes = xdemsr.plotting.compare(
    {"surface model": dsm, "ground filter": filtered, "dtm-from-dsm": dtm, "the ground": ground},
    columns=2,
)
