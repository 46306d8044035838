"""Tiles on all threads, whoever asks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import xdemsr
from xdemsr.crew import on_all_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    """As many as no machine of ours has, and as they were afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class Watch:
    """Doubles numbers; knows how many at once, and how many threads torch may use there."""

    def __init__(self) -> None:
        self.guard, self.now, self.most = threading.Lock(), 0, 0
        self.threads: set[int] = set()

    def __call__(self, number: int) -> int:
        with self.guard:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(torch.get_num_threads())
        time.sleep(0.002)
        with self.guard:
            self.now -= 1
        return 2 * number


def test_in_order_on_all_threads_with_one_of_torch_each() -> None:
    watch = Watch()
    assert list(on_all_threads(watch, range(40))) == [2 * n for n in range(40)]
    assert watch.most == 3
    assert watch.threads == {1}
    # Neither here nor in threads that come later.
    assert torch.get_num_threads() == 3
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 3


def test_many_callers_share_them_and_hold_little() -> None:
    watch, taken, done = Watch(), [], []
    guard, ahead = threading.Lock(), []

    def items() -> Iterator[int]:
        for number in range(30):
            with guard:
                taken.append(number)
                ahead.append(len(taken) - len(done))
            yield number

    def caller(_: int) -> list[int]:
        results = []
        for result in on_all_threads(watch, items()):
            results.append(result)
            with guard:
                done.append(result)
        return results

    with ThreadPoolExecutor(5) as callers:
        for found in callers.map(caller, range(5)):
            assert found == [2 * n for n in range(30)]
    assert watch.most == 3
    # One for each caller, one for each thread; the last ones are taken a moment before they count.
    assert max(ahead) <= 5 + 3 + 5


def test_an_error_ends_it_and_leaves_room() -> None:
    def breaks(number: int) -> int:
        if number == 4:
            raise ValueError("four")
        return number

    def broken() -> Iterator[int]:
        yield from range(4)
        raise KeyError("five")

    for _ in range(5):
        with pytest.raises(ValueError, match="four"):
            list(on_all_threads(breaks, range(20)))
        with pytest.raises(KeyError, match="five"):
            list(on_all_threads(breaks, broken()))
        next(on_all_threads(breaks, range(3)))
    watch = Watch()
    assert len(list(on_all_threads(watch, range(20)))) == 20
    assert watch.most == 3


def test_where_torch_has_one_thread_it_is_the_callers() -> None:
    torch.set_num_threads(1)
    found = set(on_all_threads(lambda _: threading.current_thread().name, range(4)))
    assert found == {threading.current_thread().name}


def test_callers_that_begin_at_the_same_moment_have_the_same_threads() -> None:
    code = """
import threading, torch
from concurrent.futures import ThreadPoolExecutor
from xdemsr.crew import on_all_threads
torch.set_num_threads(3)
together = threading.Barrier(8)
def caller(_):
    together.wait()
    return set(on_all_threads(lambda _: threading.current_thread().name[:7], range(5)))
with ThreadPoolExecutor(8) as callers:
    for names in callers.map(caller, range(8)):
        assert names == {"xdemsr_"}, names
"""
    for _ in range(3):
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_threads_of_its_own() -> None:
    code = """
import os, torch
from xdemsr.crew import on_all_threads
torch.set_num_threads(2)
assert list(on_all_threads(abs, range(5))) == list(range(5))
child = os.fork()
if child == 0:
    os._exit(0 if list(on_all_threads(abs, range(5))) == list(range(5)) else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_one_chunk_alone_has_the_bits_of_one_thread() -> None:
    dem = xdemsr.synthetic.terrain((300, 170)).chunk(64)
    many = dem.demsr.upscale(4, "terrain-x4").values
    torch.set_num_threads(1)
    np.testing.assert_array_equal(dem.demsr.upscale(4, "terrain-x4").values, many)
