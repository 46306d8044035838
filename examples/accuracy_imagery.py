"""What a small training set can teach about elevation from imagery: the table of docs/imagery.md.

    python examples/accuracy_imagery.py [TRAIN VALIDATION]

Networks of a quarter of ImageToDEM's channels learn from ten made scenes, and are scored on three
others; the inverse, too. TRAIN and VALIDATION hold a folder for each place, with ``rgb.tif`` and
``dtm.tif`` on one grid of 1 m; what is learnt from the one is scored on the other, at 2 m. Takes
minutes a network; models are left in the folder ``imagery``, and what is there is not trained
again. Needs the extra ``train``. Prints Markdown.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from accuracy import head, row

import xdemsr
from xdemsr.training import Recipe

FOLDER = Path("imagery")
WINDOW, STEPS = 128, 600
COLOURS = ["red", "green", "blue"]
#: Made scenes: which are learnt from, which choose among the weights, which are scored.
SEEDS = {"train": range(10), "validation": range(10, 13), "test": range(20, 23)}
Scene = tuple[xr.DataArray, xr.DataArray]


def scene(seed: int) -> Scene:
    """Terrain of 10 m and its image."""
    dem = xdemsr.synthetic.fractal((384, 512), gsd=10.0, relief=1400, base=700, seed=seed)
    return dem, xdemsr.synthetic.imagery(dem, snowline=2100, seed=seed).sel(band=COLOURS)


def place(folder: Path) -> Scene:
    """A real one, of 2 m."""
    dem, image = (
        xdemsr.open(folder / f"{name}.tif").astype("float32").compute() for name in ("dtm", "rgb")
    )
    image = image.assign_coords(band=COLOURS)
    halves = [raster.coarsen(y=2, x=2, boundary="trim").mean() for raster in (dem, image)]
    return halves[0], halves[1].where(halves[0].notnull())


def made() -> dict[str, Path]:
    """Folders of made scenes."""
    for part in ("train", "validation"):
        for seed in SEEDS[part]:
            folder = FOLDER / part / f"scene_{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            dem, image = scene(seed)
            xdemsr.write_cog(dem, folder / "dtm.tif", overwrite=True)
            xdemsr.write_cog(image, folder / "rgb.tif", overwrite=True)
    return {part: FOLDER / part for part in ("train", "validation")}


def trained(name: str, recipe: Recipe, places: dict[str, Path], **changes: Any) -> Path:
    """A model by a recipe, on some places."""
    out = FOLDER / f"{name}.safetensors"
    if not out.exists():
        folders = {part: str(path.absolute()) for part, path in places.items()}
        changes["data"] = folders | changes.get("data", {})
        run = {"steps": STEPS, "validate_every": STEPS // 6}
        xdemsr.train(recipe.replaced(run=run, **changes), out, progress=False)
    return out


def windows(truth: xr.DataArray) -> Iterator[dict[str, slice]]:
    """Windows side by side that have no void."""
    for y in range(0, truth.sizes["y"] - WINDOW + 1, WINDOW):
        for x in range(0, truth.sizes["x"] - WINDOW + 1, WINDOW):
            where = {"y": slice(y, y + WINDOW), "x": slice(x, x + WINDOW)}
            if truth.isel(where).notnull().all():
                yield where


def over_oracle(model: Path, scenes: list[Scene]) -> float:
    """Error of relative heights in windows over that of their mean."""
    ours, oracle = [], []
    for truth, image in scenes:
        for where in windows(truth):
            heights = truth.isel(where) - truth.isel(where).mean()
            found = image.isel(where).demsr.elevation(model)
            ours.append(float(abs(found.values - heights.values).mean()))
            oracle.append(float(abs(heights).mean()))
    return sum(ours) / sum(oracle)


def mosaics(model: Path, scenes: list[Scene]) -> None:
    """Whole scenes: correlation with the terrain, and errors beside those of constants."""
    print("\n" + head("scene", "correlation", "MAE, m", "of one constant", "of the oracle"))
    for number, (truth, image) in enumerate(scenes, 1):
        found = image.demsr.elevation(model)
        flat = truth - truth.mean()
        oracle = np.mean([abs(t - t.mean()) for t in (truth.isel(w) for w in windows(truth))])
        errors = abs(found - flat).mean(), abs(flat).mean(), oracle
        print(row(number, f"{float(xr.corr(found, truth)):.2f}", *(f"{e:.0f}" for e in errors)))


def anchored(folder: Path, model: Path) -> None:
    """RMSE of real places on a DEM eight times coarser, beside what knows no image."""
    print("\n" + head("place", "network on the anchor, m", "histospline, m", "terrain-x8, m"))
    for name, (truth, image) in real(folder).items():
        coarse = truth.demsr.degrade(8)
        answers = [image.demsr.elevation(model, anchor=coarse)]
        answers += [coarse.demsr.upscale(8, other) for other in ("histospline", "terrain-x8")]
        # As much of each as all of them know.
        known = np.logical_and.reduce([answer.notnull().values for answer in answers])
        errors = [xdemsr.evaluate(answer, truth.where(known))["rmse"] for answer in answers]
        print(row(name, *(f"{error:.2f}" for error in errors)), flush=True)


def colours(model: Path, scenes: list[Scene]) -> None:
    """Images made of elevations, beside one mean colour for each scene."""
    print("\n" + head("scene", "MAE of colours, of 255", "of the mean colour"))
    for number, (dem, image) in enumerate(scenes, 1):
        errors = (image - dem.demsr.imagery(model)), image - image.mean(("y", "x"))
        print(row(number, *(f"{255 * float(abs(e).mean()):.1f}" for e in errors)), flush=True)


def real(folder: Path) -> dict[str, Scene]:
    """Places that have both files, cut to whole blocks of eight pixels."""
    found = {path.parent.name: place(path.parent) for path in sorted(folder.glob("*/rgb.tif"))}
    return {name: (cut(dem), cut(image)) for name, (dem, image) in found.items()}


def cut(raster: xr.DataArray) -> xr.DataArray:
    """Whole blocks of eight pixels."""
    return raster.isel(y=slice(raster.sizes["y"] // 8 * 8), x=slice(raster.sizes["x"] // 8 * 8))


def main(*folders: str) -> None:
    """Every table."""
    recipe = replace(Recipe.named("elevation-from-rgb"), loss={"l1": 0.05})
    options = {**recipe.model.options, "input_mean": 0.2, "input_scale": 0.1, "output_scale": 100.0}
    scenes = [scene(seed) for seed in SEEDS["test"]]
    data = made()
    one = {"coarsen": 1}
    ours = trained("made", recipe, data, model={"options": options}, data=one)
    print(head("learnt from", "scored on", "loss", "over the oracle"))
    print(row("10 made scenes", "3 others", "L1", f"{over_oracle(ours, scenes):.3f}"), flush=True)
    if folders:
        places = dict(zip(("train", "validation"), map(Path, folders), strict=True))
        test = list(real(places["validation"]).values())
        for loss, name in (({"l1": 5.0}, "L1"), (None, "L1 and discriminator")):
            basis = Recipe.named("elevation-from-rgb")
            basis = replace(basis, loss=loss) if loss else basis
            model = trained(name.lower().replace(" ", "_"), basis, places)
            ratio = over_oracle(model, test)
            print(row("real places", "another", name, f"{ratio:.3f}"), flush=True)
    mosaics(ours, scenes)
    if folders:
        anchored(places["validation"], FOLDER / "l1.safetensors")
    inverse = replace(Recipe.named("imagery-from-dem"), loss={"l1": 5.0})
    units = {"input_scale": 100.0, "output_mean": 0.2, "output_scale": 0.1, "tanh": False}
    options = {**inverse.model.options, **units}
    colours(trained("inverse", inverse, data, model={"options": options}, data=one), scenes)


if __name__ == "__main__":
    if len(sys.argv) not in (1, 3):
        raise SystemExit(__doc__)
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
