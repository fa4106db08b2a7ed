"""Two deliveries of one message in one process: the second one waits for the first."""

import threading
from uuid import uuid4

import pytest

from worker.errors import ShuttingDownError
from worker.in_hand import InHand


def nothing() -> None:
    pass


def test_the_second_delivery_waits_and_knows_that_it_did() -> None:
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
        assert not waited, "another message waits for nobody"
    threading.Timer(0.1, go_on.set).start()
    with in_hand.only(message, nothing) as waited:
        order.append(("second", waited))
    thread.join()
    assert order == [("first", False), ("first ends", False), ("second", True)]
    with in_hand.only(message, nothing) as waited:
        assert not waited, "it is over"


def test_a_worker_that_stops_gives_up_waiting() -> None:
    def stopping() -> None:
        raise ShuttingDownError("stopping")

    in_hand, message = InHand(), uuid4()
    with in_hand.only(message, nothing), pytest.raises(ShuttingDownError), in_hand.only(message, stopping):
        raise AssertionError("the body must not run")
