"""What a file may ask of a decoder."""

from dataclasses import dataclass

from worker.errors import ImageError, Reason

MAX_PIXELS = 100_000_000
MIN_EDGE = 8
"""Pixels of the shorter edge: the side of a JPEG's block. Smaller files are spacers and tracking pixels."""


@dataclass(frozen=True)
class SizeLimits:
    """An image has `max_pixels` at most, and each of its edges `min_edge` pixels at least."""

    max_pixels: int = MAX_PIXELS
    min_edge: int = MIN_EDGE


DEFAULT_LIMITS = SizeLimits()

MAX_BLOCKS = 100_000
"""Segments of a JPEG, chunks of a PNG, blocks of a GIF, strips of a TIFF: Python takes about 2 us for each.
A file of 64 MiB that a real encoder wrote has at most some ten thousand.
"""
MAX_SCANS = 1000
MAX_PASSES = 100
"""A JPEG's scans each go over all its pixels again (30 ms for 100 megapixels, however few bytes the scan has): together
they may visit as many pixels as MAX_PASSES images of the largest allowed size have. Encoders write about 10 scans.
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
    """Raises ImageError with too_many_pixels; `what` has so many pixels, in words."""
    if pixels > max_pixels:
        raise ImageError(Reason.TOO_MANY_PIXELS, f"{what}; the limit is {max_pixels} pixels (FAKESWEEP_MAX_PIXELS)")


def check_passes(passes: int, pixels: int, max_pixels: int) -> None:
    """Raises ImageError with too_many_pixels when decoding would go over `pixels` pixels too often."""
    if passes > MAX_SCANS or passes * pixels > MAX_PASSES * max_pixels:
        raise ImageError(
            Reason.TOO_MANY_PIXELS,
            f"{passes} or more scans of {pixels} pixels each; the limit is {MAX_SCANS} scans, and together "
            f"{MAX_PASSES} times FAKESWEEP_MAX_PIXELS",
        )


def check_blocks(blocks: int, what: str) -> None:
    """Raises ImageError with corrupt for a file of more pieces than anybody writes."""
    if blocks > MAX_BLOCKS:
        raise ImageError(Reason.CORRUPT, f"more than {MAX_BLOCKS} {what}")
