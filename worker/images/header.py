"""Header: what is known of a file that is opened but not decoded yet."""

from dataclasses import dataclass

from PIL import ImageFile

from worker.images.grey import Levels


@dataclass
class Header:
    """What is known of a file before its pixels are decoded."""

    image: ImageFile.ImageFile
    """Pillow's image; its load() decodes the pixels. It sees no metadata. The orientation was read before."""
    orientation: int = 1
    """How the pixels must be turned: 1 to 8, as in EXIF. 1 if the file does not say it."""
    copied: int = 0
    """The size in bytes of a copy of the file without metadata, from which `image` reads. 0 if there is no copy."""
    levels: Levels | None = None
    """What the numbers of a deep grey image mean."""
