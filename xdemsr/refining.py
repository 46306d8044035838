"""A surface model and what lies beside it, to a refined one: inputs gathered, then the engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import xarray as xr

from xdemsr import grid
from xdemsr.bands import band_dimension, check_names, named_planes, needed_names
from xdemsr.bare_earth import ground_filter
from xdemsr.catalog import ModelLike, find, shipped_models
from xdemsr.chunking import Chunks
from xdemsr.errors import InputError, ModelError
from xdemsr.execution import Execution
from xdemsr.grid import XarrayObject, not_xarray
from xdemsr.inference import prepare, run
from xdemsr.matching import match_grid
from xdemsr.spec import ModelSpec

#: What the surface model may be called, whatever the model calls it.
SURFACE = "dsm"
_GROUND = "ground"
#: Of the filter that makes it, in metres.
_WINDOW = 17.0
#: What such models call their task.
REFINEMENT = "refinement"


def refine(
    obj: XarrayObject,
    model: ModelLike | None = None,
    *,
    guides: Mapping[str, xr.DataArray] | None = None,
    ensemble: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    chunks: Chunks = "auto",
) -> xr.DataArray:
    """Refine a surface model with the images beside it: less noise, sharper edges, or bare earth.

    Parameters
    ----------
    obj : Dataset or DataArray, dims (..., y, x)
        The surface model, as the variable ``dsm`` or by the name that the model gives its first
        band, and guides on its grid: orthos, vegetation index, triangulation error. Bands are found
        by name, as variables or as named elements of a variable's band dimension, so their order
        does not matter. A DataArray is the surface model alone, or all bands along a named band
        dimension.
    model : str, Path, ModelSpec or Model, optional
        A shipped name (see :func:`xdemsr.list_models`), the path of a ``.safetensors`` file, or a
        loaded model. By default the shipped refinement model that takes most of what there is.
    guides : mapping of str to DataArray, optional
        Guides on any grid, resolution and CRS, by name; they take precedence. They are put on the
        surface model's grid by :func:`xdemsr.match_grid`: averaged where they are finer. One with a
        named band dimension brings bands by those names.
    ensemble : bool, optional
        Average the answers to the eight flips and rotations; eight times the work.
    device, precision, batch_size, chunks
        As in :func:`xdemsr.upscale`.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        On the surface model's grid, in its unit. Lazy where an input is; the same numbers whatever
        the chunks.

    Raises
    ------
    GridError
        If a grid is irregular or rotated, a variable lies on another grid than the surface model,
        or a guide does not overlap it.
    InputError
        If a band is missing; if the surface model says that it is in another unit than the model
        takes; or if reflectances are whole numbers.
    ModelError
        If there is no such model, none is shipped, or it changes the resolution.

    Notes
    -----
    The answer is void exactly where the surface model is. Voids of guides, and what lies beyond
    them, are filled from their rims for the network's eyes, with zeros where a tile has no valid
    pixel of a guide; how good the answer is there depends on the model. One that takes the band
    ``nodata_mask`` is told: where the dataset has none, it is 1 where all other bands of the model
    have data. Where a model takes ``ndvi`` and there is none, it is made of ``red`` and ``nir``;
    ``ground`` is made of the surface model by :func:`xdemsr.ground_filter`.

    References
    ----------
    Stucker, C. and Schindler, K. (2022). ResDepth: a deep residual prior for 3D reconstruction from
    high-resolution satellite images. ISPRS J. Photogramm. Remote Sens. 183, 560-580.

    Venkataramani, K. et al. (2024). DeepDEM. doi:10.5281/zenodo.14270049.

    Examples
    --------
    A model that changes nothing, in place of a trained one:

    >>> import xdemsr
    >>> dsm = xdemsr.synthetic.terrain((24, 32), gsd=2.0)
    >>> same = xdemsr.refine(dsm, xdemsr.load_model("nearest", scale=1))
    >>> same.shape, bool((same == dsm).all())
    ((24, 32), True)
    """
    if not isinstance(obj, xr.DataArray | xr.Dataset):
        raise not_xarray(obj)
    given = _planes_of(guides or {})
    ds = as_dataset(obj)
    names = {*named_planes(ds), *given}
    spec = _shipped(names) if model is None else find(model)
    if spec.scale != 1:
        raise ModelError(
            f"model {spec.name!r} divides pixels by {spec.scale}, and refine keeps the grid. Use "
            f"it with upscale({spec.scale}, ...)."
        )
    execution = Execution(device, precision, batch_size, ensemble)
    job = prepare(gathered(ds, given, spec), spec, execution, "auto", chunks)
    return run(job).rename(spec.outputs[0].name)


def as_dataset(obj: XarrayObject) -> xr.Dataset:
    """Variables by name; a bare array is the surface model, or holds named bands."""
    if isinstance(obj, xr.Dataset):
        return obj
    ds = obj.to_dataset(name=SURFACE)
    return ds.rename({SURFACE: "bands"}) if len(named_planes(ds)) > 1 else ds


def _planes_of(guides: Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Guides by name, and their named bands."""
    planes: dict[str, xr.DataArray] = {}
    if not isinstance(guides, Mapping):
        raise InputError(
            f"guides={type(guides).__name__} must be a mapping of names to arrays: "
            'guides={"rgb": ortho}.'
        )
    for name, guide in guides.items():
        if not isinstance(guide, xr.DataArray):
            raise InputError(
                f"guide {name!r} is a {type(guide).__name__}; give a DataArray for each name."
            )
        band_dim = band_dimension(guide)
        if band_dim is not None and guide.sizes[band_dim] == 1:
            guide = guide.isel({band_dim: 0}, drop=True)
        found = named_planes(guide.to_dataset(name=name))
        twice = planes.keys() & found.keys()
        if twice:
            raise InputError(f"two guides hold a band {min(twice)!r}. Leave one out.")
        planes.update(found)
    return planes


