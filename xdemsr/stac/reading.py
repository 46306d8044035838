"""Pixels and headers of assets, read on the worker: signed there, checked there, tried again there.

What cannot be read is an error. It is never a void.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from xdemsr.errors import InputError
from xdemsr.grid import same_crs
from xdemsr.stac.assets import Asset, Lattice, crs_name
from xdemsr.stac.hrefs import gdal_path, is_signed, is_web
from xdemsr.stac.retrying import PASSING, REFUSED, Patience, Reply, UnreachableError, ask
from xdemsr.stac.signing import Sign
from xdemsr.window import Window

_Answer = TypeVar("_Answer")

#: GDAL looks for no files beside a raster, and asks for what a COG's header usually takes at once.
_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    # Trying again is done here, with a new signature.
    "GDAL_HTTP_MAX_RETRY": "0",
}
#: What GDAL says of objects in clouds that are not there, or not for everyone.
_GONE = ("404", "does not exist", "no such", "nosuchkey", "nosuchbucket")
_FORBIDDEN = ("403", "accessdenied", "access denied", "invalid", "credential", "forbidden")

#: How often addresses have failed in this process.
_failures: dict[str, int] = {}


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    lattice: Lattice
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    packing: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, raster: Any) -> Header:
        """Of a raster that rasterio has opened."""
        crs = "" if raster.crs is None else crs_name(raster.crs)
        lattice = Lattice(tuple(raster.shape), tuple(raster.transform)[:6], crs)
        packing = tuple(zip(raster.scales, raster.offsets, strict=True))
        return cls(lattice, tuple(raster.dtypes), tuple(raster.nodatavals), packing)


@dataclass(frozen=True)
class Reader:
    """How assets are read; pickles to some hundred bytes, and holds no secret of its own.

    Attributes
    ----------
    sign : callable or None
        From an address to the address that may be read.
    options : tuple of (str, str)
        Of GDAL, beyond its defaults here.
    patience : Patience
    stamp : str
        Sets what GDAL remembers of files apart from what it remembered for other calls.
    """

    sign: Sign | None = None
    options: tuple[tuple[str, str], ...] = ()
    patience: Patience = field(default_factory=Patience)
    stamp: str = ""

    def header(self, asset: Asset) -> Header:
        """What an asset's file says of itself now."""
        return replace(self, stamp=f"{self.stamp}-header")._opened(asset, Header.of)

    def read(self, asset: Asset, window: Window) -> NDArray[np.float32]:
        """The numbers in a window of an asset, counted from its northernmost row.

        Returns
        -------
        ndarray, shape of the window, float32
            Scaled and shifted, NaN where the file has no data.

        Raises
        ------
        InputError
            If the file is not there, may not be read, is broken, or is not what the item says.
        UnreachableError
            If it could not be read now, however often it was tried.
        """

        def part(raster: Any) -> NDArray[np.float32]:
            check_header(asset, Header.of(raster))
            return _numbers(raster, asset, _turned(window, asset))

        return self._opened(asset, part)

    def _opened(self, asset: Asset, use: Callable[[Any], _Answer]) -> _Answer:
        _keep_quiet()
        for attempt in range(self.patience.retries + 1):
            href = asset.href if self.sign is None else self.sign(asset.href)
            try:
                path = gdal_path(href) + self._apart(asset)
                with rasterio.Env(**self._environment()), rasterio.open(path) as raster:
                    return use(raster)
            except (RasterioError, OSError) as error:
                _failures[asset.href] = _failures.get(asset.href, 0) + 1
                # Not chained: GDAL's own words hold the signed address.
                said = _chain(error)
            trouble = self._diagnosed(asset, href, said)
            if attempt < self.patience.retries:
                self.patience.wait(attempt, trouble.retry_after)
        if trouble.status in REFUSED:
            raise InputError(
                f"{asset.named} may not be read: {trouble.said}, in {self.patience.retries + 1} "
                "attempts with a new signature each. Is sign= the right one for this catalog?"
            )
        raise UnreachableError(
            f"{asset.named} could not be read in {self.patience.retries + 1} attempts: "
            f"{trouble.said}. Give it more with retries= and timeout=, or go on later: "
            "xdemsr.write_zarr(..., resume=True)."
        )

    def _environment(self) -> dict[str, str]:
        limit = str(max(1, math.ceil(self.patience.timeout)))
        times = {"GDAL_HTTP_TIMEOUT": limit, "GDAL_HTTP_CONNECTTIMEOUT": limit}
        return {**_OPTIONS, **times, **dict(self.options)}

    def _apart(self, asset: Asset) -> str:
        """What makes an address another one to GDAL, which remembers what it read and what failed.

        The server is not sent what follows ``#``.
        """
        if not is_web(asset.href):
            return ""
        return f"#{self.stamp}-{_failures.get(asset.href, 0)}"

    def _diagnosed(self, asset: Asset, href: str, said: str) -> Reply:
        """What a web server answers when asked again, or what GDAL said.

        Raises
        ------
        InputError
            If trying again is of no use.
        """
        if not is_web(href):
            return _elsewhere(asset, said)
        reply = ask(href, self.patience.timeout, {"Range": "bytes=0-0"})
        if reply.status in REFUSED and self.sign is not None:
            forget = getattr(self.sign, "forget", None)
            if forget is not None:
                forget(asset.href)
            return reply
        if reply.status in REFUSED:
            raise InputError(
                f"{asset.named} may not be read: {reply.said}. Say how its address is to be "
                "signed: sign='planetary-computer', or a function from an address to another."
            )
        if reply.status is None or reply.status in PASSING:
            return reply
        if reply.status >= 400:
            raise InputError(
                f"{asset.named} cannot be read: {reply.said}. The catalog names a file that is "
                "not there; leave the item out, or ask who keeps the catalog."
            )
        return Reply(None, reason=f"its server answers, but not with a whole raster ({said})")


