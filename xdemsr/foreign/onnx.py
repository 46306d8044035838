"""ONNX programs, run by ONNX Runtime on one thread of the CPU, or on the GPU.

A program is data: a graph of operations that neither read nor write files. Its bytes lie in one of
our own weight files as a tensor, so that sha256, specification and safe reading are as for others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xdemsr.errors import InputError, ModelError, WeightsError
from xdemsr.foreign.ranges import Ranges, band_by_band, fitted, range_options
from xdemsr.foreign.told import Found, Told, ValueRange
from xdemsr.models.layers import with_margin
from xdemsr.models.network import Network
from xdemsr.spec import Windowed

_NAME = "program"

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}

#: Widths that programs of most strides can be run on; the first that does tells the scale.
_TRIED = (64, 96, 60, 70)


class OnnxNetwork(Network):
    """A network kept as an ONNX program.

    It runs in the precision it was exported in, whatever is asked for.

    Parameters
    ----------
    scale : int
        Output pixels per input pixel along each axis.
    bands, answers : int
        Layers in and out. Where a program of one or three channels is given another number of
        bands it answers them one by one.
    value_range, output_range : (low, high), or one such pair for each band, optional
        What the program's 0 and 1 stand for, going in and coming out.
    output : str, optional
        Which of several outputs is the answer; the first by default.
    """

    program: Tensor

    def __init__(
        self,
        scale: int,
        bands: int = 1,
        answers: int = 1,
        *,
        value_range: ValueRange | None = None,
        output_range: ValueRange | None = None,
        output: str | None = None,
    ) -> None:
        super().__init__()
        self.scale, self.answers, self.output = scale, answers, output
        self.given = Ranges(value_range, bands)
        self.answered = Ranges(output_range, answers)
        self.register_buffer(_NAME, torch.zeros(0, dtype=torch.uint8))
        self._program: Program | None = None

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take the program's bytes, and make it ready to run."""
        if _NAME in state_dict:
            self.program = torch.empty_like(state_dict[_NAME])
        loaded = super().load_state_dict(state_dict, strict, assign)
        self._program = Program(_content(self.program), self.output)
        return loaded

    def forward(self, x: Tensor, *, halo: int = 0) -> Tensor:
        program = self._program
        if program is None:
            raise ModelError("an ONNX network has no program before one is loaded into it.")
        if x.dtype != torch.float32:
            # Who measures how far it sees must know that it does not compute in double precision.
            raise TypeError(f"an ONNX network takes float32, not {x.dtype}")
        ny, nx = (length * self.scale for length in x.shape[-2:])
        y = band_by_band(self.given.enter(x), program.channels or x.shape[1], program)
        wanted = (x.shape[0], self.answers, ny, nx)
        if tuple(y.shape) != wanted:
            raise ModelError(
                f"the ONNX program answered {tuple(x.shape)} with {tuple(y.shape)}; its "
                f"specification promises {wanted} (n, bands, ny, nx)."
            )
        return with_margin(self.answered.leave(y), halo * self.scale, 0)

    def trunk_parts(self) -> Iterator[nn.Module]:
        yield from ()


class Program:
    """An ONNX program made ready: one input (n, bands, ny, nx), one answer.

    Attributes
    ----------
    channels : int
        Of its input; 0 where any number will do.
    size : int or None
        Of its input along both axes, where that is fixed.
    """

    def __init__(self, content: bytes, output: str | None = None) -> None:
        self._content = content
        self._guard = threading.Lock()
        self._sessions: dict[str, Any] = {}
        session = self._session(torch.device("cpu"))
        inputs, outputs = session.get_inputs(), [out.name for out in session.get_outputs()]
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _TYPES:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise ModelError(
                "an ONNX program must have one input of numbers, (n, bands, ny, nx); this one has "
                f"{found}."
            )
        if output is not None and output not in outputs:
            raise ModelError(f"the ONNX program has no output {output!r}: {', '.join(outputs)}.")
        self._input, self._dtype = inputs[0].name, _TYPES[inputs[0].type]
        self._output = output or outputs[0]
        self._batch, self.channels, *sides = (
            n if isinstance(n, int) and n > 0 else 0 for n in inputs[0].shape
        )
        if sides[0] != sides[1] or self._batch > 1:
            raise ModelError(
                "an ONNX program of fixed size must take one square window at a time; this one "
                f"takes {inputs[0].shape} (n, bands, ny, nx). Export it with dynamic axes."
            )
        self.size = sides[0] or None

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        # It keeps nothing while it runs, so copies of a network share it.
        return self

    def __call__(self, x: Tensor) -> Tensor:
        array = x.detach().cpu().numpy().astype(self._dtype, copy=False)
        step = self._batch or len(array)
        parts = [self._run(array[i : i + step], x.device) for i in range(0, len(array), step)]
        answer = np.concatenate(parts).astype(np.float32, copy=False)
        return torch.from_numpy(answer).to(x.device)

    def _run(self, array: NDArray[Any], device: torch.device) -> NDArray[Any]:
        session = self._session(device)
        try:
            (answer,) = session.run([self._output], {self._input: array})
        except Exception as error:
            # Its errors have no common base but this.
            raise RuntimeError(f"ONNX Runtime: {error}") from error
        return np.asarray(answer)

    def _session(self, device: torch.device) -> Any:
        """The program on a device; where ONNX Runtime has none for it, on the CPU."""
        with self._guard:
            if str(device) not in self._sessions:
                self._sessions[str(device)] = _start(self._content, device)
            return self._sessions[str(device)]


