"""TIFF files and EXIF blocks, written byte by byte: tags of any type, and layouts that Pillow does not write."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

SHORT, LONG = 3, 4
_CODES = {1: "B", 2: "B", SHORT: "H", LONG: "I", 5: "II", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}


@dataclass(frozen=True)
class Tag:
    """An entry of a directory.

    `values` are packed as its type requires. `count` may be another number than they have.
    """

    tag: int
    kind: int
    values: Sequence[float]
    count: int | None = None

    def packed(self, order: str) -> bytes:
        """Returns the bytes of the values."""
        return b"".join(struct.pack(order + _CODES[self.kind][:1], value) for value in self.values)

    def counted(self) -> int:
        """Returns how many values the entry claims."""
        return self.count if self.count is not None else len(self.values) // len(_CODES[self.kind])


def directory(at: int, tags: Sequence[Tag], order: str = "<", next_at: int = 0) -> bytes:
    """Returns a directory at offset `at`. Values that do not fit into its entries follow it."""
    behind = at + 2 + 12 * len(tags) + 4
    entries, far = b"", b""
    for tag in tags:
        packed = tag.packed(order)
        place = packed.ljust(4, b"\x00")
        if len(packed) > 4:
            place = struct.pack(order + "I", behind + len(far))
            far += packed + bytes(len(packed) % 2)
        entries += struct.pack(order + "HHI", tag.tag, tag.kind, tag.counted()) + place
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", next_at) + far


def header(order: str = "<") -> bytes:
    """Returns the first eight bytes. The first directory is at 8."""
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)


def exif(*tags: Tag, order: str = "<") -> bytes:
    """Returns an EXIF block, as the APP1 segment of a JPEG has it."""
    return b"Exif\x00\x00" + header(order) + directory(8, tags, order)


def grey_tiff(
    size: tuple[int, int],
    bits: int,
    pixels: bytes,
    *,
    photometric: int = 1,
    sample_format: int = 1,
    order: str = "<",
    compression: int = 1,
    more: Sequence[Tag] = (),
) -> bytes:
    """Returns a TIFF with one sample per pixel, in one strip."""
    length = len(directory(8, _grey_tags(size, bits, photometric, sample_format, compression, (0, 0), more), order))
    tags = _grey_tags(size, bits, photometric, sample_format, compression, (8 + length, len(pixels)), more)
    return header(order) + directory(8, tags, order) + pixels


def _grey_tags(
    size: tuple[int, int],
    bits: int,
    photometric: int,
    sample_format: int,
    compression: int,
    strip: tuple[int, int],
    more: Sequence[Tag],
) -> list[Tag]:
    width, height = size
    tags = [
        Tag(256, LONG, [width]), Tag(257, LONG, [height]), Tag(258, SHORT, [bits]), Tag(259, SHORT, [compression]),
        Tag(262, SHORT, [photometric]), Tag(273, LONG, [strip[0]]), Tag(277, SHORT, [1]), Tag(278, LONG, [height]),
        Tag(279, LONG, [strip[1]]), Tag(339, SHORT, [sample_format]),
    ]  # fmt: skip
    return sorted([*tags, *more], key=lambda tag: tag.tag)
