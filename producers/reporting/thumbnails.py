"""Small copies of images for a report, made by several threads at once and given out in order."""

import base64
import io
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

from PIL import Image

from producers.reporting.tally import Row
from worker.errors import FakesweepError
from worker.images import SizeLimits, open_image

Fetch = Callable[[str, str | None], bytes]
"""Gets an image by uri and ETag."""

THUMBNAIL_PX = 224
THUMBNAIL_MAX_PIXELS = 100_000_000
FETCHERS = 8
DECODERS = 2  # an image of 100 megapixels takes 400 MB (JPEG) to 1.2 GB (AVIF) while it is made small


def with_thumbnails(rows: list[Row], fetch: Fetch) -> Generator[tuple[Row, dict[str, Any]], None, None]:
    """Each row with its thumbnail: `src` (a data: uri), `width` and `height`; or with the `problem`, one line.

    `fetch` is called from FETCHERS threads. Closing the generator ends the threads.
    """
    decoding = BoundedSemaphore(DECODERS)

    def thumbnail(row: Row) -> dict[str, Any]:
        try:
            data = fetch(row["uri"], row["etag"])
            with decoding:
                return _thumbnail(open_image(data, limits=SizeLimits(max_pixels=THUMBNAIL_MAX_PIXELS)))
        except FakesweepError as error:
            return {"problem": str(error)[:300]}

    pool = ThreadPoolExecutor(FETCHERS)
    try:
        yield from zip(rows, pool.map(thumbnail, rows), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _thumbnail(image: Image.Image) -> dict[str, Any]:
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    image.info.clear()  # or Pillow copies the original's comment into the thumbnail
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=70)
    encoded = base64.b64encode(jpeg.getvalue()).decode()
    return {"src": f"data:image/jpeg;base64,{encoded}", "width": image.width, "height": image.height}
