"""BMP, by Pillow."""

import io

from PIL.BmpImagePlugin import BmpImageFile

from worker.images.header import Header


def open_bmp(data: bytes, max_pixels: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Raises what Pillow raises for broken files."""
    return Header(BmpImageFile(io.BytesIO(data)))
