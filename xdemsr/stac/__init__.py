"""Rasters from a STAC: searched, pasted, matched."""

from xdemsr.stac.opening import open_stac
from xdemsr.stac.signing import PlanetaryComputer

__all__ = ["PlanetaryComputer", "open_stac"]
