"""A file that is opened and not decoded yet."""

from dataclasses import dataclass

from PIL import ImageFile

from worker.images.grey import Levels


@dataclass
class Header:
    """What is known of a file before its pixels are decoded."""

    image: ImageFile.ImageFile
    """Pillow's image, which load() decodes. It sees no metadata: of those, only the orientation is read, beforehand."""
    orientation: int = 1
    """How the pixels must be turned, 1 to 8 as EXIF counts; 1 when nothing says so."""
    copied: int = 0
    """Bytes of a copy of the file without its metadata, which `image` reads from."""
    levels: Levels | None = None
    """What the numbers of a deep grey image mean."""
