"""How much work and memory a file may cost a decoder."""

from dataclasses import dataclass

from worker.errors import ImageError, Reason

MAX_PIXELS = 100_000_000
MIN_EDGE = 8
"""Pixels of the shorter edge, as many as a block of a JPEG has. Smaller files are spacers and tracking pixels."""


@dataclass(frozen=True)
class SizeLimits:
    """The sizes that an image may have: at most `max_pixels` pixels, and at least `min_edge` pixels on each edge."""

    max_pixels: int = MAX_PIXELS
    min_edge: int = MIN_EDGE


DEFAULT_LIMITS = SizeLimits()

MAX_BLOCKS = 100_000
"""Segments of a JPEG, chunks of a PNG, blocks of a GIF, strips of a TIFF. Python takes about 2 us for each.

A file of 64 MiB that a real encoder wrote has at most about ten thousand.
"""
MAX_SCANS = 1000
MAX_PASSES = 100
"""All scans of a JPEG together may go over as many pixels as this many images of the largest allowed size have.

Each scan goes over all pixels of the image again. This takes 30 ms for 100 megapixels, even if the scan has few bytes.
Encoders write about 10 scans.
"""


def check_size(width: int, height: int, limits: SizeLimits) -> None:
    """Raises ImageError with too_many_pixels or too_small."""
    check_pixels(width * height, limits.max_pixels, f"{width} x {height} pixels")
    if min(width, height) < limits.min_edge:
        raise ImageError(
            Reason.TOO_SMALL,
            f"{width} x {height} pixels; the shorter edge needs {limits.min_edge} (FAKESWEEP_MIN_EDGE)",
        )


def check_pixels(pixels: int, max_pixels: int, what: str) -> None:
    """Raises ImageError with too_many_pixels if `pixels` is more than `max_pixels`. `what` names them in words."""
    if pixels > max_pixels:
        raise ImageError(Reason.TOO_MANY_PIXELS, f"{what}; the limit is {max_pixels} pixels (FAKESWEEP_MAX_PIXELS)")


def check_passes(passes: int, pixels: int, max_pixels: int) -> None:
    """Raises ImageError with too_many_pixels when decoding would go over `pixels` pixels too often."""
    if passes > MAX_SCANS or passes * pixels > MAX_PASSES * max_pixels:
        raise ImageError(
            Reason.TOO_MANY_PIXELS,
            f"{passes} or more scans of {pixels} pixels each; the limit is {MAX_SCANS} scans, and "
            f"{MAX_PASSES} times FAKESWEEP_MAX_PIXELS for all scans together",
        )


def check_blocks(blocks: int, what: str) -> None:
    """Raises ImageError with corrupt if a file has more blocks than any program writes."""
    if blocks > MAX_BLOCKS:
        raise ImageError(Reason.CORRUPT, f"more than {MAX_BLOCKS} {what}")
