"""Training patches straight from arrays: asked for, found, chosen."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xdemsr.errors import InputError
from xdemsr.gathering import Places, gather
from xdemsr.patchset import Patches
from xdemsr.selecting import (
    balanced,
    choose_all,
    collect,
    gridded,
    is_count,
    measured,
    ordered,
    pair_of,
    scattered,
    slope_limits,
)
from xdemsr.spec import whole_scale


def patches(
    obj: Places,
    size: int | tuple[int, int],
    scale: int = 1,
    *,
    coarse: Places | None = None,
    bands: Sequence[Hashable] | None = None,
    stride: int | tuple[int, int] | None = None,
    count: int | None = None,
    min_valid: float = 1.0,
    stratify: bool | tuple[float, float] = False,
    seed: int = 0,
) -> Patches:
    """Training samples straight from arrays: numpy, dask, Zarr, GeoTIFF, several places at once.

    Reads every chunk once, to see where there is data; not at all where ``min_valid`` is 0 and
    ``stratify`` is not asked for.

    Parameters
    ----------
    obj : DataArray or Dataset, or a sequence or mapping of them
        What is to be learnt: fine rasters, dims (y, x) or (band, y, x), one for each place, each on
        its own grid. Places of a sequence are called by their names (numbered, where those are
        alike).
    size : int or (int, int)
        Size of a patch (ny, nx) in source pixels. The target's is ``scale`` times that.
    scale : int, optional
        Target pixels per source pixel along each axis.
    coarse : same as obj, optional
        What is learnt from, on the target's grid divided by ``scale``. By default the target's
        block means, as :func:`xdemsr.degrade` makes them; with a ``scale`` of 1, the target itself.
    bands : sequence of str or int, optional
        Variables of ``obj``, or elements of its band dimension; all by default.
    stride : int or (int, int), optional
        Source pixels from one patch to the next; ``size`` by default, side by side. The last of a
        row or a column is moved inward, so that all of the raster is covered.
    count : int, optional
        So many random patches, no two at one place, instead of a grid of them.
    min_valid : float, optional
        Least share of a patch's pixels that must have data. 1 leaves out any patch with a void, as
        the paper does.
    stratify : bool or (float, float), optional
        Take as many flat as middle and steep patches: mean slopes below, between and above two
        limits in degrees. True divides the range of mean slopes found, without the outermost two
        per cent, into three equal parts.
    seed : int, optional
        Of ``count`` and ``stratify``. Same seed, same patches.

    Returns
    -------
    Patches
        Where they lie; pixels are read when a patch is asked for.

    Raises
    ------
    InputError
        If a patch does not fit, a number is out of its range, bands are missing, or nothing is left
        of the patches.
    GridError
        If there is no regular grid, or ``coarse`` is on another than expected.

    Examples
    --------
    >>> import xdemsr
    >>> dem = xdemsr.synthetic.terrain((96, 128))
    >>> patches = xdemsr.patches(dem, (8, 16), scale=4)
    >>> len(patches), patches[0].inputs.shape, patches[0].target.shape
    (6, (1, 8, 16), (1, 32, 64))

    References
    ----------
    Demiray, B. Z., Sit, M. and Demir, I. (2021). DEM super-resolution with EfficientNetV2.
    arXiv:2109.09661 (which leaves out tiles with voids).
    """
    shape, scale = pair_of(size, "size"), whole_scale(scale)
    _check(count, min_valid, stratify, seed, stride)
    places = gather(obj, scale, coarse, bands)
    for place in places:
        if any(n < m for n, m in zip(place.source.shape, shape, strict=True)):
            raise InputError(
                f"a patch of {shape} source pixels is larger than {place.name!r}, which has "
                f"{place.source.shape} at a scale of {scale}. Make patches smaller."
            )
    rng = np.random.default_rng(seed)

    def measure(table: pd.DataFrame) -> pd.DataFrame:
        if min_valid == 0 and stratify is False:
            return ordered(places, table).assign(valid=1.0)
        return measured(places, table, shape, slopes=stratify is not False)

    if count is None:
        grid = gridded(places, shape, shape if stride is None else pair_of(stride, "stride"))
        table = choose_all(measure(grid), min_valid)
        if stratify is not False:
            table = balanced(table, slope_limits(table, stratify), None, rng)
    else:
        portions = scattered(places, shape, count, rng)
        table = collect(portions, measure, count, min_valid, stratify, rng)
    table = table.drop(columns="valid") if "mean" not in table else table
    return Patches(shape, scale, ordered(places, table), places)


def _check(count: object, min_valid: float, stratify: Any, seed: int, stride: object) -> None:
    if count is not None and not is_count(count):
        raise InputError(f"count={count!r} must be a whole number of patches, 1 or more.")
    if count is not None and stride is not None:
        raise InputError("count gives random patches and stride a grid of them: give one.")
    if not 0 <= min_valid <= 1:
        raise InputError(f"min_valid={min_valid!r} must be a share of pixels, from 0 to 1.")
    if seed < 0:
        raise InputError(f"seed={seed!r} must be 0 or more.")
    if isinstance(stratify, bool):
        return
    if not (isinstance(stratify, tuple) and len(stratify) == 2 and 0 <= stratify[0] < stratify[1]):
        raise InputError(
            f"stratify={stratify!r} must be True, False, or two mean slopes in degrees, the lower "
            "first."
        )
