"""The process's standard input, line by line, so that waiting for it keeps no process from ending."""

import io
import select
import sys
from collections.abc import Iterator

from worker.errors import UnknownSourceError

READ_BYTES = 1 << 16


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
    """The lines of what has no buffer, each as soon as it is there."""
    parts: list[bytes] = []
    while (data := raw.read(READ_BYTES)) != b"":
        if data is None:  # whoever made the pipe lets nobody wait in it: that is not its end
            select.select([raw], [], [])
            continue
        for line in io.BytesIO(data):
            parts.append(line)
            if line.endswith(b"\n"):
                yield b"".join(parts)
                parts.clear()
    if parts:
        yield b"".join(parts)
