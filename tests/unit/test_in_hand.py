"""Two deliveries of one message in one process: the second one waits until the first one has ended."""

import threading
from uuid import uuid4

import pytest

from worker.errors import ShuttingDownError
from worker.in_hand import InHand


def nothing() -> None:
    pass


def test_the_second_delivery_waits_and_knows_that_it_waited() -> None:
    in_hand, message, order = InHand(), uuid4(), []
    inside, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with in_hand.only(message, nothing) as waited:
            order.append(("first", waited))
            inside.set()
            go_on.wait(5)
            order.append(("first ends", waited))

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(5)
    with in_hand.only(uuid4(), nothing) as waited:
        assert not waited, "another message does not wait"
    threading.Timer(0.1, go_on.set).start()
    with in_hand.only(message, nothing) as waited:
        order.append(("second", waited))
    thread.join()
    assert order == [("first", False), ("first ends", False), ("second", True)]
    with in_hand.only(message, nothing) as waited:
        assert not waited, "the other deliveries have ended"


def test_waiting_ends_when_the_worker_stops() -> None:
    def stopping() -> None:
        raise ShuttingDownError("stopping")

    in_hand, message = InHand(), uuid4()
    with in_hand.only(message, nothing), pytest.raises(ShuttingDownError), in_hand.only(message, stopping):
        raise AssertionError("the body must not run")
