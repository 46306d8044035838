"""Patches left out by their statistics, and by eye."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xdemsr
from xdemsr.errors import InputError

BANDS = ["red", "green", "blue"]


def banded(shape: tuple[int, int], seed: int = 0) -> xr.DataArray:
    planes = [
        xdemsr.synthetic.terrain(shape, 5.0, relief=0.1, base=0.15, seed=seed + k) for k in range(3)
    ]
    bands = xr.concat(planes, xr.Variable("band", BANDS))
    return bands.drop_attrs().rename("reflectance").astype(np.float32)


@pytest.fixture(scope="module")
def high() -> xr.DataArray:
    return banded((128, 192))


@pytest.fixture(scope="module")
def low(high: xr.DataArray) -> xr.DataArray:
    noise = np.random.default_rng(0).normal(0, 3e-4, (3, 64, 96)).astype(np.float32)
    return high.demsr.degrade(2) + noise


def cut(high: xr.DataArray, low: xr.DataArray, **options: object) -> xdemsr.Patches:
    return xdemsr.patches(high, (16, 12), 2, coarse=low, **options)


def at(row: int, column: int) -> dict[str, slice]:
    """Source pixels of one patch of the grid; its number is 8 * row + column."""
    return {
        "y": slice(16 * row, 16 * row + 16),
        "x": slice(12 * column, 12 * column + 12),
    }


def rejected(table: object) -> dict[int, str]:
    return {k: reasons for k, reasons in enumerate(table["reasons"]) if reasons}


def test_good_patches_are_kept(high: xr.DataArray, low: xr.DataArray) -> None:
    patches = cut(high, low)
    kept, table = xdemsr.validate_patches(patches)
    assert len(kept) == len(patches) == len(table) == 32
    assert table["kept"].all()
    assert (table["correlation"] > 0.95).all()
    assert (table["mean_difference"].abs() < 1e-3).all()
    assert (table["void"] == 0).all()
    assert list(table["place"].unique()) == ["reflectance"]
    assert table[["y", "x"]].to_numpy().tolist() == patches.table[["y", "x"]].to_numpy().tolist()


def test_what_does_not_fit_is_left_out_with_its_reason(
    high: xr.DataArray, low: xr.DataArray
) -> None:
    low, high = low.copy(), high.copy()
    low[{"band": 1, **at(0, 1)}] = low[{"band": 1, **at(0, 1)}].values[::-1, ::-1]
    low[at(1, 2)] += 0.1
    low[at(2, 3)] = 0.15 + 1.7 * (low[at(2, 3)] - low[at(2, 3)].mean(["y", "x"]))
    low[{"band": 0, **at(3, 4)}] = 0.2
    high[:, 10:20, 120:130] = 1.2
    high[{"band": 2, "y": slice(64, 68), "x": slice(0, 24)}] = np.nan
    patches = cut(high, low, min_valid=0.5)
    # Seen where they lie: patches with voids may come in any place of the table.
    kept, table = xdemsr.validate_patches(patches, saturation=1.0)
    found = rejected(table)
    assert set(found) == {1, 10, 16, 19, 28, 5}
    assert found[1].startswith("correlation")
    assert found[10].startswith("mean difference 0.1")
    assert "std difference" in found[19]
    assert found[28].startswith("nothing to see")
    assert "saturated" in found[5]
    assert found[16] == "12.5% void"
    assert len(kept) == 26
    corners = set(map(tuple, kept.table[["y", "x"]].to_numpy().tolist()))
    assert not corners & {(0, 12), (16, 24), (32, 36), (48, 48), (0, 60), (32, 0)}
    # What may be void may be let pass.
    loose = xdemsr.validate_patches(patches, saturation=1.0, max_void=0.2)
    assert len(loose.patches) == 27


def test_statistics_are_those_of_the_patch(high: xr.DataArray, low: xr.DataArray) -> None:
    low = low.copy()
    low[at(1, 1)] = 2 * low[at(1, 1)] + 0.3
    table = xdemsr.validate_patches(cut(high, low), outlying=None).table
    own = low[at(1, 1)].values.astype(float)
    its = high.demsr.degrade(2)[at(1, 1)].values.astype(float)
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(own, its, strict=True)]
    means = (own - its).mean(axis=(1, 2))
    spreads = own.std(axis=(1, 2)) - its.std(axis=(1, 2))
    assert table.loc[9, "correlation"] == pytest.approx(min(correlations), abs=1e-6)
    assert table.loc[9, "mean_difference"] == pytest.approx(means.max(), abs=1e-6)
    assert table.loc[9, "std_difference"] == pytest.approx(spreads.max(), abs=1e-6)


def test_places_are_judged_by_their_own_day(high: xr.DataArray, low: xr.DataArray) -> None:
    """A whole place may be brighter; a patch of it may not."""
    places = {"a": high, "b": high + 0.05}
    coarse = {"a": low, "b": (low + 0.2).copy()}
    coarse["b"][at(0, 0)] += 0.1
    patches = xdemsr.patches(places, (16, 12), 2, coarse=coarse)
    table = xdemsr.validate_patches(patches).table
    assert list(rejected(table)) == [32]


def test_lazy_patches_give_the_same(high: xr.DataArray, low: xr.DataArray) -> None:
    low = low.copy()
    low[at(1, 2)] += 0.1
    expected = xdemsr.validate_patches(cut(high, low))
    patches = cut(high.chunk(y=50, x=70), low.chunk(y=30, band=1))
    found = xdemsr.validate_patches(patches)
    order = ["y", "x"]
    assert found.table.sort_values(order, ignore_index=True).equals(
        expected.table.sort_values(order, ignore_index=True)
    )
    assert len(found.patches) == len(expected.patches)


def test_impossible_questions_are_named(high: xr.DataArray, low: xr.DataArray) -> None:
    patches = cut(high, low)
    with pytest.raises(InputError, match="between 0 and 1"):
        xdemsr.validate_patches(patches, min_correlation=80)
    with pytest.raises(InputError, match="positive, or None"):
        xdemsr.validate_patches(patches, outlying=0)
    with pytest.raises(InputError, match="bands to learn from"):
        xdemsr.validate_patches(cut(high, low[:2]))
    with pytest.raises(InputError, match=r"none of 32 patches is kept: correlation"):
        xdemsr.validate_patches(cut(high, -low))


def test_patches_can_be_left_out_by_number(high: xr.DataArray, low: xr.DataArray) -> None:
    patches = cut(high, low)
    from xdemsr.screening import without

    kept = without(patches, [0, 31, 7])
    assert len(kept) == 29
    np.testing.assert_array_equal(kept[0].target, patches[1].target)
    np.testing.assert_array_equal(kept[-1].inputs, patches[30].inputs)
    with pytest.raises(InputError, match="no patch 32"):
        without(patches, [32])
    with pytest.raises(InputError, match="nothing is left"):
        without(patches, range(32))


# By eye


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.fixture
def doubtful(high: xr.DataArray, low: xr.DataArray) -> xdemsr.Patches:
    """Patch 10 is too bright; a part of patch 3 is void."""
    low, high = low.copy(), high.copy()
    low[at(1, 2)] += 0.1
    high[:, :9, 72:83] = np.nan
    return cut(high, low, min_valid=0.2)


def said(page: Path) -> dict[str, object]:
    return json.loads(
        re.search(r'application/json">(.*?)</script>', page.read_text(), re.DOTALL)[1]
    )


def write(path: Path, **review: object) -> Path:
    path.write_text(json.dumps(review))
    return path


def test_the_page_begins_with_what_statistics_say(doubtful: xdemsr.Patches, tmp_path: Path) -> None:
    table = xdemsr.validate_patches(doubtful).table
    page = xdemsr.review_page(doubtful, tmp_path / "page.html", table=table)
    assert said(page)["rejected"] == said(page)["statistics"] == [3, 10]
    assert said(xdemsr.review_page(doubtful, tmp_path / "bare.html"))["rejected"] == []
    text = page.read_text()
    assert text.count("<figure ") == text.count("data:image/png") == 32
    assert re.search(r'data-number="10" title="mean difference 0\.1', text)
    # Nothing is asked of the network.
    assert not re.findall(r"(?:src|href)=.(?!data:)|https?://|@import", text)


def test_pictures_show_the_patch(doubtful: xdemsr.Patches, tmp_path: Path) -> None:
    import base64
    import io

    from matplotlib.image import imread

    page = xdemsr.review_page(doubtful, tmp_path / "page.html", numbers=[3, 4]).read_text()
    first, second = (
        imread(io.BytesIO(base64.b64decode(data)), format="png")
        for data in re.findall(r"base64,([^\"]+)", page)
    )
    assert first.shape == second.shape == (32, 3 * 24 + 12, 3)
    low, high, difference = second[:, :24], second[:, 30:54], second[:, 60:]
    target = doubtful[4].target.transpose(1, 2, 0)
    assert np.corrcoef(high.ravel(), target.ravel())[0, 1] > 0.5
    for band in range(3):
        assert np.corrcoef(high[..., band].ravel(), target[..., band].ravel())[0, 1] > 0.99
    assert np.corrcoef(low.ravel(), high.ravel())[0, 1] > 0.95
    assert abs(float(np.median(difference)) - 0.5) < 0.02
    # The first column of patch 3 from 72 on: voids are grey.
    np.testing.assert_allclose(first[:9, 30:41], 128 / 255, atol=1e-6)
    one = xdemsr.review_page(doubtful, tmp_path / "one.html", bands=[1], numbers=[4]).read_text()
    grey = imread(io.BytesIO(base64.b64decode(re.findall(r"base64,([^\"]+)", one)[0])))
    assert np.ptp(grey, axis=-1).max() == 0


def test_a_review_leaves_out_what_was_rejected(doubtful: xdemsr.Patches, tmp_path: Path) -> None:
    begun = said(xdemsr.review_page(doubtful, tmp_path / "page.html", numbers=range(16)))
    first = write(tmp_path / "a.json", **{**begun, "rejected": [3, 15]})
    second = write(tmp_path / "b.json", **{**begun, "rejected": [31, 3]})
    assert len(xdemsr.apply_review(doubtful, first)) == 30
    kept = xdemsr.apply_review(doubtful, [first, str(second)])
    assert len(kept) == 29
    corners = doubtful.table[["y", "x"]].drop(index=[3, 15, 31]).to_numpy()
    np.testing.assert_array_equal(kept.table[["y", "x"]].to_numpy(), corners)


def test_a_review_of_others_is_refused(doubtful: xdemsr.Patches, tmp_path: Path) -> None:
    review = write(tmp_path / "a.json", **said(xdemsr.review_page(doubtful, tmp_path / "a.html")))
    with pytest.raises(InputError, match="review of other patches"):
        xdemsr.apply_review(xdemsr.validate_patches(doubtful).patches, review)
    for broken in ({"rejected": [1]}, {"fingerprint": "a", "rejected": [1.5]}, {"rejected": "3"}):
        with pytest.raises(InputError, match="no review"):
            xdemsr.apply_review(doubtful, write(tmp_path / "b.json", **broken))
    (tmp_path / "c.json").write_text("{")
    for path in ("c.json", "missing.json"):
        with pytest.raises(InputError, match="cannot read"):
            xdemsr.apply_review(doubtful, tmp_path / path)


def test_impossible_pages_are_refused(doubtful: xdemsr.Patches, tmp_path: Path) -> None:
    table = xdemsr.validate_patches(doubtful).table
    for options, match in (
        ({"numbers": range(5000)}, "1 to 1500"),
        ({"numbers": []}, "1 to 1500"),
        ({"numbers": [32]}, "from 0 to 31"),
        ({"table": table[1:]}, "31 rows"),
        ({"bands": [0, 3, 1]}, "one or three"),
        ({"bands": [0, 1]}, "one or three"),
    ):
        with pytest.raises(InputError, match=match):
            xdemsr.review_page(doubtful, tmp_path / "page.html", **options)
    with pytest.raises(InputError, match=r"end in \.html"):
        xdemsr.review_page(doubtful, tmp_path / "page.txt")


def test_names_cannot_break_the_page(high: xr.DataArray, tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script>"
    patches = xdemsr.patches({name: high}, (16, 12), 2)
    text = xdemsr.review_page(patches, tmp_path / "page.html", numbers=[0]).read_text()
    assert "alert(1)</script>" not in text
    assert text.count("<script") == 2


@pytest.mark.skipif(CHROMIUM is None, reason="finds no Chromium")
def test_clicks_and_keys_reject_and_take_back(doubtful: xdemsr.Patches, tmp_path: Path) -> None:
    """In a browser: what would be downloaded, after some clicks and keys."""
    table = xdemsr.validate_patches(doubtful).table
    page = xdemsr.review_page(doubtful, tmp_path / "page.html", table=table)
    acts = """<script>
const press = (key) => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
figures[5].click(); figures[7].click(); figures[7].click(); figures[10].click();
figures[20].focus(); press(" "); press("ArrowRight"); press("Enter");
press("ArrowLeft"); press(" ");
document.getElementById("review").textContent = review();
document.title = [3, 5, 10, 21].map((k) => figures[k].className).join("|");
</script></body>"""
    page.write_text(page.read_text().replace("</body>", acts))
    ran = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'browser'}",
            "--window-size=1200,800",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    after = tmp_path / "after.html"
    after.write_text(ran.stdout)
    assert said(after)["rejected"] == [3, 5, 21]
    title = re.search("<title>(.*?)</title>", ran.stdout)[1]
    assert title == "rejected by-statistics|rejected by-eye||rejected by-eye"
    review = write(tmp_path / "page.json", **said(after))
    assert len(xdemsr.apply_review(doubtful, review)) == 29
