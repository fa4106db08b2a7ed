"""to_8_bit() turns deeper grey levels into 8-bit levels, by what the file says about its numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PIECE = 32_768  # pixels
_WIDE = 32  # bits


@dataclass(frozen=True)
class Levels:
    """What the numbers of a grey image mean. TIFF says it in BitsPerSample, SampleFormat and PhotometricInterpretation.

    The smallest number that the bits allow is black, and the largest is white. With `is_inverted` it is the other way
    round. This is also true for signed integers: -32768 is black, as in ImageMagick.
    """

    bits: int
    is_signed: bool = False
    is_inverted: bool = False


def is_deep(mode: str) -> bool:
    """Whether an image of this mode has grey levels of more than 8 bits."""
    return mode in {"I", "F"} or mode.startswith("I;16")


def to_8_bit(image: Image.Image, levels: Levels | None) -> Image.Image:
    """Returns the grey image in mode L. `image` is deep, or has signed 8-bit levels.

    Pillow's convert() would clip such levels.
    """
    if not is_deep(image.mode):
        inverted = 255 if levels and levels.is_inverted else 0
        return image.point([((level + 128) % 256) ^ inverted for level in range(256)])
    known = levels or Levels(16 if image.mode.startswith("I;16") else _WIDE)
    low, high = _range(image, known)
    scale = 255.0 / (high - low)
    scaled = np.empty((image.height, image.width), dtype=np.uint8)
    for (left, upper, right, lower), numbers in _pieces(image, known):
        piece = np.clip(np.rint((numbers - low) * scale), 0, 255)
        scaled[upper:lower, left:right] = 255 - piece if known.is_inverted else piece
    return Image.fromarray(scaled)


def _range(image: Image.Image, levels: Levels) -> tuple[float, float]:
    """Returns the number that is black and the number that is white.

    Floats do not say their range. Black is 0. White is the smallest of 1, 255 and 65535 that no level exceeds, or the
    largest level if all three are too small. 32-bit integers are often levels of 8 or 16 bits, because Pillow saves its
    mode I in this way. If all levels fit into 8 or 16 bits, that range is used, and otherwise the range of 32 bits.
    """
    if levels.bits < _WIDE:
        low = -float(2 ** (levels.bits - 1)) if levels.is_signed else 0.0
        return low, low + 2**levels.bits - 1
    least, most = np.inf, -np.inf
    for _, numbers in _pieces(image, levels):
        least, most = min(least, float(numbers.min())), max(most, float(numbers.max()))
    if image.mode == "F":
        return 0.0, next((limit for limit in (1.0, 255.0, 65535.0) if most <= limit), most)
    fitting = next((limit for limit in (255.0, 65535.0) if most <= limit), None)
    if fitting and least >= 0:
        return 0.0, fitting
    return (-(2.0**31), 2.0**31 - 1) if levels.is_signed else (0.0, 2.0**32 - 1)


def _pieces(image: Image.Image, levels: Levels) -> Iterator[tuple[tuple[int, int, int, int], NDArray[np.float64]]]:
    """Yields the levels of a grey image piece by piece, with the box of each piece.

    A level takes eight bytes here, so all levels together would take several times the memory of the image.
    """
    width = min(image.width, _PIECE)
    height = max(1, _PIECE // width)
    for upper in range(0, image.height, height):
        for left in range(0, image.width, width):
            box = (left, upper, min(left + width, image.width), min(upper + height, image.height))
            numbers = np.asarray(image.crop(box))
            if levels.bits == _WIDE and not levels.is_signed and image.mode == "I":
                numbers = numbers.view(np.uint32)  # Pillow has no mode for unsigned 32 bits, and reads them as signed
            yield box, np.nan_to_num(numbers.astype(np.float64))
