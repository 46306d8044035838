"""How much of a score is the protocol: whole rasters against isolated tiles.

A DEM is degraded, restored by every interpolation and every shipped model, and scored twice:
whole, as a user has it, and in tiles that are each restored alone, as papers do. Written are
``protocols.csv`` with every score, ``profiles.csv`` with the errors at the borders of tiles, and
``protocols.png`` with both:

    python examples/protocols.py your_lidar.tif another.tif --folder results

Without a DEM it takes SRTM of the Jacksboro fault, which comes with matplotlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

import xdemsr
from xdemsr.demo import jacksboro
from xdemsr.protocols import continuous, isolated

INPUTS = {
    "exact": {},
    "whole metres": {"step": 1.0},
    "0.3 m of noise": {"noise": 0.3},
    "Gaussian sensor": {"sampling": "gaussian"},
}
TILES = (100, 50, 25, 13)
PROFILE_TILE = 25
# Okabe and Ito's colours, which colour-blind readers can tell apart.
CURVES = [f"{m}, {p}" for m in ("spline", "histospline") for p in ("alone", "whole")]
COLOURS = {"spline": "0.45", "bilinear": "#e69f00", "bicubic": "#56b4e9", "histospline": "#d55e00"}
MODEL_COLOURS = ("#0072b2", "#009e73", "#cc79a7")
WHOLE = "whole"
# MSE of bicubic's on tiles of its own terrain, exact, x16: Table 3 of arXiv:2109.09661.
PUBLISHED = {"scale": 16, "tile": "25", "ratio": 0.677, "name": "EfficientNetV2-DEM, its paper"}


def scores(
    name: str, dem: xr.DataArray, scale: int, tiles: Sequence[int], models: list[str] | None
) -> pd.DataFrame:
    """Every model on every input, whole and in tiles of every size that fits."""
    tables = []
    for tile in (WHOLE, *tiles):
        how = {"protocol": "continuous"}
        if tile != WHOLE:
            how = {"protocol": "isolated", "tile": tile}
        try:
            for words, sensor in INPUTS.items():
                table = xdemsr.benchmark(dem, scale, models, **how, **sensor)
                tables.append(table.reset_index().assign(input=words, tile=str(tile)))
        except xdemsr.InputError as error:
            print(f"{name}, x{scale}, {tile}: {error}")
    table = pd.concat(tables).assign(place=name, scale=scale)
    return table.set_index(["place", "scale", "input", "tile", "model"])


def profile(name: str, dem: xr.DataArray, scale: int) -> pd.DataFrame:
    """MSE against the distance from the border of a tile, where it is alone and where it is not.

    Both on the same pixels, and as a ratio to the mean of the spline over the whole raster.
    """
    coarse = xdemsr.degrade(dem, scale)
    alone, whole = isolated(dem, coarse, scale, PROFILE_TILE), continuous(dem, coarse, scale)
    ny, nx = alone.truth.shape
    truth = alone.truth.where(np.isfinite(whole.truth[:ny, :nx].values)).values
    y, x = (np.minimum(k := np.arange(n) % alone.tile, alone.tile - 1 - k) for n in (ny, nx))
    distance = np.minimum(y[:, None], x) // scale + 0.5
    mean = {"pixels": pd.Series(np.isfinite(truth).ravel()).groupby(distance.ravel()).sum()}
    for method in ("spline", "histospline"):
        apart = alone.placed(xdemsr.upscale(alone.given, scale, method)).values
        together = xdemsr.upscale(coarse, scale, method)[:ny, :nx].values
        for protocol, answer in (("alone", apart), ("whole", together)):
            squared = pd.Series(((answer - truth) ** 2).ravel())
            mean[f"{method}, {protocol}"] = squared.groupby(distance.ravel()).mean()
    curves = pd.DataFrame(mean).rename_axis("distance")
    level = np.average(curves["spline, whole"], weights=curves["pixels"])
    curves = curves.assign(**{name: curves[name] / level for name in CURVES})
    return curves.reset_index().assign(place=name, scale=scale).set_index(["place", "scale"])


def draw_profile(ax: Axes, curves: pd.DataFrame) -> None:
    """The mean over places: solid where tiles are alone, dashed where they are not."""
    for name in CURVES:
        mean = curves.groupby("distance")[name].apply(lambda found: np.exp(np.log(found).mean()))
        line = "-" if name.endswith("alone") else "--"
        ax.plot(mean, line, color=COLOURS[name.split(",")[0]], label=name)
    ax.set(xlabel="source pixels from the tile's border", yscale="log", ylim=(0.4, 30))
    ax.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    ax.minorticks_off()


def draw_ratios(ax: Axes, ratios: pd.DataFrame, colours: dict[str, str]) -> None:
    """MSE of the spline's, over the protocols: places as dots, their geometric mean as lines."""
    tiles = [WHOLE, *map(str, TILES)]
    for model, colour in colours.items():
        if model == "spline" or model not in ratios:
            continue
        found = ratios[model].unstack("tile").reindex(columns=tiles)
        mean = np.exp(np.log(found).mean())
        for _, row in found.iterrows():
            ax.plot(range(len(tiles)), row.to_numpy(), ".", color=colour, alpha=0.4, markersize=4)
        known = mean.notna().to_numpy()
        ax.plot(np.arange(len(tiles))[known], mean[known], "-o", color=colour, label=model, ms=4)
    ax.axhline(1.0, color=COLOURS["spline"], linewidth=1)
    ax.set_yscale("log")
    ax.set_ylim(0.13, 3.2)
    ax.set_yticks(
        [0.15, 0.25, 0.35, 0.5, 0.7, 1, 1.5, 2, 3],
        ["0.15", "0.25", "0.35", "0.5", "0.7", "1", "1.5", "2", "3"],
    )
    ax.minorticks_off()
    ax.set_xticks(range(len(tiles)), tiles)


