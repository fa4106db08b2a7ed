"""fetch(ref) -> bytes, from S3: obstore fetches, and boto3 takes over whenever obstore fails.

boto3 knows credentials, endpoints, regions and redirects, but takes 4 ms of CPU time per object, in Python's lock.
So boto3 fetches the first object of a bucket, and obstore learns the address from that request. If obstore fails for
any reason, boto3 asks again. Only boto3's answer counts, and callers see only boto3's errors. So an image that cannot
be fetched costs a second request. docs/decisions/0010 says why.

What was stored with `Content-Encoding: gzip` is unpacked (worker.content_encoding). The ETag is that of the object as
it is stored; its SHA-256 is that of the image in it, so that both forms of one image are one content.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import structlog

from worker.aws import AWS_ERRORS, Diagnosis, Kind, Session, diagnose, s3_client
from worker.content_encoding import unpacked
from worker.errors import ImageError, Reason, StorageUnavailableError
from worker.messages import ImageRef

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client

    from worker.obstore_bucket import ObstoreBucket

log = structlog.get_logger(__name__)

ATTEMPTS = 4
"""The number of attempts in all. The first one is obstore's, if obstore is used."""

MAX_BUCKETS = 64
"""How many buckets are remembered. Each one has its own connections."""

_PERMANENT = {
    Kind.NO_OBJECT: Reason.NOT_FOUND,
    Kind.NO_BUCKET: Reason.NOT_FOUND,
    Kind.BAD_NAME: Reason.NOT_FOUND,
    Kind.ACCESS_DENIED: Reason.ACCESS_DENIED,
    Kind.ARCHIVED: Reason.ACCESS_DENIED,
    Kind.CHANGED: Reason.CHANGED,
}
"""Errors that no retry cures. All others may pass, even wrong or expired credentials, which are not the image's
fault.
"""


