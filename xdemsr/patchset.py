"""Patches of places: by number, as a shuffled stream, divided, counted, put back on the map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xdemsr.errors import InputError
from xdemsr.gathering import Patch, Place
from xdemsr.mosaic import mosaic
from xdemsr.reading import ChunkReader, Whole
from xdemsr.selecting import (
    REGIONS_AT_ONCE,
    Size,
    measured,
    pair_of,
    regions,
    walk,
    window_at,
)
from xdemsr.splitting import Footprints, divided

#: Patches along a block of a split, where nothing else is said.
_BLOCK_PATCHES = 4


class Parts(NamedTuple):
    """Patches divided by :meth:`Patches.split`.

    Attributes
    ----------
    train, validation, test : Patches
    """

    train: Patches
    validation: Patches
    test: Patches

    def statistics(self) -> pd.DataFrame:
        """Heights of each part and place; see :meth:`Patches.statistics`."""
        tables = {name: part.statistics() for name, part in self._asdict().items() if len(part)}
        table: pd.DataFrame = pd.concat(tables, names=["split"])
        return table


@dataclass(frozen=True, eq=False, repr=False)
class Patches:
    """Patches of one or more places; made by :func:`xdemsr.patches`.

    Knows where they lie and holds no pixel of a lazy array. Can be pickled, and be used as a torch
    dataset as it is (samples by number); :class:`xdemsr.training.PatchDataset` is the faster way.

    Attributes
    ----------
    size : (ny, nx)
        Of a patch, in source pixels.
    scale : int
        Target pixels per source pixel along each axis.
    table : pandas.DataFrame
        One row for each patch: ``place`` (its number), ``y`` and ``x`` (first source pixel), and,
        where patches were read to be chosen, ``valid`` (share of pixels with data), ``count``,
        ``mean``, ``min``, ``max`` (of the target's first band) and ``slope`` (degrees). Patches
        that lie in the same chunks follow each other.

    Examples
    --------
    >>> import xdemsr
    >>> patches = xdemsr.patches(xdemsr.synthetic.terrain((240, 320)), size=16, scale=4)
    >>> len(patches), patches.scale
    (20, 4)
    """

    size: Size
    scale: int
    table: pd.DataFrame
    _places: tuple[Place, ...]
    _reader: ChunkReader = field(default_factory=ChunkReader)

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the places."""
        return tuple(place.name for place in self._places)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        ny, nx = self.size
        return (
            f"<xdemsr.Patches: {len(self):,} of {ny} x {nx} source pixels, scale {self.scale}, "
            f"from {', '.join(self.places)}>"
        )

    def __getitem__(self, index: int) -> Patch:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no patch {index}: there are {len(self)}.")
        number, y, x = (int(self.table[name].to_numpy()[index]) for name in ("place", "y", "x"))
        return self._places[number].patch(self._reader, window_at(y, x, self.size))

    def __iter__(self) -> Iterator[Patch]:
        return self.stream(None)

    def stream(
        self,
        seed: int | None = 0,
        epoch: int = 0,
        shard: int = 0,
        shards: int = 1,
        start: int = 0,
    ) -> Iterator[Patch]:
        """Patch after patch, in random order, reading chunk by chunk.

        Parameters
        ----------
        seed : int or None, optional
            Of the order; None is the table's own.
        epoch : int, optional
            Every epoch has another order.
        shard, shards : int, optional
            Give every ``shards``-th part of the patches: ``shards`` streams together give each
            patch once, and none has over one patch more than another.
        start : int, optional
            Leave out so many patches of this shard's, and continue as if they had been given.

        Yields
        ------
        Patch
            Each patch of the shard once.

        Raises
        ------
        InputError
            If there is no such shard, or a number is negative; while reading, if the array is lazy
            and the process was forked from the one that opened it.

        Notes
        -----
        Chunks that lie together are read together. Some such regions, drawn at random, are in
        memory at once, and their patches are shuffled; what is in memory anyway is shuffled as a
        whole. A chunk is read again only if another region's patches reach into it after it had to
        make room for others. About 400 MB of chunks are kept (or four regions, where chunks are
        large), and while others are read, these beside them.
        """
        if not (0 <= shard < shards and start >= 0 and epoch >= 0 and (seed is None or seed >= 0)):
            raise InputError(
                f"cannot give shard {shard} of {shards} from {start} on (seed {seed}, epoch "
                f"{epoch}): shards count from 0, and no number may be negative."
            )
        return self._stream(seed, epoch, shard, shards, start)

    def _stream(
        self, seed: int | None, epoch: int, shard: int, shards: int, start: int
    ) -> Iterator[Patch]:
        order, groups = self._order(seed, epoch)
        first, last = (len(self) * k // shards for k in (shard, shard + 1))
        part = slice(min(first + start, last), last)
        visits = walk(self._places, self.table, order[part], groups[part], self.size)
        for _, place, window, reader in visits:
            yield place.patch(reader, window)

    def _order(self, seed: int | None, epoch: int) -> tuple[Whole, Whole]:
        """Rows of the table as they are visited, and which of them are read together."""
        found, region = np.unique(regions(self._places, self.table), return_inverse=True)
        if seed is None:
            return np.arange(len(self)), region
        rng = np.random.default_rng([seed, epoch])
        group = rng.permutation(len(found))[region] // REGIONS_AT_ONCE
        order = np.lexsort((rng.random(len(self)), group))
        return order, group[order]

    def split(
        self,
        train: float = 0.8,
        validation: float = 0.1,
        test: float = 0.1,
        *,
        block: int | tuple[int, int] | None = None,
        buffer: int | None = None,
        seed: int = 0,
    ) -> Parts:
        """Divide by spatial blocks, with a buffer between what is learnt from and what is scored.

        Every block of the map belongs to one part, with all patches whose middle lies in it. Then
        training patches with fewer than ``buffer`` source pixels between them and any validation or
        test patch are left out, and so are validation patches that near to a test patch. Places
        whose CRS is one are compared with each other too.

        Parameters
        ----------
        train, validation, test : float, optional
            Shares of the patches; together 1.
        block : int or (int, int), optional
            Size of a block (ny, nx) in source pixels; four patches along each axis by default.
        buffer : int, optional
            Source pixels; half a patch's longer side by default.
        seed : int, optional
            Of the blocks.

        Returns
        -------
        Parts
            ``train``, ``validation`` and ``test``; shares are met as far as whole blocks and the
            buffer allow.

        Raises
        ------
        InputError
            If shares are not 1 together, a size is not positive, or a part with a share is empty.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((480, 640))
        >>> parts = dem.demsr.patches(16).split(0.6, 0.2, 0.2, block=80, buffer=8)
        >>> len(parts.train) > 2 * len(parts.test) > 0
        True
        """
        shares = (train, validation, test)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise InputError(f"shares {shares} must be 0 or more and 1 together.")
        if buffer is None:
            buffer = max(self.size) // 2
        if buffer < 0:
            raise InputError(f"buffer={buffer} must be 0 or more source pixels.")
        if block is None:
            block = (self.size[0] * _BLOCK_PATCHES, self.size[1] * _BLOCK_PATCHES)
        part = self._parts(shares, pair_of(block, "block"), buffer, seed)
        parts = [self._only(part == number) for number in range(3)]
        if any(share and not len(found) for share, found in zip(shares, parts, strict=True)):
            raise InputError(
                f"{len(self)} patches, shared {shares} by blocks of {block} with a buffer of "
                f"{buffer} source pixels, leave {[len(found) for found in parts]} for training, "
                "validation and test. Make blocks or the buffer smaller, or give more patches."
            )
        return Parts(*parts)

    def _parts(self, shares: Sequence[float], block: Size, buffer: int, seed: int) -> Whole:
        """The part of each patch; -1 for those that lie in a buffer."""
        number = self.table["place"].to_numpy()
        corners = self.table[["y", "x"]].to_numpy()
        here = [np.flatnonzero(number == k) for k in range(len(self._places))]
        prints = [
            Footprints(place.source, corners[rows], self.size)
            for place, rows in zip(self._places, here, strict=True)
        ]
        part = np.empty(len(self), np.intp)
        part[np.concatenate(here)] = divided(prints, shares, block, buffer, seed)
        return part

    def _only(self, chosen: NDArray[np.bool_]) -> Patches:
        table = self.table[chosen].reset_index(drop=True)
        return replace(self, table=table, _reader=ChunkReader())

    def statistics(self) -> pd.DataFrame:
        """Number of patches, and number, mean, least and greatest of their heights, by place.

        Returns
        -------
        pandas.DataFrame
            One row for each place; ``patches``, ``count`` (pixels with data of the target's first
            band; one that lies in two patches counts twice), ``mean``, ``min``, ``max``, in the
            target's unit.

        References
        ----------
        Demiray, B. Z., Sit, M. and Demir, I. (2021). DEM super-resolution with EfficientNetV2.
        arXiv:2109.09661 (its Table 1).
        """
        table = self.table
        if "mean" not in table:
            table = measured(self._places, table, self.size)
        total = (table["mean"] * table["count"]).groupby(table["place"]).sum()
        by_place = table.groupby("place")
        rows = pd.DataFrame(
            {
                "patches": by_place.size(),
                "count": by_place["count"].sum().astype(np.int64),
                "mean": total / by_place["count"].sum(),
                "min": by_place["min"].min(),
                "max": by_place["max"].max(),
            }
        )
        rows.index = pd.Index([self.places[k] for k in rows.index], name="place")
        return rows

    def reconstruct(
        self,
        answers: Iterable[ArrayLike],
        place: str | None = None,
        *,
        at: Iterable[tuple[str, int, int]] | None = None,
    ) -> xr.DataArray:
        """Put patches back on the map; where they overlap, their mean.

        Parameters
        ----------
        answers : iterable of array, shape (ny, nx) or (bands, ny, nx)
            One for each patch. Their pixels divide the source pixels by a whole number: targets,
            inputs, or what a network makes of them. NaN is nothing.
        place : str, optional
            Which place; needed where there are several. Answers of others are passed over.
        at : iterable of (str, int, int), optional
            ``place``, ``y`` and ``x`` of each answer, as the patches say; the table's order by
            default.

        Returns
        -------
        DataArray, dims (y, x) or (band, y, x), float32
            The place's whole raster on its own grid, NaN where no patch lies.

        Raises
        ------
        InputError
            If answers are not one for each patch, not of one shape, not of a patch's, or from
            nowhere.

        Examples
        --------
        >>> import xdemsr
        >>> dem = xdemsr.synthetic.terrain((48, 64))
        >>> patches = dem.demsr.patches(16)
        >>> bool((patches.reconstruct(p.target for p in patches) == dem).all())
        True
        """
        wanted = self._place_named(place)
        if at is None:
            names = [self.places[k] for k in self.table["place"]]
            at = zip(names, self.table["y"], self.table["x"], strict=True)
        return mosaic(wanted, self.size, self._answers(answers, at, wanted.name))

    def _answers(
        self, answers: Iterable[ArrayLike], at: Iterable[tuple[str, int, int]], wanted: str
    ) -> Iterator[tuple[ArrayLike, int, int]]:
        """The answers of one place, and where they lie."""
        pairs = zip_longest(answers, at)
        for count, (answer, where) in enumerate(pairs):
            if answer is None or where is None:
                what = "answers" if answer is None else "places for them"
                raise InputError(f"there are only {count} {what}: one is needed for each patch.")
            name, y, x = where
            if name not in self.places:
                raise InputError(f"an answer is at {name!r}; places are {', '.join(self.places)}.")
            if name == wanted:
                yield answer, int(y), int(x)

    def _place_named(self, name: str | None) -> Place:
        if name is None and len(self._places) == 1:
            return self._places[0]
        if name not in self.places:
            raise InputError(
                f"place={name!r} is not among {', '.join(self.places)}: say which to put together."
            )
        return self._places[self.places.index(name)]
