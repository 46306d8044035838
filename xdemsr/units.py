"""Whether the numbers of a raster are in the unit that a model takes, as far as labels say."""

from __future__ import annotations

import xarray as xr

from xdemsr.derived import NODATA_MASK
from xdemsr.errors import InputError
from xdemsr.spec import Band, ModelSpec

#: Metres in one, by every spelling that is customary.
_METRES = {
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1.0),
    **dict.fromkeys(("ft", "foot", "feet", "international foot"), 0.3048),
    **dict.fromkeys(
        ("us-ft", "ft_us", "ftus", "us survey foot", "us survey feet", "us_survey_foot"),
        1200 / 3937,
    ),
    **dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), 1000.0),
    **dict.fromkeys(("dm", "decimetre", "decimetres", "decimeter", "decimeters"), 0.1),
    **dict.fromkeys(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), 0.01),
    **dict.fromkeys(("mm", "millimetre", "millimetres", "millimeter", "millimeters"), 0.001),
}
#: Units of what is stored as whole numbers, multiplied by 10,000 or the like.
_SHARES = ("reflectance", "1")


def check_units(da: xr.DataArray, band: Band, spec: ModelSpec) -> None:
    """Refuse a raster that its labels say is in another unit than the band.

    Networks for super-resolution of terrain do not know the unit; others have learnt one.

    Raises
    ------
    InputError
        If lengths are in another unit, or shares (reflectances) in whole numbers.
    """
    if spec.task != "super-resolution":
        check_lengths(da, band, f"model {spec.name!r} takes")
    if band.units in _SHARES and band.name != NODATA_MASK and da.dtype.kind in "iu":
        raise InputError(
            f"{da.name!r} holds whole numbers ({da.dtype}), and model {spec.name!r} takes "
            f"{band.name!r} in the unit {band.units!r}. Multiply them by their scale, for instance "
            "da * 0.0001."
        )


def metres_in(unit: str) -> float | None:
    """Metres in one of a unit; None for what is no length that is known here."""
    return _METRES.get(" ".join(unit.lower().split()))


def check_lengths(da: xr.DataArray, band: Band, said: str) -> None:
    """Refuse heights that their labels say are in another unit than the band.

    Parameters
    ----------
    da : DataArray
    band : Band
    said : str
        What wants the band, for the message: "model 'x' takes".

    Raises
    ------
    InputError
        If both units are lengths, and differ.
    """
    found = str(da.attrs.get("units", ""))
    own, wanted = map(metres_in, (found, band.units))
    if own is None or wanted is None or own == wanted:
        return
    raise InputError(
        f"{da.name!r} is in {found!r}, and {said} {band.name!r} in "
        f"{band.units!r}. Convert it: (da * {own / wanted:.10g}).assign_attrs("
        f"units={band.units!r})."
    )
