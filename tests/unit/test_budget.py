"""The budget of image bytes."""

import threading
from collections.abc import Callable

import pytest

from worker.budget import Budget, divide_memory
from worker.errors import ConfigurationError, ShuttingDownError
from worker.settings import Settings


class Taking:
    """A thread that takes bytes and keeps them until give_back()."""

    def __init__(self, budget: Budget, size: int, *, live: bool = False) -> None:
        self.has, self.error = threading.Event(), ""
        self._free = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(budget, size, live), daemon=True)
        self._thread.start()

    def _work(self, budget: Budget, size: int, live: bool) -> None:
        try:
            with budget.take(size, live=live):
                self.has.set()
                self._free.wait(10)
        except ShuttingDownError as error:
            self.error = str(error)

    def give_back(self) -> None:
        self._free.set()
        self._thread.join(10)


def waits(taking: Taking) -> bool:
    return not taking.has.wait(0.05)


def test_a_request_waits_until_its_bytes_are_free() -> None:
    budget = Budget(400)
    first = Taking(budget, 200)
    assert first.has.wait(5)
    second = Taking(budget, 150)
    assert waits(second)
    first.give_back()
    assert second.has.wait(5)
    second.give_back()


def test_scans_leave_a_quarter_to_live_images() -> None:
    budget = Budget(400)
    scan = Taking(budget, 300)
    assert scan.has.wait(5)
    another, live = Taking(budget, 50), Taking(budget, 100, live=True)
    assert live.has.wait(5)
    assert waits(another)
    scan.give_back()
    assert another.has.wait(5)
    for taking in (another, live):
        taking.give_back()


def test_a_live_image_that_waits_goes_before_scans_that_wait() -> None:
    budget = Budget(400)
    scan = Taking(budget, 300)
    assert scan.has.wait(5)
    live = Taking(budget, 350, live=True)
    assert waits(live)
    another = Taking(budget, 100)
    scan.give_back()
    assert live.has.wait(5)
    assert waits(another)
    live.give_back()
    assert another.has.wait(5)
    another.give_back()


def test_small_requests_do_not_overtake_a_large_one() -> None:
    budget = Budget(400)
    first = Taking(budget, 100)
    assert first.has.wait(5)
    large = Taking(budget, 300)
    assert waits(large)
    small = Taking(budget, 10)
    assert waits(small)
    first.give_back()
    assert large.has.wait(5)
    large.give_back()
    assert small.has.wait(5)
    small.give_back()


def test_bytes_that_are_not_needed_are_given_back_early() -> None:
    budget = Budget(400)
    with budget.take(300) as held:
        other = Taking(budget, 200)
        assert waits(other)
        held.shrink(100)
        assert other.has.wait(5)
    other.give_back()
    with budget.take(300):  # exactly 300 bytes are free again
        pass


def test_a_body_that_raises_gives_its_bytes_back() -> None:
    budget = Budget(4)
    with pytest.raises(KeyError), budget.take(3):
        raise KeyError
    with budget.take(3):
        pass


def test_a_request_above_the_limit_is_refused_at_once() -> None:
    budget = Budget(400)
    assert (budget.limit(live=False), budget.limit(live=True)) == (300, 400)
    with pytest.raises(ValueError, match="301 bytes of 300"), budget.take(301):
        pass
    with budget.take(400, live=True):
        pass


@pytest.mark.parametrize("live", [False, True])
def test_waiting_ends_when_the_worker_stops(live: bool) -> None:
    budget = Budget(4)
    holder = Taking(budget, 3)
    assert holder.has.wait(5)
    waiting = Taking(budget, 3, live=live)
    assert waits(waiting)
    budget.stop()
    waiting.give_back()
    assert waiting.error == "the worker is stopping"
    holder.give_back()
    assert holder.error == ""
    with pytest.raises(ShuttingDownError):
        budget.check()


def test_many_threads_never_hold_more_than_the_budget() -> None:
    budget, held, most, lock = Budget(400), 0, 0, threading.Lock()

    def work(size: int, live: bool) -> Callable[[], None]:
        def run() -> None:
            nonlocal held, most
            for _ in range(50):
                with budget.take(size, live=live):
                    with lock:
                        held += size
                        most = max(most, held)
                    with lock:
                        held -= size

        return run

    threads = [threading.Thread(target=work(40 + 20 * n, n % 3 == 0)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert held == 0
    assert 0 < most <= 400


def test_the_budgets_and_the_kept_pixels_add_up_to_the_setting() -> None:
    settings = Settings(image_memory_mib=4096)
    memory = divide_memory(settings, 36, 336)
    kept = 36 * 16 * 336 * 336 * 3 * 5
    assert memory.files.limit(live=True) + memory.pixels.limit(live=True) + kept == 4096 * 2**20


def test_too_little_memory_for_a_message_is_refused_with_the_minimum() -> None:
    with pytest.raises(ConfigurationError, match="FAKESWEEP_IMAGE_MEMORY_MIB is 1024, and 36 threads") as refused:
        divide_memory(Settings(image_memory_mib=1024), 36, 336)
    least = int(str(refused.value).partition(" need ")[2].partition(":")[0])
    assert divide_memory(Settings(image_memory_mib=least), 36, 336)
    with pytest.raises(ConfigurationError):
        divide_memory(Settings(image_memory_mib=least - 2), 36, 336)
