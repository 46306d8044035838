"""Measure the shipped Sentinel-2 network on scenes of your own: the tables of docs/sentinel2.md.

    python examples/accuracy_sentinel2.py IMAGE [IMAGE ...]

Each IMAGE holds red, green, blue and near infrared at 10 m, as reflectances or digital numbers, and
was seen by no model. It is degraded to 20 m as several sensors would see it, restored by bicubic
interpolation and by the network, and compared with itself. Prints Markdown.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import xdemsr

MODEL = "s2-x2"
#: The sensor of the main row has the contrast of Sentinel-2's own bands, 0.3 or so at Nyquist.
SENSORS: dict[str, dict[str, Any]] = {
    "Gaussian, FWHM 1.16 px (MTF 0.3)": {"sampling": "gaussian", "fwhm": 1.16},
    "block means": {},
    "Gaussian, FWHM 0.8 px": {"sampling": "gaussian", "fwhm": 0.8},
    "Gaussian, FWHM 1.6 px": {"sampling": "gaussian", "fwhm": 1.6},
    "every other pixel": {"sampling": "nearest"},
}


def main(paths: list[Path]) -> None:
    """Print the table."""
    print("| scene | seen by | bicubic PSNR | SSIM | s2-x2 PSNR | SSIM | gain |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for path in paths:
        truth = xdemsr.open(path).astype("float32").compute()
        for name, sensor in SENSORS.items():
            coarse = truth.demsr.degrade(2, **sensor)
            scores = [
                coarse.demsr.upscale(2, model).demsr.evaluate(truth) for model in ("bicubic", MODEL)
            ]
            cells = [f"{s['psnr']:.2f} | {s['ssim']:.4f}" for s in scores]
            gain = scores[1]["psnr"] - scores[0]["psnr"]
            print(f"| {path.stem} | {name} | {' | '.join(cells)} | {gain:+.2f} dB |")


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
