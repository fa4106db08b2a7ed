"""decode(bytes) -> the square RGB image that the detector sees. Every limit is checked on the way."""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from worker.errors import ImageError, Reason
from worker.images.avif import open_avif
from worker.images.bmp import open_bmp
from worker.images.formats import format_of
from worker.images.gif import open_gif
from worker.images.grey import is_deep, to_8_bit
from worker.images.header import Header
from worker.images.heif import open_heif
from worker.images.jpeg import open_jpeg, reduce_jpeg
from worker.images.limits import DEFAULT_LIMITS, SizeLimits, check_size
from worker.images.orientation import is_on_its_side, upright
from worker.images.png import open_png
from worker.images.preprocessing import EDGE, Decoding, Fit
from worker.images.square import to_square
from worker.images.tiff import open_tiff
from worker.images.webp import open_webp

_OPENERS: dict[str, Callable[[bytes, int], Header]] = {
    "JPEG": open_jpeg, "PNG": open_png, "WEBP": open_webp, "GIF": open_gif, "BMP": open_bmp, "TIFF": open_tiff,
    "AVIF": open_avif, "HEIF": open_heif,
}  # fmt: skip
_NOT_READ = ("unsupported", "not supported", "not yet supported", "cannot handle", "unknown pixel mode", "unknown data",
             "unknown raw mode", "has not been built in")  # fmt: skip
"""Found in the errors of decoders for intact files that they do not support."""


@dataclass(frozen=True)
class Opened:
    """An upright 8-bit image, in mode RGB or RGBX. In RGBX, the fourth byte means nothing.

    `size` is the (width, height) of the file's image, in pixels. `pixels` may be decoded smaller.
    """

    pixels: Image.Image
    size: tuple[int, int]


def decode(
    data: bytes,
    *,
    edge: int = EDGE,
    fit: Fit = Fit.CROP,
    decoding: Decoding = Decoding.FULL,
    limits: SizeLimits = DEFAULT_LIMITS,
) -> Image.Image:
    """Returns the upright image in `data` as `edge` x `edge` RGB.

    Raises ImageError with empty, not_an_image, unsupported_format, too_many_pixels, too_small or corrupt.
    """
    opened = open_for(data, edge=edge, decoding=decoding, limits=limits)
    return to_square(opened.pixels, edge=edge, fit=fit, max_pixels=limits.max_pixels)


def open_image(data: bytes, *, limits: SizeLimits = DEFAULT_LIMITS) -> Image.Image:
    """Returns the image in `data` in full size: the first frame, upright, 8-bit RGB. Raises like decode()."""
    pixels = open_for(data, limits=limits).pixels
    return pixels if pixels.mode == "RGB" else pixels.convert("RGB")


def open_for(
    data: bytes,
    *,
    edge: int = EDGE,
    decoding: Decoding = Decoding.FULL,
    limits: SizeLimits = DEFAULT_LIMITS,
) -> Opened:
    """Returns the upright image in `data`, in RGB or RGBX, as large as to_square() needs it. Raises like decode()."""
    with opened_header(data, limits=limits) as header:
        image = header.image
        width, height = image.size
        reduce_jpeg(image, edge=edge, decoding=decoding)
        is_reduced = image.size != (width, height)
        image.load()
        turned = upright(image, header.orientation)
        if turned is not image:
            image.close()  # releases its pixels, so that they do not take memory together with those of the RGB image
        pixels = _to_rgb(turned, header)
    if is_reduced:
        return Opened(pixels, (height, width) if is_on_its_side(header.orientation) else (width, height))
    return Opened(pixels, pixels.size)


@contextmanager
def opened_header(data: bytes, *, limits: SizeLimits = DEFAULT_LIMITS) -> Iterator[Header]:
    """Gives the file's header, before any pixel is decoded. The caller decodes the image in the body of the `with`.

    Raises like decode(). Errors of decoders in the body become an ImageError too.
    """
    if not data:
        raise ImageError(Reason.EMPTY, "the object has no bytes")
    form = format_of(data)
    try:
        header = _OPENERS[form](data, limits.max_pixels)
        with header.image as image:
            check_size(image.width, image.height, limits)
            yield header
    except Image.DecompressionBombError as error:
        raise ImageError(Reason.TOO_MANY_PIXELS, str(error)) from None
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, RuntimeError,
            AttributeError, AssertionError, struct.error, zlib.error, MemoryError) as error:  # fmt: skip
        # Decoders raise all of these errors for broken files. The bytes are the cause, not this code.
        said = f"{form}, {type(error).__name__}: {error}"[:300]
        is_intact = any(words in str(error).lower() for words in _NOT_READ)
        raise ImageError(Reason.UNSUPPORTED_FORMAT if is_intact else Reason.CORRUPT, said) from None


def _to_rgb(image: Image.Image, header: Header) -> Image.Image:
    if is_deep(image.mode) or header.levels:
        deep, image = image, to_8_bit(image, header.levels)
        deep.close()
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    return image if image.mode in {"RGB", "RGBX"} else image.convert("RGB")
