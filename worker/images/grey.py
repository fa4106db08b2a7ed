"""Deep grey levels as 8 bits, by what the file says of its numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PIECE = 32_768  # pixels
_WIDE = 32  # bits


@dataclass(frozen=True)
class Levels:
    """What the numbers of a grey image mean, as TIFF's BitsPerSample, SampleFormat and PhotometricInterpretation say.

    The smallest number that the bits allow is black and the largest is white, or the other way round when
    `is_inverted`. Signed integers are taken so, too: -32768 is black (ImageMagick reads them alike).
    """

    bits: int
    is_signed: bool = False
    is_inverted: bool = False


def is_deep(mode: str) -> bool:
    """Whether an image of this mode has grey levels of more than 8 bits."""
    return mode in {"I", "F"} or mode.startswith("I;16")


def to_8_bit(image: Image.Image, levels: Levels | None) -> Image.Image:
    """The grey image as mode L, where Pillow's convert() would clip its levels. `image` is deep, or signed 8 bits."""
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
    """The numbers that are black and white.

    Floats have no range of their own: those within 0..1 are taken as that, others by the smallest of 255, 65535 and
    their own maximum that holds them. 32-bit integers are often levels of 8 or 16 bits (Pillow saves its mode I so):
    they are taken as that where all of them fit, and by the range of their bits otherwise.
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
    """The levels of a grey image, piece by piece: eight bytes a level for all of it would be several times its size."""
    width = min(image.width, _PIECE)
    height = max(1, _PIECE // width)
    for upper in range(0, image.height, height):
        for left in range(0, image.width, width):
            box = (left, upper, min(left + width, image.width), min(upper + height, image.height))
            numbers = np.asarray(image.crop(box))
            if levels.bits == _WIDE and not levels.is_signed and image.mode == "I":
                numbers = numbers.view(np.uint32)  # Pillow has no mode for them, and reads them as signed
            yield box, np.nan_to_num(numbers.astype(np.float64))
