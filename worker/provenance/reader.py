"""Reads what a file says about its origin, in a process of its own, within a time.

The libraries that read metadata are large, and files come from strangers. A file may crash or stop the process that
reads it: then this file is `unreadable`, and another process reads the next one.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from itertools import takewhile
from typing import Self

from pebble import ProcessExpired, ProcessPool

from worker.detector.with_parent import end_with_parent
from worker.errors import ImageError
from worker.images import png, webp
from worker.images.formats import format_of
from worker.images.jpeg import segments
from worker.provenance.says import C2paState, Credentials, Provenance
from worker.provenance.trust import TrustList, fingerprint

TIME_LIMIT_S = 1.5
"""How long one file may take. An ordinary signed file takes 10 ms; see benchmarks/provenance.py."""

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


class ProvenanceReader:
    """Reads files in `processes` processes of its own. A context manager: they end with it, or with this process.

    `read` may be called from several threads. Tests give another `make_read`, which is called once in each process.
    """

    def __init__(
        self,
        lists: Sequence[TrustList],
        *,
        processes: int = 1,
        time_limit_s: float = TIME_LIMIT_S,
        make_read: MakeRead | None = None,
    ) -> None:
        self.revision = f"{READER_REVISION}-{fingerprint(lists)}"
        """What the result depends on beside the file: the reader, and the trust lists."""
        self._time_limit_s = time_limit_s
        self._pool = ProcessPool(
            max_workers=processes,
            context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(tuple(lists), make_read),
        )

    def read(self, data: bytes) -> Provenance:
        """Returns what the file says. Raises nothing: a file that cannot be read has the state unreadable."""
        try:
            kind = format_of(data)
        except ImageError as error:
            return Provenance(faults=(f"file: {error.detail}",))
        if says_nothing(data, kind):
            return Provenance()
        future: Future[Provenance] = self._pool.schedule(_read, args=(data, kind), timeout=self._time_limit_s)
        try:
            return future.result()
        except FutureTimeoutError:
            return _unreadable(f"reading took longer than {self._time_limit_s} s")
        except ProcessExpired:
            return _unreadable("the process that read it crashed")
        except Exception as error:  # noqa: BLE001 - such as no memory in the other process
            return _unreadable(f"{type(error).__name__}: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes. A file that is being read is given up."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


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
    except ImageError:  # so many parts that somebody made it so
        return False
    return kind not in _ALWAYS


def _unreadable(detail: str) -> Provenance:
    return Provenance(Credentials(C2paState.UNREADABLE, detail=detail), faults=(f"file: {detail}",))


_read_file: Read | None = None


def _begin(lists: tuple[TrustList, ...], make_read: MakeRead | None) -> None:
    global _read_file  # noqa: PLW0603 - set once in a process of the pool, which has no other place for it
    end_with_parent()
    if make_read is None:
        from worker.provenance.reading import read_with  # noqa: PLC0415 - only this process loads the libraries

        make_read = read_with
    _read_file = make_read(lists)


def _read(data: bytes, kind: str) -> Provenance:
    if _read_file is None:
        raise RuntimeError("the process was not begun")
    return _read_file(data, kind)
