"""
From STAC to Zarr
=================

Tiles of a catalog, opened as one lazy raster without a step between them, upscaled and written. The
catalog is made here, of made terrain, so that this page needs no network; an address of an API
takes its place in real life.

Needs the extra ``stac``.
"""

import json
import tempfile
from pathlib import Path

import xdemsr

folder = Path(tempfile.mkdtemp())

# %%
# Four tiles of one terrain, each a Cloud-Optimized GeoTIFF, and what STAC says of them.
terrain = xdemsr.synthetic.fractal((300, 420), seed=12)
links = []
for row, (top, bottom) in enumerate([(0, 130), (130, 300)]):
    for column, (left, right) in enumerate([(0, 250), (250, 420)]):
        tile = terrain[top:bottom, left:right]
        name = f"tile_{row}{column}"
        xdemsr.write_cog(tile, folder / f"{name}.tif")
        west, south, east, north = tile.rio.transform_bounds("EPSG:4326")
        ring = [(west, south), (east, south), (east, north), (west, north), (west, south)]
        item = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "stac_extensions": [],
            "id": name,
            "collection": "made-terrain",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "bbox": [west, south, east, north],
            "properties": {"datetime": "2024-06-01T00:00:00Z", "proj:epsg": 32611},
            "assets": {
                "data": {
                    "href": f"./{name}.tif",
                    "type": "image/tiff; application=geotiff",
                    "roles": ["data"],
                    "proj:shape": list(tile.shape),
                    "proj:transform": list(tile.rio.transform())[:6],
                }
            },
            "links": [],
        }
        (folder / f"{name}.json").write_text(json.dumps(item))
        links.append({"rel": "item", "href": f"./{name}.json", "type": "application/geo+json"})
catalog = {
    "type": "Catalog",
    "stac_version": "1.0.0",
    "id": "made",
    "description": "Made terrain in four tiles",
    "links": links,
}
(folder / "catalog.json").write_text(json.dumps(catalog))

# %%
# A box in degrees that touches all four. Headers are read, and no pixel.
dem = xdemsr.open_stac(
    folder / "catalog.json", "made-terrain", bbox=(-116.99, 36.97, -116.88, 37.03)
)
dem.demsr.plan(4)

# %%
# Four times finer, and chunk by chunk into a store. With ``resume=True`` the same call goes on
# where it was, if it is stopped.
fine = dem.demsr.upscale(4)
store = folder / "fine.zarr"
xdemsr.write_zarr(fine, store, resume=True)
written = xdemsr.open(store)
for name in ("xdemsr_model", "xdemsr_model_version", "stac_collection", "stac_items"):
    print(f"{name:20} {written.attrs[name]}")

# %%
# Where the tiles meet is drawn on the input. In the answer there is nothing to be seen of it.
axes = xdemsr.plotting.compare({"four tiles": dem, "terrain-x4": written})
axes[0].axvline((float(terrain.x[250]) - float(dem.x[0])) / 1000, color="black", linestyle=":")
axes[0].axhline((float(dem.y[0]) - float(terrain.y[130])) / 1000, color="black", linestyle=":")
