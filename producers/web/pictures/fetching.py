"""Fetches a content, makes its pictures, and keeps the newest ones in memory."""

import asyncio
import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import structlog
from cachetools import LRUCache

from producers.forgetting import image_at
from producers.web.parts import Parts
from producers.web.pictures.drawing import Drawing, Made
from producers.web.pictures.places import other_places
from worker.budget import Budget
from worker.cpus import usable_cpus
from worker.errors import BusyError, ImageError, Reason, StorageUnavailableError
from worker.images import SizeLimits

log = structlog.get_logger(__name__)

FETCHERS = 8
"""Separate threads: if the storage does not answer, the threads for decisions must stay free."""
MOST_WAITING = 64
WAIT_S = 30.0
"""How long a browser waits for a picture."""
KEPT_BYTES = 64 * 2**20
"""Memory for finished pictures: about 200 contents in all their forms."""
_FILES_SHARE = 0.25


class Pictures:
    """The pictures of a web process. Many requests may call `show` at once. Each content is fetched and decoded
    once.
    """

    def __init__(self, parts: Parts, *, wait_s: float = WAIT_S) -> None:
        self._parts, self._wait_s = parts, wait_s
        memory = parts.settings.image_memory_mib * 2**20
        self._files = Budget(max(round(memory * _FILES_SHARE), parts.max_bytes))
        limits = SizeLimits(parts.max_pixels, min_edge=1)
        pixels = Budget(memory - round(memory * _FILES_SHARE))
        self._drawing = Drawing(parts.settings.picture_edge, limits, pixels, usable_cpus())
        self._pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="pictures")
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[Made]] = {}
        self._made: LRUCache[str, Made] = LRUCache(KEPT_BYTES, getsizeof=Made.size)

    async def show(self, sha256: str, uri: str) -> Made:
        """Returns the pictures of a content, from `uri` or from another known place.

        Raises ImageError with the reason why there is none, and BusyError.
        """
        with self._lock:
            made = self._made.get(sha256)
        if made is not None:
            return made
        future = asyncio.wrap_future(self._ask(sha256, uri))
        future.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # it may end after all requests for it have gone
        try:
            # Shielded, so that other requests for the same content continue when one browser goes away.
            return await asyncio.wait_for(asyncio.shield(future), self._wait_s)
        except TimeoutError:
            raise ImageError(Reason.STORAGE_UNAVAILABLE, f"not within {self._wait_s:g} s") from None

    def close(self) -> None:
        """Starts nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, sha256: str, uri: str) -> "Future[Made]":
        with self._lock:
            future = self._under_way.get(sha256)
            if future is not None:
                return future
            if len(self._under_way) >= MOST_WAITING:
                raise BusyError
            future = self._under_way[sha256] = self._pool.submit(self._make, sha256, uri)
        future.add_done_callback(lambda done: self._end(sha256, done))
        return future

    def _end(self, sha256: str, done: "Future[Made]") -> None:
        with self._lock:
            self._under_way.pop(sha256, None)
            # ValueError means that one picture is larger than the whole cache. Then it is not kept.
            if not done.cancelled() and done.exception() is None and done.result().size() <= KEPT_BYTES:
                self._made[sha256] = done.result()

    def _make(self, sha256: str, uri: str) -> Made:
        """Tries the named place, and then a few others where this content was found. The first error is reported."""
        with self._files.take(self._parts.max_bytes, live=True) as held:
            data = self._fetch_any(sha256, uri)
            held.shrink(len(data))
            return self._drawing.make(data)

    def _fetch_any(self, sha256: str, uri: str) -> bytes:
        try:
            return self._fetch(sha256, uri)
        except (ImageError, StorageUnavailableError) as error:
            first = error
        for other in other_places(self._parts.database, sha256, uri):
            try:
                return self._fetch(sha256, other)
            except (ImageError, StorageUnavailableError) as error:
                log.info("picture_not_there", sha256=sha256, uri=other, reason=str(error))
        log.info("picture_not_there", sha256=sha256, uri=uri, reason=str(first))
        raise first if isinstance(first, ImageError) else ImageError(Reason.STORAGE_UNAVAILABLE, str(first))

    def _fetch(self, sha256: str, uri: str) -> bytes:
        """Returns the bytes at a place, if they are this content."""
        data = self._parts.store.fetch(image_at(uri))
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ImageError(Reason.CHANGED, "another content is there now")
        return data
