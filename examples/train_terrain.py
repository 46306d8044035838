"""Train a terrain network on your own lidar.

    python examples/train_terrain.py TRAIN VALIDATION terrain-x16.safetensors --extra COARSE

TRAIN and VALIDATION are folders of bare-earth GeoTIFFs (``*.tif`` or ``*/dtm.tif``). The network
sees TRAIN only; VALIDATION chooses among the weights it had on the way. COARSE may hold rasters of
30 m and the like, for variety. The file that comes out is a model for ``upscale``:

    da.demsr.upscale(16, "terrain-x16.safetensors")

Nothing is downloaded. A run that was stopped goes on where it was when started again with the same
folder. Needs the extra ``train``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
import xarray as xr

import xdemsr
from xdemsr.models.terrain import Terrain
from xdemsr.spec import VERTICAL_ERROR
from xdemsr.training.fit import FitRecipe, fit
from xdemsr.training.patches import Mixture, PatchRecipe, PatchSampler
from xdemsr.training.places import Raster, load_rasters
from xdemsr.training.validation import Validation

#: Source pixels of a tile: large beside the halo, small beside the processor's cache.
_TILE = 128


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--extra", type=Path, help="folder of coarser rasters")
    parser.add_argument("--extra-share", type=float, default=0.15)
    parser.add_argument("--scale", type=int, default=16)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--variants", type=int, default=12)
    parser.add_argument("--steps", type=int, default=FitRecipe.steps)
    parser.add_argument("--batch", type=int, default=FitRecipe.batch)
    parser.add_argument("--learning-rate", type=float, default=FitRecipe.learning_rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("training"), help="checkpoints, logs")
    parser.add_argument("--licence", default="", help="of the weights, following the data's")
    parser.add_argument("--name", help="of the model; terrain-x16 and so on by default")
    parser.add_argument("--version", default="1")
    return parser.parse_args()


#: How the input of a validation place is made imperfect.
_KINDS = {"clean": {}, "metres": {"step": 1.0}, "noise": {"noise": 0.3}}


def score(model: Path, rasters: list[Raster], scale: int) -> dict[str, float]:
    """MSE over the better of spline and histospline, by the library itself: means and places."""
    scores: dict[str, float] = {}
    for kind, degradation in _KINDS.items():
        for raster in rasters:
            dem = xr.DataArray(raster.heights.astype("float32"), dims=("y", "x"))
            table = xdemsr.benchmark(dem, scale, [model], **degradation)
            scores[f"{kind}/{raster.name}"] = round(table["of_best_classical"].iloc[0], 4)
        places = [scores[f"{kind}/{raster.name}"] for raster in rasters]
        scores[kind] = round(sum(places) / len(places), 4)
    return scores


def main() -> None:
    """Train, save, report."""
    asked = arguments()
    torch.manual_seed(asked.seed)
    network = Terrain(asked.scale, features=asked.features, blocks=asked.blocks)
    patches = PatchRecipe(step=network.detail_scale)
    mixture = Mixture()
    train = load_rasters(asked.train)
    extra = load_rasters(asked.extra) if asked.extra else []
    sampler = PatchSampler(
        train,
        patches,
        mixture,
        variants=asked.variants,
        extra=extra,
        extra_share=asked.extra_share,
        seed=asked.seed,
    )
    validation = load_rasters(asked.validation)
    recipe = FitRecipe(steps=asked.steps, batch=asked.batch, learning_rate=asked.learning_rate)
    fit(network, sampler, Validation(validation, asked.scale), recipe, asked.folder)

    low, high = sampler.spacings()
    training = {
        "data": [raster.name for raster in train],
        "extra": [raster.name for raster in extra],
        "validation": [raster.name for raster in validation],
        "patches": asdict(patches),
        "mixture": asdict(mixture),
        "variants": asked.variants,
        "extra_share": asked.extra_share,
        "seed": asked.seed,
        "fit": asdict(recipe),
        "score_meaning": "MSE over the better of spline and histospline, continuous protocol",
    }
    spec = xdemsr.ModelSpec(
        name=asked.name or f"terrain-x{asked.scale}",
        version=asked.version,
        architecture="terrain",
        options={"scale": asked.scale, "features": asked.features, "blocks": asked.blocks},
        scale=asked.scale,
        context=xdemsr.Local(halo=network.radius, tile=_TILE),
        inputs=(xdemsr.Band("elevation", "m"), xdemsr.Band(VERTICAL_ERROR, "m")),
        border="odd",
        gsd=(round(low, 1), round(high, 1)),
        summary="mean-preserving terrain network on the histospline",
        licence=asked.licence,
        training=training,
    )
    xdemsr.save_model(network, asked.out, spec)
    scores = score(asked.out, validation, asked.scale)
    xdemsr.save_model(network, asked.out, replace(spec, training={**training, "scores": scores}))
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
