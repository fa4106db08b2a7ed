"""The limit of images in flight."""

import threading

import pytest

from worker.errors import ShuttingDownError
from worker.slots import Slots


def test_no_more_than_the_limit_at_once() -> None:
    slots, inside, most, lock = Slots(4), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with slots.take(2):
            with lock:
                inside += 2
                most = max(most, inside)
            threading.Event().wait(0.01)
            with lock:
                inside -= 2

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == 4
    assert inside == 0


def test_a_body_that_raises_gives_its_slots_back() -> None:
    slots = Slots(1)
    with pytest.raises(KeyError), slots.take(1):
        raise KeyError
    with slots.take(1):
        pass


def test_who_waits_gives_up_when_the_worker_stops() -> None:
    slots, outcome = Slots(1), []

    def wait() -> None:
        try:
            with slots.take(1):
                outcome.append("started")
        except ShuttingDownError:
            outcome.append("gave up")

    with slots.take(1):
        thread = threading.Thread(target=wait)
        thread.start()
        slots.stop()
        thread.join(10)
    assert outcome == ["gave up"]
