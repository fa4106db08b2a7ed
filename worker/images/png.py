"""Opens PNG files, with only the chunks that decide the pixels.

Text, profiles, times and the later frames of an animation are left out.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL.PngImagePlugin import PngImageFile

from worker.errors import ImageError, Reason
from worker.images.header import Header
from worker.images.limits import check_blocks
from worker.images.orientation import orientation_of

_SIGNATURE = 8  # bytes
_CRC = 4  # bytes
_KIND = re.compile(rb"\w{4}")
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_EXIF_TEXT, _RAW_EXIF, _XMP = b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp"
_TEXT = 2**20
"""How many bytes of an unpacked text are read."""
_PALETTE_TYPE = 3
_PIECE = 200
"""Bytes that Python itself needs for each piece of a file."""


@dataclass
class _Chunks:
    """The chunks of a file that are used. `kept`: the first IHDR and the first PLTE, whole. `pixels`: the IDAT bodies.

    An IHDR or PLTE after the first pixels is not kept, because it would change them. `texts`: the kind and the body of
    each text, by its name.
    """

    kept: list[memoryview] = field(default_factory=list)
    pixels: list[memoryview] = field(default_factory=list)
    exif: bytes = b""
    texts: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)


def open_png(data: bytes, max_pixels: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Opens a PNG file without its metadata. Raises ImageError, and what Pillow raises for broken files."""
    found = _read(data)
    pixels = sum(len(body) for body in found.pixels)
    # One IDAT instead of many. Its checksum is zero and IEND is new, because Pillow does not check them.
    parts: list[bytes | memoryview] = [data[:_SIGNATURE], *found.kept, struct.pack(">I4s", pixels, b"IDAT")]
    parts += [*found.pixels, bytes(_CRC), struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))]
    bare = b"".join(parts)
    copied = len(bare) + _PIECE * len(found.pixels)
    return Header(PngImageFile(io.BytesIO(bare)), _orientation(found), copied)


def _read(data: bytes) -> _Chunks:
    found, view, colour_type = _Chunks(), memoryview(data), None
    for kind, at, end in chunks(data):
        if kind == b"CgBI":
            raise ImageError(Reason.UNSUPPORTED_FORMAT, "a PNG in the form that only Apple's devices read")
        if kind == b"IDAT":
            found.pixels.append(view[at:end])
        elif kind == b"IHDR" and not (found.kept or found.pixels):
            colour_type = data[at + 9] if at + 9 < end else None
            found.kept.append(view[at - 8 : end + _CRC])
        elif kind == b"PLTE" and colour_type == _PALETTE_TYPE and not (len(found.kept) > 1 or found.pixels):
            found.kept.append(view[at - 8 : end + _CRC])
        elif kind == b"eXIf":
            found.exif = data[at:end]
        elif kind in _TEXTS:
            name = bytes(view[at : min(at + 80, end)]).partition(b"\x00")[0]
            if name in {_EXIF_TEXT, _RAW_EXIF, _XMP}:
                found.texts[name] = (kind, data[at + len(name) + 1 : end])
    return found


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind of each chunk before IEND, and the start and the end of its body. The last one may be cut off."""
    at, number = _SIGNATURE, 0
    while at + 8 <= len(data):
        check_blocks(number := number + 1, "chunks")
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND" or not _KIND.fullmatch(kind):
            return
        yield kind, at + 8, min(at + 8 + length, len(data))
        at += 8 + length + _CRC


def texts_and_exif(data: bytes) -> tuple[dict[str, str], bytes]:
    """Returns all texts of a PNG by their names, wherever they are in the file, and its EXIF.

    1 MiB of an unpacked text is read. Raises ImageError if there are too many chunks.
    """
    texts: dict[str, str] = {}
    exif = b""
    for kind, at, end in chunks(data):
        if kind == b"eXIf":
            exif = data[at:end]
        elif kind in _TEXTS:
            name, _, body = data[at:end].partition(b"\x00")
            encoding = "utf-8" if kind == b"iTXt" else "latin-1"
            texts.setdefault(name.decode("latin-1"), _unpacked(kind, body).decode(encoding, "replace"))
    return texts, exif


def _orientation(chunks: _Chunks) -> int:
    exif = chunks.exif
    kind, body = chunks.texts.get(_EXIF_TEXT, (b"", b""))
    if not exif and kind == b"tEXt":
        exif = body
    if not exif and _RAW_EXIF in chunks.texts:
        exif = _unhex(_unpacked(*chunks.texts[_RAW_EXIF]))
    return orientation_of(exif, _unpacked(*chunks.texts[_XMP]) if _XMP in chunks.texts else b"")


def _unpacked(kind: bytes, body: bytes) -> bytes:
    """Returns the text in a chunk's body, unpacked. Returns no bytes if it is broken."""
    is_packed = kind == b"zTXt"
    if kind == b"zTXt":
        body = body[1:]
    elif kind == b"iTXt":
        is_packed = body[:1] != b"\x00"
        body = body[2:].partition(b"\x00")[2].partition(b"\x00")[2]
    try:
        return zlib.decompressobj().decompress(body, _TEXT) if is_packed else body[:_TEXT]
    except zlib.error:
        return b""


def _unhex(text: bytes) -> bytes:
    """Returns the EXIF that ImageMagick writes as text: a line `exif`, a line with the length, and hex digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""
