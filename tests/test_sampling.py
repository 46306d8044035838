"""Training patches: found, read, divided, put back."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xdemsr
from xdemsr.errors import GridError, InputError


def corner(patch: xdemsr.Patch) -> tuple[str, int, int]:
    return patch.place, patch.y, patch.x


def same(first: xdemsr.Patch, second: xdemsr.Patch) -> bool:
    arrays = zip(first[:3], second[:3], strict=True)
    return corner(first) == corner(second) and all(np.array_equal(a, b) for a, b in arrays)


def counted(values: np.ndarray, chunks: tuple[int, int], reads: Counter) -> xr.DataArray:
    """A lazy raster that counts how often each chunk is read."""

    def read(block: np.ndarray, block_info: dict) -> np.ndarray:
        reads[tuple(block_info[0]["chunk-location"])] += 1
        return block

    source = da.from_array(values, chunks=chunks)
    lazy = source.map_blocks(read, dtype=values.dtype, meta=values[:0, :0])
    return xr.DataArray(lazy, dims=("y", "x")).rename("counted")


@pytest.fixture
def terrain() -> xr.DataArray:
    return xdemsr.synthetic.terrain((96, 144), seed=3)


@pytest.fixture(params=["numpy", "dask", "zarr", "zarr without dask", "geotiff"])
def stored(request: pytest.FixtureRequest, terrain: xr.DataArray, tmp_path: Path) -> xr.DataArray:
    """The terrain, kept in several ways."""
    match request.param:
        case "numpy":
            return terrain
        case "dask":
            return terrain.chunk(y=37, x=50)
        case "geotiff":
            xdemsr.write_cog(terrain, tmp_path / "dem.tif")
            return xdemsr.open(tmp_path / "dem.tif", chunks=64)
    xdemsr.write_zarr(terrain.chunk(y=40, x=64), tmp_path / "dem.zarr")
    if request.param == "zarr":
        return xdemsr.open(tmp_path / "dem.zarr")
    return xr.open_zarr(tmp_path / "dem.zarr", decode_coords="all", chunks=None)["elevation"]


def test_patches_are_the_same_however_the_raster_is_kept(
    stored: xr.DataArray, terrain: xr.DataArray
) -> None:
    expected = {corner(p): p for p in xdemsr.patches(terrain, (5, 8), 4, stride=(4, 5))}
    found = stored.demsr.patches((5, 8), 4, stride=(4, 5))
    given = list(found.stream(seed=1))
    assert len(given) == len(expected) == len(found)
    for patch in given:
        # The names differ where a file has none.
        assert same(patch._replace(place="elevation"), expected["elevation", patch.y, patch.x])
    assert same(found[3], next(p for p in given if corner(p) == corner(found[3])))


def test_a_patch_is_what_the_raster_and_its_degraded_copy_hold(terrain: xr.DataArray) -> None:
    coarse = xdemsr.degrade(terrain, 4)
    patches = terrain.chunk(50).demsr.patches((5, 7), 4)
    told = xdemsr.patches(terrain, (5, 7), 4, coarse=coarse.chunk(11))
    for patch, other in zip(patches, told, strict=True):
        y, x = patch.y, patch.x
        np.testing.assert_array_equal(patch.inputs[0], coarse[y : y + 5, x : x + 7])
        fine = terrain[4 * y : 4 * y + 20, 4 * x : 4 * x + 28]
        np.testing.assert_array_equal(patch.target[0], fine)
        assert patch.inputs.dtype == patch.target.dtype == np.float32
        assert patch.valid.shape == (1, 20, 28)
        assert patch.valid.all()
        assert same(patch, other)


def test_without_a_scale_inputs_are_the_target_and_belong_to_the_caller(
    terrain: xr.DataArray,
) -> None:
    patch = terrain.demsr.patches(16)[2]
    np.testing.assert_array_equal(patch.inputs, patch.target)
    patch.inputs[:] = 0
    assert patch.target.all()
    assert float(terrain.min()) > 0


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(st.integers(9, 40), st.integers(41, 70)),
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    stride=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    chunk=st.integers(3, 30),
)
def test_a_grid_of_patches_covers_the_raster_and_makes_it_again(
    shape: tuple[int, int], size: tuple[int, int], stride: tuple[int, int], chunk: int
) -> None:
    stride = (min(stride[0], size[0]), min(stride[1], size[1]))
    dem = xdemsr.synthetic.terrain(shape, gsd=10.0)
    patches = dem.chunk(chunk).demsr.patches(size, stride=stride)
    answer = patches.reconstruct(patch.target for patch in patches)
    # The mean of equal numbers may differ in the last bit.
    xr.testing.assert_allclose(answer, dem, rtol=1e-6)
    np.testing.assert_array_equal(answer.x, dem.x)


def test_answers_are_put_on_the_grid_that_they_fit(terrain: xr.DataArray) -> None:
    dem = terrain[:94]
    patches = dem.demsr.patches((5, 8), 4, count=3)
    fine = patches.reconstruct(patch.target for patch in patches)
    assert fine.rio.transform() == dem.rio.transform()
    assert fine.rio.crs == dem.rio.crs
    assert fine.shape == dem.shape
    seen = fine.notnull()
    xr.testing.assert_equal(fine, dem.where(seen))
    assert not seen.all()
    coarse = patches.reconstruct(patch.inputs for patch in patches)
    xr.testing.assert_equal(coarse, dem.demsr.degrade(4).where(coarse.notnull()))
    bands = patches.reconstruct(np.zeros((2, 10, 16)) for _ in patches)
    assert bands.dims == ("band", "y", "x")
    assert bands.rio.resolution() == (60.0, -60.0)


def test_answers_in_any_order_and_of_several_places(terrain: xr.DataArray) -> None:
    patches = xdemsr.patches({"north": terrain[:48], "south": terrain[48:]}, (10, 16))
    given = list(patches.stream(seed=5))
    for place, half in (("north", terrain[:48]), ("south", terrain[48:])):
        answer = patches.reconstruct((p.target for p in given), place, at=map(corner, given))
        xr.testing.assert_equal(answer, half)
    with pytest.raises(InputError, match="say which"):
        patches.reconstruct(p.target for p in given)
    with pytest.raises(InputError, match="only 1 answers"):
        patches.reconstruct([given[0].target], "north")
    with pytest.raises(InputError, match="the shape"):
        patches.reconstruct((np.zeros((10, 17)) for _ in patches), "south")
    with pytest.raises(InputError, match="no patch of"):
        patches.reconstruct([given[0].target], "north", at=[("north", 47, 0)])


def test_answers_void_in_part_count_where_they_are_not(terrain: xr.DataArray) -> None:
    patches = terrain.demsr.patches(96, stride=24)
    answers = [np.full((96, 96), 2.0), np.full((96, 96), np.nan), np.full((96, 96), 4.0)]
    row = patches.reconstruct(answers)[0]
    np.testing.assert_array_equal(row[[0, 60, 130]], [2.0, 3.0, 4.0])


@pytest.mark.parametrize("void", [np.nan, -9999])
def test_patches_with_voids_are_left_out_or_filled(dem: xr.DataArray, void: float) -> None:
    lacking = dem.isnull().values
    if np.isfinite(void):
        dem = dem.fillna(void).astype("int16")
    size = (4, 6)
    whole = dem.demsr.patches(size)
    assert not any(lacking[p.y : p.y + 4, p.x : p.x + 6].any() for p in whole)
    every = dem.demsr.patches(size, min_valid=0)
    half = dem.demsr.patches(size, min_valid=0.7)
    assert len(whole) < len(half) < len(every)
    assert not all(patch.valid.all() for patch in half)
    for patch in half:
        here = lacking[patch.y : patch.y + 4, patch.x : patch.x + 6]
        np.testing.assert_array_equal(patch.valid[0], ~here)
        assert here.mean() <= 0.3
        assert not patch.target[0][here].any()
        known = patch.target[0][~here]
        assert patch.inputs.min() > known.min() - 300


def test_voids_of_the_coarse_input_count_too(terrain: xr.DataArray) -> None:
    coarse = xdemsr.degrade(terrain, 4)
    coarse[3, 5] = np.nan
    patches = xdemsr.patches(terrain, 6, 4, coarse=coarse)
    assert (0, 0) not in {(p.y, p.x) for p in patches}
    assert len(patches) == len(terrain.demsr.patches(6, 4)) - 1


def test_an_unread_index_reads_no_pixel(terrain: xr.DataArray) -> None:
    reads: Counter = Counter()
    lazy = counted(terrain.values, (20, 30), reads)
    patches = lazy.demsr.patches(8, min_valid=0)
    assert not reads
    assert patches.statistics().loc["counted", "max"] == terrain.max()


@pytest.mark.parametrize("chunks", [(70, 80), (33, 100)])
def test_every_chunk_is_read_once_an_epoch(chunks: tuple[int, int]) -> None:
    reads: Counter = Counter()
    values = np.random.default_rng(0).random((200, 310)).astype(np.float32)
    lazy = counted(values, chunks, reads)
    patches = lazy.demsr.patches((17, 30), stride=11)
    assert set(reads.values()) == {1}
    for epoch in range(2):
        reads.clear()
        assert sum(1 for _ in patches.stream(epoch=epoch)) == len(patches)
        assert set(reads.values()) == {1}


def test_memory_is_bounded_and_chunks_that_lie_together_are_read_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A raster larger than what is kept: all patches come, few chunks are read again."""
    monkeypatch.setattr("xdemsr.selecting.REGION_BYTES", 4 * 320**2)
    monkeypatch.setattr("xdemsr.reading.ChunkReader.__init__.__defaults__", (4 * 4 * 400**2,))
    reads: Counter = Counter()
    values = np.arange(1600 * 1920, dtype=np.float32).reshape(1600, 1920)
    patches = counted(values, (80, 80), reads).demsr.patches(30, stride=60, min_valid=0)
    given = [(p.y, p.x, p.target[0, 0, 0]) for p in patches.stream(seed=1)]
    assert len(given) == len(patches) == len(set(given))
    assert all(value == values[y, x] for y, x, value in given)
    assert sum(reads.values()) < 1.6 * len(reads)
    # Far from the order of the raster.
    rows = np.array([y for y, _, _ in given])
    assert abs(np.corrcoef(rows, np.arange(len(rows)))[0, 1]) < 0.5


