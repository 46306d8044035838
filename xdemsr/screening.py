"""Patches of a pair of images that do not fit: found by their statistics, left out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xdemsr.errors import InputError
from xdemsr.gathering import Patch
from xdemsr.patchset import Patches
from xdemsr.sensor import block_mean

Plane = NDArray[np.float64]

_COLUMNS = ("correlation", "mean_difference", "std_difference", "std", "saturated", "void")
#: Differences below this share of the target's standard deviation are never too far from others'.
_SMALL = 0.1


class Validated(NamedTuple):
    """What :func:`validate_patches` found.

    Attributes
    ----------
    patches : Patches
        Those that were kept.
    table : pandas.DataFrame
        One row for each patch, rejected or not; see :func:`validate_patches`.
    """

    patches: Patches
    table: pd.DataFrame


def validate_patches(
    patches: Patches,
    *,
    min_correlation: float = 0.6,
    outlying: float | None = 4.0,
    saturation: float | None = None,
    max_saturated: float = 0.01,
    max_void: float = 0.0,
) -> Validated:
    """Leave out patches whose two images show different things.

    A pair is taken by two sensors on two days: between them lie clouds and their shadows, harvests,
    ships, floods. Each patch's inputs are compared with its target's block means.

    Parameters
    ----------
    patches : Patches
        Of inputs and targets with the same bands in the same order.
    min_correlation : float, optional
        Of pixels, least over the bands.
    outlying : float, optional
        Largest distance of a patch's ``mean_difference`` and ``std_difference`` from the median
        over the patches of its place, in 1.4826 times the median of such distances (a standard
        deviation, where they are normal); distances below a tenth of the target's standard
        deviation pass. None to let all pass.
    saturation : float, optional
        Values from which on a pixel is saturated: 1.0 where reflectances are shares. Not looked at
        by default.
    max_saturated, max_void : float, optional
        Largest shares of such pixels, of the inputs or the target, whichever has more; and of
        pixels of the target that are void in a band.

    Returns
    -------
    Validated
        ``patches``, and ``table`` with a row for each patch by its number: ``place``, ``y``, ``x``;
        ``correlation``; ``mean_difference`` and ``std_difference`` (of the inputs, less those of
        the target's block means, in their unit; of the band where it is largest); ``std`` (of these
        block means; of the band where it is least); ``saturated`` and ``void`` (shares);
        ``reasons`` (a text, empty where the patch was kept) and ``kept``.

    Raises
    ------
    InputError
        If inputs and target have different bands, a limit is out of its range, or no patch is kept.

    See Also
    --------
    xdemsr.review_page : Shows them, to be rejected by eye.

    References
    ----------
    Galar, M. et al. (2019). Super-resolution for Sentinel-2 images. ISPRS Archives XLII-2/W16,
    95-102. (Patches are validated by statistics, and by hand.)

    Examples
    --------
    >>> import xdemsr
    >>> high = xdemsr.synthetic.terrain((96, 128))
    >>> low = high.demsr.degrade(2)
    >>> low[:16, :16] = low.mean()
    >>> patches = xdemsr.patches(high, 16, 2, coarse=low)
    >>> kept, table = xdemsr.validate_patches(patches)
    >>> len(patches), len(kept), table.loc[0, "reasons"].partition(";")[0]
    (12, 11, 'nothing to see in one of the images')
    """
    shares = {
        "min_correlation": min_correlation,
        "max_saturated": max_saturated,
        "max_void": max_void,
    }
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name}={value} must lie between 0 and 1.")
    if outlying is not None and not outlying > 0:
        raise InputError(f"outlying={outlying} must be positive, or None.")
    values = np.array([_measured(patch, saturation) for patch in patches])
    measures = pd.DataFrame(values, columns=list(_COLUMNS))
    table = pd.concat([_corners(patches), measures], axis=1)
    table["reasons"] = _reasons(table, shares, outlying)
    table["kept"] = table["reasons"] == ""
    if not table["kept"].any():
        found = ", ".join(table["reasons"].value_counts().index[:3])
        raise InputError(
            f"none of {len(table)} patches is kept: {found}. Are both images of one place, in one "
            "unit, and registered? See xdemsr.pair_images and xdemsr.match_histograms."
        )
    return Validated(without(patches, np.flatnonzero(~table["kept"])), table)


def without(patches: Patches, numbers: Iterable[int]) -> Patches:
    """Patches without some of them, by number.

    Raises
    ------
    InputError
        If there is no such patch, or none is left.
    """
    kept = np.ones(len(patches), bool)
    for number in numbers:
        if not 0 <= number < len(patches):
            raise InputError(f"there is no patch {number}: there are {len(patches)}.")
        kept[number] = False
    if not kept.any():
        raise InputError(f"all {len(patches)} patches are rejected: nothing is left.")
    return replace(patches, table=patches.table[kept].reset_index(drop=True))


def _corners(patches: Patches) -> pd.DataFrame:
    table = patches.table
    names = [patches.places[k] for k in table["place"]]
    return pd.DataFrame({"place": names, "y": table["y"].to_numpy(), "x": table["x"].to_numpy()})


def _measured(patch: Patch, saturation: float | None) -> list[float]:
    """Numbers in the order of the table's columns."""
    if patch.inputs.shape[0] != patch.target.shape[0]:
        raise InputError(
            f"patches have {patch.inputs.shape[0]} bands to learn from and {patch.target.shape[0]} "
            "to learn: they cannot be compared. Give both the same, in the same order."
        )
    scale = patch.target.shape[-1] // patch.inputs.shape[-1]
    known = block_mean(patch.valid[0].astype(np.float64), scale) == 1
    compared = []
    for low, high in zip(patch.inputs, patch.target, strict=True):
        means = block_mean(high.astype(np.float64), scale)[known]
        compared.append(_compared(low.astype(np.float64)[known], means))
    correlations, means, deviations, spreads = np.array(compared).T
    saturated = 0.0
    if saturation is not None:
        parts = (patch.inputs, patch.target[:, patch.valid[0]])
        shares = [np.mean(part >= saturation) if part.size else 0.0 for part in parts]
        saturated = float(max(shares))
    return [
        float(correlations.min()),
        float(means[np.argmax(np.abs(means))]),
        float(deviations[np.argmax(np.abs(deviations))]),
        float(spreads.min()),
        saturated,
        1.0 - float(patch.valid.mean()),
    ]


