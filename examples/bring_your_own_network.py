"""Run a network of your own over a raster of any size.

Any ``torch.nn.Module`` that maps (n, bands, ny, nx) to (n, bands, ny * scale, nx * scale), in
physical units, will do. This one is small and was never trained; the point is what happens around
it.
"""

import torch
from torch import nn

import xdemsr
from xdemsr.models.edsr import EDSR

torch.manual_seed(0)
# Indifferent to a constant height, and starting from bicubic interpolation.
network: nn.Module = EDSR(4, blocks=4, features=16, centre_radius=4, skip="bicubic")

# How far it sees is measured by disturbing pixels, not guessed.
context = xdemsr.measure_context(network)
print(context)

# Everything that is known of it goes into the header of its file. A class of your own is named by
# its import path: architecture="mypackage.networks:MyNet".
spec = xdemsr.ModelSpec(
    name="my-edsr",
    architecture="edsr",
    options={"scale": 4, "blocks": 4, "features": 16, "centre_radius": 4, "skip": "bicubic"},
    scale=4,
    context=context,
)
xdemsr.save_model(network, "my-edsr.safetensors", spec)

# From here on it is like any other model: lazy, and the same numbers whatever the chunks.
dem = xdemsr.synthetic.terrain((300, 400))
whole = dem.demsr.upscale(4, "my-edsr.safetensors")
pieces = dem.chunk(y=37, x=91).demsr.upscale(4, "my-edsr.safetensors", chunks=(500, 333))
print("identical:", bool((whole == pieces).all()))
print(whole.attrs["xdemsr_model"], whole.attrs["xdemsr_model_sha256"][:12])
