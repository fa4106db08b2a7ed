"""An S3 bucket that lists and serves its pictures, and misbehaves on command."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.chaos.images import Picture
from tests.object_server import Answer, Asked, error, object_server

NAME = "archive"
PAGE = 200
Misbehaviour = Callable[[Picture], Answer]

MISBEHAVIOURS: Mapping[str, Misbehaviour] = {
    "500": lambda _: error("InternalError", 500),
    "503": lambda _: error("SlowDown", 503),
    "403": lambda _: error("AccessDenied", 403),
    "404": lambda _: error("NoSuchKey", 404),
    "slow": lambda picture: Answer(picture.data[:20], promised=len(picture.data), then="hang"),
    "silent": lambda _: Answer(silent=True, then="hang"),
    "short": lambda picture: Answer(picture.data[:20], promised=len(picture.data), then="hang up"),
    "endless": lambda _: Answer(bytes(65536), promised=None, endless=True),
    "another_body": lambda _: Answer(b"<html><body>Please sign in to the network.</body></html>"),
    "changed": lambda _: error("PreconditionFailed", 412),
}
"""Bad answers to a GET request for an object, by name."""

REASONS: Mapping[str, str] = {
    "500": "storage_unavailable",
    "503": "storage_unavailable",
    "403": "access_denied",
    "404": "not_found",
    "slow": "storage_unavailable",
    "silent": "storage_unavailable",
    "short": "storage_unavailable",
    "endless": "too_large",
    "another_body": "not_an_image",
    "changed": "changed",
}
"""The reason code of an image whose object always gets this bad answer."""


class Bucket:
    """The bucket. `url`: its endpoint. `pictures`: by key. `bad`: keys that always get a bad answer, and which one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pictures: dict[str, Picture] = {}
        self.bad: dict[str, str] = {}
        self.misbehaved = 0
        self.listing_refused = False
        self._now: tuple[str, float] | None = None
        self._lock = threading.Lock()

    def misbehave(self, how: str, share: float) -> None:
        """Gives a bad answer for this share of all requests for objects, until behave() is called."""
        self._now, self.misbehaved = (how, share), 0

    def behave(self) -> None:
        """Ends the misbehaviour."""
        self._now, self.listing_refused = None, False

    def answer(self, asked: Asked) -> Answer:
        """Returns the answer to a request."""
        address = urlsplit(asked.path)
        if "list-type" in address.query:
            return self._list({name: values[0] for name, values in parse_qs(address.query).items()})
        key = unquote(address.path.removeprefix(f"/{NAME}/"))
        picture = self.pictures.get(key)
        if picture is None:
            return error("NoSuchKey", 404)
        how = self.bad.get(key) or self._misbehaviour()
        return MISBEHAVIOURS[how](picture) if how else Answer(picture.data, headers={"ETag": f'"{picture.etag}"'})

    def _misbehaviour(self) -> str | None:
        now = self._now
        if now is None or random.random() >= now[1]:
            return None
        with self._lock:
            self.misbehaved += 1
        return now[0]

    def _list(self, asked: Mapping[str, str]) -> Answer:
        if self.listing_refused:
            with self._lock:
                self.misbehaved += 1
            return error("SlowDown", 503)
        prefix = asked.get("prefix", "")
        after = unquote(asked.get("continuation-token", "")) or asked.get("start-after", "")
        keys = sorted(key for key in list(self.pictures) if key.startswith(prefix) and key > after)
        return Answer(_page(keys[:PAGE], self.pictures, truncated=len(keys) > PAGE).encode())


def _page(keys: list[str], pictures: Mapping[str, Picture], *, truncated: bool) -> str:
    contents = "".join(
        f"<Contents><Key>{quote(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"{pictures[key].etag}"</ETag><Size>{len(pictures[key].data)}</Size></Contents>'
        for key in keys
    )
    token = f"<NextContinuationToken>{quote(keys[-1])}</NextContinuationToken>" if truncated else ""
    return (
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        f"<Name>{NAME}</Name><EncodingType>url</EncodingType>"
        f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
    )


@contextmanager
def serving_bucket() -> Iterator[Bucket]:
    """Serves a bucket over HTTP. It has no pictures yet."""
    with object_server() as server:
        bucket = Bucket(server.url)
        server.answer = bucket.answer
        yield bucket
