"""Published networks beside ours, trained for minutes, scored in both protocols.

    python examples/published.py TRAIN VALIDATION --minutes 5 --folder results

TRAIN and VALIDATION hold bare-earth GeoTIFFs (``*.tif`` or ``*/dtm.tif``). Each network learns from
TRAIN by its recipe (``xdemsr recipes``), for as many steps as fit into the minutes on this machine;
then every raster of VALIDATION is made sixteen times coarser and restored. Prints the table of
docs/accuracy.md: MSE over the spline's, place by place, whole and in isolated tiles.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import pandas as pd

import xdemsr
from xdemsr.training import Recipe

SCALE = 16
TILES = (13, 25)
UNTRAINED = ["bilinear", "spline", "bicubic", "histospline"]
#: What differs from each recipe, so that minutes on a processor show anything at all.
CHANGES: dict[str, dict[str, Any]] = {
    "dsrcnn-x16": {},
    "dpgn-x16": {"optimiser": {"learning_rate": 1e-3}},
    "dsrgan-x16": {"patches": {"size": 13, "stride": 13}},
    "effnetv2-dem-x16": {},
    "terrain": {"data": {"variants": 3}, "uncertainty": {"steps": 0}},
}
#: Steps that are timed first; the first of all takes longest.
TRIED = 6


def trained(name: str, asked: argparse.Namespace) -> Path:
    """A network of the recipe, trained for about the minutes asked for."""
    data = {"train": str(asked.train.resolve()), "validation": str(asked.validation.resolve())}
    if asked.extra and name == "terrain":
        data["extra"] = str(asked.extra.resolve())
    change = dict(CHANGES[name])
    change["data"] = {**data, **change.get("data", {})}
    recipe = Recipe.named(name).replaced(**change)
    seconds = []
    for steps in (1, TRIED):
        began = time.perf_counter()
        fit(recipe, steps, asked.folder / f"{name}-tried-{steps}.safetensors")
        seconds.append(time.perf_counter() - began)
    step = max((seconds[1] - seconds[0]) / (TRIED - 1), 1e-3)
    steps = max(1, int(60 * asked.minutes / step))
    print(f"{name}: {steps} steps of {step:.2f} s", flush=True)
    return fit(recipe, steps, asked.folder / f"{name}.safetensors")


def fit(recipe: Recipe, steps: int, path: Path) -> Path:
    """Train for so many steps, validated once, at the end."""
    run = {"steps": steps, "validate_every": steps, "precision": "bf16-mixed"}
    xdemsr.train(recipe.replaced(run=run), path, progress=False)
    return path


def scored(path: Path, models: list[str]) -> pd.DataFrame:
    """MSE over the spline's on one raster: a row for each model, a column for each protocol."""
    dem = xdemsr.open(path).load()
    columns = {"continuous": xdemsr.benchmark(dem, SCALE, models)["of_spline"]}
    for tile in TILES:
        try:
            table = xdemsr.benchmark(dem, SCALE, models, protocol="isolated", tile=tile)
        except xdemsr.InputError:
            # No tile of this size without a void.
            continue
        columns[f"isolated, {tile} x {tile}"] = table["of_spline"]
    return pd.DataFrame(columns)


def main() -> None:
    """Train, score, print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument(
        "--extra", type=Path, help="Coarser rasters, which terrain learns from too."
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, default=Path("published"))
    parser.add_argument("--recipes", nargs="*", choices=list(CHANGES), default=list(CHANGES))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    files = [str(trained(name, asked)) for name in asked.recipes]
    models = [*UNTRAINED, *files, f"terrain-x{SCALE}"]
    folder = asked.validation
    places = sorted([*folder.glob("*/dtm.tif"), *folder.glob("*.tif")])
    tables = [scored(place, models) for place in places]
    protocols = list(dict.fromkeys(column for table in tables for column in table))
    print(f"\n| model | {' | '.join(protocols)} |\n|{'---|' * (len(protocols) + 1)}")
    for model in tables[0].index:
        cells = [
            " / ".join(f"{t.loc[model, p]:.3f}" if p in t else "–" for t in tables)  # noqa: RUF001
            for p in protocols
        ]
        print(f"| {model} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