def check_header(asset: Asset, header: Header) -> None:
    """Refuse a file that is not what its metadata says.

    Raises
    ------
    InputError
        If shape, transform, CRS, number of bands, type, nodata or scale differ.
    """
    if asset.band > len(header.dtypes):
        raise _contradiction(asset, "bands", f"band {asset.band}", f"{len(header.dtypes)} bands")
    k = asset.band - 1
    said, found = asset.grid, header.lattice
    if not said.is_at(found):
        raise _contradiction(asset, "grids", said.describe(), found.describe())
    if found.crs and said.crs != found.crs and not _same_crs(said.crs, found.crs):
        raise _contradiction(asset, "CRSs", said.describe(), found.describe())
    if asset.dtype is not None and asset.dtype != header.dtypes[k]:
        raise _contradiction(asset, "types", asset.dtype, header.dtypes[k])
    nodata = header.nodata[k]
    if asset.nodata is not None and nodata is not None and not _same(asset.nodata, nodata):
        raise _contradiction(asset, "void values", f"{asset.nodata:g}", f"{nodata:g}")
    packing = header.packing[k]
    # Many items say what their files do not.
    if packing != (1.0, 0.0) and not (asset.scale_is_known or _is_packed(asset, packing)):
        own = "none" if asset.scale is None else _packing(asset.scale, asset.offset)
        raise _contradiction(asset, "scales", own, _packing(*packing))


def _is_packed(asset: Asset, packing: tuple[float, float]) -> bool:
    if asset.scale is None:
        return False
    own = asset.scale, asset.offset
    return all(math.isclose(*pair, rel_tol=1e-6) for pair in zip(own, packing, strict=True))


def _packing(scale: float, offset: float) -> str:
    return f"scale {scale:g}, offset {offset:g}"


def _contradiction(asset: Asset, what: str, said: str, found: str) -> InputError:
    return InputError(
        f"{asset.named} is not what its metadata says. Their {what} differ: metadata {said}; file "
        f"{found}. Take the file's own word: metadata='header'."
    )


def _same_crs(first: str, second: str) -> bool:
    from odc.geo import CRS

    return same_crs(CRS(first), CRS(second))


def _same(first: float, second: float) -> bool:
    # A value that float32 has rounded is the one that was meant.
    return first == second or np.float32(first) == np.float32(second) or first != first != second


def _turned(window: Window, asset: Asset) -> RasterioWindow:
    """A window as the file counts its rows."""
    ny, rows = asset.grid.shape[0], window.y
    first = ny - rows.stop if asset.grid.rising else rows.start
    return RasterioWindow(window.x.start, first, window.x.size, rows.size)


def _numbers(raster: Any, asset: Asset, window: RasterioWindow) -> NDArray[np.float32]:
    stored = raster.read(asset.band, window=window)
    if stored.dtype.kind not in "iufb":
        raise InputError(f"{asset.named} holds {stored.dtype} values, which are not real numbers.")
    nodata = raster.nodatavals[asset.band - 1]
    void = _is(stored, asset.nodata if nodata is None else nodata)
    if MaskFlags.per_dataset in raster.mask_flag_enums[asset.band - 1]:
        void |= raster.read_masks(asset.band, window=window) == 0
    values = stored
    if asset.scale is not None and (asset.scale, asset.offset) != (1.0, 0.0):
        values = stored.astype(np.float64) * asset.scale + asset.offset
    numbers: NDArray[np.float32] = values.astype(np.float32)
    numbers[void] = np.nan
    return numbers[::-1] if asset.grid.rising else numbers


def _is(stored: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    if nodata is None or math.isnan(nodata):
        return np.isnan(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
    wanted = np.float32(nodata) if stored.dtype == np.float32 else nodata
    return np.asarray(stored == wanted)


def _elsewhere(asset: Asset, said: str) -> Reply:
    """Of files here and in clouds there is only what GDAL says."""
    lower = said.lower()
    if "://" not in asset.href and not os.path.exists(asset.href):
        raise InputError(f"{asset.named} is not there. Is the catalog for another folder?")
    if "://" not in asset.href or any(word in lower for word in _GONE):
        raise InputError(f"{asset.named} cannot be read: {said}")
    if any(word in lower for word in _FORBIDDEN):
        raise InputError(
            f"{asset.named} may not be read: {said}. Set the cloud's credentials where workers "
            "run, or say sign='aws-unsigned' or sign='aws-requester-pays'."
        )
    return Reply(None, reason=said)


def _chain(error: BaseException) -> str:
    """What GDAL said, the last word first, without addresses that hold a signature."""
    words: list[str] = []
    current: BaseException | None = error
    while current is not None:
        message = str(getattr(current, "errmsg", "") or current)
        words.append(" ".join(map(_redacted, message.split())))
        current = current.__cause__ or current.__context__
    return "; ".join(dict.fromkeys(words))


def _redacted(word: str) -> str:
    return word.partition("?")[0] + "?..." if "?" in word else word


class _Redacting(logging.Filter):
    """Keeps signatures out of what rasterio logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "/vsicurl/" in message and any(map(is_signed, _addresses(message))):
            record.msg, record.args = " ".join(map(_redacted, message.split())), ()
        return True


_REDACTING = _Redacting()


def _addresses(message: str) -> list[str]:
    return [word.strip("'\"").replace("/vsicurl/", "") for word in message.split() if "?" in word]


def _keep_quiet() -> None:
    for name in ("_base", "_env", "_err", "_io", "env"):
        logger = logging.getLogger(f"rasterio.{name}")
        if _REDACTING not in logger.filters:
            logger.addFilter(_REDACTING)
