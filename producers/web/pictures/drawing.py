"""Makes our own JPEGs of a file: upright, limited in size, without metadata. Decoding has the worker's limits."""

import io
import threading
from dataclasses import dataclass

from PIL import Image

from producers.web.pictures.addresses import Kind
from worker.budget import Budget
from worker.errors import ImageError, Reason
from worker.image_memory import decode_bytes
from worker.images import Decoding, Fit, SizeLimits, open_for, opened_header

SMALL_EDGE = 320
BLURRED_EDGE = 4
"""The longer edge, in pixels, from which a blurred picture is made: fewer than a face or a letter needs."""
_QUALITY, _BLURRED_QUALITY = 90, 60
_RGB = 4
"""Bytes per pixel, as Pillow stores it."""


@dataclass(frozen=True)
class Made:
    """A content in all its forms, each a JPEG."""

    forms: dict[Kind, bytes]

    def size(self) -> int:
        """The size of all forms in bytes."""
        return sum(map(len, self.forms.values()))


class Drawing:
    """Makes pictures, as many at once as there are CPUs, in limited memory.

    `edge` is the longer edge of a clear picture in pixels. `pixels` is the budget for the memory of decoders.
    """

    def __init__(self, edge: int, limits: SizeLimits, pixels: Budget, decoders: int) -> None:
        self._edge, self._limits, self._pixels = edge, limits, pixels
        self._decoders = threading.BoundedSemaphore(decoders)

    def make(self, data: bytes) -> Made:
        """Makes all forms of the image in `data`. Raises ImageError as worker.images.decode does, and
        ShuttingDownError.
        """
        with opened_header(data, limits=self._limits) as header:
            size = header.image.size
        # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is enough. The worker's code takes half of the edge.
        half = -(-min(_fitted(size, self._edge)) // 2)
        needed = decode_bytes(data, edge=half, fit=Fit.STRETCH, decoding=Decoding.REDUCED, limits=self._limits)
        needed += _RGB * self._edge * (2 * self._edge + min(size))
        if needed > (limit := self._pixels.limit(live=True)):
            raise ImageError(
                Reason.TOO_MANY_PIXELS,
                f"decoding needs up to {needed >> 20} MiB, and {limit >> 20} MiB are allowed "
                "(raise FAKESWEEP_WEB_IMAGE_MEMORY_MIB)",
            )
        with self._pixels.take(needed, live=True), self._decoders:
            opened = open_for(data, edge=half, decoding=Decoding.REDUCED, limits=self._limits)
            return forms_of(opened.pixels, _fitted(opened.size, self._edge))


def forms_of(image: Image.Image, size: tuple[int, int]) -> Made:
    """Makes all forms of an upright image (RGB or RGBX). The clear form has this width and height in pixels."""
    clear = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3) if image.size != size else image
    clear = clear if clear.mode == "RGB" else clear.convert("RGB")
    small = clear.resize(_fitted(size, SMALL_EDGE), Image.Resampling.BICUBIC, reducing_gap=2)
    return Made({
        Kind.CLEAR: jpeg(clear, _QUALITY),
        Kind.BLURRED: jpeg(blurred(small, size), _BLURRED_QUALITY),
        Kind.SMALL_BLURRED: jpeg(blurred(small, small.size), _BLURRED_QUALITY),
    })  # fmt: skip


def blurred(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Makes a picture of this size that holds only the mean colours of at most 4 x 4 fields."""
    fields = image.resize(_fitted(image.size, BLURRED_EDGE), Image.Resampling.BOX)
    return fields.resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> bytes:
    """Returns the RGB image as a JPEG that holds nothing but its pixels."""
    image.info.clear()  # otherwise Pillow copies the original's comment
    target = io.BytesIO()
    image.save(target, "JPEG", quality=quality)
    return target.getvalue()


def _fitted(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """Returns width and height with the same proportions and with no edge longer than this. They are never larger
    than before.
    """
    longer = max(size)
    if longer <= edge:
        return size
    width, height = (max(1, round(one * edge / longer)) for one in size)
    return width, height
