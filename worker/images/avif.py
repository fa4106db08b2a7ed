"""AVIF, by Pillow's own decoder."""

import io

from PIL import ExifTags
from PIL.AvifImagePlugin import AvifImageFile

from worker.images.boxes import without_descriptions
from worker.images.header import Header


def open_avif(data: bytes, max_pixels: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Raises what Pillow raises for broken files."""
    try:
        return _opened(data)
    except (SyntaxError, ValueError, TypeError, LookupError, OSError, ArithmeticError, AttributeError):
        # Pillow writes the EXIF anew when the file says another orientation, which fails on tags of unexpected types.
        bare = without_descriptions(data)
        header = _opened(bare)
        header.copied += len(bare)
        return header


def _opened(data: bytes) -> Header:
    image = AvifImageFile(io.BytesIO(data))
    said = image.getexif().get(ExifTags.Base.Orientation)
    return Header(image, said if isinstance(said, int) and said in range(1, 9) else 1)
