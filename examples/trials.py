"""Train the terrain network with one thing changed at a time: the table of docs/training.md.

    python examples/trials.py TRAIN VALIDATION [STEPS [TRIAL ...]]

TRAIN and VALIDATION hold bare-earth GeoTIFFs (``*.tif`` or ``*/dtm.tif``) of different places. Each
trial is the shipped recipe with the change that it names, run for STEPS steps (1500 if they are not
given) and scored at x16 on the places of VALIDATION. A trial takes minutes on one core; models and
logs are left in the folder ``trials``, and what is finished there is not trained again. Prints
Markdown.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

from accuracy import head, row

import xdemsr
from xdemsr.training import Recipe

SCALE = 16
KINDS = {"clean": "exact", "metres": "whole metres", "noise": "0.3 m noise"}
#: What the mixture of sensors draws beside exact ones.
ERRORS = ("rounded", "noisy", "blurred", "thinned", "striped", "mixed")
#: What is changed in the recipe.
TRIALS: dict[str, dict[str, dict[str, Any]]] = {
    "as it comes": {},
    "another seed": {"run": {"seed": 1}},
    "one spacing only": {"patches": {"blocks": [4], "half_share": 0.0}},
    "places as they are, not turned nor stretched": {"data": {"variants": 0}},
    "exact inputs only": {
        "mixture": dict.fromkeys(ERRORS, 0.0),
        "patches": {"finest_exact": 1},
    },
}


def scores(name: str, train: str, validation: str, steps: int) -> dict[str, float]:
    """Scores of one trial by kind of input, trained if it is not there yet."""
    out = Path("trials") / f"{name.replace(' ', '_').replace(',', '')}.safetensors"
    if not out.exists():
        out.parent.mkdir(exist_ok=True)
        recipe = Recipe.named("terrain").replaced(
            data={
                "train": str(Path(train).absolute()),
                "validation": str(Path(validation).absolute()),
            },
            run={"steps": steps, "validate_every": steps},
            uncertainty={"steps": 0, "scales": [SCALE]},
        )
        xdemsr.train(recipe.replaced(**TRIALS[name]), out, progress=False)
    found: dict[str, float] = xdemsr.load_model(out).spec.training["scores"]
    return found


def main(train: str, validation: str, steps: int = 1500, *trials: str) -> None:
    """Every trial, one line each."""
    print(head(f"x{SCALE}, {steps} steps", *KINDS.values()))
    for name in trials or TRIALS:
        found = scores(name, train, validation, steps)
        print(row(name, *(f"{found[f'x{SCALE}/{kind}']:.3f}" for kind in KINDS)), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    warnings.simplefilter("ignore")
    main(*sys.argv[1:3], *map(int, sys.argv[3:4]), *sys.argv[4:])
