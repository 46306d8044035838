"""How far a network of unknown make sees, measured with faint disturbances as well as strong ones.

What normalises its features, as transformers do, hardly notices beside a strong disturbance how
its windows lie; what clips them sees only a faint one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from xdemsr.models.context import measure_context
from xdemsr.spec import Band, Context, Local, Windowed

#: A disturbance of the measurement becomes one of a network's usual range of 1.
_FAINT = 1e-3


def measure(
    module: nn.Module, inputs: Sequence[Band], *, window: int | None = None, stride: int = 1
) -> Context:
    """The context that holds for strong and for faint disturbances.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : sequence of Band
    window : int, optional
        Size the network was trained on, where it uses statistics of its whole window.
    stride : int, optional
        That the sides of its input must be multiples of, as its makers say.

    Raises
    ------
    ModelError
        If the network cannot be run, or sees very far and no ``window`` was given.
    """
    strong, faint = (
        measure_context(probed, inputs, window=window) for probed in (module, _Faint(module))
    )
    if isinstance(strong, Windowed) or isinstance(faint, Windowed):
        return strong if isinstance(strong, Windowed) else faint
    common = math.lcm(strong.multiple_of, faint.multiple_of, stride)
    # A coarser stride was not seen by the other, nor how much farther its phases reach.
    reach = max(c.halo + common - c.multiple_of for c in (strong, faint))
    return Local(math.ceil(reach / common) * common, multiple_of=common)


class _Faint(nn.Module):
    """A network that sees a thousandth of what it is given."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> Tensor:
        answer: Tensor = self.module(*(tensor * _FAINT for tensor in tensors))
        return answer
