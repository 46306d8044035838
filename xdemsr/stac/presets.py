"""What is known of collections beyond what their items say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Metadata = Literal["checked", "header"]


@dataclass(frozen=True)
class Reflectance:
    """Numbers that are reflectances, in ten-thousandths.

    Attributes
    ----------
    scale : float
    shift : float
        Added after scaling, in products since a baseline.
    baseline : (str, float)
        The property that tells the baseline, and the first one that is shifted.
    applied : str
        The property that says that the numbers in the file have been shifted back already.
    nodata : float
    """

    scale: float
    shift: float
    baseline: tuple[str, float]
    applied: str
    nodata: float


@dataclass(frozen=True)
class Preset:
    """Defaults and facts of a collection.

    Attributes
    ----------
    bands : tuple of str
        Assets, or common names of bands, that are opened if none are asked for.
    name : str or None
        Of the array, where one band is elevation.
    attrs : mapping
        What is said of it.
    vertical : int or None
        EPSG code of what heights refer to, where the items' CRS does not say.
    metadata : str
        Whether the items' word on grids can be taken.
    where : mapping
        Properties that items must have, where no query asks for others.
    reflectance : Reflectance or None
    """

    bands: tuple[str, ...]
    name: str | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    vertical: int | None = None
    metadata: Metadata = "checked"
    where: Mapping[str, Any] = field(default_factory=dict)
    reflectance: Reflectance | None = None


def _copernicus(gsd: int) -> Preset:
    # A surface model, above the geoid EGM2008. Files are pixel-is-point; GDAL takes the half pixel
    # into the transform, so that centres lie on whole seconds. There are no tiles in the open sea.
    return Preset(
        bands=("data",),
        name="elevation",
        attrs={"units": "m", "long_name": f"Copernicus GLO-{gsd} surface above the EGM2008 geoid"},
        vertical=3855,
    )


_SENTINEL_2 = Preset(
    bands=("blue", "green", "red", "nir"),
    # Since baseline 04.00 (25 January 2022) 1000 is added, so that dark surfaces stay positive.
    reflectance=Reflectance(
        scale=1e-4,
        shift=-0.1,
        baseline=("s2:processing_baseline", 4.0),
        applied="earthsearch:boa_offset_applied",
        nodata=0.0,
    ),
)

#: By the id of the collection.
PRESETS: Mapping[str, Preset] = {
    "cop-dem-glo-30": _copernicus(30),
    "cop-dem-glo-90": _copernicus(90),
    "3dep-seamless": Preset(
        bands=("data",),
        name="elevation",
        attrs={"units": "m", "long_name": "3DEP bare earth above NAVD88"},
        vertical=5703,
        # Items give pixels of 1e-05 degrees for 9.26e-05 (microsoft/PlanetaryComputer#241), and the
        # collection holds every place twice, in 10 m and in 30 m.
        metadata="header",
        where={"gsd": 10},
    ),
    "nasadem": Preset(
        bands=("elevation",),
        name="elevation",
        attrs={"units": "m", "long_name": "NASADEM surface above the EGM96 geoid"},
        vertical=5773,
    ),
    "sentinel-2-l2a": _SENTINEL_2,
    "sentinel-2-c1-l2a": _SENTINEL_2,
}
