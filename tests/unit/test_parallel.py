"""Threads that read for one consumer: several threads for parts of a listing, or one thread that reads pages ahead."""

import threading
import time
from collections.abc import Generator, Iterator

import pytest

from producers.listing import Page, ahead, chunks
from producers.parallel import in_parallel
from tests.processes import wait_for
from worker.errors import SourceError
from worker.messages import ImageRef


def listing_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("listing-")]


def test_an_error_is_raised_after_the_results_before_it_and_ends_the_threads() -> None:
    def read(work: int) -> Iterator[int]:
        yield work
        if work == 1:
            raise ValueError("broken")
        while True:
            yield work

    results = in_parallel(range(8), read, threads=4)
    with pytest.raises(ValueError, match="broken"):
        for _ in results:
            pass
    assert not listing_threads()


def test_closing_does_not_wait_for_a_thread_that_hangs() -> None:
    released = threading.Event()

    def read(work: int) -> Iterator[int]:
        yield work
        released.wait(60)

    results = in_parallel(range(2), read, threads=2)
    next(results)
    began = time.monotonic()
    results.close()
    assert time.monotonic() - began < 10
    released.set()


def test_few_results_are_read_ahead() -> None:
    read = 0

    def numbers(_: int) -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    results = in_parallel([0], numbers, threads=1)
    next(results)
    time.sleep(0.2)
    assert read <= 3
    results.close()


class Pages:
    """Pages of one image each. It counts those that were read, and knows which thread read and closed them."""

    def __init__(self, count: int = 1_000_000, error: BaseException | None = None, every_s: float = 0) -> None:
        self._count, self._error, self._every_s = count, error, every_s
        self.read = 0
        self.read_in = self.closed_in = ""

    def __call__(self) -> Generator[Page]:
        self.read_in = threading.current_thread().name
        try:
            for number in range(self._count):
                time.sleep(self._every_s)
                self.read += 1
                yield Page((ImageRef(uri=f"s3://b/{number}"),), str(number), {})
            if self._error:
                raise self._error
        finally:
            self.closed_in = threading.current_thread().name


@pytest.mark.parametrize("every_s", [0, 0.02])
@pytest.mark.parametrize("slow_consumer_s", [0, 0.02])
def test_pages_read_ahead_are_the_same_and_in_order(every_s: float, slow_consumer_s: float) -> None:
    found = []
    for page in ahead(Pages(20, every_s=every_s)()):
        time.sleep(slow_consumer_s)
        found.append(page.cursor)
    assert found == [str(number) for number in range(20)]
    assert list(ahead(Pages(0)())) == []
    assert not listing_threads()


def test_few_pages_are_read_ahead() -> None:
    pages = Pages()
    coming = ahead(pages())
    next(coming)
    wait_for(lambda: pages.read >= 2, 20)
    time.sleep(0.2)
    assert pages.read <= 3
    coming.close()


def test_pages_are_closed_in_the_thread_that_read_them() -> None:
    pages = Pages()
    coming = ahead(chunks(pages(), 1))
    next(coming)
    coming.close()
    assert pages.closed_in == pages.read_in != threading.current_thread().name
    assert not listing_threads()


def test_a_consumer_that_fails_ends_the_reading() -> None:
    def consume() -> None:
        for _ in ahead(pages()):
            raise ValueError("the consumer failed")

    pages = Pages()
    with pytest.raises(ValueError, match="the consumer failed"):
        consume()
    assert pages.closed_in
    assert not listing_threads()


@pytest.mark.parametrize("error", [SourceError("broken: mend it"), MemoryError(), SystemExit(3)])
def test_an_error_is_raised_after_the_pages_before_it(error: BaseException) -> None:
    coming, found = ahead(Pages(3, error)()), list[str]()
    with pytest.raises(type(error)) as raised:
        found.extend(page.cursor for page in coming)
    assert raised.value is error
    assert found == ["0", "1", "2"]
    assert not listing_threads()


def test_closing_does_not_wait_for_pages_that_hang() -> None:
    released = threading.Event()

    def pages() -> Generator[Page]:
        yield Page((), "", {})
        released.wait(60)

    coming = ahead(pages())
    next(coming)
    (thread,) = listing_threads()
    assert thread.daemon
    began = time.monotonic()
    coming.close()
    assert time.monotonic() - began < 4
    released.set()
    thread.join(5)
