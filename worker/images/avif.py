"""AVIF, by Pillow's own decoder. The file turns the picture itself; EXIF and XMP say nothing in this format (MIAF)."""

import io

from PIL import ExifTags
from PIL.AvifImagePlugin import AvifImageFile

from worker.images.boxes import without_descriptions
from worker.images.header import Header


def open_avif(data: bytes, max_pixels: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Raises what Pillow raises for broken files."""
    bare = without_descriptions(data)
    image = AvifImageFile(io.BytesIO(bare))
    # Pillow tells in an EXIF of its own how the file turns the picture.
    said = image.getexif().get(ExifTags.Base.Orientation)
    orientation = said if isinstance(said, int) and said in range(1, 9) else 1
    return Header(image, orientation, 0 if bare is data else len(bare))
