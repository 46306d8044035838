"""Train a small network in a minute on fractal terrain, and upscale with it.

On lidar of your own, from the command line:

    xdemsr train terrain my-terrain.safetensors --train LIDAR --validation OTHER_LIDAR

Needs the extra ``train``.
"""

from __future__ import annotations

from pathlib import Path

import xdemsr
from xdemsr.io import write
from xdemsr.training import Recipe

# Bare earth to learn from, and another place that chooses among the weights on the way.
for seed, name in enumerate(("train", "validation")):
    Path(name).mkdir(exist_ok=True)
    dem = xdemsr.synthetic.terrain((480, 560), gsd=1.0, relief=80.0, seed=seed)
    write(dem, Path(name) / "hills.tif", overwrite=True)

# The recipe of the shipped models, made small. All of it is kept in the file's header.
recipe = Recipe.named("terrain").replaced(
    model={"scale": 4, "options": {"scale": 4, "features": 8, "blocks": 2}},
    data={"train": "train", "validation": "validation", "variants": 1},
    patches={"size": 20, "blocks": [1, 2, 3]},
    run={"steps": 200, "batch": 8, "validate_every": 100, "precision": "32-true"},
    uncertainty={"steps": 100, "scales": [4], "size": 16},
)
xdemsr.train(recipe, "small.safetensors", progress=False)

model = xdemsr.load_model("small.safetensors")
print(model)
print({k: v for k, v in model.spec.training["scores"].items() if k.count("/") == 1})

coarse = xdemsr.synthetic.terrain((60, 70), gsd=4.0, relief=80.0, seed=5)
print(coarse.demsr.upscale(4, "small.safetensors", uncertainty=True))