def draw(table: pd.DataFrame, curves: pd.DataFrame, path: Path) -> None:
    """Border profiles above, ratios below: a column for each scale, a row for each input."""
    scales = sorted(set(table.index.get_level_values("scale")))
    trained = [m for m in table.index.unique("model") if m not in (*COLOURS, "nearest")]
    colours = {**COLOURS, **dict(zip(trained, MODEL_COLOURS, strict=False))}
    rows = 1 + len(INPUTS)
    figure = plt.figure(figsize=(3.4 * len(scales) + 0.6, 2.3 * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, len(scales), squeeze=False, sharey="row")
    for column, scale in zip(axes.T, scales, strict=True):
        draw_profile(column[0], curves.xs(scale, level="scale"))
        column[0].set_title(f"x{scale}")
        for ax, words in zip(column[1:], INPUTS, strict=True):
            ratios = table["of_spline"].xs((scale, words), level=("scale", "input"))
            draw_ratios(ax, ratios.unstack("model"), colours)
            if (scale, words) == (PUBLISHED["scale"], "exact"):
                place = [WHOLE, *map(str, TILES)].index(PUBLISHED["tile"])
                ax.plot(place, PUBLISHED["ratio"], "k*", markersize=9, label=PUBLISHED["name"])
        column[-1].set_xlabel("source pixels of an isolated tile")
    axes[0, 0].set_ylabel("exact\nMSE / spline's, whole")
    for ax, words in zip(axes[1:, 0], INPUTS, strict=True):
        ax.set_ylabel(f"{words}\nMSE / spline's")
    axes[0, -1].legend(fontsize=8)
    lines = [line for ax in axes[1] for line in ax.get_lines()]
    handles = {line.get_label(): line for line in lines if line.get_label()[0] != "_"}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def border_costs(profiles: pd.DataFrame) -> pd.DataFrame:
    """MSE of the same pixels where tiles are alone, over where they are not."""
    weighted = profiles[CURVES].mul(profiles["pixels"], axis=0).groupby(level=[0, 1]).sum()
    methods = ("spline", "histospline")
    return pd.DataFrame({m: weighted[f"{m}, alone"] / weighted[f"{m}, whole"] for m in methods})


def main() -> None:
    """Read, score, draw, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dem", nargs="*", type=Path)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--scales", nargs="+", type=int, default=[4, 8, 16])
    parser.add_argument("--tiles", nargs="+", type=int, default=TILES)
    parser.add_argument("--models", nargs="+", help="Instead of all that are shipped.")
    asked = parser.parse_args()
    dems = {f"{p.parent.name}/{p.stem}": xdemsr.open(p).load() for p in asked.dem}
    tables, curves = [], []
    for name, dem in (dems or {"jacksboro": jacksboro().load()}).items():
        for scale in asked.scales:
            tables.append(scores(name, dem, scale, asked.tiles, asked.models))
            try:
                curves.append(profile(name, dem, scale))
            except xdemsr.InputError as error:
                print(f"{name}, x{scale}, profile: {error}")
    table = pd.concat(tables)
    asked.folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(asked.folder / "protocols.csv")
    profiles = pd.concat(curves)
    profiles.to_csv(asked.folder / "profiles.csv")
    draw(table, profiles, asked.folder / "protocols.png")
    levels = ["scale", "input", "tile", "model"]
    mean = np.exp(np.log(table["of_spline"]).groupby(level=levels, sort=False).mean())
    summary = mean.unstack("model").reindex([WHOLE, *map(str, asked.tiles)], level="tile")
    print(summary.round(3).to_string())
    print("\nMSE of the same pixels, alone over whole, in tiles of", PROFILE_TILE)
    print(border_costs(profiles).round(2).to_string())


if __name__ == "__main__":
    main()
