"""
Sentinel-2: twice finer
=======================

``s2-x2`` takes Sentinel-2's four bands of 10 m to 5 m. Here the image is made, so that what 5 m
would have shown is known.
"""

import matplotlib.pyplot as plt
import numpy as np

import xdemsr

dem = xdemsr.synthetic.fractal((480, 640), gsd=5.0, wavelength=1800, relief=700, base=1000, seed=9)
truth = xdemsr.synthetic.imagery(dem)

# %%
# As an instrument of 10 m sees it: blurred, to a contrast of 0.3 at its Nyquist frequency.
seen = truth.demsr.degrade(2, sampling="gaussian", fwhm=1.16)

# %%
fine = seen.demsr.upscale(2, "s2-x2")
smooth = seen.demsr.upscale(2, "bicubic")
for name, answer in (("bicubic", smooth), ("s2-x2", fine)):
    scores = xdemsr.evaluate(answer, truth)
    print(f"{name:8} PSNR {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.4f}")

# %%
# Red, green and blue, of a part.
part = {"y": slice(150, 330), "x": slice(200, 440)}
coarse_part = {dim: slice(s.start // 2, s.stop // 2) for dim, s in part.items()}
panels = {
    "10 m": seen.isel(coarse_part),
    "bicubic, 5 m": smooth.isel(part),
    "s2-x2, 5 m": fine.isel(part),
    "5 m, the truth": truth.isel(part),
}
figure, axes = plt.subplots(2, 2, figsize=(8.2, 6.4), layout="compressed")
for ax, (name, image) in zip(axes.flat, panels.items(), strict=True):
    shown = image.sel(band=["red", "green", "blue"]).transpose("y", "x", "band")
    ax.imshow(
        np.clip(shown / 0.28, 0, 1) ** 0.75, interpolation="nearest", extent=(0, 1200, 900, 0)
    )
    ax.set(title=name, xlabel="m", ylabel="m")
    ax.label_outer()
