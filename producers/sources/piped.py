"""Reads the process's standard input line by line, in a way that never keeps the process from ending."""

import io
import select
import sys
from collections.abc import Iterator

from worker.errors import SourceError, UnknownSourceError

READ_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 24
"""The longest line. Input without newlines must not fill the memory."""


def standard_input() -> Iterator[bytes]:
    """Returns the lines of standard input. Raises UnknownSourceError at once if it is closed.

    This does not use sys.stdin.buffer: the interpreter takes its lock when it ends, and aborts while a thread holds it
    in a read that waits.
    """
    try:
        raw = io.FileIO(sys.stdin.fileno(), closefd=False)
    except (AttributeError, OSError, ValueError) as error:
        raise UnknownSourceError("standard input: is closed: pipe uris or JSON Lines in") from error
    return lines(raw)


def lines(raw: io.RawIOBase) -> Iterator[bytes]:
    """Yields the lines of an unbuffered file as soon as they are there. Raises SourceError if one is too long."""
    parts: list[bytes] = []
    size = 0
    while (data := raw.read(READ_BYTES)) != b"":
        if data is None:  # the pipe is in non-blocking mode, and this is not its end
            select.select([raw], [], [])
            continue
        for line in io.BytesIO(data):
            parts.append(line)
            size += len(line)
            if size > MAX_LINE_BYTES:
                raise SourceError(f"standard input: a line of more than {MAX_LINE_BYTES} bytes: give one name per line")
            if line.endswith(b"\n"):
                yield b"".join(parts)
                parts.clear()
                size = 0
    if parts:
        yield b"".join(parts)
