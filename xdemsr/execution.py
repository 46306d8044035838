"""How a call is to be run: said on the client, decided on the worker."""

from __future__ import annotations

from dataclasses import dataclass

from xdemsr.errors import InputError

_PRECISIONS = {
    "auto": "auto",
    "fp32": "float32",
    "float32": "float32",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
}


@dataclass(frozen=True, slots=True)
class Execution:
    """Device, precision and batch of a call; ``"auto"`` is resolved where the work is done.

    Attributes
    ----------
    device : str
        ``"auto"``, or a name torch knows: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    precision : str
        ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"`` of the network's trunk.
    batch_size : int or "auto"
        Tiles given to the device at once. On the CPU each tile has a thread of its own, so it
        changes nothing there.
    ensemble : bool
        Average the answers to the eight flips and rotations of each tile.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | str = "auto"
    ensemble: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.precision, str) or self.precision not in _PRECISIONS:
            raise InputError(
                f"precision={self.precision!r} is not known. Use 'auto', 'fp32', 'bf16' or 'fp16'."
            )
        object.__setattr__(self, "precision", _PRECISIONS[self.precision])
        if not isinstance(self.device, str):
            raise InputError(
                f"device={self.device!r} must be a name: 'auto', 'cpu', 'cuda' or 'cuda:1'."
            )
        whole = isinstance(self.batch_size, int) and not isinstance(self.batch_size, bool)
        if self.batch_size != "auto" and not (whole and int(self.batch_size) >= 1):
            raise InputError(
                f"batch_size={self.batch_size!r} must be 'auto' or a whole number of tiles, "
                "1 or more."
            )
