"""Opens WebP files: still images, and the first frame of animations.

Pillow reads every WebP with libwebp's decoder of animations, which holds 16 bytes per pixel. imagecodecs calls the
decoder of still images, which is in the same library and gives the same pixels. It needs only 4 bytes per pixel.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
from PIL import Image, ImageFile

from worker.errors import ImageError, Reason
from worker.images.header import Header
from worker.images.limits import check_blocks, check_pixels
from worker.images.orientation import orientation_of

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

_BITSTREAMS = {b"VP8 ", b"VP8L"}
_ANIMATED = 0x02
_ALPHA = 0x10
_EXIF, _XMP = 0x08, 0x04
_FRAME_HEADER = 16  # bytes


@dataclass
class _Contents:
    """What is read of a file. `size`: the size of the canvas. `place`: where the frame is on the canvas."""

    size: tuple[int, int] = (0, 0)
    place: tuple[int, int] = (0, 0)
    frame_size: tuple[int, int] = (0, 0)
    parts: list[tuple[bytes, memoryview]] = field(default_factory=list)
    """The kinds and bodies of the chunks that hold alpha and colour."""
    exif: bytes = b""
    xmp: bytes = b""

    @property
    def is_whole(self) -> bool:
        """Whether the frame covers the whole canvas."""
        return self.place == (0, 0) and self.frame_size == self.size


class WebPFile(ImageFile.ImageFile):
    """A WebP as an image of Pillow's, in mode RGBX. The fourth byte means nothing."""

    format = "WEBP"
    format_description = "WebP"
    contents: _Contents

    def _open(self) -> None:
        self.contents = _read(memoryview(self.fp.read() if self.fp else b""))
        self._mode, self._size = "RGBX", self.contents.size

    def load(self) -> "PixelAccess | None":
        """Decodes at the first call."""
        if self._im is None:
            width, height = self.contents.frame_size
            pixels = np.empty((height, width, 4), dtype=np.uint8)
            imagecodecs.webp_decode(_file_of(self.contents), hasalpha=True, out=pixels)
            frame = Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1)
            if not self.contents.is_whole:
                canvas = Image.new("RGBX", self.size)
                canvas.paste(frame, self.contents.place)
                frame = canvas
            self.im = frame.im
        return Image.Image.load(self)


def open_webp(data: bytes, max_pixels: int) -> Header:
    """Opens a WebP file without its metadata. Raises ImageError, and what Pillow and imagecodecs raise for broken
    files.
    """
    image = WebPFile(io.BytesIO(data))
    contents = image.contents
    (left, top), (wide, high) = contents.place, contents.frame_size
    check_pixels(wide * high, max_pixels, f"a frame of {wide} x {high} pixels")
    if left + wide > contents.size[0] or top + high > contents.size[1]:
        raise ImageError(Reason.CORRUPT, "the first frame lies outside its canvas")
    return Header(image, orientation_of(contents.exif, contents.xmp), sum(len(body) for _, body in contents.parts))


def _read(data: memoryview) -> _Contents:
    found = _Contents()
    flags = 0
    for kind, body in chunks(data, 12):
        if kind == b"VP8X" and len(body) >= 10:  # noqa: PLR2004 - flags and the canvas
            found.size = found.frame_size = _size(body, 4)
            flags = body[0]
        elif kind == b"EXIF" and flags & _EXIF:
            found.exif = found.exif or bytes(body)
        elif kind == b"XMP " and flags & _XMP:
            found.xmp = found.xmp or bytes(body)
        elif kind == b"ANMF" and flags & _ANIMATED and not found.parts:
            left, top = (int.from_bytes(body[at : at + 3], "little") * 2 for at in (0, 3))
            found.place, found.frame_size = (left, top), _size(body, 6)
            found.parts = _parts(body, _FRAME_HEADER)
    found.parts = found.parts or _parts(data, 12)
    if not any(kind in _BITSTREAMS for kind, _ in found.parts):
        raise ImageError(Reason.CORRUPT, "the file has no pixels")
    if found.size == (0, 0):
        found.size = found.frame_size = _size_of_bitstream(*found.parts[-1])
    return found


def _parts(data: memoryview, at: int) -> list[tuple[bytes, memoryview]]:
    """Returns the chunks that are decoded: the first with alpha, and the first with colour."""
    parts: list[tuple[bytes, memoryview]] = []
    for kind, body in chunks(data, at):
        if kind == b"ALPH" and not parts:
            parts.append((kind, body))
        elif kind in _BITSTREAMS:
            return [*parts, (kind, body)]
    return parts


def chunks(data: memoryview, at: int) -> Iterator[tuple[bytes, memoryview]]:
    """Yields the kind and the body of each chunk. The last body may be cut off."""
    number = 0
    while at + 8 <= len(data):
        check_blocks(number := number + 1, "chunks")
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _size(body: memoryview, at: int) -> tuple[int, int]:
    return (
        1 + int.from_bytes(body[at : at + 3], "little"),
        1 + int.from_bytes(body[at + 3 : at + 6], "little"),
    )


def _size_of_bitstream(kind: bytes, body: memoryview) -> tuple[int, int]:
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<2H", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _file_of(contents: _Contents) -> bytes:
    """Returns a still WebP file of one frame, which holds only the chunks that are decoded."""
    parts: list[tuple[bytes, bytes | memoryview]] = list(contents.parts)
    if parts[0][0] == b"ALPH":
        width, height = contents.frame_size
        sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        parts = [(b"VP8X", bytes([_ALPHA, 0, 0, 0]) + sizes), *parts]
    pieces: list[bytes | memoryview] = [b"WEBP"]
    for kind, body in parts:
        pieces += [kind, struct.pack("<I", len(body)), body, bytes(len(body) % 2)]
    return b"".join([b"RIFF", struct.pack("<I", sum(map(len, pieces))), *pieces])
