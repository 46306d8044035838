"""Imagery to elevation, and elevation to imagery: the functions behind the accessor."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import xarray as xr

from xdemsr import grid
from xdemsr.anchoring import Blocks, anchored
from xdemsr.catalog import ModelLike, find
from xdemsr.chunking import Chunks
from xdemsr.errors import ModelError
from xdemsr.execution import Execution
from xdemsr.grid import XarrayObject
from xdemsr.inference import Job, prepare, run
from xdemsr.metadata import provenance
from xdemsr.spec import ModelSpec, Windowed
from xdemsr.units import check_lengths

_SOURCE_CHUNK = 1024


def elevation(
    obj: XarrayObject,
    model: ModelLike,
    *,
    anchor: xr.DataArray | None = None,
    ensemble: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    chunks: Chunks = "auto",
) -> xr.DataArray:
    """Elevations from imagery: relative ones, or absolute ones where a coarse DEM anchors them.

    A single image says how the ground rises and falls, not how high it lies. Without an anchor the
    windows that the network looks at are levelled against each other, all at once, so that the
    mosaic has no steps; how wrong a network is over the length of a window adds up over many, so
    long waves are not to be trusted. For that the network runs twice over each window.

    With an anchor the answer's mean over each of the anchor's pixels is the anchor's, and what is
    finer is the network's. It runs once, unless the anchor's pixels are larger than what windows
    overlap by.

    Parameters
    ----------
    obj : DataArray or Dataset
        Imagery on a regular grid: an array with a band dimension, or a variable for each band, in
        the unit that the model was trained in. Bands are found by name; by order where an array's
        have none.
    model : str, Path, ModelSpec or Model
        Takes these bands, and answers one of elevations.
    anchor : DataArray, dims (y, x), optional
        A coarser DEM in the same CRS. Where its pixels are whole blocks of the image's, its means
        are kept to float32's rounding; elsewhere it is first laid on such blocks by cubic
        convolution. What it does not know is bridged over up to eight of its pixels; beyond, the
        answer is void.
    ensemble, device, precision, batch_size, chunks
        As in :func:`xdemsr.upscale`.

    Returns
    -------
    DataArray, dims (..., y, x), float32
        Elevations on the image's grid. The attribute ``xdemsr_heights`` says ``"relative"`` or
        ``"anchored"``; relative ones have a mean of zero over each part that voids leave connected.
        Lazy where the input is, and where the anchor is.

    Raises
    ------
    GridError
        If there is no regular grid, or the anchor is in another CRS, or has no pixel that lies
        wholly on the image.
    InputError
        If bands are missing, or the anchor is not coarser than the image, or in another unit than
        the model's heights.
    ModelError
        If the model answers something else than one band.

    See Also
    --------
    imagery : The inverse.

    Examples
    --------
    A network that has learnt nothing leaves the anchor, smoothly refined:

    >>> import tempfile
    >>> import xdemsr
    >>> from xdemsr.models.pix2pix import Pix2Pix
    >>> options = {"bands": ["red", "green", "blue"], "features": 4, "depth": 5}
    >>> spec = xdemsr.ModelSpec(
    ...     name="fresh", architecture="pix2pix", scale=1, options=options, relative=True,
    ...     context=xdemsr.Windowed(32, 16), border="mirror",
    ...     inputs=tuple(xdemsr.Band(name, "1") for name in options["bands"]),
    ... )
    >>> model = xdemsr.save_model(Pix2Pix(**options), tempfile.mkdtemp() + "/m.safetensors", spec)
    >>> dem = xdemsr.synthetic.terrain((48, 64), gsd=10.0)
    >>> image = dem.expand_dims(band=options["bands"])
    >>> image.demsr.elevation(model).attrs["xdemsr_heights"]
    'relative'
    >>> fine = image.demsr.elevation(model, anchor=dem.demsr.degrade(4))
    >>> bool(abs(fine.demsr.degrade(4) - dem.demsr.degrade(4)).max() < 1e-3)
    True

    References
    ----------
    Panagiotou, E., Chochlakis, G., Grammatikopoulos, L. and Charou, E. (2020). Generating elevation
    surface from a single RGB remotely sensed image using deep learning. Remote Sens. 12(12), 2002.
    """
    spec = find(model)
    if len(spec.outputs) != 1:
        raise ModelError(
            f"model {spec.name!r} answers the bands {_names(spec)}, not elevations alone. Run it "
            "with da.demsr.apply(model)."
        )
    execution = Execution(device, precision, batch_size, ensemble)
    if anchor is None:
        job = prepare(obj, spec, execution, "auto", chunks)
        return _as_elevation(run(job), job, "relative" if spec.relative else None)
    if not isinstance(obj, xr.DataArray | xr.Dataset):
        raise grid.not_xarray(obj)
    anchor = grid.plane(anchor)
    check_lengths(anchor, spec.outputs[0], f"model {spec.name!r} answers with")
    blocks = Blocks.of(grid.of(obj).refined(spec.scale), grid.of(anchor))
    if anchor.chunks is not None and not _is_lazy(obj):
        obj = obj.chunk(dict.fromkeys(grid.spatial_dims(obj), _SOURCE_CHUNK))
    job = prepare(obj, _unlevelled(spec, blocks), execution, "auto", chunks)
    return anchored(_as_elevation(run(job), job, "anchored"), anchor, blocks)


def imagery(
    obj: xr.DataArray,
    model: ModelLike,
    *,
    ensemble: bool = False,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | str = "auto",
    chunks: Chunks = "auto",
) -> xr.DataArray:
    """Imagery that terrain may have, from elevations.

    Parameters
    ----------
    obj : DataArray, dims (..., y, x)
        Elevations on a regular grid.
    model : str, Path, ModelSpec or Model
        Takes one band of elevations.
    ensemble, device, precision, batch_size, chunks
        As in :func:`xdemsr.upscale`.

    Returns
    -------
    DataArray, dims (..., band, y, x), float32
        The model's bands, by name, in the unit that it was trained in; void where the elevations
        are. Without a band dimension where there is one band. Lazy where the input is.

    Raises
    ------
    GridError
        If there is no regular grid.
    InputError
        If the values cannot be used, or are in another unit than the model takes.
    ModelError
        If the model takes more than one band.

    See Also
    --------
    elevation : The inverse.

    Examples
    --------
    >>> import tempfile
    >>> import xdemsr
    >>> from xdemsr.models.pix2pix import Pix2Pix
    >>> options = {"bands": ["elevation"], "outputs": ["red", "nir"], "features": 4, "depth": 5}
    >>> spec = xdemsr.ModelSpec(
    ...     name="fresh", architecture="pix2pix", scale=1, options=options, border="odd",
    ...     context=xdemsr.Windowed(32, 16),
    ...     outputs=tuple(xdemsr.Band(name, "1") for name in options["outputs"]),
    ... )
    >>> model = xdemsr.save_model(Pix2Pix(**options), tempfile.mkdtemp() + "/m.safetensors", spec)
    >>> image = xdemsr.synthetic.terrain((48, 64)).demsr.imagery(model)
    >>> image.dims, image.band.values.tolist()
    (('band', 'y', 'x'), ['red', 'nir'])

    References
    ----------
    Isola, P., Zhu, J.-Y., Zhou, T. and Efros, A. A. (2017). Image-to-image translation with
    conditional adversarial networks. CVPR. arXiv:1611.07004.
    """
    spec = find(model)
    if len(spec.raster_inputs) != 1:
        takes = ", ".join(band.name for band in spec.raster_inputs)
        raise ModelError(
            f"model {spec.name!r} takes the bands {takes}, not elevations alone. Run it with "
            "ds.demsr.apply(model)."
        )
    grid.single(obj)
    check_lengths(obj, spec.raster_inputs[0], f"model {spec.name!r} takes")
    if obj.sizes.get("band") == 1:
        obj = obj.isel(band=0, drop=True)
    execution = Execution(device, precision, batch_size, ensemble)
    job = prepare(obj, spec, execution, "auto", chunks)
    names = tuple(band.name for band in spec.outputs)
    attrs: dict[str, Any] = {"long_name": names if len(names) > 1 else names[0]}
    units = {band.units for band in spec.outputs} - {""}
    if len(units) == 1:
        attrs["units"] = units.pop()
    return _relabelled(run(job), job, "imagery", attrs)


def _unlevelled(spec: ModelSpec, blocks: Blocks) -> ModelSpec:
    """The model without levels of its own, where an anchor sets them at every window's border."""
    overlap = spec.context.overlap * spec.scale if isinstance(spec.context, Windowed) else 0
    return replace(spec, relative=spec.relative and max(blocks.size) > overlap)


