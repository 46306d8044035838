"""
Bring your own network
======================

Any ``torch.nn.Module`` that maps (n, bands, ny, nx) to (n, bands', ny * scale, nx * scale), in
physical units, will do. This one sharpens: it was never trained, and the point is what happens
around it.
"""

import sys
import tempfile
from pathlib import Path

import xdemsr

folder = Path(tempfile.mkdtemp())

# %%
# A network of your own lives in a module of your own, which workers can import.
(folder / "my_networks.py").write_text(
    '''
import torch
from torch import nn
from torch.nn import functional


class Sharper(nn.Module):
    """Twice finer by bicubic interpolation, then away from the mean of the neighbourhood."""

    def __init__(self, strength: float = 1.0, size: int = 9) -> None:
        super().__init__()
        kernel = -torch.ones(1, 1, size, size) * strength / size**2
        kernel[..., size // 2, size // 2] += 1 + strength
        edge = {"padding": size // 2, "padding_mode": "replicate"}
        self.sharpen = nn.Conv2d(1, 1, size, bias=False, **edge)
        self.sharpen.weight.data = kernel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = functional.interpolate(x, scale_factor=2, mode="bicubic")
        return self.sharpen(fine)
'''
)
sys.path.insert(0, str(folder))

from my_networks import Sharper  # noqa: E402

network = Sharper(strength=1.0)

# %%
# How far it sees is measured by disturbing pixels, not guessed. Nothing else is needed to run it
# over a raster of any size without a seam.
context = xdemsr.measure_context(network)
print(context)

# %%
# Everything that is known of it goes into the header of its file, which names the class by its
# import path.
spec = xdemsr.ModelSpec(
    name="sharper",
    architecture="my_networks:Sharper",
    options={"strength": 1.0},
    scale=2,
    context=context,
)
xdemsr.save_model(network, folder / "sharper.safetensors", spec)
xdemsr.load_model(folder / "sharper.safetensors")

# %%
# From here on it is like any other model: lazy, and the same numbers whatever the chunks.
dem = xdemsr.synthetic.fractal((150, 220), seed=6)
whole = dem.demsr.upscale(2, folder / "sharper.safetensors")
pieces = dem.chunk(y=37, x=91).demsr.upscale(2, folder / "sharper.safetensors", chunks=(170, 333))
print("identical:", bool((whole == pieces).all()))
print(whole.attrs["xdemsr_model"], whole.attrs["xdemsr_model_sha256"][:12])

# %%
axes = xdemsr.plotting.compare(
    {
        "bicubic": dem.demsr.upscale(2, "bicubic"),
        "Sharper": whole,
        "terrain-x2": dem.demsr.upscale(2),
    }
)
