"""A page on which patches are rejected by eye, and what was said on it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import struct
import zlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xdemsr.errors import InputError
from xdemsr.gathering import Patch
from xdemsr.patchset import Patches
from xdemsr.screening import without
from xdemsr.sensor import block_mean

Picture = NDArray[np.uint8]
Plane = NDArray[np.float64]

#: Pixels along the longer side of a picture, at most; patches on one page, at most.
_LARGEST, _MOST = 192, 1500
#: Shares of the values that are black and white at most.
_ENDS = (0.01, 0.99)
_VOID, _GAP = 128, 6


def review_page(
    patches: Patches,
    path: str | Path,
    *,
    table: pd.DataFrame | None = None,
    bands: Sequence[int] | None = None,
    numbers: Sequence[int] | None = None,
) -> Path:
    """Write a page on which patches are rejected by eye.

    One file that needs nothing else: each patch's input, its target and the difference between the
    two, side by side. A click, or the space bar, rejects a patch or takes it back; what statistics
    have rejected begins so, in another colour. A button downloads what was decided as JSON, for
    :func:`apply_review`; until then the browser remembers it.

    Parameters
    ----------
    patches : Patches
        All of them, rejected or not.
    path : str or Path
        Of the page, ending in ``.html``.
    table : DataFrame, optional
        What :func:`xdemsr.validate_patches` says of them.
    bands : sequence of int, optional
        One band, or those shown as red, green and blue. By default the first three; the first,
        where there are fewer.
    numbers : sequence of int, optional
        Which patches; at most 1500 on a page. All by default.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InputError
        If there are too many, the table is not theirs, or bands or numbers do not exist.

    Notes
    -----
    Both images are stretched from the 1st to the 99th percentile of the target, so that what is
    brighter looks brighter. The difference is of the input, enlarged, and the target; grey where
    there is none. Voids are grey.

    References
    ----------
    Galar, M. et al. (2019). Super-resolution for Sentinel-2 images. ISPRS Archives XLII-2/W16,
    95-102. (Patches are rejected by statistics, and by hand.)

    Examples
    --------
    >>> import tempfile
    >>> import xdemsr
    >>> high = xdemsr.synthetic.terrain((64, 96))
    >>> patches = xdemsr.patches(high, 16, 2)
    >>> page = xdemsr.review_page(patches, tempfile.mkdtemp() + "/review.html")
    >>> page.stat().st_size > 10_000
    True
    """
    path = Path(path)
    if path.suffix != ".html" or not path.parent.is_dir():
        raise InputError(f"{str(path)!r} must end in .html, in a folder that exists.")
    chosen = list(range(len(patches))) if numbers is None else [int(n) for n in numbers]
    _check(patches, table, chosen)
    shown = _bands(patches[chosen[0]], bands)
    reasons = [""] * len(patches) if table is None else table["reasons"].tolist()
    statistics = [number for number in chosen if reasons[number]]
    said = {
        "file": f"{path.stem}.json",
        "fingerprint": _fingerprint(patches),
        "shown": chosen,
        "statistics": statistics,
        "rejected": statistics,
    }
    figures = [_figure(number, patches[number], shown, table, reasons[number]) for number in chosen]
    page = Template((files("xdemsr") / "pages" / "review.html").read_text(encoding="utf-8"))
    text = page.substitute(
        title=html.escape(f"{len(chosen):,} patches of {', '.join(patches.places)}"),
        width=_width(patches),
        figures="\n".join(figures),
        # No text of a page may end its script.
        review=json.dumps(said).replace("<", "\\u003c"),
    )
    path.write_text(text, encoding="utf-8")
    return path


def apply_review(patches: Patches, review: str | Path | Sequence[str | Path]) -> Patches:
    """Patches without those that were rejected by eye.

    Parameters
    ----------
    patches : Patches
        The same ones that the page was made of.
    review : str or Path, or a sequence of them
        What the page's button downloaded; of all pages, where there are several.

    Returns
    -------
    Patches
        Those that are left, in the same order.

    Raises
    ------
    InputError
        If a file is no review, or one of other patches, or nothing is left.

    Examples
    --------
    >>> import json, re, tempfile
    >>> import xdemsr
    >>> folder = tempfile.mkdtemp()
    >>> patches = xdemsr.patches(xdemsr.synthetic.terrain((64, 96)), 16, 2)
    >>> page = xdemsr.review_page(patches, folder + "/review.html").read_text()
    >>> review = json.loads(re.search('application/json">(.*?)<', page)[1])  # as downloaded
    >>> with open(folder + "/review.json", "w") as file:
    ...     json.dump({**review, "rejected": [0, 4]}, file)
    >>> len(patches), len(xdemsr.apply_review(patches, folder + "/review.json"))
    (6, 4)
    """
    paths = [review] if isinstance(review, str | Path) else list(review)
    rejected: set[int] = set()
    for path in paths:
        said = _read(Path(path))
        if said["fingerprint"] != _fingerprint(patches):
            raise InputError(
                f"{str(path)!r} is a review of other patches. Give those that the page was made "
                "of, in the same order: before any were left out."
            )
        rejected.update(said["rejected"])
    return without(patches, sorted(rejected))


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read the review {str(path)!r}: {error}.") from error
    rejected = said.get("rejected") if isinstance(said, dict) else None
    whole = isinstance(rejected, list) and all(type(number) is int for number in rejected)
    if not whole or "fingerprint" not in said:
        raise InputError(f"{str(path)!r} is no review: download one from the page.")
    return dict(said)


def _fingerprint(patches: Patches) -> str:
    """Tells these patches, in this order, from others."""
    table = patches.table[["place", "y", "x"]].to_numpy(np.int64)
    said = repr((patches.places, patches.size, patches.scale)).encode()
    return hashlib.sha256(said + np.ascontiguousarray(table).tobytes()).hexdigest()[:16]


def _check(patches: Patches, table: pd.DataFrame | None, numbers: Sequence[int]) -> None:
    if not 0 < len(numbers) <= _MOST:
        raise InputError(
            f"a page of {len(numbers)} patches: from 1 to {_MOST} can be shown on one. Make "
            "several: numbers=range(0, 1000), then range(1000, 2000), ..."
        )
    if not all(0 <= number < len(patches) for number in numbers):
        raise InputError(f"numbers must be from 0 to {len(patches) - 1}; got {list(numbers)[:9]}.")
    if table is None:
        return
    corners = ["y", "x"]
    if len(table) != len(patches) or not np.array_equal(
        table[corners].to_numpy(), patches.table[corners].to_numpy()
    ):
        raise InputError(
            f"the table has {len(table)} rows, and is not of these {len(patches)} patches. Give "
            "the patches that were validated: all of them, in the same order."
        )


def _bands(patch: Patch, bands: Sequence[int] | None) -> list[int]:
    most = min(patch.inputs.shape[0], patch.target.shape[0])
    shown = ([0, 1, 2] if most >= 3 else [0]) if bands is None else list(bands)
    if len(shown) not in (1, 3) or not all(0 <= band < most for band in shown):
        raise InputError(f"bands={shown} must be one or three of the {most} that both images have.")
    return shown


def _figure(
    number: int, patch: Patch, bands: list[int], table: pd.DataFrame | None, reasons: str
) -> str:
    place = html.escape(f"{patch.place} ({patch.y}, {patch.x})")
    said = "" if table is None else f"r = {table['correlation'].iloc[number]:.2f}"
    data = base64.b64encode(_png(_strip(patch, bands))).decode()
    return (
        f'<figure tabindex="0" role="checkbox" aria-checked="false" data-number="{number}" '
        f'title="{html.escape(reasons, quote=True)}">'
        f'<img alt="patch {number}" src="data:image/png;base64,{data}">'
        f"<figcaption><span><b>{number}</b> {place}</span>"
        f"<span>{html.escape(reasons) or said}</span></figcaption></figure>"
    )


def _strip(patch: Patch, bands: list[int]) -> Picture:
    """Low, high and difference beside each other, in colours."""
    scale = patch.target.shape[-1] // patch.inputs.shape[-1]
    thin = -(-max(patch.target.shape[-2:]) // _LARGEST)
    valid = np.broadcast_to(patch.valid, patch.target.shape)[bands]
    high = np.where(valid, patch.target[bands], np.nan).astype(np.float64)
    low = patch.inputs[bands].repeat(scale, axis=-2).repeat(scale, axis=-1).astype(np.float64)
    if np.isnan(high).all():
        bottom, top = np.zeros((len(bands), 1, 1)), np.ones((len(bands), 1, 1))
    else:
        bottom, top = np.nanquantile(high, _ENDS, axis=(1, 2), keepdims=True)
    stretch = np.where(top > bottom, top - bottom, 1.0)
    parts = [(image - bottom) / stretch for image in (low, high)]
    parts.append(0.5 + (parts[1] - parts[0]) / 2)
    pictures = [_picture(part, thin) for part in parts]
    gap = np.full((len(pictures[0]), _GAP, 3), 255, np.uint8)
    return np.concatenate([pictures[0], gap, pictures[1], gap, pictures[2]], axis=1)


def _picture(image: Plane, thin: int) -> Picture:
    """Values from 0 to 1, (bands, y, x), as bytes (y, x, 3)."""
    ny, nx = (n // thin * thin for n in image.shape[1:])
    small = np.stack([block_mean(band[:ny, :nx], thin) for band in image], axis=-1)
    grey = np.where(np.isnan(small), _VOID, np.clip(small, 0, 1) * 255).round()
    return np.broadcast_to(grey, (*grey.shape[:2], 3)).astype(np.uint8)


def _width(patches: Patches) -> int:
    """Pixels that the three pictures take on the page."""
    return min(max(3 * patches.size[1] * patches.scale, 240), 3 * _LARGEST) + 2 * _GAP


def _png(picture: Picture) -> bytes:
    """Bytes (ny, nx, 3) as a PNG."""
    ny, nx, _ = picture.shape
    rows = np.zeros((ny, 1 + 3 * nx), np.uint8)
    rows[:, 1:] = picture.reshape(ny, -1)
    header = struct.pack(">IIBBBBB", nx, ny, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
