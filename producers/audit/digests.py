"""Digests of the pieces of a file, so that `verify` can name the piece that was changed.

The pieces of a .jsonl file are its lines. Those of any other file are blocks of 4,096 bytes.
"""

import hashlib
from collections.abc import Iterator
from itertools import zip_longest
from typing import BinaryIO

FOLDER = "digests/"
BLOCK = 4096
LONGEST_LINE = 64 << 20
"""No line of ours comes near. A longer one is cut here, so that memory stays bounded."""
HEX = 16
"""Digits of a digest: 64 bits find a piece, and the SHA-256 of the whole file is what proves."""


def digest(piece: bytes) -> bytes:
    """Returns the line of a piece in the file of digests: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(piece).hexdigest()[:HEX].encode() + b"\n"


def pieces(name: str, file: BinaryIO) -> Iterator[bytes]:
    """Yields the pieces of a file."""
    if name.endswith(".jsonl"):
        return iter(lambda: file.readline(LONGEST_LINE), b"")
    return iter(lambda: file.read(BLOCK), b"")


def first_difference(name: str, file: BinaryIO, digests: BinaryIO) -> tuple[int, int] | None:
    """Returns the number of the first piece that is not that of the digests, from 1, and the byte at which it begins.

    Returns None if all are.
    """
    at = 0
    wanted = iter(lambda: digests.read(HEX + 1), b"")
    for number, (piece, expected) in enumerate(zip_longest(pieces(name, file), wanted), start=1):
        if piece is None or digest(piece) != expected:
            return number, at
        at += len(piece)
    return None
