"""Reads the directories of TIFF files. EXIF blocks are TIFF directories too. A broken entry harms no other entry."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_ENTRIES = 4096
"""More than any program writes. The entries that decide the pixels come early, because entries are sorted by tag."""
MAX_VALUES = 500_000
"""Numbers in one entry. This also limits how many strips a file may have."""

_HEADER = 8  # bytes; twice as many in a BigTIFF
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q",
          18: "Q"}  # fmt: skip
_RATIONALS = {5: "II", 10: "ii"}


@dataclass(frozen=True)
class Entry:
    """One entry of a directory: its tag, the type and the count of its values, and where they are in the file."""

    tag: int
    kind: int
    count: int
    at: int
    """Where the entry itself begins."""
    values_at: int | None
    """Where its values begin. None if they would end after the end of the file."""


@dataclass(frozen=True)
class Directory:
    """A directory of a TIFF: its entries by tag, and the position of the next directory (0: there is none).

    If a tag comes twice, the first entry counts.
    """

    data: bytes
    order: str
    """The byte order: `<` or `>`, as in the module struct."""
    is_big: bool
    """A BigTIFF, whose positions have 64 bits."""
    entries: dict[int, Entry]
    next_at: int
    is_whole: bool
    """Whether the file holds as many entries as the directory announces."""

    def numbers(self, tag: int) -> tuple[float, ...]:
        """Returns the entry's values. Returns none if the entry is missing or cannot be read."""
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
        """Returns the entry's first value, or `otherwise` if there is none."""
        return next(iter(self.numbers(tag)), otherwise)


def first_directory(data: bytes) -> Directory | None:
    """Returns the first directory of a TIFF or an EXIF block, or None if it cannot be read."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < _HEADER:
        return None
    is_big = data[2:4] in {b"\x2b\x00", b"\x00\x2b"}
    if is_big and len(data) < 2 * _HEADER:
        return None
    (at,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    return directory_at(data, at, order, is_big=is_big)


def directory_at(data: bytes, at: int, order: str, *, is_big: bool) -> Directory | None:
    """Returns the directory that begins at `at`, with as many of its entries as the file holds, or None."""
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