def _is_lazy(obj: XarrayObject) -> bool:
    arrays = [obj] if isinstance(obj, xr.DataArray) else obj.data_vars.values()
    return any(array.chunks is not None for array in arrays)


def _as_elevation(answer: xr.DataArray, job: Job, heights: str | None) -> xr.DataArray:
    if job.task.banded:
        answer = answer.isel({answer.dims[-3]: 0}, drop=True)
    name = "relative elevation" if heights == "relative" else "elevation"
    attrs = {"units": job.spec.outputs[0].units or "m", "long_name": name}
    if heights is not None:
        attrs["xdemsr_heights"] = heights
    return _relabelled(answer, job, "elevation", attrs)


def _relabelled(answer: xr.DataArray, job: Job, name: str, attrs: dict[str, Any]) -> xr.DataArray:
    """An answer that is of another kind than what it was made from: nothing said of that holds."""
    kept: dict[Hashable, Any] = {
        key: value for key, value in answer.attrs.items() if key == "grid_mapping"
    }
    answer.name = name
    answer.attrs = {**kept, **attrs, **provenance(job.matched, job.spec, job.task.execution)}
    answer.encoding = {k: v for k, v in answer.encoding.items() if k == "grid_mapping"}
    return answer


def _names(spec: ModelSpec) -> str:
    return ", ".join(band.name for band in spec.outputs)
