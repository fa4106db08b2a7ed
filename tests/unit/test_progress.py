"""When an engine counts as hung."""

import time

import pytest

from worker.detector.progress import Progress
from worker.errors import EngineDeadError


def test_an_idle_engine_never_stalls() -> None:
    progress = Progress(stall_s=0.01)
    time.sleep(0.03)
    progress.check()
    with progress.images(1):
        progress.check()


def test_the_first_image_has_longer() -> None:
    progress = Progress(stall_s=0.01, first_s=0.1)
    with progress.images(1):
        time.sleep(0.03)
        progress.check()
        time.sleep(0.1)
        with pytest.raises(EngineDeadError):
            progress.check()


def test_a_busy_engine_that_finishes_nothing_is_stalled() -> None:
    progress = Progress(stall_s=0.01)
    progress.advance()
    with progress.images(3):
        time.sleep(0.03)
        with pytest.raises(EngineDeadError, match=r"3 images in the engine \(FAKESWEEP_ENGINE_STALL_S\)"):
            progress.check()
        progress.advance()
        progress.check()
    progress.check()


def test_a_long_wait_behind_others_is_no_stall() -> None:
    progress = Progress(stall_s=0.05)
    with progress.images(10):
        for _ in range(10):
            time.sleep(0.01)
            progress.advance()
            progress.check()


def test_images_that_failed_leave_too() -> None:
    progress = Progress(stall_s=0.01)
    with pytest.raises(ValueError), progress.images(2):
        raise ValueError
    assert progress.in_flight == 0
