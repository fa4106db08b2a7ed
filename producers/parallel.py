"""Runs work in several threads and gives the results to one consumer, in the order in which they arrive."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import Empty, Queue
from typing import Generic, TypeVar

W = TypeVar("W")
P = TypeVar("P")

CLOSE_LIMIT_S = 2.0
"""How long closing waits for threads. A thread that hangs in a request is left until its time-out, and does not keep
the process from ending.
"""


class _End:
    """A thread has ended, because of an error or because there is no more work."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Crew(Generic[W, P]):
    """The threads of one listing. At most `threads` results wait, and each thread holds one more."""

    def __init__(self, works: Iterable[W], read: Callable[[W], Iterator[P]], threads: int) -> None:
        self._works, self._read = enumerate(works), read
        self._taking, self._stop = threading.Lock(), threading.Event()
        # There is a place for each thread. So emptying the queue once lets every thread that waits to put something
        # continue, and end.
        self.results: Queue[tuple[int, P] | _End] = Queue(maxsize=threads)
        self.threads = [threading.Thread(target=self._work, name=f"listing-{n}", daemon=True) for n in range(threads)]

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            while not self._stop.is_set() and (taken := self._taken()) is not None:
                number, work = taken
                for result in self._read(work):
                    self.results.put((number, result))
                    if self._stop.is_set():
                        return
        except BaseException as raised:  # noqa: BLE001 - the consumer raises it, and would else wait for ever
            error = raised
        self.results.put(_End(error))

    def _taken(self) -> tuple[int, W] | None:
        with self._taking:
            return next(self._works, None)

    def dismiss(self) -> None:
        """Ends the threads."""
        self._stop.set()
        while True:
            try:
                self.results.get_nowait()
            except Empty:
                break
        for thread in self.threads:
            thread.join(CLOSE_LIMIT_S / len(self.threads))


def in_parallel(
    works: Iterable[W], read: Callable[[W], Iterator[P]], *, threads: int
) -> Generator[tuple[int, P], None, None]:
    """Yields every result of `read`, with the number of its work item, counted from 0.

    Results of one item come in order. Items start in order, but their results may mix. The first error ends everything.
    Closing the generator ends the threads.
    """
    crew = _Crew(works, read, threads)
    running = len(crew.threads)
    try:
        for thread in crew.threads:
            thread.start()
        while running:
            result = crew.results.get()
            if not isinstance(result, _End):
                yield result
            elif result.error is not None:
                raise result.error
            else:
                running -= 1
    finally:
        crew.dismiss()
