"""BMP, by Pillow."""

import io

from PIL.BmpImagePlugin import BmpImageFile

from worker.errors import ImageError, Reason
from worker.images.header import Header

_RUN_LENGTHS = {1, 2}
_LONGEST_RUNS = 16 * 2**20
"""Bytes. Pillow reads runs in Python, at about 250 ns a byte."""


def open_bmp(data: bytes, max_pixels: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Raises what Pillow raises for broken files, and ImageError for what would take it long."""
    if int.from_bytes(data[30:34], "little") in _RUN_LENGTHS and len(data) > _LONGEST_RUNS:
        raise ImageError(Reason.UNSUPPORTED_FORMAT, f"a run-length encoded BMP of more than {_LONGEST_RUNS} bytes")
    return Header(BmpImageFile(io.BytesIO(data)))
