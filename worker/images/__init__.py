"""decode(bytes) -> the square RGB image that the detector sees. It reads every format and checks every limit.

`formats` says which format a file has. The module of that format opens the file without its metadata, and returns a
`Header`. `decoding` checks the size, decodes the file, turns the image upright and makes it RGB. `square` makes the
square.
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
