"""Places that patches are taken from: what was given, checked and put in order. Reads no pixel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xdemsr import grid
from xdemsr.errors import GridError, InputError
from xdemsr.grid import Grid, XarrayObject
from xdemsr.reading import ChunkReader, Floats, Layer
from xdemsr.sensor import block_mean
from xdemsr.voids import bridge
from xdemsr.window import Window

#: One raster, or several places: in order, or by name.
Places = XarrayObject | Sequence[XarrayObject] | Mapping[str, XarrayObject]


class Patch(NamedTuple):
    """One training sample.

    Attributes
    ----------
    inputs : ndarray of float32, shape (bands, ny, nx)
        What is learnt from, in its own unit; voids are bridged.
    target : ndarray of float32, shape (bands, ny * scale, nx * scale)
        What is to be learnt; 0 at voids.
    valid : ndarray of bool, shape (1, ny * scale, nx * scale)
        Where the target has data in all bands.
    place : str
        Name of the place it comes from.
    y, x : int
        Its first source pixel.

    Examples
    --------
    >>> import xdemsr
    >>> patch = xdemsr.patches(xdemsr.synthetic.terrain((240, 320)), size=16, scale=4)[0]
    >>> patch.inputs.shape, patch.target.shape
    ((1, 16, 16), (1, 64, 64))
    """

    inputs: NDArray[np.float32]
    target: NDArray[np.float32]
    valid: NDArray[np.bool_]
    place: str
    y: int
    x: int


@dataclass(frozen=True, eq=False)
class Place:
    """One place: what is to be learnt, and what from.

    Attributes
    ----------
    name : str
    target : tuple of Layer
        The fine rasters, all on one grid.
    inputs : tuple of Layer
        The coarse rasters, all on one grid; none where they are the target's block means.
    scale : int
        Fine pixels per coarse pixel along each axis.
    source, fine : Grid
        Of the inputs and of the target.
    template : DataArray
        The target without a pixel: what an answer is labelled like.
    bands : tuple
        Names of the target's bands.
    """

    name: str
    target: tuple[Layer, ...]
    inputs: tuple[Layer, ...]
    scale: int
    source: Grid
    fine: Grid
    template: xr.DataArray
    bands: tuple[Hashable, ...]

    @property
    def in_memory(self) -> bool:
        """Whether there is nothing to be read."""
        return all(layer.in_memory for layer in (*self.target, *self.inputs))

    @property
    def pixel_bytes(self) -> int:
        """Bytes of all that lies at one pixel of the target, about."""
        return 4 * sum(layer.bands for layer in (*self.target, *self.inputs))

    def fetch(self, reader: ChunkReader, corners: Any, size: tuple[int, int]) -> None:
        """Read at once what patches from these corners lie in."""
        ny, nx = size
        for layer in self.target:
            reader.fetch(layer, corners * self.scale, (ny * self.scale, nx * self.scale))
        for layer in self.inputs:
            reader.fetch(layer, corners, size)

    def read_target(self, reader: ChunkReader, window: Window) -> Floats:
        """The target in a window of source pixels: (bands, y, x), NaN at voids."""
        fine = window.refine(self.scale)
        return _stacked([reader.read(layer, fine) for layer in self.target])

    def read_inputs(self, reader: ChunkReader, window: Window, target: Floats) -> Floats:
        """The inputs in a window: (bands, y, x), NaN at voids; block means if none were given."""
        if self.inputs:
            return _stacked([reader.read(layer, window) for layer in self.inputs])
        if self.scale == 1:
            return target.copy()
        means = [block_mean(plane.astype(np.float64), self.scale) for plane in target]
        return np.stack(means)

    def patch(self, reader: ChunkReader, window: Window) -> Patch:
        """The sample in a window of source pixels."""
        target = self.read_target(reader, window)
        inputs = self.read_inputs(reader, window, target)
        missing = np.isnan(target)
        if missing.any():
            target[missing] = 0
        return Patch(
            _bridged(inputs).astype(np.float32, copy=False),
            target.astype(np.float32, copy=False),
            np.all(~missing, axis=0, keepdims=True),
            self.name,
            window.y.start,
            window.x.start,
        )


def gather(
    obj: Places, scale: int, coarse: Places | None, bands: Sequence[Hashable] | None
) -> tuple[Place, ...]:
    """The places of a call.

    Raises
    ------
    InputError
        If something is not xarray's, has no such bands or too many dimensions, or the inputs are
        not as many as the targets.
    GridError
        If there is no regular grid, or the inputs' is not the target's divided by ``scale``.
    """
    targets = _named(obj)
    if coarse is None:
        return tuple(_place(name, fine, None, scale, bands) for name, fine in targets.items())
    inputs = _named(coarse)
    if len(inputs) != len(targets):
        raise InputError(
            f"coarse has {len(inputs)} places and the target {len(targets)}: give one for each."
        )
    if isinstance(obj, Mapping) and isinstance(coarse, Mapping) and not _is_raster(obj):
        if set(inputs) != set(targets):
            raise InputError(
                f"coarse has the places {', '.join(inputs)}; the target {', '.join(targets)}. "
                "Name them alike."
            )
        inputs = {name: inputs[name] for name in targets}
    pairs = zip(targets.items(), inputs.values(), strict=True)
    return tuple(_place(name, fine, source, scale, bands) for (name, fine), source in pairs)


def _place(
    name: str,
    obj: XarrayObject,
    coarse: XarrayObject | None,
    scale: int,
    bands: Sequence[Hashable] | None,
) -> Place:
    fine = grid.of(obj)
    if min(fine.shape) < scale:
        raise InputError(
            f"place {name!r} is {fine.shape[0]} x {fine.shape[1]} pixels: smaller than one block "
            f"of {scale} x {scale}."
        )
    source = fine.coarsened(scale)
    target = _rasters(obj, bands, name)
    inputs: list[xr.DataArray] = []
    if coarse is not None:
        found = grid.of(coarse)
        # Arrays without any place in the world can only agree in their shape.
        placed = any(g.labelled or g.grid_mapping for g in (found, fine))
        if not (found.matches(source) if placed else found.shape == source.shape):
            raise GridError(
                f"the coarse input of {name!r} is not on its grid divided by {scale}: found "
                f"{found.describe()}; expected {source.describe()}. Match it first, or leave "
                "coarse out: the inputs are then the target's block means."
            )
        inputs = _rasters(coarse, None, name)
    return Place(
        name=name,
        target=tuple(map(Layer.of, target)),
        inputs=tuple(map(Layer.of, inputs)),
        scale=scale,
        source=source,
        fine=fine,
        template=_template(target[0], fine),
        bands=_band_names(target),
    )


def _named(obj: Places) -> dict[str, XarrayObject]:
    """Every place with a name of its own."""
    if _is_raster(obj):
        return {_own_name(obj): obj}  # type: ignore[dict-item]
    if isinstance(obj, Mapping):
        places = {str(name): place for name, place in obj.items()}
    elif isinstance(obj, list | tuple):
        names = [_own_name(place) for place in obj]
        numbered = len(set(names)) < len(names)
        places = {
            f"{name}-{k}" if numbered else name: place
            for k, (name, place) in enumerate(zip(names, obj, strict=True))
        }
    else:
        raise grid.not_xarray(obj)
    for place in places.values():
        if not _is_raster(place):
            raise grid.not_xarray(place)
    if not places:
        raise InputError("no places were given: an array, a dataset, or several of them.")
    return places


def _is_raster(obj: object) -> bool:
    return isinstance(obj, xr.DataArray | xr.Dataset)


def _own_name(obj: Any) -> str:
    if isinstance(obj, xr.DataArray):
        return str(obj.name or obj.attrs.get("name") or "place")
    return str(getattr(obj, "attrs", {}).get("name") or "place")


def _rasters(obj: XarrayObject, bands: Sequence[Hashable] | None, name: str) -> list[xr.DataArray]:
    """The bands as arrays (y, x) or (band, y, x)."""
    if isinstance(bands, str):
        bands = [bands]
    y_dim, x_dim = grid.spatial_dims(obj)
    if isinstance(obj, xr.Dataset):
        rasters = [k for k, v in obj.data_vars.items() if {y_dim, x_dim} <= set(v.dims)]
        _check_bands(bands, rasters, name)
        chosen = rasters if bands is None else list(bands)
        return [_planes(obj[band], None, name) for band in chosen]
    return [_planes(obj, bands, name)]


def _planes(da: xr.DataArray, bands: Sequence[Hashable] | None, name: str) -> xr.DataArray:
    y_dim, x_dim = grid.spatial_dims(da)
    others = [dim for dim in da.dims if dim not in (y_dim, x_dim)]
    if bands is None:
        da = da.isel({dim: 0 for dim in others if da.sizes[dim] == 1}, drop=True)
        others = [dim for dim in others if dim in da.dims]
    if len(others) > 1:
        raise InputError(
            f"{name!r} has the dimensions {tuple(da.dims)}; patches have one beside y and x, for "
            "bands. Choose: da.isel(...); or give each element as a place of its own."
        )
    if bands is not None:
        names = list(da[others[0]].values) if others and others[0] in da.coords else []
        _check_bands(bands, names, name)
        da = da.isel({others[0]: [names.index(band) for band in bands]})
    return da.transpose(*others, y_dim, x_dim)


def _check_bands(bands: Sequence[Hashable] | None, found: Sequence[Any], name: str) -> None:
    missing = [] if bands is None else [band for band in bands if band not in found]
    if missing or (bands is not None and not bands) or (bands is None and not found):
        names = ", ".join(map(str, found)) or "none with a name"
        raise InputError(
            f"bands={bands!r} cannot be taken from {name!r}, which has {names}. Name some of these."
        )


def _band_names(rasters: Sequence[xr.DataArray]) -> tuple[Hashable, ...]:
    names: list[Hashable] = []
    for raster in rasters:
        if raster.ndim == 2:
            names.append(raster.name)
        elif raster.dims[0] in raster.coords:
            names += raster[raster.dims[0]].values.tolist()
        else:
            names += range(raster.shape[0])
    return tuple(names)


def _template(raster: xr.DataArray, fine: Grid) -> xr.DataArray:
    first = raster.isel(dict.fromkeys(raster.dims[:-2], 0), drop=True)
    empty = first.isel({fine.y_dim: slice(0), fine.x_dim: slice(0)})
    return empty.copy(data=np.empty((0, 0), raster.dtype))


def _stacked(planes: Sequence[Floats]) -> Floats:
    return planes[0] if len(planes) == 1 else np.concatenate(planes)


def _bridged(inputs: Floats) -> Floats:
    """Voids filled as the engine fills them; 0 where there is nothing to fill from."""
    for band in inputs:
        known = np.isfinite(band)
        if not known.any():
            band[...] = 0
        elif not known.all():
            band[...] = bridge(band, known, max(band.shape))
    return inputs
