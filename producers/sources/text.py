"""Text as people's tools write it: byte-order marks, gzip, and bytes that are no UTF-8."""

import codecs
import gzip
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from worker.errors import SourceError
from worker.texts import encoding_of

_GZIP = b"\x1f\x8b"
_OLD_MACINTOSH = re.compile(r"\r(?=s3://|file:/|/|\{)")


def text_lines(file: BinaryIO, *, newline: str = "") -> io.TextIOWrapper:
    """The lines of a file that can be sought in, with their ends; `newline` as open() has it.

    A byte-order mark says the encoding, else it is UTF-8. What is packed with gzip is unpacked, whatever its name.

    A byte that is no UTF-8 becomes a lone surrogate (surrogateescape): the row that holds it says so.
    """
    packed = file.read(2) == _GZIP
    file.seek(0)
    opened: Any = gzip.GzipFile(fileobj=file) if packed else file
    encoding = encoding_of(opened.read(4))
    opened.seek(0)
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    return io.TextIOWrapper(opened, encoding=encoding, errors=errors, newline=newline)


def decoded(lines: Iterable[bytes], source: str) -> Iterator[str]:
    """Lines of bytes as text, as `text_lines` has it. Raises SourceError for another encoding than UTF-8."""
    for number, line in enumerate(lines, start=1):
        if number == 1:
            encoding = encoding_of(line[:4])
            if not encoding.startswith("utf-8"):
                raise SourceError(f"{source}: its text is {encoding.upper()}: pipe UTF-8 in (iconv -t UTF-8)")
            yield line.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")
        else:
            yield line.decode(errors="surrogateescape")


def several_in(line: str) -> bool:
    """Whether the line holds several, which are ended by a carriage return alone."""
    return bool(_OLD_MACINTOSH.search(line))
