"""The PDQ hash of an image: near duplicates have nearly the same one. A hash never decides a verdict.

PDQ is by Meta (Davis and Rosen, "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019):
https://github.com/facebook/ThreatExchange/tree/main/pdq. The library pdqhash wraps the authors' own C++.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:  # producers import this module too, and need neither
    from PIL.Image import Image

log = structlog.get_logger(__name__)

EDGE = 128
"""Pixels of the square that is hashed.

The authors reduce an image to 512 x 512 pixels before they hash it. From 128 x 128, the hash differs in 4 of 256 bits
on average, and takes a tenth of the time. The square is the same for images of all shapes and sizes, so the hash of a
copy in another size differs in only 2 bits.
"""


@dataclass(frozen=True)
class PdqHash:
    """A hash of 256 bits in 64 hexadecimal digits, and its `quality` from 0 to 100.

    An image with little in it, such as a flat one, has a low quality. Its hash means nothing.
    """

    bits: str
    quality: int


Hasher = Callable[["Image"], PdqHash]
"""Hashes an upright image in mode RGB or RGBX, of any size."""


def find_hasher() -> Hasher | None:
    """Returns the hasher, or None if the library pdqhash is not installed. Then a worker stores no hashes."""
    try:
        import numpy as np  # noqa: PLC0415
        from pdqhash import compute  # noqa: PLC0415 - it may be missing: it needs a C++ compiler to be installed
    except ImportError:
        log.warning("near_duplicates_not_found", remedy="pip install 'fakesweep[near]', which needs a C++ compiler")
        return None

    def hashed(image: "Image") -> PdqHash:
        bits, quality = compute(np.asarray(small_square(image)))
        return PdqHash(np.packbits(bits).tobytes().hex(), quality)

    return hashed


def small_square(image: "Image") -> "Image":
    """Returns the whole image as EDGE x EDGE pixels. Pillow does this outside of Python's lock."""
    from PIL import Image  # noqa: PLC0415

    return image.resize((EDGE, EDGE), Image.Resampling.BILINEAR, reducing_gap=2.0)
