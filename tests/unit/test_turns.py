"""One thread at a time, those with live images first."""

import threading
import time

import pytest

from worker.detector.turns import Turns


def queued(turns: Turns, names: dict[str, bool]) -> list[str]:
    """Queues these threads, live or not, behind a turn that is taken. Returns the order in which they had theirs."""
    order: list[str] = []
    threads = []
    with turns.turn(live=False):
        for place, (name, live) in enumerate(names.items()):

            def work(name: str = name, live: bool = live) -> None:
                with turns.turn(live=live):
                    order.append(name)

            threads.append(threading.Thread(target=work))
            threads[-1].start()
            while turns.waiting <= place:
                time.sleep(0.001)
    for thread in threads:
        thread.join(30)
    return order


def test_live_images_go_before_scans_and_each_kind_keeps_its_order() -> None:
    names = {"scan 1": False, "scan 2": False, "live 1": True, "scan 3": False, "live 2": True}
    turns = Turns()
    assert queued(turns, names) == ["live 1", "live 2", "scan 1", "scan 2", "scan 3"]
    assert turns.waiting == 0


def test_a_turn_ends_with_an_error_too() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.turn(live=False):
        _ = 1 / 0
    assert queued(turns, {"next": False}) == ["next"]


def test_one_thread_at_a_time() -> None:
    turns, inside, most = Turns(), [0], [0]

    def work() -> None:
        for _ in range(50):
            with turns.turn(live=False):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1]
