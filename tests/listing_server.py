"""S3's ListObjectsV2 over a list of keys, as a boto3 client and over HTTP. It counts requests, and can refuse them."""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'
BUCKET = "archive"


class ListedKeys:
    """The bucket `archive` with these keys, of 7 bytes each. An answer has at most `page` keys.

    From request `refuse_from` on (0 is the first), every request is refused until `refuse_from` is None. The next
    `stumbles` requests over HTTP are answered with SlowDown.
    """

    def __init__(self, keys: Iterable[str], *, page: int = 1000, refuse_from: int | None = None) -> None:
        self.keys, self.page, self.refuse_from = sorted(keys), page, refuse_from
        self.requests = 0
        self.stumbles = 0
        self._lock = threading.Lock()

    @property
    def refuses(self) -> bool:
        """Whether the next request will be refused."""
        return self.refuse_from is not None and self.requests >= self.refuse_from

    def list_objects_v2(self, **asked: Any) -> dict[str, Any]:
        """Works like the method of boto3's client."""
        with self._lock:
            self.requests += 1
        entries: list[str] = []
        prefix, delimiter = asked.get("Prefix", ""), asked.get("Delimiter", "")
        most, after = (
            min(asked.get("MaxKeys", 1000), self.page),
            asked.get("ContinuationToken") or asked.get("StartAfter"),
        )
        place = max(bisect_left(self.keys, prefix), bisect_right(self.keys, after) if after else 0)
        last, truncated = "", False
        for key in islice(self.keys, place, None):
            if not key.startswith(prefix):
                break
            head, slash, _rest = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            entry = prefix + head + slash if slash else key
            if slash and entry in {last, after}:
                continue
            if len(entries) == most:
                truncated = True
                break
            entries.append(entry)
            last = entry
        folders = [entry for entry in entries if delimiter and entry.endswith(delimiter) and len(entry) > len(prefix)]
        answer: dict[str, Any] = {
            "Contents": [{"Key": key, "ETag": ETAG, "Size": 7} for key in entries if key not in folders],
            "CommonPrefixes": [{"Prefix": folder} for folder in folders],
            "IsTruncated": truncated,
        }
        return answer | ({"NextContinuationToken": last} if truncated else {})


@contextmanager
def serving(listed: ListedKeys) -> Iterator[str]:
    """Serves it over HTTP, with URL-encoded keys. Yields the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
            if address.path.strip("/") != BUCKET:
                self._send(404, _error("NoSuchBucket"))
            elif listed.stumbles:
                listed.stumbles -= 1
                self._send(503, _error("SlowDown"))
            elif listed.refuses:
                self._send(403, _error("AccessDenied"))
            else:
                self._send(200, _answer(listed, asked))

        def _send(self, status: int, body: str) -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _error(code: str) -> str:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>so it is</Message></Error>"


def _answer(listed: ListedKeys, asked: dict[str, str]) -> str:
    assert asked["encoding-type"] == "url"
    answer = listed.list_objects_v2(
        Prefix=asked.get("prefix", ""),
        Delimiter=asked.get("delimiter", ""),
        StartAfter=asked.get("start-after", ""),
        ContinuationToken=unquote(asked.get("continuation-token", "")),
        MaxKeys=int(asked.get("max-keys", "1000")),
    )
    contents = "".join(
        f"<Contents><Key>{quote(found['Key'])}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>{found['ETag']}</ETag><Size>{found['Size']}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for found in answer["Contents"]
    )
    folders = "".join(
        f"<CommonPrefixes><Prefix>{quote(found['Prefix'])}</Prefix></CommonPrefixes>"
        for found in answer["CommonPrefixes"]
    )
    token = answer.get("NextContinuationToken")
    more = f"<NextContinuationToken>{quote(token)}</NextContinuationToken>" if token else ""
    return (
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        f"<Name>{BUCKET}</Name><EncodingType>url</EncodingType>"
        f"<IsTruncated>{str(answer['IsTruncated']).lower()}</IsTruncated>{more}{contents}{folders}</ListBucketResult>"
    )
