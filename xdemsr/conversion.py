"""Model files made of other projects' checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdemsr.errors import InputError
from xdemsr.foreign import adopt, is_foreign
from xdemsr.foreign.checkpoint import Checkpoint, read
from xdemsr.foreign.exported import read_exported
from xdemsr.foreign.told import Told, Value, ValueRange
from xdemsr.loading import save_model
from xdemsr.spec import Band, Border, Context, ModelSpec
from xdemsr.weights import describe

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def convert(
    source: str | Path | ExportedProgram,
    out: str | Path,
    *,
    spec: ModelSpec | None = None,
    name: str | None = None,
    inputs: Sequence[Band | str] | None = None,
    outputs: Sequence[Band | str] | None = None,
    context: Context | None = None,
    window: int | None = None,
    value_range: ValueRange | None = None,
    border: Border | None = None,
    gsd: tuple[float, float] | None = None,
    summary: str = "",
    licence: str = "",
    citation: str = "",
    options: Mapping[str, Any] | None = None,
    constants: Mapping[str, Value] | None = None,
) -> ModelSpec:
    """Make a model file of another project's checkpoint.

    Networks are recognised by the names and shapes of their tensors: EDSR of EDSR-PyTorch and of
    BasicSR, ResDepth, what spandrel knows, and ONNX programs. Nothing in the file is run. Programs
    of torch.export are taken once they are loaded, and become ONNX ones.

    Parameters
    ----------
    source : str, Path or torch.export.ExportedProgram
        ``.pt``, ``.pth``, ``.ckpt`` or ``.bin``: a state dict, or what trainers wrap around one;
        a bare ``.safetensors``; or ``.onnx``. A ``.pt2`` is not opened, since that could run code:
        where you trust it, give ``torch.export.load("net.pt2")``.
    out : str or Path
        Ends in ``.safetensors``.
    spec : ModelSpec, optional
        What the network is, where it is not recognised. It says all that the next parameters would,
        but ``constants``.
    name : str, optional
        By default the file's; of a program that was given loaded, that of ``out``.
    inputs, outputs : sequence of Band or str, optional
        Layers in the network's order; one band is the elevation and three are colours by default.
        An image network of one or three channels that spandrel or ONNX runs answers any other
        number of bands one by one.
    context : Local or Windowed, optional
        By default it is measured, or follows from the architecture.
    window : int, optional
        Size the network was trained on, for networks that use statistics of their whole window.
        Where a halo is found, or is known, it changes nothing.
    value_range : (low, high), or one such pair for each band, optional
        What the ends of the network's own range stand for, in the raster's units. By default
        numbers are given as they are: 0 to 255 for EDSR-PyTorch, 0 to 1 for most others.
    border, gsd, summary, licence, citation
        See :class:`ModelSpec`.
    options : mapping, optional
        Of the architecture, where the checkpoint does not say: ``{"residual_scale": 0.1}``.
    constants : mapping of str to float or sequence of float, optional
        Constants of the network that its checkpoint does not hold. ResDepth's are
        ``height_scale`` and the ``mean`` and ``std`` of its images.

    Returns
    -------
    ModelSpec
        As written; give it, or the path, to ``upscale`` or ``apply``.

    Raises
    ------
    WeightsError
        If the file is of a kind that could run code, or is not recognised.
    ModelError
        If what is told does not fit, the declared context is false, or a loaded program cannot be
        written as ONNX.
    InputError
        If a package that the network needs is not installed, or ``source`` is none of the above.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> import xdemsr
    >>> folder = tempfile.mkdtemp()
    >>> network = torch.nn.Conv2d(1, 1, 5, padding=2)
    >>> torch.save({"state_dict": network.state_dict()}, folder + "/theirs.ckpt")
    >>> spec = xdemsr.ModelSpec(
    ...     name="filter", architecture="torch.nn:Conv2d", scale=1, context=xdemsr.Local(2),
    ...     options={"in_channels": 1, "out_channels": 1, "kernel_size": 5, "padding": 2},
    ... )
    >>> xdemsr.convert(folder + "/theirs.ckpt", folder + "/ours.safetensors", spec=spec).name
    'filter'
    """
    told = Told(
        name=name,
        inputs=inputs,
        outputs=outputs,
        context=context,
        window=window,
        value_range=value_range,
        border=border,
        gsd=gsd,
        summary=summary,
        licence=licence,
        citation=citation,
        options=options or {},
        constants=constants or {},
    )
    if spec is not None and replace(told, constants={}) != Told():
        raise InputError(
            "spec=... says all of a network: leave the other parameters away, or change it with "
            "dataclasses.replace."
        )
    if isinstance(source, str | os.PathLike):
        checkpoint = _read(source, out)
    else:
        checkpoint = read_exported(source)
        told = replace(told, name=name or Path(out).stem)
    found, module = adopt(checkpoint, told, spec)
    return save_model(module, out, found)


def _read(source: str | os.PathLike[str], out: str | Path) -> Checkpoint:
    """A checkpoint's file, unless there is nothing to convert."""
    if not is_foreign(str(source)):
        raise InputError(
            f"{source} is no checkpoint of another project. A model file of xdemsr's own is used "
            "as it is; read are .pt, .pth, .ckpt, .bin, .safetensors and .onnx."
        )
    if Path(out).resolve() == Path(source).resolve():
        raise InputError(f"{out} is the checkpoint itself: give the model file another name.")
    return read(describe(str(source)), gather=True)
