"""The process's standard input, line by line, so that waiting for it keeps no process from ending."""

import io
import select
import sys
from collections.abc import Iterator

from worker.errors import SourceError, UnknownSourceError

READ_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 24
"""Of one line. What has no newlines at all must not fill the memory."""


def standard_input() -> Iterator[bytes]:
    """Its lines. Raises UnknownSourceError at once when it is closed.

    Not sys.stdin.buffer: the interpreter takes that one's lock when it ends, and aborts while a thread holds it in a
    read that waits.
    """
    try:
        raw = io.FileIO(sys.stdin.fileno(), closefd=False)
    except (AttributeError, OSError, ValueError) as error:
        raise UnknownSourceError("standard input: is closed: pipe uris or JSON Lines in") from error
    return lines(raw)


def lines(raw: io.RawIOBase) -> Iterator[bytes]:
    """The lines of what has no buffer, each as soon as it is there. Raises SourceError for one that is too long."""
    parts: list[bytes] = []
    size = 0
    while (data := raw.read(READ_BYTES)) != b"":
        if data is None:  # whoever made the pipe lets nobody wait in it: that is not its end
            select.select([raw], [], [])
            continue
        for line in io.BytesIO(data):
            parts.append(line)
            size += len(line)
            if size > MAX_LINE_BYTES:
                raise SourceError(f"standard input: a line of more than {MAX_LINE_BYTES} bytes: give one name a line")
            if line.endswith(b"\n"):
                yield b"".join(parts)
                parts.clear()
                size = 0
    if parts:
        yield b"".join(parts)
