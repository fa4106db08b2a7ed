"""HEIC and HEIF, by libheif. It turns the picture itself; EXIF says nothing in this format."""

import io
from typing import TYPE_CHECKING, Any

import pillow_heif
from PIL import Image, ImageFile

from worker.errors import ImageError, Reason
from worker.images.boxes import has_meta, without_descriptions
from worker.images.header import Header

if TYPE_CHECKING:
    from PIL._imaging import PixelAccess

_HEVC = b"hvc1"


class HeifFile(ImageFile.ImageFile):
    """The primary image for Pillow, in 8 bits: RGB, RGBa (premultiplied) or L."""

    format = "HEIF"
    format_description = "HEIF"
    primary: Any
    channels: int
    """Samples a pixel, with alpha."""

    def _open(self) -> None:
        data = self.fp.read() if self.fp else b""
        opened = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
        if not len(opened):
            is_broken = _HEVC in data[: 2**16]
            reason = Reason.CORRUPT if is_broken else Reason.UNSUPPORTED_FORMAT
            raise ImageError(reason, "no image in the file can be read")
        self.primary = opened[opened.primary_index]
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


def open_heif(data: bytes, max_pixels: int) -> Header:  # noqa: ARG001 - one signature for all formats
    """Raises ImageError, and what pillow_heif raises for broken files."""
    if has_meta(data) is False:
        raise ImageError(Reason.UNSUPPORTED_FORMAT, "a sequence without a still image, or an empty HEIF file")
    bare = without_descriptions(data)
    return Header(HeifFile(io.BytesIO(bare)), copied=0 if bare is data else len(bare))
