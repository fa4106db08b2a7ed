"""decode(bytes) -> the square RGB image that the detector sees, with every guard on the way.

Resize and crop are those of Hugging Face's CLIPImageProcessor in its Pillow form, bit for bit: the shortest edge to
`edge` with Pillow's bicubic, then the centre crop. FakeVLM was trained and evaluated so (transformers 4.45).
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import filetype
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from worker.errors import ImageError, Reason

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
EDGE = 336
"""Pixels. CLIP ViT-L/14-336's input."""
MAX_PIXELS = 100_000_000

_PIECE = 32_768  # pixels


class Fit(StrEnum):
    """How an image that is not square becomes one."""

    CROP = "crop"  # the shortest edge to `edge`, then the centre: CLIP's way, and FakeVLM's
    PAD = "pad"  # the whole image, with bars in CLIP's mean colour: LLaVA-1.5's own way
    STRETCH = "stretch"  # the whole image, its proportions lost


class Decoding(StrEnum):
    """The size in which a file is decoded, before it becomes a square."""

    FULL = "full"
    REDUCED = "reduced"  # a large JPEG at 1/2, 1/4 or 1/8, which its format allows; every other file in full

    def least(self, edge: int) -> int | None:
        """The smallest width and height that are allowed after decoding, in pixels. None: nothing is reduced.

        Twice the edge: bicubic filtering then still works on more detail than it keeps, and pixels differ from those of
        the full size by about 0.5 of 255.
        """
        return 2 * edge if self is Decoding.REDUCED else None


PREPROCESSING_REVISIONS = {
    (Fit.CROP, Decoding.FULL): "clip-pillow-1",
    (Fit.PAD, Decoding.FULL): "pad-pillow-1",
    (Fit.STRETCH, Decoding.FULL): "stretch-pillow-1",
    (Fit.CROP, Decoding.REDUCED): "clip-pillow-reduced-1",
    (Fit.PAD, Decoding.REDUCED): "pad-pillow-reduced-1",
    (Fit.STRETCH, Decoding.REDUCED): "stretch-pillow-reduced-1",
}
"""Part of a detector's identity: raise one whenever decode() may give another pixel for the same bytes."""

_BARS = (122, 116, 104)
"""CLIP's mean colour (0.481, 0.458, 0.408) in 8 bits, rounded down as LLaVA-1.5 does."""


@dataclass(frozen=True)
class Opened:
    """An upright 8-bit RGB image. `size` is its own (width, height) in pixels; `pixels` may be decoded smaller."""

    pixels: Image.Image
    size: tuple[int, int]


