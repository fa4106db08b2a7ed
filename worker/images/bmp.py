"""Opens BMP files, with Pillow's decoder."""

import io

from PIL.BmpImagePlugin import BmpImageFile

from worker.errors import ImageError, Reason
from worker.images.header import Header

_RUN_LENGTHS = {1, 2}
_LONGEST_RUNS = 16 * 2**20
"""Bytes of a file with run lengths. Pillow reads runs in Python, at about 250 ns per byte."""
_MOST_PIXELS = 10_000_000
"""Pixels of a file with run lengths. Pillow writes them in Python too, at up to 280 ns per pixel. A few bytes may stand
for many pixels.
"""
_LONG_HEADER = 40
"""Bytes. A shorter header does not name a compression."""


def open_bmp(data: bytes, max_pixels: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Opens a BMP file. Raises what Pillow raises for broken files, and ImageError for files that would take long."""
    has_runs = int.from_bytes(data[14:18], "little") >= _LONG_HEADER and (
        int.from_bytes(data[30:34], "little") in _RUN_LENGTHS
    )
    width, height = (abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))
    if has_runs and (len(data) > _LONGEST_RUNS or width * height > _MOST_PIXELS):
        raise ImageError(
            Reason.UNSUPPORTED_FORMAT,
            f"a run-length encoded BMP of {width} x {height} pixels and {len(data)} bytes; the limits are "
            f"{_MOST_PIXELS} pixels and {_LONGEST_RUNS} bytes",
        )
    return Header(BmpImageFile(io.BytesIO(data)))
