"""Reads text as people's tools write it: with byte-order marks, with gzip, and with bytes that are not UTF-8."""

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
    """Returns the lines of a seekable file, with their line ends. `newline` has the same meaning as in open().

    A byte-order mark decides the encoding. Without one it is UTF-8. A gzip file is unpacked, whatever its name is. A
    byte that is not UTF-8 becomes a lone surrogate (surrogateescape). given_uri() accepts it in paths, but not in keys
    of S3.
    """
    packed = file.read(2) == _GZIP
    file.seek(0)
    opened: Any = gzip.GzipFile(fileobj=file) if packed else file
    encoding = encoding_of(opened.read(4))
    opened.seek(0)
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    return io.TextIOWrapper(opened, encoding=encoding, errors=errors, newline=newline)


def decoded(lines: Iterable[bytes], source: str) -> Iterator[str]:
    """Yields lines of bytes as text, in the same way as `text_lines`. Raises SourceError if the text is not UTF-8."""
    for number, line in enumerate(lines, start=1):
        if number == 1:
            encoding = encoding_of(line[:4])
            if not encoding.startswith("utf-8"):
                raise SourceError(f"{source}: the text is in {encoding.upper()}: pipe UTF-8 in (iconv -t UTF-8)")
            yield line.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")
        else:
            yield line.decode(errors="surrogateescape")


def several_in(line: str) -> bool:
    """Whether the line holds several lines that end with a carriage return alone."""
    return bool(_OLD_MACINTOSH.search(line))
