"""Reads what a file says about its origin, in a process of its own, within a time.

The libraries that read metadata are large, and files come from strangers. A file may crash or stop the process that
reads it: then this file is `unreadable`, and a new process reads the next one.
"""

import multiprocessing
import resource
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from itertools import takewhile
from typing import Self

import structlog
from pebble import ProcessExpired, ProcessPool

from worker.detector.with_parent import end_with_parent
from worker.errors import ImageError
from worker.images import png, webp
from worker.images.formats import format_of
from worker.images.jpeg import segments
from worker.provenance.says import C2paState, Credentials, Provenance, text_of
from worker.provenance.trust import TrustList, fingerprint

log = structlog.get_logger(__name__)

TIME_LIMIT_S = 0.9
"""How long one file may take. An ordinary signed file takes 10 ms: see benchmarks/provenance.py. A file that takes
longer is read a second time, because the machine may have been busy. Both together take less than 2 s.
"""
WAIT_LIMIT_S = 10.0
"""How long a file may wait for its turn and be read. After this, it counts as not read, and nothing is stored."""
MEMORY_BYTES = 3 * 2**30
"""Address space of a process that reads. The libraries take about 1 GiB of it, but only 100 MiB of memory."""

READER_REVISION = 1
"""Goes up when the same file leads to another result. Then known contents are read again."""

_ALWAYS = {"TIFF", "HEIF", "AVIF", "GIF"}
"""Formats in which it takes long to see whether a file has metadata."""
_JPEG_METADATA = {0xE1, 0xEB, 0xED}
"""APP1 (EXIF, XMP), APP11 (C2PA) and APP13 (IPTC)."""
_SCAN = 0xDA
_PNG_METADATA = {b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"caBX"}
_WEBP_METADATA = {b"EXIF", b"XMP ", b"C2PA"}

Read = Callable[[bytes, str], Provenance]
MakeRead = Callable[[Sequence[TrustList]], Read]


class IsolatedReader:
    """Reads files one after the other in a process of its own, which ends with this process.

    `read` may be called from several threads. Tests give another `make_read`, which is called once in each process.
    """

    def __init__(
        self,
        lists: Sequence[TrustList],
        *,
        time_limit_s: float = TIME_LIMIT_S,
        wait_limit_s: float = WAIT_LIMIT_S,
        make_read: MakeRead | None = None,
    ) -> None:
        self.revision = f"{READER_REVISION}-{fingerprint(lists)}"
        """What the result depends on beside the file: the reader, and the trust lists."""
        self._lists, self._make_read = tuple(lists), make_read
        self._time_limit_s, self._wait_limit_s = time_limit_s, wait_limit_s
        self._lock = threading.Lock()
        self._pool = self._new_pool()

    def read(self, data: bytes) -> Provenance | None:
        """Returns what the file says. A file that cannot be read has the state unreadable.

        Returns None if the process could not be used, for which the file may not be to blame. Raises nothing.
        """
        try:
            kind = format_of(data)
        except ImageError as error:
            return Provenance(faults=(f"file: {text_of(error.detail)}",))
        if says_nothing(data, kind):
            return Provenance()
        said = self._ask(data, kind)
        if isinstance(said, FutureTimeoutError):
            said = self._ask(data, kind)
        match said:
            case FutureTimeoutError():
                return _unreadable(f"reading took longer than {self._time_limit_s} s, twice")
            case ProcessExpired():
                return _unreadable("the process that read it crashed")
            case Exception():
                log.warning("provenance_not_read", cause=f"{type(said).__name__}: {said}")
                return None
            case _:
                return said

    def _ask(self, data: bytes, kind: str) -> Provenance | Exception:
        pool = self._pool
        try:
            future: Future[Provenance] = pool.schedule(_read, args=(data, kind), timeout=self._time_limit_s)
        except (RuntimeError, OSError) as error:
            self._renew(pool)
            return error
        try:
            return future.result(self._wait_limit_s)
        except FutureTimeoutError as error:
            if future.done():
                return error
            future.cancel()
            self._renew(pool)  # pebble may have lost its process without a word
            return RuntimeError(f"no answer within {self._wait_limit_s} s")
        except BrokenProcessPool as error:
            self._renew(pool)
            return error
        except Exception as error:  # noqa: BLE001 - whatever the process raised, such as MemoryError
            return error

    def _renew(self, broken: ProcessPool) -> None:
        """Replaces a pool that takes no files any more. pebble gives up a pool whose process ends between two files."""
        with self._lock:
            if self._pool is broken:
                self._pool = self._new_pool()
                _stop(broken)

    def _new_pool(self) -> ProcessPool:
        context = multiprocessing.get_context("spawn")
        return ProcessPool(1, context=context, initializer=_begin, initargs=(self._lists, self._make_read))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process. A file that is being read is given up."""
        _stop(self._pool)


def _stop(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def says_nothing(data: bytes, kind: str) -> bool:
    """Whether a file of this format certainly says nothing about its origin. This takes 0.1 ms, and no process."""
    try:
        match kind:
            case "JPEG":
                markers = (marker for marker, _, _ in segments(data, 2))
                return not any(one in _JPEG_METADATA for one in takewhile(lambda marker: marker != _SCAN, markers))
            case "PNG":
                return not any(name in _PNG_METADATA for name, _, _ in png.chunks(data))
            case "WEBP":
                return not any(name in _WEBP_METADATA for name, _ in webp.chunks(memoryview(data), 12))
    except ImageError:  # too many parts: only an attacker writes such a file
        return False
    return kind not in _ALWAYS


def _unreadable(detail: str) -> Provenance:
    log.warning("provenance_unreadable", cause=detail)
    return Provenance(Credentials(C2paState.UNREADABLE, detail=detail), faults=(f"file: {detail}",))


_read_file: Read | None = None


def _begin(lists: tuple[TrustList, ...], make_read: MakeRead | None) -> None:
    global _read_file  # noqa: PLW0603 - set once in a process of the pool, which has no other place for it
    end_with_parent()
    # pebble ends a process by SIGTERM. Its own handler is Python code, which does not run while native code does.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    if make_read is None:
        from worker.provenance.reading import read_with  # noqa: PLC0415 - only this process loads the libraries

        make_read = read_with
    _read_file = make_read(lists)


def _read(data: bytes, kind: str) -> Provenance:
    if _read_file is None:
        raise RuntimeError("the process was not initialized")
    return _read_file(data, kind)
