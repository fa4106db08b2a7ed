"""Makes small copies of images for a report, in several threads, and returns them in order.

They are new JPEG files of ours, without the metadata of the originals. Decoding has the worker's limits.
"""

import base64
import io
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any

from PIL import Image

from producers.reporting.cards import Card, Row
from worker.errors import FakesweepError
from worker.images import SizeLimits, open_image

Fetch = Callable[[str, str | None], bytes]
"""A function that fetches an image by uri and ETag."""

THUMBNAIL_PX = 512
THUMBNAIL_BYTES = 48 * 1024
"""The most bytes of one picture. A picture with many details is saved at a lower quality, and then smaller, until
it fits.
"""
MAX_PIXELS = 100_000_000
FETCHERS = 8
DECODERS = 2  # decoding an image of 100 megapixels takes 400 MB (JPEG) to 1.2 GB (AVIF)
PLACES_TRIED = 3
_QUALITIES = (78, 60, 40)

Thumbnail = dict[str, Any]
"""`src` (a data: uri), `width` and `height` in pixels; or the `problem`, one line."""


@dataclass
class Room:
    """How many bytes of pictures a report may still take, and how many pictures did not fit."""

    left: int
    left_out: int = 0

    def give(self, thumbnail: Thumbnail) -> Thumbnail:
        """Returns the thumbnail if it fits, or a placeholder that says that it does not."""
        size = len(thumbnail.get("src", ""))
        if "problem" in thumbnail:
            return thumbnail
        if size > self.left:
            self.left = 0  # no later picture is taken instead of this one, because the order is by score
            self.left_out += 1
            return {"problem": "The pictures of this report reached their limit. The verdict is complete without it."}
        self.left -= size
        return thumbnail


def with_thumbnails(cards: list[Card], fetch: Fetch, room: Room) -> Generator[tuple[Card, Thumbnail], None, None]:
    """Yields each card with its thumbnail, while there is room for pictures.

    `fetch` is called from FETCHERS threads. If it fails, it is called for a second and a third place of the content.
    Closing the generator ends the threads.
    """
    decoding = BoundedSemaphore(DECODERS)

    def thumbnail(card: Card) -> Thumbnail:
        problems = []
        if room.left <= 0:
            return {"src": " "}  # not fetched, so that `give` refuses it and counts it
        for place in card.places[:PLACES_TRIED]:
            try:
                return _fetched(place, fetch, decoding)
            except FakesweepError as error:
                problems.append(str(error)[:300])
        return {"problem": problems[0]}

    pool = ThreadPoolExecutor(FETCHERS)
    try:
        for card, made in zip(cards, pool.map(thumbnail, cards), strict=True):
            yield card, room.give(made)
    finally:
        pool.shutdown(cancel_futures=True)


def _fetched(place: Row, fetch: Fetch, decoding: BoundedSemaphore) -> Thumbnail:
    data = fetch(place["uri"], place["etag"])
    with decoding:
        return _thumbnail(open_image(data, limits=SizeLimits(max_pixels=MAX_PIXELS)))


def _thumbnail(image: Image.Image) -> Thumbnail:
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    image.info.clear()  # otherwise Pillow copies the original's comment into the thumbnail
    while len(jpeg := _saved(image)) > THUMBNAIL_BYTES:
        image.thumbnail((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.LANCZOS)
    encoded = base64.b64encode(jpeg).decode()
    return {"src": f"data:image/jpeg;base64,{encoded}", "width": image.width, "height": image.height}


def _saved(image: Image.Image) -> bytes:
    """Returns the JPEG of the highest quality that fits, or else of the lowest."""
    jpeg = io.BytesIO()
    for quality in _QUALITIES:
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=quality, optimize=True)
        if jpeg.tell() <= THUMBNAIL_BYTES:
            break
    return jpeg.getvalue()
