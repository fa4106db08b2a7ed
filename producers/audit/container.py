"""The zip of a package. Its bytes follow from the names and the content of its entries, and from nothing else.

So `verify` knows each byte that must be there: there is no room for other entries, comments or gaps. Entries are
stored without compression, so no package becomes larger when it is read. Sizes and offsets are always those of ZIP64.
Source: APPNOTE.TXT 6.3.10 of PKWARE, sections 4.3.7 to 4.3.16 and 4.5.3.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CHUNK = 1 << 20
VERSION = 45
"""The version of the zip format that has ZIP64."""
UNIX = 3
FIRST_DAY = 0x0021
"""1980-01-01, the first day that a zip can name."""
ATTRIBUTES = 0o100644 << 16
IN_EXTRA = 0xFFFFFFFF
"""Says that the number is in the ZIP64 field."""

LOCAL = struct.Struct("<4s5H3I2H")
LOCAL_EXTRA = struct.Struct("<2H2Q")
CENTRAL = struct.Struct("<4s6H3I5H2I")
CENTRAL_EXTRA = struct.Struct("<2H3Q")
END64 = struct.Struct("<4sQ2H2I4Q")
LOCATOR = struct.Struct("<4sIQI")
END = struct.Struct("<4s4H2IH")


@dataclass(frozen=True)
class Entry:
    """An entry of the zip. `offset` is the byte at which its header begins."""

    name: str
    size: int
    crc: int
    offset: int

    @property
    def data(self) -> int:
        """The byte at which its content begins."""
        return self.offset + header_size(self.name)

    @property
    def end(self) -> int:
        """The byte after its content."""
        return self.data + self.size


def header_size(name: str) -> int:
    """Returns how many bytes the header before an entry has."""
    return LOCAL.size + len(name.encode()) + LOCAL_EXTRA.size


def header(name: str, size: int, crc: int) -> bytes:
    """Returns the header before an entry."""
    encoded = name.encode()
    fixed = LOCAL.pack(
        b"PK\3\4", VERSION, 0, 0, 0, FIRST_DAY, crc, IN_EXTRA, IN_EXTRA, len(encoded), LOCAL_EXTRA.size
    )  # fmt: skip
    return fixed + encoded + LOCAL_EXTRA.pack(1, LOCAL_EXTRA.size - 4, size, size)


def parsed_header(read: bytes) -> tuple[str, int] | None:
    """Returns the name and the size that a header says, or None if there is none at the beginning of these bytes."""
    if len(read) < LOCAL.size or not read.startswith(b"PK\3\4"):
        return None
    name_size = LOCAL.unpack_from(read)[9]
    name, extra = read[LOCAL.size : LOCAL.size + name_size], read[LOCAL.size + name_size :]
    if len(extra) < LOCAL_EXTRA.size:
        return None
    kind, length, size, _ = LOCAL_EXTRA.unpack_from(extra)
    return (name.decode("utf-8", "replace"), size) if (kind, length) == (1, LOCAL_EXTRA.size - 4) else None


def directory(entries: Sequence[Entry]) -> bytes:
    """Returns what follows the last entry: the central directory and the records that end the zip."""
    start = entries[-1].end
    central = b"".join(_central(entry) for entry in entries)
    count, made_by = len(entries), UNIX << 8 | VERSION
    end64 = END64.pack(
        b"PK\6\6", END64.size - 12, made_by, VERSION, 0, 0, count, count, len(central), start
    )  # fmt: skip
    locator = LOCATOR.pack(b"PK\6\7", 0, start + len(central), 1)
    return central + end64 + locator + END.pack(b"PK\5\6", 0, 0, count, count, IN_EXTRA, IN_EXTRA, 0)


def _central(entry: Entry) -> bytes:
    encoded = entry.name.encode()
    fixed = CENTRAL.pack(
        b"PK\1\2", UNIX << 8 | VERSION, VERSION, 0, 0, 0, FIRST_DAY, entry.crc, IN_EXTRA, IN_EXTRA,
        len(encoded), CENTRAL_EXTRA.size, 0, 0, 0, ATTRIBUTES, IN_EXTRA,
    )  # fmt: skip
    return fixed + encoded + CENTRAL_EXTRA.pack(1, CENTRAL_EXTRA.size - 4, entry.size, entry.size, entry.offset)


def write(members: Iterable[tuple[str, Path]], file: IO[bytes]) -> None:
    """Writes the zip of these files, in this order. Memory holds a chunk of a file. Raises OSError."""
    entries: list[Entry] = []
    for name, path in members:
        crc = 0
        for chunk in chunks(path):
            crc = zlib.crc32(chunk, crc)
        entry = Entry(name, path.stat().st_size, crc, entries[-1].end if entries else 0)
        file.write(header(name, entry.size, crc))
        file.writelines(chunks(path))
        entries.append(entry)
    file.write(directory(entries))


def chunks(path: Path) -> Iterator[bytes]:
    """Yields the content of a file in pieces of bounded size."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
