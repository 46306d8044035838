"""
Train in a minute
=================

A network of your own needs nothing but fine terrain: coarse input is made from it. This one is tiny
and learns from made hills for some seconds; a recipe for real terrain differs in its numbers only.

Needs the extra ``train``.
"""

import tempfile
from pathlib import Path

import xarray as xr

import xdemsr
from xdemsr.training import Recipe

folder = Path(tempfile.mkdtemp())


def hills(seed: int) -> xr.DataArray:
    """Made terrain of 1 m."""
    return xdemsr.synthetic.fractal((480, 560), gsd=1.0, wavelength=300, relief=60, seed=seed)


# %%
# Bare earth to learn from, and another place that chooses among the weights on the way.
for seed, name in enumerate(("train", "validation")):
    (folder / name).mkdir()
    xdemsr.write_cog(hills(seed), folder / name / "hills.tif")

# %%
# The recipe of the shipped network, made small. All of it is kept in the file's header.
recipe = Recipe.named("terrain").replaced(
    name="small",
    model={"scale": 4, "options": {"scale": 4, "features": 12, "blocks": 2}},
    data={"train": str(folder / "train"), "validation": str(folder / "validation"), "variants": 1},
    patches={"size": 20, "blocks": [1, 2, 3]},
    optimiser={"learning_rate": 4e-3},
    schedule={"warm_up": 20},
    run={"steps": 250, "average": 0.98, "batch": 8, "validate_every": 50, "precision": "32-true"},
    uncertainty={"steps": 60, "scales": [4], "size": 16},
)
xdemsr.train(recipe, folder / "small.safetensors", progress=False)
model = xdemsr.load_model(folder / "small.safetensors")
model

# %%
# How it went. The score is the MSE on the validation place over that of the best that needs no
# training: the histospline, which the network starts from.
ax = xdemsr.plotting.training_curves(folder / "small", measures=["score"])

# %%
# On a third place, which it has never seen:
truth = hills(seed=5)
table = truth.demsr.benchmark(4, [str(folder / "small.safetensors"), "terrain-x4"], step=0.5)
ax = xdemsr.plotting.benchmark(table)
