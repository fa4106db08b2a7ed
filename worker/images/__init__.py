"""decode(bytes) -> the square RGB image that the detector sees: every format, and every guard on the way.

`formats` says which format a file has; the module of that format opens it without its metadata (`header`); `decoding`
checks its size, decodes it, turns it upright and makes it RGB; `square` makes the square.
"""

from worker.images.decoding import Opened, decode, open_for, open_image, opened_header
from worker.images.formats import FORMATS
from worker.images.jpeg import reduce_jpeg
from worker.images.limits import DEFAULT_LIMITS, MAX_PIXELS, SizeLimits
from worker.images.preprocessing import EDGE, PREPROCESSING_REVISIONS, Decoding, Fit
from worker.images.square import to_square

__all__ = [
    "DEFAULT_LIMITS", "EDGE", "FORMATS", "MAX_PIXELS", "PREPROCESSING_REVISIONS", "Decoding", "Fit", "Opened",
    "SizeLimits", "decode", "open_for", "open_image", "opened_header", "reduce_jpeg", "to_square",
]  # fmt: skip