def decode(
    data: bytes,
    *,
    edge: int = EDGE,
    fit: Fit = Fit.CROP,
    decoding: Decoding = Decoding.FULL,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """The upright image in `data` as `edge` x `edge` RGB.

    Raises ImageError with empty, not_an_image, unsupported_format, too_many_pixels or corrupt.
    """
    opened = open_for(data, edge=edge, decoding=decoding, max_pixels=max_pixels)
    return to_square(opened.pixels, edge=edge, fit=fit, max_pixels=max_pixels)


def open_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in `data` in full size: first frame, EXIF orientation applied, 8-bit RGB. Raises like decode()."""
    return open_for(data, max_pixels=max_pixels).pixels


def open_for(
    data: bytes, *, edge: int = EDGE, decoding: Decoding = Decoding.FULL, max_pixels: int = MAX_PIXELS
) -> Opened:
    """The image in `data` as open_image() gives it, in the size that to_square() needs. Raises like decode()."""
    with opened_header(data, max_pixels=max_pixels) as image:
        width, height = image.size
        reduce_jpeg(image, edge=edge, decoding=decoding)
        is_reduced = image.size != (width, height)
        image.load()
        turned = is_reduced and image.getexif().get(ExifTags.Base.Orientation) in {5, 6, 7, 8}
        ImageOps.exif_transpose(image, in_place=True)  # or Pillow copies an image that is upright already
        pixels = _to_rgb(image)
    if is_reduced:
        return Opened(pixels, (height, width) if turned else (width, height))
    return Opened(pixels, pixels.size)


@contextmanager
def opened_header(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The file's header as Pillow reads it, before any pixel is decoded.

    Raises like decode(), also for what Pillow raises in the body: there the image is decoded.
    """
    if not data:
        raise ImageError(Reason.EMPTY, "the object has no bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image.width * image.height, max_pixels, f"{image.width} x {image.height} pixels")
            yield image
    except UnidentifiedImageError:
        raise _not_opened(data) from None
    except Image.DecompressionBombError as error:
        raise ImageError(Reason.TOO_MANY_PIXELS, str(error)) from None
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError,
            ZeroDivisionError, RuntimeError, struct.error, MemoryError) as error:  # fmt: skip
        # Pillow's decoders raise all of these on broken files; the bytes are the cause, not this code.
        raise ImageError(Reason.CORRUPT, f"{type(error).__name__}: {error}"[:300]) from None


def reduce_jpeg(image: Image.Image, *, edge: int, decoding: Decoding) -> None:
    """Lets a JPEG that is not decoded yet be decoded at 1/2, 1/4 or 1/8, where `decoding` wants that.

    The smallest scale is taken whose width and height are both large enough. A JPEG stores blocks of 8 x 8 pixels as
    frequencies, so the high ones need not be computed. `image.size` is the smaller size afterwards.
    """
    least = decoding.least(edge)
    if least and isinstance(image, JpegImageFile):  # MPO files are JPEGs, too
        image.draft(None, (least, least))


def _not_opened(data: bytes) -> ImageError:
    kind = filetype.guess(data)
    mime = kind.mime if kind else None
    if mime in {"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff", "image/avif"}:
        return ImageError(Reason.CORRUPT, f"starts like {mime} and cannot be opened")
    if mime and mime.startswith("image/"):
        return ImageError(Reason.UNSUPPORTED_FORMAT, f"{mime} is not one of {', '.join(FORMATS)}")
    return ImageError(Reason.NOT_AN_IMAGE, f"the content is {mime or 'of no known type'}")


def _check_pixels(pixels: int, max_pixels: int, what: str) -> None:
    if pixels > max_pixels:
        raise ImageError(Reason.TOO_MANY_PIXELS, f"{what}; the limit is {max_pixels} pixels (FAKESWEEP_MAX_PIXELS)")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        deep, image = image, _to_8_bit(image)
        deep.close()  # releases its pixels: they need not lie beside those of the RGB image
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scales deep grey levels to 0..255 where Pillow's convert() would clip them.

    16-bit files are scaled by their range, 65535. Wider integers and floats have no range of their own: floats within
    0..1 are taken as that, everything else by the smallest of 255, 65535 and its own maximum that holds it.
    """
    if image.mode.startswith("I;16"):
        top = 65535.0
    else:
        top = max(float(levels.max()) for _, levels in _pieces(image))
        limits = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        top = next((limit for limit in limits if top <= limit), top)
    scaled = np.empty((image.height, image.width), dtype=np.uint8)
    for (left, upper, right, lower), levels in _pieces(image):
        scaled[upper:lower, left:right] = np.clip(np.rint(levels * (255.0 / top)), 0, 255)
    return Image.fromarray(scaled)


def _pieces(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], NDArray[np.float64]]]:
    """The levels of a grey image, piece by piece: eight bytes a level for all of it would be several times its size."""
    width = min(image.width, _PIECE)
    height = max(1, _PIECE // width)
    for upper in range(0, image.height, height):
        for left in range(0, image.width, width):
            box = (left, upper, min(left + width, image.width), min(upper + height, image.height))
            yield box, np.nan_to_num(np.asarray(image.crop(box)).astype(np.float64))


def to_square(
    image: Image.Image, *, edge: int = EDGE, fit: Fit = Fit.CROP, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The RGB image as `edge` x `edge`. Raises ImageError with too_many_pixels for a long thin strip."""
    if fit is Fit.STRETCH:
        return image.resize((edge, edge), Image.Resampling.BICUBIC)
    if fit is Fit.PAD:
        return ImageOps.pad(image, (edge, edge), Image.Resampling.BICUBIC, color=_BARS)
    short, long = sorted(image.size)
    resized = int(edge * long / short)
    # A 1 x 100,000 strip is small, and its resized form is not.
    _check_pixels(edge * resized, max_pixels, f"{image.width} x {image.height} grows to {edge} x {resized} pixels")
    size = (edge, resized) if image.width <= image.height else (resized, edge)
    grown = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (grown.width - edge) // 2, (grown.height - edge) // 2
    return grown.crop((left, top, left + edge, top + edge))
