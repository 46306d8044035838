"""Rasters cut into tiles, written as COGs, and catalogued as STAC items."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

Box = tuple[slice, slice]


def by_process(href: str) -> str:
    """A signature that tells which process asked for it."""
    return f"{href}?sig=good&by={os.getpid()}"


def write_tile(
    path: Path,
    values: NDArray[Any],
    transform: Affine,
    crs: str = "EPSG:4326",
    nodata: float | None = None,
    block: int = 64,
    rising: bool = False,
    **tags: float,
) -> Path:
    """A tiled GeoTIFF; ``rising``: stored with the southernmost row first."""
    if rising:
        transform = transform * Affine(1, 0, 0, 0, -1, values.shape[0])
        values = values[::-1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
        tiled=True,
        blockxsize=block,
        blockysize=block,
    ) as raster:
        raster.write(values, 1)
        if tags:
            raster.scales, raster.offsets = (tags["scale"],), (tags["offset"],)
    return path


def make_item(
    href: str,
    path: Path,
    *,
    name: str | None = None,
    asset: str = "data",
    collection: str = "terrain",
    when: str = "2021-04-22T10:30:00Z",
    proj: bool | Mapping[str, Any] = True,
    properties: Mapping[str, Any] | None = None,
    bands: Sequence[Mapping[str, Any]] | None = None,
    bbox: Sequence[float] | None = None,
    **fields: Any,
) -> pystac.Item:
    """An item of one asset, with what its file says as metadata, or what is said instead."""
    with rasterio.open(path) as raster:
        said = {
            "proj:epsg": raster.crs.to_epsg(),
            "proj:shape": list(raster.shape),
            "proj:transform": list(raster.transform)[:6],
        }
        band = {"data_type": raster.dtypes[0], "nodata": raster.nodata}
        to_world = Transformer.from_crs(raster.crs, "EPSG:4326", always_xy=True)
        found = list(to_world.transform_bounds(*raster.bounds))
    west, south, east, north = box = list(bbox or found)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item = pystac.Item(
        id=name or path.stem,
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=box,
        datetime=pystac.utils.str_to_datetime(when),
        properties=dict(properties or {}),
        collection=collection,
    )
    add_asset(item, asset, href, **fields)
    stated = item.assets[asset].extra_fields
    if proj:
        stated.update(said if proj is True else {**said, **proj})
        stated["raster:bands"] = list(bands or [{k: v for k, v in band.items() if v is not None}])
    return item


def add_asset(item: pystac.Item, key: str, href: str, **fields: Any) -> None:
    """One more GeoTIFF."""
    roles = fields.pop("roles", ["data"])
    item.add_asset(
        key,
        pystac.Asset(href=href, media_type=pystac.MediaType.COG, roles=roles, extra_fields=fields),
    )


@dataclass
class Tiles:
    """Pieces of one raster as files in a folder, and their items.

    ``boxes`` are slices (y, x) of the raster; the tile files are named t0, t1 ...
    """

    folder: Path
    values: NDArray[Any]
    transform: Affine
    crs: str = "EPSG:4326"
    nodata: float | None = None
    root: str = ""
    items: list[pystac.Item] = field(default_factory=list)

    def cut(self, *boxes: Box, rising: Sequence[int] = (), **how: Any) -> list[pystac.Item]:
        """Write tiles and make their items."""
        for box in boxes:
            k = len(self.items)
            rows, columns = box
            moved = self.transform * Affine.translation(columns.start, rows.start)
            path = write_tile(
                self.folder / f"t{k}.tif",
                self.values[box],
                moved,
                self.crs,
                self.nodata,
                rising=k in rising,
            )
            href = f"{self.root}/{path.name}" if self.root else str(path)
            self.items.append(make_item(href, path, **how))
        return self.items


def boxes(rows: Sequence[int], columns: Sequence[int], overlap: int = 0) -> list[Box]:
    """Tiles between edges along y and x, each longer than its share by some pixels at the end."""
    return [
        (slice(y0, min(y1 + overlap, rows[-1])), slice(x0, min(x1 + overlap, columns[-1])))
        for y0, y1 in pairwise(rows)
        for x0, x1 in pairwise(columns)
    ]


def make_collection(name: str, items: Sequence[pystac.Item]) -> dict[str, Any]:
    """The collection of some items, as JSON."""
    boxes_of = np.array([item.bbox for item in items])
    around = [*boxes_of[:, :2].min(axis=0).tolist(), *boxes_of[:, 2:].max(axis=0).tolist()]
    times = [[item.datetime for item in items]]
    extent = pystac.Extent(
        pystac.SpatialExtent([around]), pystac.TemporalExtent([[min(times[0]), max(times[0])]])
    )
    return pystac.Collection(name, f"{name}, made up", extent).to_dict()


@contextmanager
def stac_api(folder: Path, items: Sequence[pystac.Item]) -> Iterator[str]:
    """A STAC API over items, by the program rustac; its URL."""
    collections: dict[str, list[pystac.Item]] = {}
    for item in items:
        collections.setdefault(str(item.collection_id), []).append(item)
    paths = []
    for name, members in collections.items():
        path = folder / f"collection-{name}.json"
        path.write_text(json.dumps(make_collection(name, members)))
        paths.append(path)
    path = folder / "all-items.json"
    # rustac reads items one by one.
    content = {"type": "FeatureCollection", "features": [i.to_dict() for i in items]}
    path.write_text(json.dumps(content))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).parent / "rustac"
    if not program.exists():
        pytest.skip("rustac is not installed: pip install 'xdemsr[tests]'")
    command = [str(program), "serve", "-a", f"127.0.0.1:{port}", *map(str, [*paths, path])]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await(url, process)
            yield url
        finally:
            process.terminate()


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    raise RuntimeError("rustac does not serve")
