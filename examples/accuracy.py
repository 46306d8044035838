"""Measure the shipped terrain network on lidar of your own: the tables of docs/accuracy.md.

    python examples/accuracy.py FOLDER [MODEL ...]

FOLDER holds bare-earth GeoTIFFs (``*.tif`` or ``*/dtm.tif``) that no model has seen. Each is made
coarse, restored and compared with itself. MODELs (files of your own) join the last table. Prints
Markdown.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import xdemsr

SCALES = (2, 4, 8, 16)
#: What training drew, and what it never drew.
KINDS: dict[str, dict[str, Any]] = {
    "exact": {},
    "whole metres": {"step": 1.0},
    "0.3 m noise": {"noise": 0.3},
}
SENSORS: dict[str, dict[str, Any]] = {
    **KINDS,
    "1 m noise": {"noise": 1.0},
    "0.3 m stripes": {"stripes": 0.3},
    "blur, FWHM 0.5": {"sampling": "gaussian", "fwhm": 0.5},
    "blur, FWHM 1": {"sampling": "gaussian", "fwhm": 1.0},
    "blur, FWHM 2": {"sampling": "gaussian", "fwhm": 2.0},
    "bilinear, told": {"sampling": "bilinear"},
    "nearest, told": {"sampling": "nearest"},
}
#: Of the side-by-side table.
MODELS = ["nearest", "bilinear", "bicubic", "spline", "histospline", "terrain-x16"]
#: Scores and the digits worth printing.
COLUMNS = {"rmse": 3, "nmad": 3, "slope_rmse": 2}


def rasters(folder: Path) -> Iterator[tuple[str, xr.DataArray]]:
    """The elevation models of a folder, by name."""
    for path in sorted([*folder.glob("*/dtm.tif"), *folder.glob("*.tif")]):
        yield path.parent.name if path.name == "dtm.tif" else path.stem, xdemsr.open(path).compute()


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: str) -> str:
    """The first two lines of one."""
    return f"{row(*cells)}\n{row(*('---' for _ in cells))}"


def by_place(dems: dict[str, xr.DataArray]) -> None:
    """Every score, for spline, histospline and network."""
    titles = "RMSE", "NMAD", "slope RMSE"
    print(head("scale", "place", "input", *titles, "MSE of best classical"))
    for scale in SCALES:
        own = f"terrain-x{scale}"
        for name, dem in dems.items():
            for kind, degradation in KINDS.items():
                table = xdemsr.benchmark(dem, scale, ["spline", "histospline", own], **degradation)
                cells = [
                    " / ".join(f"{value:.{digits}f}" for value in table[column])
                    for column, digits in COLUMNS.items()
                ]
                ratio = f"**{table.loc[own, 'of_best_classical']:.3f}**"
                print(row(f"x{scale}", name, kind, *cells, ratio), flush=True)


def by_sensor(dems: dict[str, xr.DataArray]) -> None:
    """RMSE and slope RMSE over the spline's: mean over places, and the worst."""
    print(head("input", *(f"x{scale} RMSE" for scale in SCALES), *(f"x{s} slope" for s in SCALES)))
    for kind, degradation in SENSORS.items():
        cells: dict[str, list[str]] = {"rmse": [], "slope_rmse": []}
        for scale in SCALES:
            own = f"terrain-x{scale}"
            tables = [xdemsr.benchmark(dem, scale, [own], **degradation) for dem in dems.values()]
            for column, found in cells.items():
                ratios = [table.loc[own, column] / table.loc["spline", column] for table in tables]
                found.append(f"{np.mean(ratios):.2f} ({max(ratios):.2f})")
        print(row(kind, *cells["rmse"], *cells["slope_rmse"]), flush=True)


def coverage(dems: dict[str, xr.DataArray]) -> None:
    """Share of pixels within one and two stated standard errors."""
    print(head("scale", "input", *(f"{name}: one, two" for name in dems), "all places"))
    for scale in SCALES:
        for kind, degradation in KINDS.items():
            shares = []
            for dem in dems.values():
                error = degradation.get("noise", degradation.get("step", 0.0) / 12**0.5)
                coarse = dem.demsr.degrade(scale, **degradation)
                fine = coarse.demsr.upscale(scale, vertical_error=error, uncertainty=True)
                value, spread = fine.data_vars.values()
                base = dem.isel(y=slice(0, value.sizes["y"]), x=slice(0, value.sizes["x"]))
                scores = xdemsr.evaluate(
                    base.copy(data=value.data), base, standard_error=base.copy(data=spread.data)
                )
                shares.append(scores[["within_1se", "within_2se"]])
            table = np.array(shares)
            pairs = [*table, table.mean(axis=0)]
            cells = [f"{one:.3f}, {two:.3f}" for one, two in pairs]
            print(row(f"x{scale}", kind, *cells), flush=True)


def side_by_side(dems: dict[str, xr.DataArray], models: list[str]) -> None:
    """Table 3 of Demiray et al.: MSE over bicubic's in both protocols, all models."""
    protocols = {
        "continuous": {},
        "isolated, tiles of 13": {"protocol": "isolated", "tile": 13},
        "isolated, tiles of 25": {"protocol": "isolated", "tile": 25},
    }
    for protocol, options in protocols.items():
        tables = {}
        for name, dem in dems.items():
            try:
                tables[name] = xdemsr.benchmark(dem, 16, [*MODELS, *models], **options)
            except xdemsr.InputError as nothing:
                print(f"<!-- {name}, {protocol}: {nothing} -->")
        print(f"\n{protocol}\n\n{head('model', *tables)}")
        for model in next(iter(tables.values())).index:
            print(row(model, *(f"{t.loc[model, 'of_spline']:.3f}" for t in tables.values())))


if __name__ == "__main__":
    warnings.simplefilter("ignore", xdemsr.GsdWarning)
    found = dict(rasters(Path(sys.argv[1])))
    for part in (by_place, by_sensor, coverage):
        part(found)
        print()
    side_by_side(found, sys.argv[2:])