def test_what_is_read_together_stays_together_however_large(
    terrain: xr.DataArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdemsr.reading.ChunkReader.__init__.__defaults__", (1,))
    reads = [Counter() for _ in range(3)]
    fine = [
        counted(terrain.values, (80, 70), reads[0]),
        counted(terrain.values, (90, 75), reads[1]),
    ]
    coarse = counted(terrain.demsr.degrade(2).values, (30, 70), reads[2])
    patches = xdemsr.patches(fine, 9, 2, coarse=[coarse, fine[1].demsr.degrade(2).compute()])
    for count in reads:
        count.clear()
    assert sum(1 for _ in patches.stream()) == len(patches)
    assert all(set(count.values()) == {1} for count in reads)


@settings(deadline=None, max_examples=20)
@given(
    shards=st.integers(1, 7),
    start=st.integers(0, 20),
    seed=st.none() | st.integers(0, 5),
    lazy=st.booleans(),
)
def test_shards_give_every_patch_once_and_go_on_where_they_were(
    shards: int, start: int, seed: int | None, lazy: bool
) -> None:
    dem = xdemsr.synthetic.terrain((40, 70))
    patches = (dem.chunk(16) if lazy else dem).demsr.patches(8, stride=6)
    parts = [list(patches.stream(seed, 2, k, shards)) for k in range(shards)]
    given = [corner(p) for part in parts for p in part]
    assert sorted(given) == sorted(map(corner, patches))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    rest = list(patches.stream(seed, 2, shards - 1, shards, start))
    assert [corner(p) for p in rest] == [corner(p) for p in parts[-1][start:]]


def test_the_order_is_the_seeds_and_the_epochs(terrain: xr.DataArray) -> None:
    patches = terrain.demsr.patches(8)
    orders = [
        tuple(corner(p) for p in patches.stream(seed, epoch))
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0), (None, 0))
    ]
    assert orders[0] == orders[1]
    assert len(set(orders)) == 4
    assert orders[4] == tuple(corner(patches[k]) for k in range(len(patches)))


