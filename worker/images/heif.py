"""Opens HEIC and HEIF files, with libheif. libheif turns the picture. In this format, EXIF does not count for that."""

import io
from typing import TYPE_CHECKING, Any

import pillow_heif
from PIL import Image, ImageFile

from worker.errors import ImageError, Reason
from worker.images.boxes import has_meta, without_descriptions
from worker.images.header import Header
from worker.images.items import DERIVED, read_items

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

_READ = {b"hvc1", *DERIVED}
_TILES = 2
"""How many tiles' pixels are counted in addition to the image.

libheif decodes up to 4 tiles at a time and holds their planes. The planes of a tile take a sixth to a third of the
memory that an image of this size takes in all.
"""


class HeifFile(ImageFile.ImageFile):
    """The primary image of a file, as an image of Pillow's with 8 bits: RGB, RGBa (premultiplied) or L."""

    format = "HEIF"
    format_description = "HEIF"
    primary: Any
    channels: int
    """Samples per pixel, including alpha."""
    decoded: int = 0
    """Pixels that libheif holds in addition to those of the image: those of its tiles, or of the larger image that it
    is cut from.
    """

    def _open(self) -> None:
        data = self.fp.read() if self.fp else b""
        opened = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
        self.primary = next((one for one in opened if one.info["primary"]), None)
        # libheif leaves out images that it cannot read, and pillow_heif would then take another image as the primary.
        if self.primary is None:
            kind = read_items(data).kind
            reason = Reason.CORRUPT if kind in _READ else Reason.UNSUPPORTED_FORMAT
            raise ImageError(reason, f"the primary image, of type {kind!r}, cannot be read")
        self._size = self.primary.size
        self.channels = len(self.primary.mode)
        self._mode = "RGB" if self.primary.mode == "RGBA" else self.primary.mode

    def load(self) -> "PixelAccess | None":
        """Decodes at the first call."""
        if self._im is None:
            pixels = self.primary.data
            self._size = self.primary.size  # after decoding it may differ from what the header said
            form = "RGBX" if self.primary.mode == "RGBA" else self.primary.mode
            self.im = Image.frombytes(self.mode, self._size, pixels, "raw", form, self.primary.stride, 1).im
            self.primary = None
        return Image.Image.load(self)


def open_heif(data: bytes, max_pixels: int) -> Header:
    """Opens a HEIF file without its metadata. Raises ImageError, and what pillow_heif raises for broken files."""
    if has_meta(data) is False:
        raise ImageError(Reason.UNSUPPORTED_FORMAT, "a HEIF file without a still image")
    items = read_items(data)
    largest = items.check(max_pixels)
    bare = without_descriptions(data)
    image = HeifFile(io.BytesIO(bare))
    image.decoded = _TILES * largest if items.parts else max(0, largest - image.width * image.height)
    return Header(image, copied=0 if bare is data else len(bare))
