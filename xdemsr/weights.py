"""Weight files: the header that describes a model, the tensors, and what is not opened.

Only formats that cannot run code are read: safetensors, and PyTorch files through the
``weights_only`` unpickler. The specification of a model is one entry of its safetensors header.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdemsr.errors import WeightsError
from xdemsr.spec import PACKAGE, ModelSpec, Weights

if TYPE_CHECKING:
    from torch import Tensor

HEADER_KEY = "xdemsr"
_LARGEST_HEADER = 100_000_000
_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")


def read_spec(path: str | Path) -> ModelSpec:
    """The specification in the header of a model file; no tensor is read, torch is not needed.

    Raises
    ------
    WeightsError
        If the file is not a safetensors file, or carries no specification.
    """
    location = str(path)
    local = resolve(location)
    metadata = _read_header(local).get("__metadata__", {})
    if HEADER_KEY not in metadata:
        raise WeightsError(
            f"{local.name} is a safetensors file without a specification of xdemsr. Say what it "
            "is: xdemsr.load_model(path, spec=xdemsr.ModelSpec(...)), then xdemsr.save_model."
        )
    spec = ModelSpec.from_json(metadata[HEADER_KEY])
    return replace(spec, weights=describe(location))


def describe(location: str) -> Weights:
    """Location, sha256 and size of a weights file."""
    local = resolve(location)
    stat = local.stat()
    stored = location if location.startswith(PACKAGE) else str(local.resolve())
    return Weights(stored, _sha256(str(local), stat.st_mtime_ns, stat.st_size), stat.st_size)


def read_tensors(weights: Weights) -> dict[str, Tensor]:
    """All tensors of a weights file, on the CPU, after its sha256 was checked.

    Raises
    ------
    WeightsError
        If the file has changed, or is of a kind that could run code.
    """
    local = resolve(weights.location)
    found = describe(weights.location)
    if found.sha256 != weights.sha256:
        raise WeightsError(
            f"{local.name} is not the file it was: its sha256 is {found.sha256[:12]}..., expected "
            f"{weights.sha256[:12]}.... Restore the file, or start the computation anew."
        )
    if local.suffix in _TORCH_SUFFIXES:
        return _read_torch(local)
    _read_header(local)
    from safetensors.torch import load_file

    return load_file(local)


def write(path: Path, tensors: Mapping[str, Tensor], spec: ModelSpec) -> ModelSpec:
    """Write a model file; returns the specification with its weights filled in."""
    from safetensors.torch import save_file

    if path.suffix != ".safetensors":
        raise WeightsError(
            f"a model is written as .safetensors, not {path.suffix or 'without suffix'!r}."
        )
    if not path.parent.is_dir():
        raise WeightsError(f"there is no folder {path.parent} to write {path.name} into.")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata={HEADER_KEY: spec.to_json(), "format": "pt"})
    return read_spec(path)


def resolve(location: str) -> Path:
    """The local file behind a location."""
    if location.startswith(PACKAGE):
        with as_file(files("xdemsr") / "shipped" / location.removeprefix(PACKAGE)) as path:
            return path
    path = Path(location).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"there is no weights file at {path}. On a cluster the file must be readable by every "
            "worker under the same path."
        )
    return path


def shipped() -> list[str]:
    """Locations of the models inside the package."""
    folder = files("xdemsr") / "shipped"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".safetensors"))
    return [PACKAGE + name for name in names]


def _read_header(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_LARGEST_HEADER, path.stat().st_size - 8):
            raise _refused(path)
        try:
            header = json.loads(file.read(length))
        except (UnicodeDecodeError, json.JSONDecodeError):
            raise _refused(path) from None
    try:
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        promised = 8 + length + max(ends, default=0)
    except (AttributeError, KeyError, TypeError, IndexError):
        raise _refused(path) from None
    if promised != path.stat().st_size:
        raise WeightsError(
            f"{path.name} is not complete: it has {path.stat().st_size:,} bytes, and its header "
            f"promises {promised:,}. Copy or download it again."
        )
    return dict(header)


def _refused(path: Path) -> WeightsError:
    return WeightsError(
        f"{path.name} is not a safetensors file. xdemsr opens nothing that could run code: use "
        ".safetensors, or a PyTorch file of plain tensors: xdemsr.load_model(path, spec=...)."
    )


def _read_torch(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The restricted unpickler meets what it does not know with errors of many kinds.
        raise WeightsError(
            f"{path.name} holds more than plain tensors, and opening it could run code. Save its "
            f"state dict alone: torch.save(model.state_dict(), ...). ({error})"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise WeightsError(
            f"{path.name} is not a state dict: expected names and tensors. Save "
            "model.state_dict() alone."
        )
    return content


@lru_cache(maxsize=64)
def _sha256(path: str, modified_ns: int, size: int) -> str:
    del modified_ns, size  # part of the key: a changed file is hashed again
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
