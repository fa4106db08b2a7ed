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
    """How many bytes the copy of the file takes that has no metadata. `image` reads from this copy. 0 without a copy.
    """
    levels: Levels | None = None
    """What the numbers of a deep grey image mean."""
