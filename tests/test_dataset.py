"""Patches as a torch dataset."""

from __future__ import annotations

import multiprocessing
import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch.utils.data import DataLoader, get_worker_info

import xdemsr
from xdemsr.errors import InputError
from xdemsr.training import PatchDataset

Key = tuple[str, int, int]

#: A machine with one processor is told that two workers are many.
many_workers = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture
def terrain() -> xr.DataArray:
    return xdemsr.synthetic.terrain((80, 120), seed=2)


@pytest.fixture
def patches(terrain: xr.DataArray) -> xdemsr.Patches:
    return terrain.chunk(y=37, x=50).demsr.patches((4, 6), 4)


def keys(samples: object) -> list[Key]:
    return [(s["place"], int(s["y"]), int(s["x"])) for s in samples]  # type: ignore[attr-defined]


def batched_keys(loader: DataLoader) -> list[Key]:
    columns = ((b["place"], b["y"].tolist(), b["x"].tolist()) for b in loader)
    return [key for column in columns for key in zip(*column, strict=True)]


def add_worker(sample: dict[str, object]) -> dict[str, object]:
    info = get_worker_info()
    return {**sample, "worker": -1 if info is None else info.id}


def test_samples_collate_into_batches(patches: xdemsr.Patches, terrain: xr.DataArray) -> None:
    loader = DataLoader(PatchDataset(patches, seed=4), batch_size=7)
    batches = list(loader)
    assert len(loader) == len(batches) == -(-len(patches) // 7)
    first = batches[0]
    assert first["inputs"].shape == (7, 1, 4, 6)
    assert first["target"].shape == (7, 1, 16, 24)
    assert first["valid"].shape == (7, 1, 16, 24)
    assert (first["inputs"].dtype, first["valid"].dtype) == (torch.float32, torch.bool)
    assert first["place"] == ["elevation"] * 7
    for k in range(7):
        y, x = 4 * int(first["y"][k]), 4 * int(first["x"][k])
        np.testing.assert_array_equal(first["target"][k, 0], terrain[y : y + 16, x : x + 24])


def test_patches_are_a_map_style_dataset_by_themselves(patches: xdemsr.Patches) -> None:
    batch = next(iter(DataLoader(patches, batch_size=5, shuffle=True)))
    assert batch.inputs.shape == (5, 1, 4, 6)
    assert batch.y.shape == (5,)


def test_epochs_differ_and_come_again(patches: xdemsr.Patches) -> None:
    dataset = PatchDataset(patches, seed=1)
    epochs = [keys(dataset) for _ in range(3)]
    assert dataset.epoch == 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(keys(PatchDataset(patches)))
    dataset.set_epoch(1)
    assert keys(dataset) == epochs[1]
    assert keys(PatchDataset(patches, shuffle=False)) == [(p.place, p.y, p.x) for p in patches]


def test_a_glance_at_the_first_batch_loses_nothing(patches: xdemsr.Patches) -> None:
    dataset = PatchDataset(patches)
    first = keys(islice(dataset, 3))
    assert keys(dataset)[:3] == first


@pytest.mark.parametrize("taken", [0, 1, 11, 25])
def test_an_interrupted_epoch_goes_on_with_what_was_left(
    patches: xdemsr.Patches, taken: int
) -> None:
    assert len(patches) == 25
    whole = PatchDataset(patches, seed=9)
    whole.set_epoch(2)
    expected = keys(whole)
    begun = PatchDataset(patches, seed=9)
    begun.set_epoch(2)
    running = iter(begun)
    given = keys(islice(running, taken))
    state = pickle.loads(pickle.dumps(begun.state_dict()))
    resumed = PatchDataset(patches, seed=9)
    resumed.load_state_dict(state)
    assert given + keys(resumed) == expected
    assert keys(resumed) == keys(whole)


def test_a_state_fits_only_what_it_was_taken_from(patches: xdemsr.Patches) -> None:
    state = PatchDataset(patches, rank=0, world_size=2).state_dict()
    with pytest.raises(InputError, match="shards=2, the dataset shards=1"):
        PatchDataset(patches).load_state_dict(state)
    with pytest.raises(InputError, match="seed=0, the dataset seed=1"):
        PatchDataset(patches, seed=1, rank=0, world_size=2).load_state_dict(state)
    with pytest.raises(InputError, match="expected epoch"):
        PatchDataset(patches).load_state_dict({"step": 3})


@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_and_their_workers_share_every_patch_once(
    patches: xdemsr.Patches, shuffle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, left = [], []
    for rank in range(2):
        ranked = PatchDataset(patches, shuffle=shuffle, rank=rank, world_size=2)
        assert len(ranked) in (12, 13)
        of_rank = []
        for worker in range(3):
            info = torch.utils.data._utils.worker.WorkerInfo(
                id=worker, num_workers=3, seed=0, dataset=ranked
            )
            monkeypatch.setattr("xdemsr.training.dataset.get_worker_info", lambda info=info: info)
            mine = keys(PatchDataset(patches, shuffle=shuffle, rank=rank, world_size=2))
            of_rank += mine
            begun = PatchDataset(patches, shuffle=shuffle, rank=rank, world_size=2)
            running = iter(begun)
            keys(islice(running, 2))
            resumed = PatchDataset(patches, shuffle=shuffle, rank=rank, world_size=2)
            resumed.load_state_dict(begun.state_dict())
            left.append(keys(resumed) == mine[2:])
        assert len(of_rank) == len(ranked)
        given += of_rank
    assert all(left)
    assert sorted(given) == sorted((p.place, p.y, p.x) for p in patches)


def test_the_process_group_says_which_rank_this_is(
    patches: xdemsr.Patches, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = PatchDataset(patches)
    with monkeypatch.context() as group:
        group.setattr("torch.distributed.is_initialized", lambda: True)
        group.setattr("torch.distributed.get_rank", lambda: 1)
        group.setattr("torch.distributed.get_world_size", lambda: 3)
        mine = keys(dataset)
        sent = pickle.dumps(dataset)
    assert mine == keys(PatchDataset(patches, rank=1, world_size=3))
    # A worker is in no group, and was told.
    worker = pickle.loads(sent)
    assert len(worker) == len(mine) < len(dataset)
    assert (worker.state_dict()["shard"], worker.state_dict()["shards"]) == (1, 3)
    with pytest.raises(InputError, match="give both"):
        PatchDataset(patches, rank=1)
    with pytest.raises(InputError, match="between 0 and"):
        PatchDataset(patches, rank=2, world_size=2)
    with pytest.raises(InputError, match="seed=-1"):
        PatchDataset(patches, seed=-1)


@many_workers
def test_spawned_workers_open_the_store_for_themselves(
    terrain: xr.DataArray, tmp_path: Path
) -> None:
    xdemsr.write_zarr(terrain.chunk(40), tmp_path / "dem.zarr")
    xdemsr.write_cog(terrain + 1, tmp_path / "dem.tif")
    both = {
        "zarr": xdemsr.open(tmp_path / "dem.zarr"),
        "geotiff": xdemsr.open(tmp_path / "dem.tif", chunks=64),
    }
    patches = xdemsr.patches(both, (4, 6), 4)
    dataset = PatchDataset(patches)
    loader = DataLoader(
        dataset,
        batch_size=4,
        num_workers=2,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    epochs = [batched_keys(loader) for _ in range(2)]
    expected = sorted((p.place, p.y, p.x) for p in patches)
    assert sorted(epochs[0]) == sorted(epochs[1]) == expected
    # Kept workers begin another epoch by themselves.
    assert epochs[0] != epochs[1]


@many_workers
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_forked_workers_are_refused_where_they_would_hang(
    patches: xdemsr.Patches, terrain: xr.DataArray
) -> None:
    for dataset in (PatchDataset(patches), patches):
        loader = DataLoader(dataset, num_workers=1, multiprocessing_context="fork")
        with pytest.raises(InputError, match="forked from the one that"):
            next(iter(loader))
    # What is in memory needs no threads.
    loaded = terrain.demsr.patches((4, 6), 4)
    dataset = PatchDataset(loaded, transform=add_worker)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context="fork")
    batches = list(loader)
    assert sum(len(batch["y"]) for batch in batches) == len(loaded)
    assert {int(w) for batch in batches for w in batch["worker"]} == {0, 1}
