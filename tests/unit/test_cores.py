"""A batch on a CPU: each core computes some of its images by itself."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import pytest
import torch

from worker.cpus import usable_cpus
from worker.detector.cores import Cores
from worker.errors import ConfigurationError
from worker.messages import MAX_IMAGES

IMAGES = torch.arange(16 * 3, dtype=torch.float32).reshape(16, 3)


@pytest.fixture
def cores() -> Iterator[Cores]:
    with closing(Cores(4)) as found:
        yield found


class Watched:
    """A model that doubles. `calls` has each call's images, thread, and number of cores."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, str, int]] = []

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append((len(images), threading.current_thread().name, torch.get_num_threads()))
        return 2 * images


@pytest.mark.parametrize(("images", "parts"), [(16, [2] * 8), (15, [1, *[2] * 7]), (8, [2] * 4), (4, [1] * 4)])
def test_each_part_is_computed_on_one_core(cores: Cores, images: int, parts: list[int]) -> None:
    model = Watched()
    assert torch.equal(cores.run(model, IMAGES[:images]), 2 * IMAGES[:images])
    assert sorted(size for size, _, _ in model.calls) == parts
    assert {used for _, _, used in model.calls} == {1}
    assert threading.current_thread().name not in {name for _, name, _ in model.calls}


@pytest.mark.parametrize("images", [3, 9])
def test_images_that_cannot_be_divided_well_are_computed_on_all_cores(cores: Cores, images: int) -> None:
    """One core would have three of nine images, while the others wait."""
    model, here = Watched(), threading.current_thread().name
    assert torch.equal(cores.run(model, IMAGES[:images]), 2 * IMAGES[:images])
    assert model.calls == [(images, here, torch.get_num_threads())]


@pytest.mark.parametrize(
    ("cores", "parts"), [(1, [16]), (3, [1, 1, *[2] * 7]), (6, [2, 2, 3, 3, 3, 3]), (7, [16]), (17, [16])]
)
def test_a_batch_is_divided_so_that_no_core_waits_long(cores: int, parts: list[int]) -> None:
    model = Watched()
    with closing(Cores(cores)) as some:
        assert torch.equal(some.run(model, IMAGES), 2 * IMAGES)
    assert sorted(size for size, _, _ in model.calls) == parts


def test_parts_are_computed_at_the_same_time(cores: Cores) -> None:
    together = threading.Barrier(4, timeout=10)

    def model(images: torch.Tensor) -> torch.Tensor:
        together.wait()
        return images

    assert torch.equal(cores.run(model, IMAGES[:8]), IMAGES[:8])


def test_other_threads_keep_the_number_of_cores_that_torch_gives_them() -> None:
    with torch_threads(3):
        with closing(Cores(2)):
            assert ThreadPoolExecutor().submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3


def test_an_error_comes_when_no_part_is_computed_any_more(cores: Cores) -> None:
    ended, failed = [], threading.Event()

    def model(images: torch.Tensor) -> torch.Tensor:
        if images[0, 0] == 0:
            failed.set()
            raise MemoryError("no room")
        assert failed.wait(10)
        time.sleep(0.1)  # `run` would return meanwhile if it did not wait for this part
        ended.append(len(images))
        return images

    with pytest.raises(MemoryError, match="no room"):
        cores.run(model, IMAGES[:8])
    assert ended == [2, 2, 2]


class Activations:
    """What a model holds while it computes."""


def test_the_memory_of_a_part_that_failed_is_free_at_once(cores: Cores) -> None:
    """Smaller batches are tried then. The collector of cycles may come too late for them."""
    held: list[weakref.ref[Activations]] = []

    def model(_images: torch.Tensor) -> torch.Tensor:
        activations = Activations()
        held.append(weakref.ref(activations))
        raise MemoryError("no room")

    gc.disable()
    try:
        with suppress(MemoryError):
            cores.run(model, IMAGES)
        alive = [one() for one in held]
    finally:
        gc.enable()
    assert alive == [None] * 8


def test_a_machine_that_starts_no_more_threads_is_told_what_to_do() -> None:
    before = threading.stack_size(2**47 - 2**16)  # no machine has so much memory for the stack of a thread
    try:
        with pytest.raises(ConfigurationError, match=r"cannot start a thread for each of 2 cores .*; raise the limit"):
            Cores(2)
    finally:
        threading.stack_size(before)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Lets torch compute on this many cores meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_without_a_number_it_uses_the_cores_that_this_process_may_use() -> None:
    model, count = Watched(), usable_cpus()
    with torch_threads(count), closing(Cores()) as cores:
        cores.run(model, torch.zeros(2 * count, 3))
    assert [size for size, _, _ in model.calls] == ([2] * count if 1 < count <= MAX_IMAGES else [2 * count])


def test_torchs_own_limit_is_kept() -> None:
    """An operator sets it with OMP_NUM_THREADS."""
    model = Watched()
    with torch_threads(1), closing(Cores()) as cores:
        cores.run(model, IMAGES)
    assert model.calls == [(16, threading.current_thread().name, 1)]
