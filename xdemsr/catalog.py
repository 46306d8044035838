"""Finding models: by name, by path, or as given."""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xdemsr.errors import ModelError
from xdemsr.kernels import KERNELS, taps
from xdemsr.spec import Local, ModelSpec
from xdemsr.weights import read_spec, shipped

if TYPE_CHECKING:
    import pandas as pd


class HasSpec(Protocol):
    """Anything that says which model it is: a loaded :class:`xdemsr.Model`."""

    @property
    def spec(self) -> ModelSpec: ...


ModelLike = str | Path | ModelSpec | HasSpec

#: Pixels along an interpolation's tiles, and most of what they become: 16 MiB of the answer.
_TILE, _LARGEST_TILE = 256, 2048


def find(model: ModelLike | None, scale: int | None = None) -> ModelSpec:
    """The specification of a model, checked against the scale that is wanted.

    Parameters
    ----------
    model : str, Path, ModelSpec, Model or None
        A shipped name, an interpolation's name, the path of a ``.safetensors`` file, or a model.
        None is the shipped terrain model of that scale.
    scale : int, optional
        Wanted scale; the model's own by default.

    Raises
    ------
    ModelError
        If there is no such model (the nearest names are given), or it has another scale.
    """
    spec = _resolve(model, scale)
    if scale is not None and spec.scale != scale:
        made_for = ", ".join(map(str, sorted(spec.scales or [spec.scale])))
        raise ModelError(
            f"model {spec.name!r} is made for scale{'s' * (len(spec.scales) > 1)} {made_for}, not "
            f"{scale}. Models for {scale}: {', '.join(_names(scale))}."
        )
    return spec


def interpolation(kernel: str, scale: int) -> ModelSpec:
    """The specification of a classical interpolation at any whole-number scale."""
    table = taps(kernel, scale)
    width = table.shape[1]
    return ModelSpec(
        name=kernel,
        architecture="interpolation",
        options={"kernel": kernel, "scale": scale},
        scale=scale,
        context=Local(halo=width // 2, tile=max(1, min(_TILE, _LARGEST_TILE // scale))),
        border=KERNELS[kernel][1],
        flops=2.0 * width * scale * (1 + scale),
        summary=f"{kernel} interpolation, no parameters",
        licence="BSD-3-Clause",
    )


@lru_cache(maxsize=1)
def shipped_models() -> dict[str, ModelSpec]:
    """The trained models inside the package, by name."""
    specs = (read_spec(location) for location in shipped())
    by_scale = (spec.at(scale) for spec in specs for scale in spec.scales or [spec.scale])
    return {spec.name: spec for spec in by_scale}


def list_models() -> pd.DataFrame:
    """The models that can be named: shipped ones and interpolations.

    Returns
    -------
    pandas.DataFrame
        Indexed by name: ``task``, ``scale`` (any for interpolations), ``inputs``, ``gsd`` (of the
        input, in training), ``size`` of the weights in bytes, ``licence`` and ``summary``.

    Examples
    --------
    >>> import xdemsr
    >>> "histospline" in xdemsr.list_models().index
    True
    """
    import pandas as pd

    specs = [*shipped_models().values(), *(interpolation(kernel, 2) for kernel in KERNELS)]
    rows = [
        {
            "name": spec.name,
            "task": spec.task,
            "scale": str(spec.scale) if spec.weights else "any",
            "inputs": ", ".join(band.name for band in spec.inputs),
            "gsd": "any" if spec.gsd is None else f"{spec.gsd[0]:g} to {spec.gsd[1]:g} m",
            "size": spec.weights.size if spec.weights else 0,
            "licence": spec.licence,
            "summary": spec.summary,
        }
        for spec in specs
    ]
    return pd.DataFrame(rows).set_index("name")


def _resolve(model: ModelLike | None, scale: int | None) -> ModelSpec:
    if isinstance(model, ModelSpec):
        return model.at(scale)
    if model is None:
        return _default(scale)
    if not isinstance(model, str | Path):
        spec = getattr(model, "spec", None)
        if not isinstance(spec, ModelSpec):
            raise ModelError(
                f"a model is given by name, path, ModelSpec or xdemsr.Model, not "
                f"{type(model).__name__}. A bare network needs its specification first: "
                "xdemsr.save_model(network, path, spec)."
            )
        return spec.at(scale)
    if isinstance(model, Path) or model.endswith(".safetensors"):
        return read_spec(model).at(scale)
    if model in KERNELS:
        if scale is None:
            raise ModelError(f"say the scale: the interpolation {model!r} has none of its own.")
        return interpolation(model, scale)
    if model in shipped_models():
        return shipped_models()[model]
    known = [*shipped_models(), *KERNELS]
    near = difflib.get_close_matches(model, known, n=3, cutoff=0.4) or known
    raise ModelError(
        f"no model is called {model!r}. Nearest: {', '.join(near)}. A file of your own is given by "
        "its path, ending in .safetensors; of another project's checkpoint make one first: "
        "xdemsr.convert(path, out)."
    )


def _default(scale: int | None) -> ModelSpec:
    terrain = {s.scale: s for s in shipped_models().values() if s.architecture == "terrain"}
    if scale in terrain:
        return terrain[scale]
    if scale is None:
        raise ModelError("say the scale, or name a model that has one.")
    raise ModelError(
        f"no trained terrain model of scale {scale} is shipped (there is one for "
        f"{', '.join(map(str, sorted(terrain)))}). Name an interpolation, for instance "
        "model='histospline', or a model of your own."
    )


def _names(scale: int) -> list[str]:
    return [n for n, spec in shipped_models().items() if spec.scale == scale] + list(KERNELS)
