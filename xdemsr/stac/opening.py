"""Opening what a STAC catalogues as one lazy raster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import xarray as xr

from xdemsr.errors import InputError
from xdemsr.matching import MatchMethod
from xdemsr.stac.asking import (
    band_names,
    check_choices,
    check_place,
    chunk_sizes,
    is_planetary,
    only_collection,
    patience_of,
    with_properties,
)
from xdemsr.stac.assets import Asset, Lattice
from xdemsr.stac.labelling import compound, provenance, vertical_of
from xdemsr.stac.lattices import Bounds, group
from xdemsr.stac.merging import MARGIN, Mosaic
from xdemsr.stac.pasting import Sizes, regular_chunks
from xdemsr.stac.places import (
    answer_lattice,
    check_turns,
    labelled,
    lattice_like,
    template_of,
    touching,
    widened,
    with_crs,
    world_bounds,
)
from xdemsr.stac.presets import PRESETS, Metadata, Preset
from xdemsr.stac.reading import Reader
from xdemsr.stac.scenes import (
    Order,
    Scene,
    automatic_order,
    by_day,
    ordered,
    scenes_of,
    unit_of,
)
from xdemsr.stac.search import Query, find_items
from xdemsr.stac.signing import signer


def open_stac(
    url: Any,
    collection: str | None = None,
    *,
    bbox: Sequence[float] | None = None,
    intersects: Any = None,
    datetime: Any = None,
    bands: str | Sequence[str] | None = None,
    like: Any = None,
    crs: Any = None,
    resolution: float | None = None,
    resampling: MatchMethod = "auto",
    chunks: int | tuple[int, int] | Literal["auto"] = "auto",
    mosaic: Literal["all", "day"] = "all",
    overlap: Order = "auto",
    ids: Sequence[str] | None = None,
    query: Any = None,
    filter: Any = None,
    max_items: int | None = None,
    sign: Any = None,
    metadata: Literal["auto", "checked", "header"] = "auto",
    retries: int = 5,
    timeout: float = 60.0,
    headers: Mapping[str, str] | None = None,
) -> xr.DataArray | xr.Dataset:
    """Open what a STAC catalogues over a place as one lazy raster, without a step between tiles.

    Items are searched for, and the headers of some of their files are read, of all where the
    metadata does not say where pixels lie. No pixel is read before it is computed.

    Tiles that share a grid are pasted on it as they are. The mosaic then goes once to the grid that
    is asked for, through :func:`xdemsr.match_grid`, or not at all: without ``like``, ``crs`` and
    ``resolution`` the answer has the items' own pixels.

    Parameters
    ----------
    url : str, Path, pystac_client.Client, pystac Catalog, Item, or items
        A STAC API, a catalog of files, or items that were found before.
    collection : str, optional
        Id of a collection. What is not in the items of some is known here: ``cop-dem-glo-30``,
        ``cop-dem-glo-90``, ``3dep-seamless``, ``nasadem``, ``sentinel-2-l2a``,
        ``sentinel-2-c1-l2a``.
    bbox : (west, south, east, north), optional
        In degrees. The answer covers it in whole pixels.
    intersects : mapping or geometry, optional
        Instead of ``bbox``: a geometry as GeoJSON has it. The answer covers its bounds.
    datetime : str, datetime or pair, optional
        As :meth:`pystac_client.Client.search` takes it: ``"2024-06"``, ``"2024-06-01/.."``.
    bands : str or sequence of str, optional
        Assets, or the names or common names of their bands. For one name the answer is an array,
        for several a dataset. Left out, they are those known of the collection, or the only raster.
    like : GeoBox, DataArray or Dataset, optional
        The answer has its grid.
    crs : CRS or "utm", optional
        Of the answer. Needed where items lie in several.
    resolution : float, optional
        Pixel size of the answer, in the unit of its CRS; pixels' edges are its multiples.
    resampling : {"auto", "nearest", "bilinear", "cubic", "average"}, optional
        Method of :func:`xdemsr.match_grid`.
    chunks : int, (int, int) or "auto", optional
        Of the answer along y and x. ``"auto"`` begins chunks where files and their blocks begin.
    mosaic : {"all", "day"}, optional
        One raster of all items; or one for each solar day, along ``time``.
    overlap : {"auto", "blend", "newest", "least cloudy"}, optional
        Where items overlap: their mean, weighted by the distance from each one's edge; or the first
        that is known in this order. ``"auto"`` is ``"least cloudy"`` where all items say
        ``eo:cloud_cover``, else ``"blend"``.
    ids : sequence of str, optional
        Only items with these ids.
    query, filter : mapping or str, optional
        Passed to the API: ``query={"eo:cloud_cover": {"lt": 20}}``.
    max_items : int, optional
        More items than this are an error.
    sign : {"planetary-computer", "aws-unsigned", "aws-requester-pays"} or callable, optional
        How files may be read. A function takes an address and returns the one to read; it is
        pickled, and called on workers when they read. Addresses of the Planetary Computer are
        signed without being told.
    metadata : {"auto", "checked", "header"}, optional
        ``"checked"``: items are believed, and each file is compared with what its item says when it
        is read, a few when opening. ``"header"``: all headers are read when opening, and believed.
        ``"auto"`` is ``"header"`` for collections that are known to be wrong, else ``"checked"``.
    retries : int, optional
        How often searching, signing and reading are tried again.
    timeout : float, optional
        Seconds that one request may take.
    headers : mapping, optional
        Sent to the API with each request, for instance a key.

    Returns
    -------
    DataArray, dims ([time,] y, x), float32; or Dataset of such
        Void pixels, and those that no item covers, are NaN; scale and offset are applied. The CRS
        is compound where it is known what heights refer to. Attributes say which items it is made
        of.

    Raises
    ------
    InputError
        If nothing is found, a band is missing, an item contradicts itself or its file, or an
        argument cannot be used. Reading raises it too, when a file is gone, broken or refused:
        what cannot be read is never a void.

    Notes
    -----
    The answer is the same bit for bit whatever ``chunks``, and whatever the order of items. Heights
    are not transformed between vertical datums.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.open_stac(
    ...     "https://planetarycomputer.microsoft.com/api/stac/v1",
    ...     "cop-dem-glo-30",
    ...     bbox=(7.6, 45.9, 7.8, 46.1),
    ... )  # doctest: +SKIP
    >>> fine = dem.demsr.upscale(4)  # doctest: +SKIP
    """
    check_choices(resampling=resampling, mosaic=mosaic, overlap=overlap, metadata=metadata)
    check_place(like, crs, resolution, bbox, intersects)
    patience = patience_of(retries, timeout)
    target = None if like is None else lattice_like(like)
    bounds = world_bounds(bbox, intersects, target)
    resampled = like is not None or crs is not None or resolution is not None
    looked = widened(bounds) if resampled else bounds
    asked = Query(collection, looked, datetime, ids, query, filter, max_items)
    found = find_items(url, asked, patience, headers)
    preset = PRESETS.get(collection or only_collection(found.items))
    told = query or filter or ids
    items = found.items if told else with_properties(found.items, preset)
    if sign is None and is_planetary(found.url, items):
        sign = "planetary-computer"
    function, options = signer(sign, patience)
    chosen: Metadata = (
        (preset.metadata if preset else "checked") if metadata == "auto" else metadata
    )
    call = _Call(
        items=items,
        preset=preset,
        reader=Reader(function, options, patience, uuid4().hex),
        metadata=chosen,
        order=automatic_order(items) if overlap == "auto" else overlap,
        daily=mosaic == "day",
        method=resampling,
    )
    names = band_names(bands, items[0], preset)
    scenes = {name: call.scenes(name) for name in names}
    heights = preset if preset and set(names) & set(preset.bands) else None
    place = _placed(scenes, like, target, bounds, crs, resolution, heights)
    sizes = chunk_sizes(chunks, place.lattice.shape)
    said = provenance(place.items, found.url, collection)
    arrays = {
        name: call.array(name, scenes[name], place, sizes).assign_attrs(said) for name in names
    }
    if isinstance(bands, str) or (bands is None and len(names) == 1):
        return arrays[names[0]].rename(call.name(names[0]))
    return xr.Dataset(arrays, attrs=said)


@dataclass(frozen=True)
class _Place:
    """The grid of the answer, as pixels and as coordinates, and the items that lie there."""

    lattice: Lattice
    template: xr.Dataset
    items: Sequence[Any]
    assets: set[Asset]

    def near(self, scenes: Sequence[Scene]) -> list[Scene]:
        """The scenes that may matter."""
        return [scene for scene in scenes if scene.asset in self.assets]


@dataclass(frozen=True)
class _Call:
    """What is the same for every band of a call."""

    items: Sequence[Any]
    preset: Preset | None
    reader: Reader
    metadata: Metadata
    order: Order
    daily: bool
    method: MatchMethod

    def scenes(self, band: str) -> list[Scene]:
        """One band of the items, in the order in which they are preferred."""
        signs = self.reader.sign is not None
        found = scenes_of(self.items, band, self.preset, self.reader, self.metadata, signs)
        return ordered(found, self.order)

    def name(self, band: str) -> str:
        """What the array of a band is called."""
        known = self.preset is not None and band in self.preset.bands
        return (self.preset.name if known and self.preset else None) or band

    def array(
        self, band: str, scenes: Sequence[Scene], place: _Place, sizes: Sizes | None
    ) -> xr.DataArray:
        """One band on the grid of the answer."""
        first, scenes = scenes[0], place.near(scenes)
        template, attrs = place.template, self._attrs(band, first, unit_of(band, scenes))
        overlap: Any = "blend" if self.order == "blend" and "flag_values" not in attrs else "first"
        target = Mosaic(template, place.lattice, self.method, overlap, self.reader)
        if not self.daily:
            return labelled(self._data(target, scenes, attrs, sizes), template).assign_attrs(attrs)
        days = by_day(scenes, place.items)
        planes = [self._data(target, day, attrs, sizes) for _, day in days]
        chunks = planes[0].chunks
        times = [np.datetime64(when.astimezone(UTC).replace(tzinfo=None), "ns") for when, _ in days]
        arrays = [labelled(plane.rechunk(chunks), template) for plane in planes]
        along = xr.concat(arrays, xr.Variable("time", times), join="exact")
        along.encoding = arrays[0].encoding
        return along.assign_attrs(attrs)

    def _data(
        self, target: Mosaic, scenes: Sequence[Scene], attrs: dict[str, Any], sizes: Sizes | None
    ) -> Any:
        data = target.of(group([scene.asset for scene in scenes]), attrs, sizes)
        if data is None:
            import dask.array as da

            chunks = sizes or regular_chunks(target.lattice.shape, (1024, 1024))
            return da.full(target.lattice.shape, np.nan, dtype=np.float32, chunks=chunks)
        return data

    def _attrs(self, band: str, scene: Scene, unit: str | None) -> dict[str, Any]:
        attrs = scene.attrs
        if unit is not None:
            attrs["units"] = unit
        if self.preset is None:
            return attrs
        if self.preset.reflectance is not None and scene.asset.scale is not None:
            attrs.setdefault("units", "1")
        return {**attrs, **self.preset.attrs} if band in self.preset.bands else attrs


def _placed(
    scenes: Mapping[str, Sequence[Scene]],
    like: Any,
    target: Lattice | None,
    bounds: Bounds | None,
    crs: Any,
    resolution: float | None,
    preset: Preset | None,
) -> _Place:
    """Where the answer is, and what lies there."""
    every = [scene for band in scenes.values() for scene in band]
    assets = [scene.asset for scene in every]
    groups = group(assets)
    check_turns(bounds, groups)
    lattice = target or answer_lattice(groups, bounds, crs, resolution)
    inside = touching(lattice, groups, 0)
    if not inside:
        raise InputError(
            f"{len(assets)} items were found, and none of their rasters touches what was asked "
            f"for ({lattice.describe()})."
        )
    near = touching(lattice, groups, MARGIN)
    name = compound(lattice.crs, vertical_of([asset for asset in assets if asset in near], preset))
    template = template_of(lattice, name) if like is None else with_crs(like, lattice, name)
    items = [scene.item for scene in every if scene.asset in inside]
    return _Place(lattice, template, items, near)
