"""Measure the shipped refinement network on places of your own: the table of docs/refinement.md.

    python examples/accuracy_refine.py FOLDER [PICTURE]

FOLDER holds a folder for each place, with ``dsm.tif`` (highest returns), ``rgb.tif`` and
``dtm.tif`` (the truth), all on one grid of about 1 m, which no model has seen. Prints Markdown.
PICTURE is drawn of the middle of the first place.
"""

from __future__ import annotations

import sys
from pathlib import Path

import xarray as xr
from scipy import ndimage

import xdemsr

MODEL = "dtm-from-dsm"
#: Widths of plain openings, in pixels: the best one of each place is shown.
OPENINGS = (5, 9, 13, 17, 21, 25, 31, 41)
COLUMNS = {"mae": 2, "rmse": 2, "bias": 2, "nmad": 2, "le90": 2, "slope_rmse": 1}


def answers(place: Path, truth: xr.DataArray) -> dict[str, xr.DataArray]:
    """What each method makes of a place."""
    dsm = xdemsr.open(place / "dsm.tif").compute()
    rgb = xdemsr.open(place / "rgb.tif").compute()
    whole = dsm.fillna(dsm.max()).values
    plain = [
        dsm.copy(data=ndimage.grey_opening(whole, (width, width))).where(dsm.notnull())
        for width in OPENINGS
    ]
    colour = rgb.assign_coords(band=["red", "green", "blue"])
    return {
        "DSM as it is": dsm,
        "opening, best width": min(plain, key=lambda dem: float(dem.demsr.evaluate(truth)["mae"])),
        "ground_filter": xdemsr.ground_filter(dsm),
        MODEL: xdemsr.refine(dsm, MODEL, guides={"rgb": colour}),
    }


def draw(found: dict[str, xr.DataArray], path: Path) -> None:
    """Hillshades of the middle of a place."""
    middle = {
        name: dem[tuple(slice(n // 4, 3 * n // 4) for n in dem.shape)]
        for name, dem in found.items()
    }
    axes = xdemsr.plotting.compare(middle, columns=2)
    axes[0].figure.savefig(path, dpi=130)


def main(folder: Path, picture: Path | None = None) -> None:
    """Print the table, and draw."""
    print(f"| place | method | {' | '.join(COLUMNS)} |")
    print(f"| --- | --- | {' | '.join('---' for _ in COLUMNS)} |")
    for place in sorted(path.parent for path in folder.glob("*/dsm.tif")):
        truth = xdemsr.open(place / "dtm.tif").compute()
        found = answers(place, truth)
        if picture is not None:
            shown = {k: v for k, v in found.items() if not k.startswith("opening")}
            draw({**shown, "truth": truth}, picture)
            picture = None
        for name, answer in found.items():
            scores = answer.demsr.evaluate(truth)
            cells = [f"{scores[column]:.{digits}f}" for column, digits in COLUMNS.items()]
            print(f"| {place.name} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