def test_random_patches_are_distinct_and_the_seeds(terrain: xr.DataArray) -> None:
    first = terrain.demsr.patches((30, 40), count=200, seed=1)
    again = terrain.chunk(31).demsr.patches((30, 40), count=200, seed=1)
    other = terrain.demsr.patches((30, 40), count=200, seed=2)
    places = [{corner(p) for p in patches} for patches in (first, again, other)]
    assert len(first) == len(places[0]) == 200
    assert places[0] == places[1] != places[2]


@pytest.mark.parametrize("count", [None, 40])
def test_strata_have_equal_shares(count: int | None) -> None:
    # Steepness grows from west to east, and most is flat.
    x = np.linspace(0, 1, 300) ** 3
    z = 60 * x[None] * np.sin(np.arange(200) / 3)[:, None]
    dem = xr.DataArray(z, dims=("y", "x"), coords={"y": np.arange(200.0), "x": np.arange(300.0)})
    plain = dem.demsr.patches(10)
    even = dem.demsr.patches(10, stratify=True, count=count)
    slopes = even.table["slope"]
    low, high = slopes.min(), slopes.max()
    thirds = np.histogram(slopes, [low, low + (high - low) / 3, high - (high - low) / 3, high])[0]
    if count is None:
        assert len(even) < len(plain)
        assert len(even) % 3 == 0
    else:
        assert len(even) == count
    assert thirds.min() > len(even) / 6
    own = dem.demsr.patches(10, stratify=(5.0, 20.0), count=count).table["slope"]
    kinds = np.bincount(np.digitize(own, [5.0, 20.0]), minlength=3)
    assert kinds.max() - kinds.min() <= 1
    with pytest.raises(InputError, match=r"cannot be stratified: found .* 0 steep"):
        dem.demsr.patches(10, stratify=(5.0, 89.0), count=count)


