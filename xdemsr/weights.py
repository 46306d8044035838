"""Weight files: the header that describes a model, the tensors, and what is not opened.

Only formats that cannot run code are read: safetensors, and PyTorch files through the
``weights_only`` unpickler. The specification of a model is one entry of its safetensors header.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
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

#: Endings of files that other projects write, beside bare safetensors.
FOREIGN = (".pt", ".pth", ".ckpt", ".bin", ".pt2", ".onnx")


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
            f"{local.name} is a safetensors file without a specification of xdemsr. Give it one: "
            "xdemsr.convert(path, out), which recognises networks of other projects and takes "
            "spec=xdemsr.ModelSpec(...) for the rest."
        )
    spec = ModelSpec.from_json(metadata[HEADER_KEY])
    return replace(spec, weights=describe(location))


def describe(location: str) -> Weights:
    """Location, sha256 and size of a weights file."""
    local = resolve(location)
    stat = local.stat()
    stored = location if location.startswith(PACKAGE) else str(local.resolve())
    return Weights(stored, _sha256(str(local), stat.st_mtime_ns, stat.st_size), stat.st_size)


def is_ours(location: str) -> bool:
    """Whether this is a safetensors file with a specification in its header.

    Raises
    ------
    WeightsError
        If it is called a safetensors file and is none, or there is no such file.
    """
    local = resolve(location)
    return local.suffix not in FOREIGN and HEADER_KEY in _read_header(local).get("__metadata__", {})


def checked(weights: Weights) -> Path:
    """The local file, after its sha256 was checked.

    Raises
    ------
    WeightsError
        If the file has changed.
    """
    local = resolve(weights.location)
    found = describe(weights.location)
    if found.sha256 != weights.sha256:
        raise WeightsError(
            f"{local.name} is not the file it was: its sha256 is {found.sha256[:12]}..., expected "
            f"{weights.sha256[:12]}.... Restore the file, or start the computation anew."
        )
    return local


def read_tensors(weights: Weights) -> dict[str, Tensor]:
    """All tensors of a weights file, on the CPU, after its sha256 was checked.

    Raises
    ------
    WeightsError
        If the file has changed, holds more than names and tensors, or could run code.
    """
    local = checked(weights)
    if local.suffix in FOREIGN:
        return _plain(read_torch(local), local)
    _read_header(local)
    from safetensors.torch import load_file

    return load_file(local)


def read_torch(path: Path) -> object:
    """What a PyTorch file holds, through the unpickler that calls nothing but tensors' makers.

    Raises
    ------
    WeightsError
        If it holds anything else, or is a program.
    """
    import torch

    _refuse_programs(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The restricted unpickler meets what it does not know with errors of many kinds.
        raise WeightsError(
            f"{path.name} holds more than plain tensors, and opening it could run code. Save its "
            f"state dict alone: torch.save(model.state_dict(), ...). ({error})"
        ) from error


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
        ".safetensors; xdemsr.convert makes one of a PyTorch file of plain tensors, or of ONNX."
    )


def _plain(content: object, path: Path) -> dict[str, Tensor]:
    import torch

    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise WeightsError(
            f"{path.name} is not a state dict: expected names and tensors. Save "
            "model.state_dict() alone."
        )
    return content


#: Part of torch.export's archives before torch 2.7 or so.
_OLDER_EXPORT = "serialized_exported_program.json"


def _refuse_programs(path: Path) -> None:
    """Refuse TorchScript and torch.export: archives that hold more than tensors, by their parts."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return
    parts = {tuple(name.split("/")[1:]) for name in names}
    exported = any(part[:1] == ("models",) for part in parts) or ("archive_format",) in parts
    if exported or _OLDER_EXPORT in names:
        raise WeightsError(
            f"{path.name} is a torch.export program, and torch unpickles whatever such a file "
            "holds. Where you trust it, load it yourself: "
            f"xdemsr.convert(torch.export.load({path.name!r}), out)."
        )
    if any(part[:1] == ("code",) for part in parts):
        raise WeightsError(
            f"{path.name} is a TorchScript program, which may read and write files when it runs. "
            "Where you trust it, load it with torch yourself and export it with torch.onnx.export, "
            "or save its state dict; xdemsr.convert takes either."
        )


@lru_cache(maxsize=64)
def _sha256(path: str, modified_ns: int, size: int) -> str:
    del modified_ns, size  # part of the key: a changed file is hashed again
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
