"""Training in stages, one model after the other: the schemes of Galar et al. for Sentinel-2."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from xdemsr.errors import InputError
from xdemsr.learning import train
from xdemsr.spec import ModelSpec
from xdemsr.training.recipe import Recipe
from xdemsr.weights import read_spec

#: Training patches of the poster: an epoch is as many as these.
PATCHES = 2918


@dataclass(frozen=True)
class Scheme:
    """How a network is trained.

    Attributes
    ----------
    inputs, target : str
        Names of the rasters: what is learnt from and what is to be learnt. Where both are one, it
        is learnt from itself, made coarser.
    coarsen : int
        Work with pixels so many times larger than the target's.
    size : int
        Source pixels along a patch.
    stages : tuple of (int, float)
        Epochs, and the highest learning rate of the one cycle that they make.
    start : str
        The scheme whose network it goes on from; none where it begins anew.
    """

    inputs: str
    target: str
    coarsen: int
    size: int
    stages: tuple[tuple[int, float], ...]
    start: str = ""


_S2, _RE = "sentinel2", "rapideye"

#: The poster's, with Sentinel-2 at 10 m and RapidEye at 5 m. All patches are 960 m wide: those of
#: 20 m pixels have 48 (progressive resizing).
SCHEMES = {
    "1.1": Scheme(_RE, _RE, 2, 48, ((50, 5e-3), (100, 1e-3))),
    "1.2": Scheme(_RE, _RE, 1, 96, ((50, 1e-4), (100, 1e-3)), "1.1"),
    "1.3": Scheme(_S2, _RE, 1, 96, ((50, 1e-4), (30, 1e-5), (30, 1e-6)), "1.1"),
    "1.4": Scheme(_S2, _RE, 1, 96, ((50, 1e-3), (30, 1e-4), (30, 1e-5)), "1.2"),
    "2.1": Scheme(_S2, _S2, 1, 48, ((50, 5.25e-3), (100, 5.25e-3))),
    "2.2": Scheme(_S2, _RE, 1, 96, ((50, 2.75e-4), (30, 2.75e-5), (30, 2.75e-6)), "2.1"),
    "3.1": Scheme(_S2, _RE, 2, 48, ((50, 4.37e-3), (100, 1e-3))),
    "3.2": Scheme(_S2, _RE, 1, 96, ((50, 1e-4), (30, 1e-5), (30, 1e-6)), "3.1"),
    "4.1": Scheme(_S2, _RE, 1, 96, ((50, 6.31e-3), (100, 1e-3), (30, 1e-4), (30, 1e-5))),
}


def stages(
    scheme: str,
    base: Recipe | str | Path = "s2-edsr-x2",
    *,
    patches: int = PATCHES,
    share: float = 1.0,
) -> list[Recipe]:
    """The recipes of a scheme, in order, without those of the scheme it goes on from.

    Parameters
    ----------
    scheme : str
        A name in :data:`SCHEMES`.
    base : Recipe, str or Path, optional
        What is not the scheme's: network, loss, batch. A recipe, a shipped one's name or a file.
    patches : int, optional
        Training patches, which make an epoch; 2918 as on the poster.
    share : float, optional
        Of all epochs: less for a trial.

    Raises
    ------
    InputError
        If there is no such scheme, or a number is not positive.

    Examples
    --------
    >>> from xdemsr.schemes import stages
    >>> for recipe in stages("1.3"):
    ...     print(recipe.name, recipe.optimiser.learning_rate, recipe.run.steps)
    s2-1.3-1 0.0001 9150
    s2-1.3-2 1e-05 5490
    s2-1.3-3 1e-06 5490
    """
    asked = _named(scheme)
    if patches < 1 or not 0 < share <= 1:
        raise InputError(f"patches={patches} must be positive, and share={share} from 0 to 1.")
    recipe = base if isinstance(base, Recipe) else Recipe.find(base)
    epoch = math.ceil(patches / recipe.run.batch)
    inputs = () if asked.inputs == asked.target else (asked.inputs,)
    recipes = []
    for k, (epochs, rate) in enumerate(asked.stages, 1):
        stage = recipe.replaced(
            data={"target": asked.target, "inputs": inputs, "coarsen": asked.coarsen},
            # Sensors are for what is learnt from itself.
            patches={"size": asked.size, **({"sensors": 0} if inputs else {})},
            optimiser={"learning_rate": rate},
            schedule={"name": "one-cycle"},
            run={"steps": math.ceil(epochs * epoch * share), "validate_every": epoch},
        )
        recipes.append(replace(stage, name=f"s2-{scheme}-{k}"))
    return recipes


def train_scheme(
    scheme: str,
    train_on: str | Path,
    validate_on: str | Path,
    folder: str | Path,
    *,
    base: Recipe | str | Path = "s2-edsr-x2",
    patches: int = PATCHES,
    share: float = 1.0,
    progress: bool = True,
) -> ModelSpec:
    """Train a network by one of the schemes of Galar et al., with all schemes it goes on from.

    Parameters
    ----------
    scheme : str
        ``"1.1"`` to ``"4.1"``, as on the poster. The best for Sentinel-2 was ``"1.4"``: first
        RapidEye from itself at 20 m, then at 10 m, then from Sentinel-2.
    train_on, validate_on : str or Path
        Folders with a folder for each place, which holds ``sentinel2.tif`` and ``rapideye.tif``:
        the two images of a :class:`xdemsr.Pair`.
    folder : str or Path
        For the models, one file for each stage. What is there already is not trained again, so
        schemes share what they have in common, and a run that was killed goes on.
    base : Recipe, str or Path, optional
        What is not the scheme's: network, loss, batch. A recipe, a shipped one's name or a file.
        The shipped one needs VGG16's parameters: see its ``[perceptual]``.
    patches : int, optional
        Training patches, which make an epoch; 2918 as on the poster.
    share : float, optional
        Of all epochs: less for a trial.
    progress : bool, optional
        Show a bar.

    Returns
    -------
    ModelSpec
        Of the last stage, as written.

    Raises
    ------
    InputError
        If there is no such scheme, or the folder holds a stage that was trained in another way; and
        as :func:`xdemsr.train` does.

    Notes
    -----
    The poster does not say over which share of a cycle the rate rises (fast.ai's 0.3 is taken), nor
    its weight decay (1e-3, as in fast.ai's lesson).

    References
    ----------
    Galar, M. et al. (2019). Super-resolution for Sentinel-2 images. ISPRS Archives XLII-2/W16,
    95-102.

    Smith, L. N. (2018). A disciplined approach to neural network hyper-parameters.
    arXiv:1803.09820.

    Examples
    --------
    >>> import xdemsr
    >>> model = xdemsr.train_scheme(
    ...     "1.4", "pairs/train", "pairs/validation", "models"
    ... )  # doctest: +SKIP
    """
    data = {"train": str(train_on), "validation": str(validate_on)}
    spec, start = None, ""
    for name in lineage(scheme):
        for stage in stages(name, base, patches=patches, share=share):
            recipe = stage.replaced(data=data, **({"model": {"start": start}} if start else {}))
            path = Path(folder) / f"{recipe.name}.safetensors"
            spec = _trained(path, recipe) or train(recipe, path, progress=progress)
            start = str(path)
    if spec is None:
        raise InputError(f"scheme {scheme!r} has no stages.")
    return spec


def lineage(scheme: str) -> list[str]:
    """The schemes that are trained for one, itself last."""
    start = _named(scheme).start
    return [*(lineage(start) if start else []), scheme]


def _named(scheme: str) -> Scheme:
    if scheme not in SCHEMES:
        raise InputError(f"no scheme is called {scheme!r}. There are {', '.join(SCHEMES)}.")
    return SCHEMES[scheme]


def _trained(path: Path, recipe: Recipe) -> ModelSpec | None:
    """The model of a recipe, where it is there and was finished: scored, which comes last."""
    spec = read_spec(path) if path.exists() else None
    if spec is None or "scores" not in spec.training:
        return None
    wanted = json.loads(json.dumps(recipe.without_folders().to_dict()))
    if json.loads(json.dumps(dict(spec.training).get("recipe"))) != wanted:
        raise InputError(
            f"{path} was trained by another recipe, or on other data. Give this scheme a folder of "
            "its own, or remove that file."
        )
    return spec
