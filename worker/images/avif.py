"""Opens AVIF files, with Pillow's decoder.

Properties in the file say how the picture is turned. In this format, EXIF and XMP do not count for that (MIAF).
"""

import io

from PIL import ExifTags
from PIL.AvifImagePlugin import AvifImageFile

from worker.images.boxes import without_descriptions
from worker.images.header import Header


def open_avif(data: bytes, max_pixels: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Opens an AVIF file without its metadata. Raises what Pillow raises for broken files."""
    bare = without_descriptions(data)
    image = AvifImageFile(io.BytesIO(bare))
    # Pillow makes an EXIF block of its own, which says how the file turns the picture.
    said = image.getexif().get(ExifTags.Base.Orientation)
    orientation = said if isinstance(said, int) and said in range(1, 9) else 1
    return Header(image, orientation, 0 if bare is data else len(bare))
