"""Directories of TIFF files, which EXIF blocks are, too. A broken entry harms no other one."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_ENTRIES = 4096
"""More than any program writes. Those that decide pixels come early, since entries are sorted by tag."""
MAX_VALUES = 500_000
"""Numbers in one entry: a file's strips are bounded by it."""

_HEADER = 8  # bytes; twice as many in a BigTIFF
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q",
          18: "Q"}  # fmt: skip
_RATIONALS = {5: "II", 10: "ii"}


@dataclass(frozen=True)
class Entry:
    """One entry: its tag, its type and count of values, and where they lie in the file."""

    tag: int
    kind: int
    count: int
    at: int
    """Of the entry itself."""
    values_at: int | None
    """None when they cannot be in the file."""


@dataclass(frozen=True)
class Directory:
    """A directory of a TIFF: its entries by tag (the first of each), and where the next directory lies (0: nowhere)."""

    data: bytes
    order: str
    """`<` or `>`, as struct writes them."""
    is_big: bool
    """A BigTIFF, whose positions have 64 bits."""
    entries: dict[int, Entry]
    next_at: int
    is_whole: bool
    """Whether the file has all entries that it names."""

    def numbers(self, tag: int) -> tuple[float, ...]:
        """The entry's values; empty when it is absent or unreadable."""
        entry = self.entries.get(tag)
        if entry is None or entry.values_at is None or entry.count > MAX_VALUES:
            return ()
        code = _CODES.get(entry.kind)
        if code:
            return struct.unpack_from(f"{self.order}{entry.count}{code}", self.data, entry.values_at)
        pairs = struct.iter_unpack(
            self.order + _RATIONALS[entry.kind], self.data[entry.values_at : entry.values_at + 8 * entry.count]
        )
        return tuple(above / below if below else 0.0 for above, below in pairs)

    def number(self, tag: int, otherwise: int) -> float:
        """The entry's first value."""
        return next(iter(self.numbers(tag)), otherwise)


def first_directory(data: bytes) -> Directory | None:
    """The first directory of a TIFF or an EXIF block; None when there is none that can be read."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < _HEADER:
        return None
    is_big = data[2:4] in {b"\x2b\x00", b"\x00\x2b"}
    if is_big and len(data) < 2 * _HEADER:
        return None
    (at,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    return directory_at(data, at, order, is_big=is_big)


def directory_at(data: bytes, at: int, order: str, *, is_big: bool) -> Directory | None:
    """The directory that begins at `at`; as many of its entries as the file holds."""
    head, size, pointer = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    start = at + struct.calcsize(order + head)
    if not at > 0 or start > len(data):
        return None
    (named,) = struct.unpack_from(order + head, data, at)
    held = (len(data) - start) // size
    count = min(named, held, MAX_ENTRIES)
    entries: dict[int, Entry] = {}
    for entry in _entries(data, start, count, order, is_big=is_big):
        entries.setdefault(entry.tag, entry)
    end = start + count * size
    whole = end + struct.calcsize(order + pointer) <= len(data)
    (next_at,) = struct.unpack_from(order + pointer, data, end) if whole else (0,)
    return Directory(data, order, is_big, entries, next_at, named <= held)


def _entries(data: bytes, start: int, count: int, order: str, *, is_big: bool) -> Iterator[Entry]:
    form, size, inline, pointer = ("HHQ", 20, 8, "Q") if is_big else ("HHI", 12, 4, "I")
    for at in range(start, start + count * size, size):
        tag, kind, values = struct.unpack_from(order + form, data, at)
        if kind not in _CODES and kind not in _RATIONALS:
            continue
        length = values * (8 if kind in _RATIONALS else struct.calcsize(order + _CODES[kind]))
        place: int | None = at + size - inline
        if length > inline:
            (place,) = struct.unpack_from(order + pointer, data, at + size - inline)
        yield Entry(tag, kind, values, at, place if place is not None and place + length <= len(data) else None)
