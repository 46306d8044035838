"""
Elevation from an image
=======================

How the ground rises and falls can be told from light and colour, more or less. No such network is
shipped, since none that little data can teach is worth using on real terrain; here a small one
learns from made images of made terrain, for some seconds, and is shown a place it has never seen.

Needs the extra ``train``.
"""

# sphinx_gallery_thumbnail_number = 2
import tempfile
from dataclasses import replace
from pathlib import Path

import xarray as xr

import xdemsr
from xdemsr.training import Recipe

folder = Path(tempfile.mkdtemp())


def made(seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Terrain of 30 m and its image: forest and meadows, rock, snow, sun and shade."""
    dem = xdemsr.synthetic.fractal((240, 320), wavelength=5000, relief=1400, base=700, seed=seed)
    image = xdemsr.synthetic.imagery(dem, snowline=2100, seed=seed)
    return dem, image.sel(band=["red", "green", "blue"])


# %%
# Six places to learn from, and one that chooses among the weights.
for seed in range(7):
    place = folder / ("train" if seed < 6 else "validation") / f"place_{seed}"
    place.mkdir(parents=True)
    dem, image = made(seed)
    xdemsr.write_cog(dem, place / "dtm.tif")
    xdemsr.write_cog(image, place / "rgb.tif")

# %%
# The recipe that comes with xdemsr, made small, and without its discriminator. Values of the image
# and of the terrain are said in their own units.
recipe = Recipe.named("elevation-from-rgb").replaced(
    model={
        "window": 64,
        "options": {
            "bands": ["red", "green", "blue"],
            "outputs": ["elevation"],
            "features": 8,
            "depth": 5,
            "norm": "group",
            "tanh": False,
            "dropout": 0.0,
            "input_mean": 0.2,
            "input_scale": 0.1,
            "output_scale": 100.0,
        },
    },
    data={"train": str(folder / "train"), "validation": str(folder / "validation"), "coarsen": 1},
    patches={"size": 64, "stride": 32},
    optimiser={"learning_rate": 1e-3, "momentum": 0.9},
    run={"steps": 250, "batch": 8, "validate_every": 50},
)
xdemsr.train(replace(recipe, loss={"l1": 0.05}), folder / "small.safetensors", progress=False)

# %%
# A place of its own. From the image alone, heights are relative: they have no level. Windows
# overlap, and the levels of all are solved for together, so that there is no step between them.
truth, image = made(seed=20)
heights = image.demsr.elevation(folder / "small.safetensors")
print(f"correlation with the terrain: {float(xr.corr(heights, truth)):.2f}")

# %%
# With a coarse DEM as its anchor the answer is in metres above the datum.
coarse = truth.demsr.degrade(20)
anchored = image.demsr.elevation(folder / "small.safetensors", anchor=coarse)
scores = xdemsr.evaluate(anchored, truth)
print(f"anchored to pixels of 600 m: MAE {scores['mae']:.0f} m")
axes = xdemsr.plotting.compare(
    {"from the image, on 600 m": anchored, "the terrain": truth}, azimuth=150, size=110
)

# %%
# The image, laid over what was made of it.
ax = xdemsr.view_3d(anchored, rgb=image, exaggeration=1.3, altitude=40)
