"""When an engine counts as hung."""

import pytest

from worker.detector.progress import Progress
from worker.errors import EngineDeadError


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_idle_engine_never_stalls() -> None:
    clock = Clock()
    progress = Progress(stall_s=10, clock=clock)
    progress.advance()
    clock.now += 1000
    progress.check()
    with progress.images(1):
        progress.check()
        clock.now += 9
        progress.check()


def test_the_first_image_has_more_time() -> None:
    clock = Clock()
    progress = Progress(stall_s=10, first_s=100, clock=clock)
    with progress.images(1):
        clock.now += 99
        progress.check()
        clock.now += 2
        with pytest.raises(EngineDeadError):
            progress.check()


def test_a_busy_engine_that_finishes_nothing_is_stalled() -> None:
    clock = Clock()
    progress = Progress(stall_s=10, clock=clock)
    progress.advance()
    with progress.images(3):
        clock.now += 11
        with pytest.raises(EngineDeadError, match=r"3 images in the engine \(FAKESWEEP_ENGINE_STALL_S\)"):
            progress.check()
        progress.advance()
        progress.check()
    progress.check()


def test_a_long_wait_for_other_images_is_no_stall() -> None:
    clock = Clock()
    progress = Progress(stall_s=10, clock=clock)
    with progress.images(10):
        for _ in range(10):
            clock.now += 9
            progress.advance()
            progress.check()


def test_images_that_failed_are_no_longer_counted() -> None:
    progress = Progress(stall_s=10)
    with pytest.raises(ValueError), progress.images(2):
        raise ValueError
    assert progress.in_flight == 0
