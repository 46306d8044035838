"""Steps between tiles, beside odc-stac: the table of docs/stac.md.

    pip install odc-stac
    python examples/stac_steps.py

A smooth surface is cut into tiles, at 1 by 1 arc-second and, where it says so, at 1 by 1.5 north of
50 degrees, and opened in UTM at 20 m. The surface is known everywhere, so every pixel's error is.
Prints Markdown.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import odc.stac
import pyproj
import pystac
import rasterio
import xarray as xr
from affine import Affine

import xdemsr

SECOND = 1 / 3600
WEST, MIDDLE = 7.0, 50.0
#: Degrees of a tile along each axis, and the box that is opened, within all of them.
TILE = 0.1
BOX = (WEST + 0.02, MIDDLE - TILE + 0.02, WEST + 3 * TILE - 0.02, MIDDLE + TILE - 0.02)
METHODS = ("bilinear", "cubic")


def surface(lon: Any, lat: Any) -> Any:
    """Metres: waves of 5 km and 700 m, slopes of up to some 40 degrees."""
    y, x = (lat - MIDDLE) * 111_320.0, (lon - WEST) * 71_560.0
    return (
        600 + 250 * np.sin(x / 800 + 1) * np.cos(y / 900) + 40 * np.sin(x / 110) * np.sin(y / 120)
    )


def tile(folder: Path, row: int, column: int, width: float) -> pystac.Item:
    """One tile in pixels of ``width`` by one second, and its item."""
    north, west = MIDDLE + (1 - row) * TILE, WEST + column * TILE
    ny, nx = round(TILE / SECOND), round(TILE / (width * SECOND))
    transform = Affine(width * SECOND, 0, west, 0, -SECOND, north)
    lat = north - (np.arange(ny) + 0.5) * SECOND
    lon = west + (np.arange(nx) + 0.5) * width * SECOND
    path = folder / f"tile_{row}{column}.tif"
    options = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": "EPSG:4326"}
    with rasterio.open(path, "w", height=ny, width=nx, transform=transform, **options) as file:
        file.write(surface(lon, lat[:, None]).astype(np.float32), 1)
    east, south = west + TILE, north - TILE
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item = pystac.Item(
        path.stem,
        {"type": "Polygon", "coordinates": [ring]},
        [west, south, east, north],
        datetime(2026, 1, 1, tzinfo=UTC),
        {"proj:code": "EPSG:4326"},
        stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
        collection="made",
    )
    fields = {"proj:shape": [ny, nx], "proj:transform": list(transform)[:6]}
    asset = pystac.Asset(str(path), media_type="image/tiff", roles=["data"], extra_fields=fields)
    item.add_asset("data", asset)
    return item


def errors(found: xr.DataArray) -> str:
    """Largest and RMS, over the pixels that lie in the box."""
    to_degrees = pyproj.Transformer.from_crs(found.rio.crs, 4326, always_xy=True)
    lon, lat = to_degrees.transform(*np.meshgrid(found.x, found.y))
    west, south, east, north = BOX
    inside = (lon > west) & (lon < east) & (lat > south) & (lat < north)
    off = np.abs(found.values.squeeze() - surface(lon, lat))[inside]
    return f"{off.max():.3f}, {np.sqrt((off**2).mean()):.4f}"


def main() -> None:
    """Open with both, by both methods."""
    print("| tiles | method | `open_stac`: largest, RMS | `odc.stac.load`: largest, RMS |")
    print("|---|---|---|---|")
    for words, northern in {"one spacing": 1.0, "1 and 1.5 seconds": 1.5}.items():
        folder = Path(tempfile.mkdtemp())
        items = [
            tile(folder, row, column, width)
            for row, width in enumerate((northern, 1.0))
            for column in range(3)
        ]
        for method in METHODS:
            ours = xdemsr.open_stac(
                items, bbox=BOX, crs="EPSG:32632", resolution=20, resampling=method
            )
            theirs = odc.stac.load(items, ["data"], like=ours.odc.geobox, resampling=method)
            cells = words, method, errors(ours), errors(theirs["data"])
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