def gap(first: tuple[int, int], second: tuple[int, int], size: tuple[int, int]) -> int:
    """Pixels between two patches along the axis where they are farther apart."""
    return max(abs(a - b) - n for a, b, n in zip(first, second, size, strict=True))


@settings(deadline=None, max_examples=30)
@given(
    size=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    stride=st.integers(1, 7),
    block=st.tuples(st.integers(5, 30), st.integers(5, 30)),
    buffer=st.integers(0, 9),
    seed=st.integers(0, 3),
)
def test_no_pixel_of_a_training_patch_lies_near_one_that_is_scored(
    size: tuple[int, int], stride: int, block: tuple[int, int], buffer: int, seed: int
) -> None:
    patches = xdemsr.synthetic.terrain((50, 90)).demsr.patches(size, stride=stride, min_valid=0)
    try:
        parts = patches.split(0.5, 0.3, 0.2, block=block, buffer=buffer, seed=seed)
    except InputError:  # Nothing is left of a part; it has a test of its own.
        return
    corners = [part.table[["y", "x"]].to_numpy() for part in parts]
    for lower, upper in ((0, 1), (0, 2), (1, 2)):
        apart = np.abs(corners[lower][:, None] - corners[upper][None]) - np.array(size)
        assert apart.max(axis=2).min() >= buffer
    assert gap(corners[0][0], corners[1][0], size) >= buffer
    given = [tuple(c) for part in corners for c in part]
    assert len(given) == len(set(given)) <= len(patches)


def test_blocks_share_patches_as_asked_and_only_the_buffer_is_lost() -> None:
    patches = xdemsr.synthetic.terrain((300, 400)).demsr.patches(10)
    parts = patches.split(0.7, 0.2, 0.1, block=20, buffer=0)
    assert [len(part) / len(patches) for part in parts] == pytest.approx([0.7, 0.2, 0.1], abs=0.02)
    with_buffer = patches.split(0.7, 0.2, 0.1, block=20, buffer=5)
    assert len(with_buffer.test) == len(parts.test)
    assert len(with_buffer.train) < len(parts.train)
    train, validation, test = patches.split(0.8, 0.2, 0.0, block=60)
    assert len(test) == 0
    assert len(train) > len(validation) > 0


