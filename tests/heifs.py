"""HEIF files written byte by byte: items of any type, size and reference, also those that no encoder writes."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import pillow_heif
from PIL import Image

from worker.images.boxes import boxes


@dataclass
class Item:
    """An item: its type, its bytes, and its properties, each as a pair of kind and body."""

    kind: bytes
    body: bytes
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def full(kind: bytes, body: bytes, version: int = 0) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]) + body)


def ispe(width: int, height: int) -> tuple[bytes, bytes]:
    return b"ispe", struct.pack(">4x2I", width, height)


def coded(width: int, height: int, says: tuple[int, int] | None = None) -> Item:
    """Returns a red image as an item of HEVC. `says`: another size than its own, which the item states."""
    target = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (width, height), "red")).save(target, quality=50)
    data = target.getvalue()
    meta = next((start + 4, end) for kind, start, end in boxes(data, 0, len(data)) if kind == b"meta")
    config = data.index(b"hvcC")
    length = int.from_bytes(data[config - 4 : config])
    body = next(data[start:end] for kind, start, end in boxes(data, meta[1], len(data)) if kind == b"mdat")
    return Item(b"hvc1", body, [(b"hvcC", data[config + 4 : config - 4 + length]), ispe(*(says or (width, height)))])


def grid(rows: int, columns: int, width: int, height: int) -> Item:
    body = bytes([0, 1, rows - 1, columns - 1]) + struct.pack(">2I", width, height)
    return Item(b"grid", body, [ispe(width, height)])


def heif(items: Sequence[Item], links: Sequence[tuple[bytes, int, Sequence[int]]] = (), primary: int = 1) -> bytes:
    """Returns the file.

    Items are numbered from 1. A link is its kind, the number of its source, and the numbers it refers to.
    """
    properties = [one for item in items for one in item.properties]
    used, owned = 0, b""
    for number, item in enumerate(items, 1):
        own = range(used + 1, used + 1 + len(item.properties))
        used += len(item.properties)
        owned += struct.pack(">HB", number, len(own)) + bytes(own)
    info = b"".join(full(b"infe", struct.pack(">2H4sx", n, 0, item.kind), 2) for n, item in enumerate(items, 1))
    refs = b"".join(
        box(kind, struct.pack(f">2H{len(named)}H", source, len(named), *named)) for kind, source, named in links
    )
    rest = full(b"iinf", struct.pack(">H", len(items)) + info) + box(
        b"iprp", box(b"ipco", b"".join(box(*one) for one in properties))
        + full(b"ipma", struct.pack(">I", len(items)) + owned),
    ) + (full(b"iref", refs) if refs else b"")  # fmt: skip
    begin = box(b"ftyp", b"heic\x00\x00\x00\x00mif1heic")
    at = len(begin) + 12 + 33 + 14 + 16 + 14 * len(items) + len(rest) + 8
    places = b""
    for number, item in enumerate(items, 1):
        places += struct.pack(">3H2I", number, 0, 1, at, len(item.body))
        at += len(item.body)
    head = full(b"hdlr", b"\x00\x00\x00\x00pict" + bytes(13)) + full(b"pitm", struct.pack(">H", primary))
    iloc = full(b"iloc", b"\x44\x00" + struct.pack(">H", len(items)) + places)
    return begin + full(b"meta", head + iloc + rest) + box(b"mdat", b"".join(item.body for item in items))