def _shipped(names: Collection[str]) -> ModelSpec:
    """The shipped refinement model that takes most of these bands."""
    models = [spec for spec in shipped_models().values() if spec.task == REFINEMENT]
    if not models:
        raise ModelError(
            "no refinement model is shipped. Give one: the path of a .safetensors file, or train "
            "it on places of your own (xdemsr.train)."
        )
    models.sort(key=lambda spec: len(spec.inputs), reverse=True)
    return next((spec for spec in models if _fits(spec, names)), models[-1])


def _fits(spec: ModelSpec, names: Collection[str]) -> bool:
    there = {*names, *([spec.raster_inputs[0].name] if SURFACE in names else []), _GROUND}
    return there.issuperset(needed_names(spec, there))


def _laid_on(surface: xr.DataArray, guide: xr.DataArray) -> xr.DataArray:
    """The guide on the surface model's grid; as it is, where it lies there already."""
    own, other = grid.of(surface), grid.of(guide)
    alike = (own.y_dim, own.x_dim) == (other.y_dim, other.x_dim) and other.matches(own)
    return guide if alike else match_grid(guide, surface)


def _first_guess(surface: xr.DataArray) -> xr.DataArray:
    """What a filter takes for the ground; coarse pixels, of which models warn, widen its window."""
    return ground_filter(surface, window=max(_WINDOW, 3 * min(grid.of(surface).metres())))


def _takes(spec: ModelSpec, name: str) -> bool:
    return any(band.name == name for band in spec.raster_inputs)


def gathered(ds: xr.Dataset, given: Mapping[str, xr.DataArray], spec: ModelSpec) -> xr.Dataset:
    """The dataset with all that a refinement model takes, on one grid.

    Raises
    ------
    GridError
        If a guide does not overlap the surface model.
    InputError
        If a band is missing, or the surface model is among the guides.
    """
    first = spec.raster_inputs[0].name
    planes = named_planes(ds)
    if first not in planes and SURFACE in planes:
        planes[first] = planes.pop(SURFACE)
        ds = ds.assign({first: planes[first]})
    if _GROUND not in {*planes, *given} and first in planes and _takes(spec, _GROUND):
        planes[_GROUND] = _first_guess(planes[first])
        ds = ds.assign({_GROUND: planes[_GROUND]})
    names = [*planes, *(name for name in given if name not in planes)]
    check_names(spec, names)
    if first not in planes:
        raise InputError(
            f"the surface model {first!r} must be in the dataset, not among the guides: its grid "
            "is the answer's."
        )
    needed = needed_names(spec, names)
    matched = {
        name: _laid_on(planes[first], plane).variable
        for name, plane in given.items()
        if name in needed
    }
    return ds.assign(matched)