def recognise_onnx(
    tensors: dict[str, Tensor], told: Told, notes: Mapping[str, Any]
) -> Found | None:
    """An ONNX program kept as bytes, or None."""
    del notes
    if tensors.keys() != {_NAME} or tensors[_NAME].dtype != torch.uint8:
        return None
    program = Program(_content(tensors[_NAME]), told.options.get("output"))
    channels = program.channels or told.count or 1
    side, answer = _tried(program, channels)
    if answer.ndim != 4 or answer.shape[-2] % side or answer.shape[-1] != answer.shape[-2]:
        raise ModelError(
            f"the ONNX program answered {(1, channels, side, side)} with {tuple(answer.shape)}; "
            "expected (n, bands', ny * scale, nx * scale)."
        )
    bands, answers = fitted(told.count, channels, answer.shape[1], "ONNX")
    scale = answer.shape[-1] // side
    return Found(
        kind="ONNX",
        architecture="onnx",
        options={"scale": scale, **range_options(told, bands, answers), **told.options},
        scale=scale,
        inputs=bands,
        outputs=answers,
        tensors=tensors,
        context=Windowed(program.size, program.size // 4) if program.size else None,
        task="super-resolution" if scale > 1 else "restoration",
    )


def read_program(path: Path, gather: bool) -> dict[str, Tensor]:
    """An ONNX file as a tensor; where asked for, with what it keeps in files beside it."""
    return as_tensors(_gathered(path) if gather else path.read_bytes())


def as_tensors(content: bytes) -> dict[str, Tensor]:
    """An ONNX program's bytes as the one tensor of its checkpoint."""
    return {_NAME: torch.frombuffer(bytearray(content), dtype=torch.uint8)}


def _gathered(path: Path) -> bytes:
    try:
        import onnx
    except ImportError as error:
        raise InputError(
            "converting ONNX files needs onnx and onnxruntime: pip install 'xdemsr[onnx]'."
        ) from error
    try:
        return bytes(onnx.load(str(path)).SerializeToString())
    except Exception as error:
        # Its errors have no common base but this.
        raise WeightsError(f"{path.name} is not a whole ONNX file: {error}") from error


def _tried(program: Program, channels: int) -> tuple[int, Tensor]:
    """A size that the program can be run on, and its answer."""
    problems = []
    for side in (program.size,) if program.size else _TRIED:
        try:
            return side, program(torch.zeros(1, channels, side, side))
        except RuntimeError as problem:
            problems.append(problem)
    raise ModelError(f"the ONNX program cannot be run: {problems[0]}") from problems[0]


def _content(program: Tensor) -> bytes:
    return program.cpu().numpy().tobytes()


def _start(content: bytes, device: torch.device) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "running ONNX files needs onnxruntime: pip install 'xdemsr[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    # As torch is run here: one thread for a tile, and as many tiles side by side as there are.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    # A program may name files to read weights from; from bytes alone, it must find none.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.devnull
    )
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:
        # Its errors have no common base but this.
        raise WeightsError(
            f"not an ONNX program that can be run: {error}. Where it keeps its weights in a file "
            "beside it, xdemsr.convert(path, out) puts both into one."
        ) from error