def _compared(low: Plane, high: Plane) -> list[float]:
    """Correlation, difference of means and of standard deviations, and the latter of the high."""
    if not low.size:
        return [math.nan] * 4
    spreads = [float(values.std()) for values in (low, high)]
    apart = float(low.mean() - high.mean())
    product = float(np.mean((low - low.mean()) * (high - high.mean())))
    # A flat image has no shape that could be alike.
    rounding = [np.finfo(np.float32).eps * float(np.abs(values).max()) for values in (low, high)]
    flat = any(spread <= least for spread, least in zip(spreads, rounding, strict=True))
    correlation = math.nan if flat else product / math.prod(spreads)
    return [correlation, apart, spreads[0] - spreads[1], spreads[1]]


def _reasons(table: pd.DataFrame, limits: dict[str, float], outlying: float | None) -> list[str]:
    """Why each patch is left out; nothing where it is not."""
    correlation = table["correlation"]
    rules: list[tuple[ArrayLike, str, str]] = [
        (correlation.isna(), "correlation", "nothing to see in one of the images"),
        (correlation < limits["min_correlation"], "correlation", "correlation {:.2f}"),
        (_far(table, "mean_difference", outlying), "mean_difference", "mean difference {:.3g}"),
        (_far(table, "std_difference", outlying), "std_difference", "std difference {:.3g}"),
        (table["saturated"] > limits["max_saturated"], "saturated", "{:.1%} saturated"),
        (table["void"] > limits["max_void"], "void", "{:.1%} void"),
    ]
    found: list[list[str]] = [[] for _ in range(len(table))]
    for wrong, column, words in rules:
        for k in np.flatnonzero(np.asarray(wrong)):
            found[k].append(words.format(table[column].iloc[k]))
    return ["; ".join(reasons) for reasons in found]


def _far(table: pd.DataFrame, column: str, outlying: float | None) -> NDArray[np.bool_]:
    """Which are farther than so many NMAD from the median of their place, and far."""
    if outlying is None:
        return np.zeros(len(table), bool)
    groups = table[column].groupby(table["place"])
    apart = (table[column] - groups.transform("median")).abs()
    spread = 1.4826 * apart.groupby(table["place"]).transform("median")
    far: NDArray[np.bool_] = (
        apart > np.maximum(outlying * spread, _SMALL * table["std"])
    ).to_numpy()
    return far
