"""What the engine expects of a network.

Any ``torch.nn.Module`` that maps (n, bands, ny, nx) to (n, bands', ny * scale, nx * scale) will do.
The library's own also cut the halo themselves, before their sub-pixel layer, and say which of
their parts may run in half precision.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from xdemsr.spec import Border


class Network(nn.Module):
    """Base of the library's own architectures: physical units in, physical units out.

    Input and output are float32 in the units of the bands. Centring, scaling and the interpolated
    skip are part of the network and run in float32; only :meth:`trunk_parts` run in the dtype set
    by :meth:`set_precision`.

    Attributes
    ----------
    bands : tuple of str
        Input bands in order.
    border : {"odd", "mirror", "edge"}
        How a raster is continued beyond its border.
    """

    bands: tuple[str, ...] = ("elevation",)
    border: Border = "edge"

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        """Answer the core of ``x``.

        Parameters
        ----------
        x : Tensor, shape (n, bands, ny + 2 halo, nx + 2 halo)
            Input in physical units, float32.
        halo : int
            Pixels on every side of ``x`` that are context only.

        Returns
        -------
        Tensor, shape (n, bands', ny * scale, nx * scale), float32
        """
        raise NotImplementedError

    def trunk_parts(self) -> Iterator[nn.Module]:
        """The parts that may run in half precision."""
        raise NotImplementedError

    def set_precision(self, dtype: torch.dtype) -> None:
        """Run the trunk in ``dtype``; everything else stays in float32."""
        for part in self.trunk_parts():
            part.to(dtype=dtype)
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