def test_places_beside_each_other_on_the_map_do_not_leak(terrain: xr.DataArray) -> None:
    west, east = terrain[:, :72], terrain[:, 72:]
    patches = xdemsr.patches([west, east], 6)
    parts = patches.split(0.5, 0.5, 0.0, block=24, buffer=7)
    train, validation = (
        [(y, x + 72 * place) for place, y, x in part.table[["place", "y", "x"]].to_numpy()]
        for part in parts[:2]
    )
    assert min(gap(a, b, (6, 6)) for a in train for b in validation) >= 7


def test_statistics_are_those_of_the_papers_table(terrain: xr.DataArray) -> None:
    hills, plain = terrain, (terrain * 0 + 7.0).assign_coords(x=np.arange(144) * 30.0)
    patches = xdemsr.patches({"hills": hills, "plain": plain}, 12)
    table = patches.statistics()
    assert list(table.columns) == ["patches", "count", "mean", "min", "max"]
    assert table.loc["hills", ["mean", "min", "max"]].tolist() == pytest.approx(
        [float(hills.mean()), float(hills.min()), float(hills.max())]
    )
    assert table.loc["plain"].tolist() == [96, 96 * 144, 7.0, 7.0, 7.0]
    parts = patches.split(0.5, 0.25, 0.25, block=24, buffer=0)
    rows = parts.statistics()
    assert rows.index.names == ["split", "place"]
    assert rows["patches"].sum() == len(patches)
    assert rows.loc["train", "patches"].sum() == len(parts.train)


def test_bands_of_a_dataset_and_of_an_array(terrain: xr.DataArray) -> None:
    ds = xr.Dataset({"elevation": terrain.chunk(40), "shade": terrain.demsr.hillshade()})
    both = ds.demsr.patches(8, 2)
    assert both[0].target.shape == (2, 16, 16)
    assert both[0].inputs.shape == (2, 8, 8)
    shade = ds.demsr.patches(8, 2, bands=["shade"])
    np.testing.assert_array_equal(shade[1].target[0], both[1].target[1])
    stack = ds.to_dataarray("band").chunk(band=1)
    swapped = stack.demsr.patches(8, 2, bands=["shade", "elevation"])
    np.testing.assert_array_equal(swapped[1].target, both[1].target[::-1])
    answer = swapped.reconstruct(p.target for p in swapped)
    assert answer.band.values.tolist() == ["shade", "elevation"]
    np.testing.assert_array_equal(answer[1], terrain)
    guided = xdemsr.patches(terrain, 8, 2, coarse=xdemsr.degrade(stack, 2))
    assert guided[0].inputs.shape == (2, 8, 8)
    assert guided[0].target.shape == (1, 16, 16)
    for obj in (ds, stack):
        with pytest.raises(InputError, match=r"slope.*which has .*shade"):
            obj.demsr.patches(8, bands=["slope"])


def test_several_places_have_names_and_grids_of_their_own(terrain: xr.DataArray) -> None:
    rough = xdemsr.synthetic.terrain((40, 50), gsd=10.0, crs="EPSG:32633").rename("alps")
    assert xdemsr.patches([terrain, rough], 8).places == ("elevation", "alps")
    assert xdemsr.patches([terrain, terrain], 8).places == ("elevation-0", "elevation-1")
    named = xdemsr.patches({"a": terrain, "b": rough.chunk(17)}, 4, 2)
    assert {p.place for p in named} == {"a", "b"}
    coarse = {"b": xdemsr.degrade(rough, 2), "a": xdemsr.degrade(terrain, 2)}
    told = xdemsr.patches({"a": terrain, "b": rough}, 4, 2, coarse=coarse)
    assert all(same(p, q) for p, q in zip(named, told, strict=True))