class S3ImageStore:
    """Objects of S3, and of every store with its API. boto3 finds endpoint, region and credentials."""

    def __init__(
        self, *, max_bytes: int, timeout_s: float = 20, connections: int = 32, allowed_buckets: Sequence[str] = ()
    ) -> None:
        self._max_bytes = max_bytes
        self._allowed = frozenset(allowed_buckets)
        self._timeout_s, self._connections = timeout_s, connections
        self._lock = threading.Lock()
        self._session = Session.new()
        self._clients: dict[int, S3Client] = {}  # by the number of attempts
        self._buckets: dict[str, ObstoreBucket] = {}
        self._sent = threading.local()

    def fetch(self, ref: ImageRef) -> bytes:
        """See worker.storage.ImageStore. The listed ETag is sent as If-Match: a replaced object is `changed`."""
        name, _, key = ref.uri.removeprefix("s3://").partition("/")
        if self._allowed and name not in self._allowed:
            raise ImageError(Reason.ACCESS_DENIED, f"bucket {name} is not in FAKESWEEP_ALLOWED_BUCKETS")
        bucket = self._known(name)
        if bucket is None or not bucket.can_get(key, ref.etag):
            return self._by_boto3(name, key, ref.etag, ATTEMPTS)
        try:
            return self._by_obstore(bucket, key, ref.etag)
        except bucket.FAILURES as error:
            failure, pause_s = diagnose(error), random.random() if bucket.may_pass(error) else 0  # noqa: S311 - a pause, no secret
        # Outside `except`, so that obstore's long text does not become the context of boto3's error.
        time.sleep(pause_s)  # as boto3 pauses before its second attempt
        data = self._by_boto3(name, key, ref.etag, ATTEMPTS - 1)
        if bucket.failed():
            cause = failure.text.partition(" Debug source:")[0]
            log.warning("obstore_given_up", bucket=name, error=cause, consequence="boto3 fetches, at a higher cost")
        return data

    def _known(self, name: str) -> "ObstoreBucket | None":
        with self._lock:
            bucket = self._buckets.pop(name, None)
            if bucket:
                self._buckets[name] = (
                    bucket  # moved to the end: the first bucket is the one that was not used for the longest time
                )
            return bucket

    def _by_obstore(self, bucket: "ObstoreBucket", key: str, etag: str | None) -> bytes:
        """Raises bucket.FAILURES, which are not final, and ImageError, which is: too_large, or bytes that cannot be
        unpacked.
        """
        answer = bucket.get(key, etag)
        check_size(answer.meta["size"], self._max_bytes)
        data = bytes(answer.bytes())
        bucket.succeeded()
        return unpacked(data, answer.attributes.get("Content-Encoding"), self._max_bytes)

    def _by_boto3(self, name: str, key: str, etag: str | None, attempts: int) -> bytes:
        condition: dict[str, Any] = {"IfMatch": f'"{etag}"'} if etag else {}
        try:
            client = self._client(attempts)
            answer = client.get_object(Bucket=name, Key=key, **condition)
            # Not `with answer["Body"]`: that gives urllib3's stream, which neither checks the length nor maps errors.
            with closing(answer["Body"]) as body:
                data = self._read(body, answer.get("ContentLength"))
        except (*AWS_ERRORS, OSError) as error:
            raise _error(diagnose(error)) from error
        with suppress(*AWS_ERRORS):  # we have the image; if we can no longer sign, fetching the next image fails
            self._learn(name, key, client)
        return unpacked(data, answer.get("ContentEncoding"), self._max_bytes)

    def _read(self, body: Any, size: int | None) -> bytes:
        if size is not None:
            check_size(size, self._max_bytes)
            whole: bytes = body.read()
            return whole
        return b"".join(self._parts(body))

    def _parts(self, body: Any) -> Iterator[bytes]:
        """Reads a body whose length is not known."""
        size = 0
        for part in body.iter_chunks(2**16):
            size += len(part)
            check_size(size, self._max_bytes)
            yield part

    def _client(self, attempts: int) -> "S3Client":
        # Made late, so that a worker for local files needs no region. A client's own attempts are the retries in place.
        with self._lock:
            if attempts not in self._clients:
                client = s3_client(
                    timeout_s=self._timeout_s,
                    attempts=attempts,
                    connections=self._connections,
                    session=self._session,
                )
                client.meta.events.register("before-send.s3.GetObject", self._note)
                self._clients[attempts] = client
            return self._clients[attempts]

    def _note(self, request: "AWSPreparedRequest", **_: Any) -> None:
        """boto3 calls this in the thread that sends, for each attempt. After a redirect, the last one is right."""
        self._sent.request = request

    def _learn(self, name: str, key: str, client: "S3Client") -> None:
        """Remembers how boto3 got an object of this bucket, so that obstore gets the next one."""
        from worker.obstore_bucket import Network, ObstoreBucket, address_of  # noqa: PLC0415 - loads obstore

        address = address_of(self._sent.request, key)
        with self._lock:
            known = self._buckets.get(name)
            if address is None or (known is not None and known.address == address):
                return
            credentials = self._session.clients.get_credentials()
            if credentials is None:
                return
            ca_bundle = self._session.settings.get_config_variable("ca_bundle")
            network = Network.of(client.meta.endpoint_url, ca_bundle, self._timeout_s)
            self._buckets[name] = ObstoreBucket(name, address, network, credentials.get_frozen_credentials)
            if len(self._buckets) > MAX_BUCKETS:
                del self._buckets[next(iter(self._buckets))]


def check_size(size: int, max_bytes: int) -> None:
    """Raises ImageError `too_large` for more than `max_bytes`."""
    if size > max_bytes:
        raise ImageError(Reason.TOO_LARGE, f"{size} bytes or more; the limit is {max_bytes} (FAKESWEEP_MAX_BYTES)")


def _error(found: Diagnosis) -> ImageError | StorageUnavailableError:
    said = f"S3 answered {found.code}" if found.answered else f"{found.code}: {found.text}"
    if found.kind not in _PERMANENT:
        return StorageUnavailableError(said)
    if found.kind is Kind.BAD_NAME and not found.answered:
        said = f"not a possible bucket or key: {found.text}"
    if found.kind is Kind.ACCESS_DENIED:
        said = f"{said}: {found.said}" if found.said else said
    return ImageError(_PERMANENT[found.kind], said)
