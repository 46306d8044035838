"""The device and the precision that a call stands for on this machine."""

from __future__ import annotations

import torch

from xdemsr.errors import InputError
from xdemsr.spec import ModelSpec

_DEVICES = "'auto', 'cpu', 'cuda' or 'mps'"


def resolve_device(name: str) -> torch.device:
    """The device of this machine that ``"auto"`` or a name stands for.

    Raises
    ------
    InputError
        If torch does not know the name, or the machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return _numbered(torch.device("cuda"))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device={name!r} is not a device: use {_DEVICES}.") from error
    usable = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not usable.get(device.type, False):
        raise InputError(f"torch finds no device {name!r} here. Use {_DEVICES}.")
    return _numbered(device)


def _numbered(device: torch.device) -> torch.device:
    """One name for one device: networks and locks are kept by it."""
    index: int | None = device.index
    if device.type == "cuda" and index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def resolve_precision(name: str, device: torch.device, spec: ModelSpec) -> torch.dtype:
    """The dtype of the trunk; ``"auto"`` is the half precision that the device does natively.

    A user's own network runs in float32 unless told otherwise: nobody has said which of its parts
    bear half precision.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if ":" in spec.architecture:
        return torch.float32
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu" and _native_bfloat16():
        return torch.bfloat16
    return torch.float32


def _native_bfloat16() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    # Older releases have it under a private name.
    older = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return bool(older())


def unmistakable(device: torch.device) -> str:
    """What tells this device from all others of the machine.

    The number does not: each worker of a GPU cluster is shown one GPU, as its first.
    """
    if device.type == "cuda":
        return f"gpu-{torch.cuda.get_device_properties(device).uuid}"
    return device.type
