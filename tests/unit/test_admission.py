"""Which images go into the engine, and when."""

import itertools
import threading
from typing import Any

import pytest

from worker.detector.admission import Admission, admission
from worker.errors import EngineDeadError
from worker.settings import Settings


class Entering:
    """A thread that wants to put one image into the engine."""

    def __init__(self, admission: Admission, call: int, *, live: bool = False, dead: bool = False) -> None:
        self.inside, self.error = threading.Event(), ""
        self._admission, self._live = admission, live
        self._thread = threading.Thread(target=self._work, args=(call, dead), daemon=True)
        self._thread.start()

    def _work(self, call: int, dead: bool) -> None:
        def check() -> None:
            if dead:
                raise EngineDeadError("it is dead")

        try:
            self._admission.enter(call, live=self._live, check=check)
            self.inside.set()
        except EngineDeadError as error:
            self.error = str(error)

    def join(self) -> None:
        self._thread.join(10)

    def waits(self) -> bool:
        return not self.inside.wait(0.05)

    def goes_in(self) -> bool:
        return self.inside.wait(5)


def test_scans_have_at_most_this_number_of_images_in_the_engine() -> None:
    admission = Admission(2, beside_live=1)
    images = [Entering(admission, admission.begin()) for _ in range(2)]
    assert all(image.goes_in() for image in images)
    third = Entering(admission, admission.begin())
    assert third.waits()
    admission.leave(live=False)
    assert third.goes_in()


def test_live_images_are_admitted_at_once() -> None:
    admission = Admission(1, beside_live=1)
    assert Entering(admission, admission.begin()).goes_in()
    assert Entering(admission, admission.begin()).waits()
    live = [Entering(admission, admission.begin(), live=True) for _ in range(20)]
    assert all(image.goes_in() for image in live)


def test_scans_continue_with_few_images_while_a_live_image_is_judged() -> None:
    admission = Admission(3, beside_live=1)
    scan = [Entering(admission, admission.begin()) for _ in range(3)]
    assert all(image.goes_in() for image in scan)
    assert Entering(admission, admission.begin(), live=True).goes_in()
    waiting = [Entering(admission, admission.begin()) for _ in range(2)]
    admission.leave(live=False)
    admission.leave(live=False)
    assert all(image.waits() for image in waiting)
    admission.leave(live=False)
    assert sum(image.goes_in() for image in waiting[:1]) == 1  # scans never stop completely
    assert waiting[1].waits()
    admission.leave(live=True)
    assert waiting[1].goes_in()


def test_the_call_that_began_first_is_admitted_first() -> None:
    admission = Admission(1, beside_live=1)
    first, second = admission.begin(), admission.begin()
    assert Entering(admission, first).goes_in()
    later = Entering(admission, second)
    assert later.waits()
    earlier = Entering(admission, first)
    assert earlier.waits()
    admission.leave(live=False)
    assert earlier.goes_in()
    assert later.waits()
    admission.leave(live=False)
    assert later.goes_in()


def test_waiting_for_a_dead_engine_ends_and_takes_no_place() -> None:
    admission = Admission(1, beside_live=1)
    assert Entering(admission, admission.begin()).goes_in()
    lost = Entering(admission, admission.begin(), dead=True)
    lost.join()
    assert lost.error == "it is dead"
    waiting = Entering(admission, admission.begin())
    admission.leave(live=False)
    assert waiting.goes_in()


@pytest.mark.parametrize("live", [False, True])
def test_leaving_makes_the_places_free_again(live: bool) -> None:
    admission = Admission(2, beside_live=1)
    for _ in range(10):
        admission.enter(admission.begin(), live=live, check=lambda: None)
        admission.leave(live=live)
    images = [Entering(admission, admission.begin()) for _ in range(2)]
    assert all(image.goes_in() for image in images)


@pytest.mark.parametrize(
    ("settings", "on_cpu", "alone", "beside_live"),
    [
        ({}, False, 48, 6),
        ({"max_num_batched_tokens": 4096}, False, 96, 12),
        ({"scan_images_in_engine": 5}, False, 5, 5),
        ({"scan_images_beside_live": 48}, False, 48, 48),
        ({}, True, 8, 1),
        ({"max_num_batched_tokens": 2400}, True, 32, 4),
        ({"max_num_batched_tokens": 2400, "scan_images_in_engine": 3}, True, 3, 3),
    ],
)
def test_room_for_scans_on_a_gpu_and_on_a_cpu(
    settings: dict[str, Any], on_cpu: bool, alone: int, beside_live: int
) -> None:
    assert room(admission(Settings(**settings), on_cpu=on_cpu)) == alone
    busy = admission(Settings(**settings), on_cpu=on_cpu)
    busy.enter(busy.begin(), live=True, check=full)
    assert room(busy) == beside_live


def room(given: Admission) -> int:
    """Returns how many images of scans are admitted at once."""
    for entered in itertools.count():
        try:
            given.enter(given.begin(), live=False, check=full)
        except EngineDeadError:
            return entered
    raise AssertionError


def full() -> None:
    raise EngineDeadError
