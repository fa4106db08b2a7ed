"""Opens GIF files: the first frame, without the comments and other extensions before it."""

import io
import struct

from PIL.GifImagePlugin import GifImageFile

from worker.errors import ImageError, Reason
from worker.images.header import Header
from worker.images.limits import check_blocks

_SCREEN = 13  # bytes
_EXTENSION, _FRAME, _CONTROL = 0x21, 0x2C, 0xF9
_HAS_PALETTE = 0x80
_FRAME_SIZES = 9  # bytes
_LARGEST = 0xFFFF


def open_gif(data: bytes, max_pixels: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Opens a GIF file. Raises what Pillow raises for broken files, and ImageError for a file of too many blocks."""
    flags = data[10] if len(data) > _SCREEN else 0
    start = at = _SCREEN + (3 * (2 << (flags & 7)) if flags & _HAS_PALETTE else 0)
    control = b""
    blocks = 0
    while at + 1 < len(data) and data[at] != _FRAME and data[at] != ord(";"):
        end = at + 1
        if data[at] == _EXTENSION:
            end += 1
            while end < len(data) and data[end]:
                end += 1 + data[end]
                check_blocks(blocks := blocks + 1, "blocks before the first frame")
            end += 1
            if data[at + 1] == _CONTROL:
                control = data[at:end]
        check_blocks(blocks := blocks + 1, "blocks before the first frame")
        at = end
    bare = b"".join([_with_screen(data, at), data[_SCREEN:start], control, memoryview(data)[at:]])
    return Header(GifImageFile(io.BytesIO(bare)), copied=len(bare))


def _with_screen(data: bytes, at: int) -> bytes:
    """Returns the file's first bytes, with a screen that is large enough for the first frame, which begins at `at`.

    Pillow also enlarges the screen, but it refuses sizes above a limit of its own.
    """
    if at + _FRAME_SIZES > len(data) or data[at] != _FRAME:
        return data[:_SCREEN]
    left, top, width, height = struct.unpack_from("<4H", data, at + 1)
    wide, high = struct.unpack_from("<2H", data, 6)
    wide, high = max(wide, left + width), max(high, top + height)
    if max(wide, high) > _LARGEST:
        raise ImageError(Reason.CORRUPT, "the first frame lies outside the largest screen of a GIF")
    return data[:6] + struct.pack("<2H", wide, high) + data[10:_SCREEN]
