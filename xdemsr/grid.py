"""Regular 2-D grids: found on an array, divided and multiplied by whole numbers, written back.

Works on the array's labels only; no pixel is read.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rioxarray.exceptions import MissingSpatialDimensionError

from xdemsr.errors import GridError, InputError, warn

XarrayObject = xr.DataArray | xr.Dataset

#: A coordinate may be this far from its place, in pixels, beside its own rounding.
_TOLERANCE = 0.01
_METRES_PER_DEGREE = 111_320.0

_NAMES = {
    "y": ("y", "lat", "latitude", "northing", "northings", "projection_y_coordinate"),
    "x": ("x", "lon", "long", "longitude", "easting", "eastings", "projection_x_coordinate"),
}
_STANDARD_NAMES = {
    "y": ("latitude", "projection_y_coordinate", "grid_latitude"),
    "x": ("longitude", "projection_x_coordinate", "grid_longitude"),
}
_DEGREE_UNITS = {
    "y": ("degrees_north", "degree_north", "degree_N", "degrees_N", "degreeN", "degreesN"),
    "x": ("degrees_east", "degree_east", "degree_E", "degrees_E", "degreeE", "degreesE"),
}


@dataclass(frozen=True)
class Grid:
    """A raster's place in the world.

    Attributes
    ----------
    y_dim, x_dim : hashable
        Names of the spatial dimensions.
    geobox : GeoBox
        Shape (ny, nx), affine and CRS (or None).
    labelled : bool
        Whether the array has coordinates along its spatial dimensions.
    grid_mapping : str or None
        Name of the coordinate that holds the CRS and the transform.
    """

    y_dim: Hashable
    x_dim: Hashable
    geobox: GeoBox
    labelled: bool = True
    grid_mapping: str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Size (ny, nx)."""
        return int(self.geobox.shape[0]), int(self.geobox.shape[1])

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Pixel height and width in the CRS's unit, without sign."""
        affine = self.geobox.affine
        return abs(affine.e), abs(affine.a)

    def refined(self, scale: int) -> Grid:
        """The same extent with pixels divided by a whole number, exact to float64."""
        ny, nx = self.shape
        old = self.geobox.affine
        affine = Affine(old.a / scale, 0.0, old.c, 0.0, old.e / scale, old.f)
        return replace(self, geobox=GeoBox((ny * scale, nx * scale), affine, self.geobox.crs))

    def coarsened(self, scale: int) -> Grid:
        """Pixels multiplied by a whole number; what does not fill a pixel at the end is cut off."""
        ny, nx = self.shape
        old = self.geobox.affine
        affine = Affine(old.a * scale, 0.0, old.c, 0.0, old.e * scale, old.f)
        return replace(self, geobox=GeoBox((ny // scale, nx // scale), affine, self.geobox.crs))

    def matches(self, other: Grid) -> bool:
        """Whether both have the same pixels, to a hundredth of one."""
        if self.shape != other.shape or not same_crs(self.geobox.crs, other.geobox.crs):
            return False
        tolerance = _TOLERANCE * min(other.pixel_size)
        pairs = zip(self._corners(), other._corners(), strict=True)
        return all(abs(a - b) <= tolerance for a, b in pairs)

    def _corners(self) -> tuple[float, float, float, float]:
        """Outer edges: x and y of the first pixel, x and y of the last."""
        affine, (ny, nx) = self.geobox.affine, self.shape
        return affine.c, affine.f, affine.c + nx * affine.a, affine.f + ny * affine.e

    def describe(self) -> str:
        """Shape, transform and CRS, for messages."""
        ny, nx = self.shape
        crs = self.geobox.crs
        where = f", {crs.proj.name}" if crs is not None else ""
        return f"{ny} x {nx} pixels, transform {tuple(self.geobox.affine)[:6]}{where}"

    def metres(self) -> tuple[float, float]:
        """Pixel height and width in metres; in the coordinates' own unit where there is no CRS."""
        height, width = self.pixel_size
        crs = self.geobox.crs
        if crs is None:
            return height, width
        if crs.geographic:
            latitude = self.geobox.affine.f + self.geobox.affine.e * self.shape[0] / 2
            shrink = max(math.cos(math.radians(latitude)), 1e-3)
            return height * _METRES_PER_DEGREE, width * _METRES_PER_DEGREE * shrink
        factor = crs.proj.axis_info[0].unit_conversion_factor or 1.0
        return height * factor, width * factor

    def gsd(self) -> float | None:
        """Ground sampling distance in metres (geometric mean of both axes); None without a CRS."""
        return None if self.geobox.crs is None else math.sqrt(math.prod(self.metres()))

    def coordinates(self, like: XarrayObject) -> dict[Hashable, Any]:
        """Coordinate variables of this grid, with the attributes they have on ``like``."""
        coords: dict[Hashable, Any] = {}
        if self.labelled:
            affine = self.geobox.affine
            ny, nx = self.shape
            y, x = _centres(affine.f, affine.e, ny), _centres(affine.c, affine.a, nx)
            coords[self.y_dim] = (self.y_dim, y, dict(like[self.y_dim].attrs))
            coords[self.x_dim] = (self.x_dim, x, dict(like[self.x_dim].attrs))
        if self.grid_mapping is not None:
            mapping = like.coords[self.grid_mapping].variable
            attrs = {key: value for key, value in mapping.attrs.items() if key != "gcps"}
            attrs["GeoTransform"] = " ".join(str(float(v)) for v in self.geobox.affine.to_gdal())
            coords[self.grid_mapping] = xr.Variable((), mapping.values, attrs)
        return coords


def of(obj: XarrayObject) -> Grid:
    """Find the grid of an array or dataset.

    Spatial dimensions are those that rioxarray knows, then those that CF attributes mark, then
    those with customary names. Coordinates say where the grid is; a stored GeoTransform is used
    where it agrees with them (it is more exact) or where there are none.

    Parameters
    ----------
    obj : DataArray or Dataset

    Returns
    -------
    Grid

    Raises
    ------
    GridError
        If there are no two spatial dimensions, or the grid is irregular, rotated or curvilinear.
    """
    y_dim, x_dim = spatial_dims(obj)
    what = _what(obj)
    for dim in (y_dim, x_dim):
        if obj.sizes[dim] == 0:
            raise GridError(f"cannot use {what}: dimension {dim!r} has no pixels.")
    mapping = _grid_mapping(obj)
    stored = _stored_transform(obj, mapping)
    if stored is not None and (stored.b or stored.d):
        raise GridError(
            f"cannot use {what}: its grid is rotated (GeoTransform {stored.to_gdal()}). xdemsr "
            "needs rows and columns along the CRS's axes. Reproject first: "
            "da.rio.reproject(...)."
        )
    labelled = y_dim in obj.coords and x_dim in obj.coords
    if not labelled and (y_dim in obj.coords or x_dim in obj.coords):
        raise GridError(
            f"cannot use {what}: it has coordinates along one of {y_dim!r} and {x_dim!r} only. "
            "Give both, or drop them: da.drop_vars(...)."
        )
    if not labelled and stored is None:
        _refuse_curvilinear(obj, y_dim, x_dim)
    y_stored, x_stored = (
        (None, None) if stored is None else ((stored.f, stored.e), (stored.c, stored.a))
    )
    y, x = _axis(obj, y_dim, y_stored, labelled), _axis(obj, x_dim, x_stored, labelled)
    y_step, x_step = _missing_steps(y, x, what)
    affine = Affine(x_step, 0.0, _origin(x, x_step), 0.0, y_step, _origin(y, y_step))
    shape = (obj.sizes[y_dim], obj.sizes[x_dim])
    return Grid(y_dim, x_dim, GeoBox(shape, affine, _crs(obj)), labelled, mapping)


def spatial_dims(obj: XarrayObject) -> tuple[Hashable, Hashable]:
    """Names of the dimensions along y and x.

    Raises
    ------
    GridError
        If they cannot be told.
    """
    try:
        return obj.rio.y_dim, obj.rio.x_dim
    except MissingSpatialDimensionError:
        pass
    dims = {axis: _find_dim(obj, axis) for axis in ("y", "x")}
    if dims["y"] is None or dims["x"] is None:
        found = ", ".join(map(repr, obj.dims)) or "none"
        raise GridError(
            f"cannot use {_what(obj)}: no spatial dimensions among its dimensions ({found}). Name "
            "them y and x, mark their coordinates with the CF attribute axis, or say "
            "da.rio.set_spatial_dims(x_dim=..., y_dim=...)."
        )
    return dims["y"], dims["x"]


def single(obj: Any) -> xr.DataArray:
    """The object, if it is one array.

    Raises
    ------
    InputError
        If it is a dataset, or not xarray's.
    """
    if isinstance(obj, xr.DataArray):
        return obj
    if isinstance(obj, xr.Dataset):
        names = ", ".join(map(repr, obj.data_vars)) or "none"
        raise InputError(
            f"expected a DataArray, got a Dataset with the variables {names}. Choose one: ds[...]."
        )
    raise not_xarray(obj)


def not_xarray(obj: object) -> InputError:
    """The error for something that is neither an array nor a dataset of xarray."""
    return InputError(
        f"expected an xarray DataArray or Dataset, got {type(obj).__name__}. Wrap it: "
        "xr.DataArray(values, dims=('y', 'x'), coords=...)."
    )


def plane(da: xr.DataArray) -> xr.DataArray:
    """The array as (y, x), where all its other dimensions have one element.

    Raises
    ------
    GridError
        If one of them has more.
    InputError
        If it is not an array.
    """
    single(da)
    y_dim, x_dim = spatial_dims(da)
    others = {dim: 0 for dim in da.dims if dim not in (y_dim, x_dim)}
    if any(da.sizes[dim] != 1 for dim in others):
        raise GridError(
            f"expected one raster, got {dict(da.sizes)}. Choose one element of the other "
            "dimensions: da.isel(...)."
        )
    return da.isel(others, drop=True).transpose(y_dim, x_dim)


@dataclass(frozen=True)
class _Axis:
    """First pixel centre and step along one dimension, as far as known."""

    first: np.longdouble
    step: float | None
    edge: float | None = None


def _axis(
    obj: XarrayObject, dim: Hashable, stored: tuple[float, float] | None, labelled: bool
) -> _Axis:
    if not labelled:
        edge, size = stored or (0.0, 1.0)
        return _Axis(np.longdouble(edge) + np.longdouble(size) / 2, size, edge)
    values = obj[dim].values
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise GridError(
            f"cannot use {_what(obj)}: coordinate {dim!r} holds {values.dtype} values that are not "
            "all finite numbers."
        )
    exact = values.astype(np.longdouble)
    rounding = np.finfo(values.dtype).eps if values.dtype.kind == "f" else 0.0
    slack = 2 * rounding * float(np.abs(exact).max())
    n = len(exact)
    step = float((exact[-1] - exact[0]) / (n - 1)) if n > 1 else None
    if step is not None:
        _check_regular(obj, dim, exact, step, slack)
    if stored is not None:
        edge, stored_step = stored
        along = edge + (np.arange(n) + 0.5) * stored_step
        if np.abs(along - exact).max() <= _TOLERANCE * abs(stored_step) + slack:
            return _Axis(exact[0], stored_step, edge)
        if n == 1:
            return _Axis(exact[0], stored_step)
    return _Axis(exact[0], step)


def _check_regular(
    obj: XarrayObject, dim: Hashable, exact: NDArray[Any], step: float, slack: float
) -> None:
    spacing = np.diff(exact)
    off = np.abs(exact - (exact[0] + np.arange(len(exact)) * step)).max()
    if step == 0 or off > _TOLERANCE * abs(step) + slack:
        sizes = np.abs(spacing).astype(float)
        if not sizes.any():
            raise GridError(f"cannot use {_what(obj)}: all its {dim} coordinates are the same.")
        raise GridError(
            f"cannot use {_what(obj)}: {dim} spacing varies from {sizes.min():.6g} to "
            f"{sizes.max():.6g}. xdemsr needs a regular grid. Reproject first: "
            "da.rio.reproject(...), or da.interp(...) onto even coordinates."
        )


def _missing_steps(y: _Axis, x: _Axis, what: str) -> tuple[float, float]:
    """Pixel sizes, where one axis has a single pixel and no transform: square pixels."""
    if y.step is not None and x.step is not None:
        return y.step, x.step
    if x.step is not None:
        return -abs(x.step), x.step
    if y.step is not None:
        return y.step, abs(y.step)
    warn(
        f"the pixel size of {what} cannot be told from a single pixel; taking 1 x 1. Say it: "
        "da.rio.write_transform(...).",
        UserWarning,
    )
    return -1.0, 1.0


def _origin(axis: _Axis, step: float) -> float:
    """Outer edge of the first pixel."""
    if axis.edge is not None:
        return axis.edge
    return float(axis.first - np.longdouble(step) / 2)


def _centres(edge: float, step: float, n: int) -> NDArray[np.float64]:
    # Rounded as rioxarray rounds, so that an answer and the same raster read from a file align.
    return np.arange(n, dtype=np.float64) * step + np.float64(edge + 0.5 * step)


def _find_dim(obj: XarrayObject, axis: str) -> Hashable | None:
    for dim in obj.dims:
        if dim == axis:
            return dim
    for dim in obj.dims:
        attrs: Mapping[str, Any] = obj[dim].attrs if dim in obj.coords else {}
        if (
            str(attrs.get("axis", "")).lower() == axis
            or attrs.get("standard_name") in _STANDARD_NAMES[axis]
            or attrs.get("units") in _DEGREE_UNITS[axis]
        ):
            return dim
    for dim in obj.dims:
        if str(dim).lower() in _NAMES[axis]:
            return dim
    return None


def _refuse_curvilinear(obj: XarrayObject, y_dim: Hashable, x_dim: Hashable) -> None:
    for name, coord in obj.coords.items():
        if {y_dim, x_dim} <= set(coord.dims) and _looks_spatial(str(name), coord.attrs):
            raise GridError(
                f"cannot use {_what(obj)}: its coordinate {name!r} varies along both "
                f"{y_dim!r} and {x_dim!r} (a curvilinear grid). Reproject first, for instance "
                "with pyresample, xESMF or da.rio.reproject(...)."
            )


def _looks_spatial(name: str, attrs: Mapping[str, Any]) -> bool:
    names = _NAMES["y"] + _NAMES["x"]
    standard = _STANDARD_NAMES["y"] + _STANDARD_NAMES["x"]
    return name.lower() in names or attrs.get("standard_name") in standard


def _grid_mapping(obj: XarrayObject) -> str | None:
    name = obj.rio.grid_mapping
    if name in obj.coords:
        return str(name)
    if "grid_mapping" in obj.attrs:
        warn(
            f"{_what(obj)} names the grid mapping {name!r}, which is not among its coordinates: "
            "its CRS is not known. Open it with xarray's decode_coords='all'.",
            UserWarning,
        )
    return None


def _stored_transform(obj: XarrayObject, mapping: str | None) -> Affine | None:
    if mapping is None or "GeoTransform" not in obj.coords[mapping].attrs:
        return None
    stored = obj.coords[mapping].attrs["GeoTransform"]
    numbers = stored.split() if isinstance(stored, str) else stored
    try:
        return Affine.from_gdal(*(float(number) for number in numbers))
    except (TypeError, ValueError) as error:
        raise GridError(
            f"cannot use {_what(obj)}: its GeoTransform {stored!r} is not six numbers. Write it "
            "anew: da.rio.write_transform(...)."
        ) from error


def _crs(obj: XarrayObject) -> Any:
    crs = obj.rio.crs
    return None if crs is None else crs.to_wkt()


def same_crs(first: Any, second: Any) -> bool:
    """Whether two CRS are one on the map; heights may differ, and a missing one fits any."""
    if first is None or second is None or first == second:
        return True
    flat = [(crs.proj.sub_crs_list or [crs.proj])[0] for crs in (first, second)]
    return bool(flat[0].equals(flat[1], ignore_axis_order=True))


def _what(obj: XarrayObject) -> str:
    name = getattr(obj, "name", None)
    kind = "dataset" if isinstance(obj, xr.Dataset) else "array"
    return f"{name!r}" if name is not None else f"the {kind}"
