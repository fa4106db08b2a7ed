"""Reads the items of a HEIF file (ISO/IEC 23008-12), and counts how many pixels must be decoded for the primary item.

An item may be made of other items. Each of these may be far larger than the picture, and may be used hundreds of times.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from worker.errors import ImageError, Reason
from worker.images.boxes import boxes
from worker.images.limits import check_blocks, check_pixels

DERIVED = {b"grid", b"iovl", b"iden"}
_WORK = 2
"""All decoded pixels together may be this many times the limit for one image.

A camera's grid has at most one row of tiles more than its image, and alpha has as many pixels as the image.
"""
_LONG_INDEX = 1
_META = {b"pitm", b"iinf", b"iref", b"iprp"}


@dataclass
class Items:
    """What the file says about its items, by their numbers. `pixels`: those of the largest size that the item names."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    parts: dict[int, list[int]] = field(default_factory=dict)
    """The items that an item is made of."""
    extras: dict[int, list[int]] = field(default_factory=dict)
    """The alpha and depth of an item, which have as many pixels as the item."""
    pixels: dict[int, int] = field(default_factory=dict)

    @property
    def kind(self) -> bytes:
        """The type of the primary item."""
        return self.kinds.get(self.primary, b"")

    def reached(self) -> Counter[int]:
        """Returns how often each item is decoded when the primary one is. Raises ImageError with unsupported_format."""
        found = Counter([self.primary])
        for item in (self.primary, *self.extras.get(self.primary, ())):
            for part, times in Counter(self.parts.get(item, ())).items():
                if part in self.parts or self.kinds.get(part) in DERIVED:
                    raise ImageError(Reason.UNSUPPORTED_FORMAT, "a HEIF image whose parts have parts of their own")
                found[part] += times
        for item, times in list(found.items()):
            for extra in self.extras.get(item, ()):
                if extra in self.extras or (item != self.primary and extra in self.parts):
                    raise ImageError(Reason.UNSUPPORTED_FORMAT, "a HEIF image whose alpha has an alpha or parts")
                found[extra] += times
        return found

    def check(self, max_pixels: int) -> int:
        """Checks all items that are decoded for the primary one. Returns the pixels of the largest of them.

        Items that are made of others do not count, because only their parts are decoded.
        Raises ImageError with unsupported_format or too_many_pixels.
        """
        reached = self.reached()
        sizes = {item: self.pixels.get(item, 0) for item in reached}
        largest = max(sizes.values())
        check_pixels(largest, max_pixels, f"an item of {largest} pixels")
        work = sum(sizes[item] * times for item, times in reached.items() if item not in self.parts)
        check_pixels(
            work, _WORK * max_pixels, f"items of {work} pixels together, with {_WORK} times the limit for one image"
        )
        return max((size for item, size in sizes.items() if item not in self.parts), default=largest)


def read_items(data: bytes) -> Items:
    """Reads the items of a HEIF file. Raises ImageError with corrupt if a list cannot be read, or comes twice."""
    items, seen = Items(), set[bytes]()
    try:
        for kind, start, end in boxes(data, 0, len(data)):
            if kind == b"meta":
                _once(kind, seen)
                for inner, inner_start, inner_end in boxes(data, start + 4, end):
                    if inner in _META:
                        _once(inner, seen)
                        _READERS[inner](items, data, inner_start, min(inner_end, len(data)))
    except (struct.error, IndexError) as error:
        raise ImageError(Reason.CORRUPT, f"the list of items is broken: {error}") from None
    return items


def _once(kind: bytes, seen: set[bytes]) -> None:
    if kind in seen:
        raise ImageError(Reason.CORRUPT, f"two {kind.decode()} boxes")
    seen.add(kind)


def _read_primary(items: Items, data: bytes, start: int, _: int) -> None:
    (items.primary,) = struct.unpack_from(">I" if data[start] else ">H", data, start + 4)


def _read_kinds(items: Items, data: bytes, start: int, end: int) -> None:
    for _, at, _ in boxes(data, start + (8 if data[start] else 6), end):
        form = ">IH4s" if data[at] > 2 else ">HH4s"  # noqa: PLR2004 - from version 3 on, numbers are long
        number, _, kind = struct.unpack_from(form, data, at + 4)
        items.kinds[number] = kind


def _read_links(items: Items, data: bytes, start: int, end: int) -> None:
    form, size = ("I", 4) if data[start] else ("H", 2)
    for link, at, _ in boxes(data, start + 4, end):
        if link in {b"dimg", b"auxl"}:
            source, count = struct.unpack_from(f">{form}H", data, at)
            targets = struct.unpack_from(f">{count}{form}", data, at + size + 2)
            if link == b"dimg":
                items.parts.setdefault(source, []).extend(targets)
            else:
                for target in set(targets):
                    items.extras.setdefault(target, []).append(source)


def _read_sizes(items: Items, data: bytes, start: int, end: int) -> None:
    sizes: list[int] = []
    for kind, at, stop in boxes(data, start, end):
        if kind == b"ipco":
            for name, place, _ in boxes(data, at, stop):
                width, height = struct.unpack_from(">2I", data, place + 4) if name == b"ispe" else (0, 0)
                sizes.append(width * height)
    for kind, at, _ in boxes(data, start, end):
        if kind == b"ipma":
            for item, index in _properties(data, at):
                if 0 < index <= len(sizes):
                    items.pixels[item] = max(items.pixels.get(item, 0), sizes[index - 1])


def _properties(data: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Yields each item with the number of each of its properties. Numbers begin at 1."""
    number, size = (">I", 4) if data[at] else (">H", 2)
    index, mask, wide = (">H", 0x7FFF, 2) if data[at + 3] & _LONG_INDEX else (">B", 0x7F, 1)
    (items,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    pairs = 0
    for _ in range(items):
        (item,) = struct.unpack_from(number, data, at)
        count = data[at + size]
        at += size + 1
        check_blocks(pairs := pairs + 1 + count, "properties of items")
        for place in range(at, at + count * wide, wide):
            yield item, struct.unpack_from(index, data, place)[0] & mask
        at += count * wide


_READERS = {b"pitm": _read_primary, b"iinf": _read_kinds, b"iref": _read_links, b"iprp": _read_sizes}
