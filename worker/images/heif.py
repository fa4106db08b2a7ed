"""HEIC and HEIF, by libheif. It turns the picture itself; EXIF says nothing in this format."""

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
"""libheif decodes up to 4 tiles at a time, and holds their planes: a sixth to a third of what an image takes in all."""


class HeifFile(ImageFile.ImageFile):
    """The primary image for Pillow, in 8 bits: RGB, RGBa (premultiplied) or L."""

    format = "HEIF"
    format_description = "HEIF"
    primary: Any
    channels: int
    """Samples a pixel, with alpha."""
    decoded: int = 0
    """Pixels that libheif holds beside those of the image: of what it is cut out of, or made of."""

    def _open(self) -> None:
        data = self.fp.read() if self.fp else b""
        opened = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
        self.primary = next((one for one in opened if one.info["primary"]), None)
        if self.primary is None:  # libheif leaves out what it cannot read, and then calls another image primary
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
            self._size = self.primary.size  # decoding may show another one
            form = "RGBX" if self.primary.mode == "RGBA" else self.primary.mode
            self.im = Image.frombytes(self.mode, self._size, pixels, "raw", form, self.primary.stride, 1).im
            self.primary = None
        return Image.Image.load(self)


def open_heif(data: bytes, max_pixels: int) -> Header:
    """Raises ImageError, and what pillow_heif raises for broken files."""
    if has_meta(data) is False:
        raise ImageError(Reason.UNSUPPORTED_FORMAT, "a sequence without a still image, or an empty HEIF file")
    items = read_items(data)
    largest = items.check(max_pixels)
    bare = without_descriptions(data)
    image = HeifFile(io.BytesIO(bare))
    image.decoded = _TILES * largest if items.parts else max(0, largest - image.width * image.height)
    return Header(image, copied=0 if bare is data else len(bare))
