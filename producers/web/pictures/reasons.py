"""Says why a picture cannot be shown, by a picture with the reason and by the status of the answer.

An `<img>` shows the picture of an answer whatever the status is, so this needs no script.
"""

from functools import cache
from http import HTTPStatus

from PIL import Image, ImageDraw, ImageFont

from producers.web.pictures.drawing import jpeg
from worker.errors import Reason

EXPIRED, UNKNOWN, BUSY = "address_expired", "address_unknown", "busy"

_WORDS = {
    Reason.NOT_FOUND: (HTTPStatus.NOT_FOUND, "The image is not where it was found."),
    Reason.CHANGED: (HTTPStatus.GONE, "Another image is there now, so it is not shown."),
    Reason.ACCESS_DENIED: (HTTPStatus.FORBIDDEN, "The review desk has no right to read the image."),
    Reason.STORAGE_UNAVAILABLE: (HTTPStatus.SERVICE_UNAVAILABLE, "The storage does not answer. Load the page again."),
    Reason.TOO_LARGE: (HTTPStatus.UNPROCESSABLE_ENTITY, "The file is too large."),
    Reason.TOO_MANY_PIXELS: (HTTPStatus.UNPROCESSABLE_ENTITY, "The image has too many pixels."),
    Reason.TOO_SMALL: (HTTPStatus.UNPROCESSABLE_ENTITY, "The image is too small."),
    Reason.EMPTY: (HTTPStatus.UNPROCESSABLE_ENTITY, "The file is empty."),
    Reason.NOT_AN_IMAGE: (HTTPStatus.UNPROCESSABLE_ENTITY, "The file is not an image."),
    Reason.UNSUPPORTED_FORMAT: (HTTPStatus.UNPROCESSABLE_ENTITY, "The format of the image is not supported."),
    Reason.CORRUPT: (HTTPStatus.UNPROCESSABLE_ENTITY, "The image is broken."),
    EXPIRED: (HTTPStatus.GONE, "The picture's address is too old. Load the page again."),
    UNKNOWN: (HTTPStatus.NOT_FOUND, "There is no picture at this address."),
    BUSY: (HTTPStatus.SERVICE_UNAVAILABLE, "Too many pictures are loading. Load the page again."),
}
_SIZE = (640, 400)
_PAPER, _INK = (236, 236, 236), (40, 40, 40)
_QUALITY = 85


def status_of(reason: str) -> HTTPStatus:
    """Returns the status of the answer for this reason."""
    return _WORDS[reason][0]


@cache
def drawn(reason: str) -> bytes:
    """Makes a JPEG that says why there is no picture."""
    image = Image.new("RGB", _SIZE, _PAPER)
    draw = ImageDraw.Draw(image)
    middle = _SIZE[0] / 2
    lines = ((150, 26, "This picture cannot be shown."), (200, 19, _WORDS[reason][1]), (245, 15, f"({reason})"))
    for height, size, words in lines:
        draw.text((middle, height), words, fill=_INK, font=ImageFont.load_default(size), anchor="mm")
    return jpeg(image, _QUALITY)