def test_a_copy_is_the_same_and_reads_for_itself(stored: xr.DataArray) -> None:
    patches = stored.demsr.patches(20, 2, count=7)
    before = len(pickle.dumps(patches))
    first = [patches[k] for k in range(7)]
    written = pickle.dumps(patches)
    assert len(written) == before
    copy = pickle.loads(written)
    assert all(same(a, copy[k]) for k, a in enumerate(first))
    xr.testing.assert_equal(
        copy.reconstruct(p.target for p in copy), patches.reconstruct(p.target for p in patches)
    )


MISTAKES: dict[str, tuple[type[Exception], str, Callable[[xr.DataArray], object]]] = {
    "larger": (InputError, "larger than 'elevation'", lambda z: z.demsr.patches(25, 4)),
    "block": (InputError, "smaller than one block", lambda z: z.demsr.patches(1, 200)),
    "void": (InputError, "none of 6 patches", lambda z: (z * np.nan).demsr.patches(48)),
    "void too": (
        InputError,
        "0 of .* tried",
        lambda z: (z * np.nan).demsr.patches(48, count=9),
    ),
    "count": (InputError, "count=-1", lambda z: z.demsr.patches(8, count=-1)),
    "too many": (InputError, "there are 49", lambda z: z.demsr.patches((96, 96), count=50)),
    "size": (InputError, r"size=\(8, 0\)", lambda z: z.demsr.patches((8, 0))),
    "stride": (InputError, "stride=0", lambda z: z.demsr.patches(8, stride=0)),
    "both": (InputError, "give one", lambda z: z.demsr.patches(8, stride=4, count=4)),
    "share": (InputError, "min_valid=1.5", lambda z: z.demsr.patches(8, min_valid=1.5)),
    "strata": (InputError, "stratify=", lambda z: z.demsr.patches(8, stratify=(9.0, 3.0))),
    "seed": (InputError, "seed=-1", lambda z: z.demsr.patches(8, seed=-1)),
    "scale": (InputError, "scale=1.5", lambda z: z.demsr.patches(8, 1.5)),
    "grid": (
        GridError,
        "divided by 2: found 24 x 36",
        lambda z: z.demsr.patches(8, 2, coarse=z.demsr.degrade(4)),
    ),
    "nowhere": (
        GridError,
        "expected 24 x 36",
        lambda z: z.drop_vars(z.coords).demsr.patches(
            8, 4, coarse=z.drop_vars(z.coords).demsr.degrade(8)
        ),
    ),
    "shifted": (
        GridError,
        "expected 24 x 36",
        lambda z: z.demsr.patches(8, 4, coarse=z.demsr.degrade(4).assign_coords(x=np.arange(36.0))),
    ),
    "unequal": (
        InputError,
        "1 places and the target 2",
        lambda z: xdemsr.patches([z, z], 8, coarse=z),
    ),
    "names": (
        InputError,
        "Name them alike",
        lambda z: xdemsr.patches({"a": z}, 8, coarse={"b": z}),
    ),
    "nothing": (InputError, "no places", lambda z: xdemsr.patches([], 8)),
    "no array": (InputError, "got ndarray", lambda z: xdemsr.patches([z.values], 8)),
    "dims": (
        InputError,
        "one beside y and x",
        lambda z: z.expand_dims(time=2, band=3).demsr.patches(8),
    ),
    "shares": (InputError, "1 together", lambda z: z.demsr.patches(8).split(0.5, 0.1, 0.1)),
    "buffer": (InputError, "buffer=-1", lambda z: z.demsr.patches(8).split(buffer=-1)),
    "empty": (InputError, "smaller", lambda z: z.demsr.patches(8).split(block=96)),
    "shard": (InputError, "shard 2 of 2", lambda z: z.demsr.patches(8).stream(0, 0, 2, 2)),
    "index": (IndexError, "there are 6", lambda z: z.demsr.patches(48)[6]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_explained(terrain: xr.DataArray, mistake: str) -> None:
    error, words, call = MISTAKES[mistake]
    with pytest.raises(error, match=words):
        call(terrain)
