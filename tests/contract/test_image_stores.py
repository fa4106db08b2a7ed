"""One suite for every image store: the fake, S3 over HTTP, and local files."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest

from worker.errors import ImageError, Reason, StorageUnavailableError
from worker.files import file_etag, local_path
from worker.messages import ImageRef
from worker.s3_store import S3ImageStore
from worker.storage import ImageStore, LocalImageStore
from worker.testing import InMemoryImageStore

MAX_BYTES = 1000
NAMES = ["plain.jpg", "with space+plus%percent.jpg", "ünïcode/图.png", "k" * 200]


@dataclass
class Place:
    """A store, and the function that puts things into it."""

    store: ImageStore
    put: Callable[[str, bytes], ImageRef]
    missing: ImageRef


@pytest.fixture
def in_memory() -> Place:
    store = InMemoryImageStore({}, max_bytes=MAX_BYTES)

    def put(name: str, data: bytes) -> ImageRef:
        uri = f"s3://bucket/{name}"
        store.objects[uri] = data
        return ImageRef(uri=uri, etag=store.etag(uri), size=len(data))

    return Place(store, put, ImageRef(uri="s3://bucket/gone"))


@pytest.fixture
def s3(bucket: str, s3_environment: str) -> Place:
    client = boto3.client("s3", endpoint_url=s3_environment)

    def put(name: str, data: bytes) -> ImageRef:
        etag = client.put_object(Bucket=bucket, Key=name, Body=data)["ETag"].strip('"')
        return ImageRef(uri=f"s3://{bucket}/{name}", etag=etag, size=len(data))

    return Place(S3ImageStore(max_bytes=MAX_BYTES, timeout_s=5), put, ImageRef(uri=f"s3://{bucket}/gone"))


@pytest.fixture
def s3_by_obstore(s3: Place) -> Place:
    """The same store after boto3 has fetched a first object of the bucket: from then on obstore fetches."""
    s3.store.fetch(s3.put("first", b"first"))
    return s3


@pytest.fixture
def local(tmp_path: Path) -> Place:
    def put(name: str, data: bytes) -> ImageRef:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
        return ImageRef(uri=path.as_uri(), etag=file_etag(path.stat()), size=len(data))

    return Place(LocalImageStore(max_bytes=MAX_BYTES), put, ImageRef(uri=(tmp_path / "gone").as_uri()))


@pytest.fixture(params=["in_memory", "s3", "s3_by_obstore", "local"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def reason_of(place: Place, ref: ImageRef) -> Reason:
    with pytest.raises(ImageError) as caught:
        place.store.fetch(ref)
    return caught.value.reason


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_bytes_are_fetched(place: Place, name: str) -> None:
    ref = place.put(name, name.encode())
    assert place.store.fetch(ref) == name.encode()
    assert place.store.fetch(ImageRef(uri=ref.uri)) == name.encode()


def test_a_newline_in_a_name(local: Place) -> None:
    # Not over HTTP: the tests' S3 server cannot handle such keys.
    assert local.store.fetch(local.put("new\nline.jpg", b"x")) == b"x"


def test_an_empty_object(place: Place) -> None:
    assert place.store.fetch(place.put("empty", b"")) == b""


def test_an_object_that_does_not_exist(place: Place) -> None:
    assert reason_of(place, place.missing) == Reason.NOT_FOUND


def test_an_object_that_was_replaced_after_it_was_listed(place: Place) -> None:
    ref = place.put("x.jpg", b"old")
    place.put("x.jpg", b"newer")
    assert reason_of(place, ref) == Reason.CHANGED


def test_an_object_that_is_too_large(place: Place) -> None:
    assert place.store.fetch(place.put("just", b"x" * MAX_BYTES))
    assert reason_of(place, place.put("over", b"x" * (MAX_BYTES + 1))) == Reason.TOO_LARGE


def test_a_bucket_that_is_not_allowed(s3: Place, bucket: str) -> None:
    ref = s3.put("x", b"x")
    assert S3ImageStore(max_bytes=10, allowed_buckets=[bucket]).fetch(ref) == b"x"
    with pytest.raises(ImageError, match="FAKESWEEP_ALLOWED_BUCKETS"):
        S3ImageStore(max_bytes=10, allowed_buckets=["another"]).fetch(ref)


def test_an_endpoint_that_cannot_be_reached_is_a_transient_error(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(StorageUnavailableError):
        S3ImageStore(max_bytes=10, timeout_s=1).fetch(ImageRef(uri="s3://b/k"))


def test_an_endpoint_that_is_no_url_is_not_the_images_fault(
    s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    with pytest.raises(StorageUnavailableError, match="Invalid endpoint: nonsense"):
        S3ImageStore(max_bytes=10).fetch(ImageRef(uri="s3://b/k"))


@contextmanager
def answering(code: str, status: int) -> Iterator[str]:
    """An endpoint that answers every GET with this error of S3."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>so it is</Message></Error>".encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("NoSuchBucket", 404, Reason.NOT_FOUND),
        ("InvalidBucketName", 400, Reason.NOT_FOUND),
        ("KeyTooLongError", 400, Reason.NOT_FOUND),
        ("AccessDenied", 403, Reason.ACCESS_DENIED),
        ("AllAccessDisabled", 403, Reason.ACCESS_DENIED),
        ("InvalidObjectState", 403, Reason.ACCESS_DENIED),
        ("PreconditionFailed", 412, Reason.CHANGED),
        ("InvalidRequest", 400, Reason.ACCESS_DENIED),
        ("KMS.DisabledException", 400, Reason.ACCESS_DENIED),
        ("MethodNotAllowed", 405, Reason.ACCESS_DENIED),
        ("InvalidURI", 400, Reason.NOT_FOUND),
        ("InvalidArgument", 400, Reason.NOT_FOUND),
        ("XMinioInvalidObjectName", 400, Reason.NOT_FOUND),
        ("Gone", 410, Reason.NOT_FOUND),
        ("KMS.ThrottlingException", 400, None),
        ("ExpiredToken", 400, None),
        ("InvalidAccessKeyId", 403, None),
        ("InvalidSecurity", 403, None),
    ],
)
def test_s3_errors_become_reason_codes_or_transient_errors(
    code: str, status: int, reason: Reason | None, s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(code, status) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        with pytest.raises((ImageError, StorageUnavailableError), match=f"S3 answered {code}") as caught:
            S3ImageStore(max_bytes=10).fetch(ImageRef(uri="s3://b/k"))
    assert getattr(caught.value, "reason", None) == reason


def test_missing_credentials_are_transient_and_not_the_images_fault(
    s3_environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageUnavailableError, match="Credentials"):
        S3ImageStore(max_bytes=10).fetch(ImageRef(uri="s3://b/k"))


def test_folders_that_are_not_allowed(local: Place, tmp_path: Path) -> None:
    ref = local.put("in/x", b"x")
    (tmp_path / "in" / "out").symlink_to("/etc/hostname")
    store = LocalImageStore(max_bytes=MAX_BYTES, allowed_folders=[str(tmp_path / "in")])
    assert store.fetch(ref) == b"x"
    for uri in ("file:///etc/hostname", (tmp_path / "in" / "out").as_uri(), f"{(tmp_path / 'in').as_uri()}/../../x"):
        with pytest.raises(ImageError) as caught:
            store.fetch(ImageRef(uri=uri))
        assert caught.value.reason in {Reason.ACCESS_DENIED, Reason.NOT_FOUND}


def test_a_name_that_no_file_can_have(local: Place, tmp_path: Path) -> None:
    for name in ("a%00b.jpg", "%00", "k" * 300):
        assert reason_of(local, ImageRef(uri=f"{tmp_path.as_uri()}/{name}")) == Reason.NOT_FOUND


def test_a_named_pipe_does_not_hang_and_a_folder_is_no_image(local: Place, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert reason_of(local, ImageRef(uri=(tmp_path / "pipe").as_uri())) == Reason.NOT_AN_IMAGE
    assert reason_of(local, ImageRef(uri=tmp_path.as_uri())) == Reason.NOT_AN_IMAGE
    assert local_path((tmp_path / "pipe").as_uri()) == tmp_path / "pipe"


@pytest.mark.parametrize("stall", [False, True])
def test_a_body_that_breaks_off_is_a_transient_error(
    stall: bool, s3_environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that promises 1,000 bytes and sends 3. Then it closes the connection, or sends no more."""
    import http.server
    import threading
    import time

    class Stump(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"abc")
            self.wfile.flush()
            time.sleep(3 if stall else 0)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stump)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    try:
        with pytest.raises(StorageUnavailableError):
            S3ImageStore(max_bytes=2000, timeout_s=1).fetch(ImageRef(uri="s3://b/k"))
    finally:
        server.shutdown()
        server.server_close()


def test_a_bucket_name_that_is_not_possible(s3_environment: str) -> None:
    with pytest.raises(ImageError) as caught:
        S3ImageStore(max_bytes=10).fetch(ImageRef(uri="s3://My Bucket/x"))
    assert caught.value.reason == Reason.NOT_FOUND


def test_no_file_descriptor_is_left_open(local: Place, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(ImageError):
            local.store.fetch(ImageRef(uri=tmp_path.as_uri()))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
