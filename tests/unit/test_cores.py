"""A batch on a CPU: each core computes some of its images by itself."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from worker.cpus import usable_cpus
from worker.detector.cores import Cores

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


@pytest.mark.parametrize(("images", "parts"), [(16, [2] * 8), (9, [1, 2, 2, 2, 2]), (8, [2] * 4), (6, [1] * 6)])
def test_each_part_is_computed_on_one_core(cores: Cores, images: int, parts: list[int]) -> None:
    model = Watched()
    assert torch.equal(cores.run(model, IMAGES[:images]), 2 * IMAGES[:images])
    assert sorted(size for size, _, _ in model.calls) == parts
    assert {used for _, _, used in model.calls} == {1}
    assert threading.current_thread().name not in {name for _, name, _ in model.calls}


def test_fewer_images_than_cores_are_computed_on_all_of_them(cores: Cores) -> None:
    model, here = Watched(), threading.current_thread().name
    assert torch.equal(cores.run(model, IMAGES[:3]), 2 * IMAGES[:3])
    assert model.calls == [(3, here, torch.get_num_threads())]


def test_parts_are_computed_at_the_same_time(cores: Cores) -> None:
    together = threading.Barrier(4, timeout=10)

    def model(images: torch.Tensor) -> torch.Tensor:
        together.wait()
        return images

    assert torch.equal(cores.run(model, IMAGES[:8]), IMAGES[:8])


def test_other_threads_keep_the_number_of_cores_that_torch_gives_them() -> None:
    before, later = torch.get_num_threads(), []
    with closing(Cores(2)):
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    assert [torch.get_num_threads(), *later] == [before, before]


def test_an_error_comes_when_no_part_is_computed_any_more(cores: Cores) -> None:
    ended, released = [], threading.Event()

    def model(images: torch.Tensor) -> torch.Tensor:
        if images[0, 0] == 0:
            released.set()
            raise MemoryError("no room")
        released.wait(10)
        ended.append(len(images))
        return images

    with pytest.raises(MemoryError, match="no room"):
        cores.run(model, IMAGES[:8])
    assert ended == [2, 2, 2]


def test_without_a_number_it_uses_the_cores_that_this_process_may_use() -> None:
    model = Watched()
    with closing(Cores()) as cores:
        cores.run(model, torch.zeros(2 * usable_cpus(), 3))
    assert model.calls == [(2, name, 1) for _, name, _ in model.calls]
    assert len(model.calls) == usable_cpus()
