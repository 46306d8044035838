"""Programs of torch.export, which their user has loaded, made into ONNX ones.

Their files are never opened here, since torch may run what it finds in them. Whether to trust one
was for its user to decide, before it was loaded.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import torch

from xdemsr.errors import InputError, ModelError
from xdemsr.foreign.checkpoint import Checkpoint
from xdemsr.foreign.onnx import as_tensors

if TYPE_CHECKING:
    from torch.export import ExportedProgram

#: Where a checkpoint's errors and summary have the name of its file.
_NAME = "a torch.export program"


def read_exported(program: object) -> Checkpoint:
    """An exported program as an ONNX one, with its weights inside.

    Raises
    ------
    InputError
        If it is no such program, or a package that translates it is not installed.
    ModelError
        If ONNX has no words for it.
    """
    # Not with this module: older torch loads it on request, and few will.
    from torch.export import ExportedProgram

    if not isinstance(program, ExportedProgram):
        raise InputError(
            "expected the path of a checkpoint, or a torch.export.ExportedProgram; found "
            f"{type(program).__name__}. A network of your own is written by xdemsr.save_model."
        )
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise InputError(
                "converting torch.export programs needs onnx, onnxscript and onnxruntime, and "
                f"{package} is not there: pip install 'xdemsr[onnx]'."
            ) from error
    return Checkpoint(_NAME, as_tensors(_translated(program)))


def _translated(program: ExportedProgram) -> bytes:
    with warnings.catch_warnings():
        # What torch and onnxscript deprecate in one another is not for the user to mend.
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        try:
            translated: Any = torch.onnx.export(program, dynamo=True, verbose=False)
            # Asked for as one message, it has its weights inside.
            return bytes(translated.model_proto.SerializeToString())
        except Exception as error:
            # Of exporter and protobuf, which have no common base but this.
            raise ModelError(
                "the torch.export program cannot be written as ONNX, of 2 GB at most: "
                f"{_root(error)}. Save its state_dict, and say what network it is of: "
                "spec=xdemsr.ModelSpec(...)."
            ) from error


def _root(error: BaseException) -> str:
    """The first of a chain of errors; the exporter's last one is a page on how to report it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).rstrip(".")
