"""S3ImageStore with servers that are distant, slow, wrong or hostile. Both boto3 and obstore are tested."""

import gzip
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from urllib.parse import quote

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.object_server import Answer, Asked, ObjectServer, error, object_server
from worker.errors import ImageError, Reason, StorageUnavailableError
from worker.messages import ImageRef
from worker.s3_store import MAX_BUCKETS, S3ImageStore

MAX_BYTES = 1000
KEYS = [
    "plain.jpg",
    "with space+plus%percent.jpg",
    "ünïcode/图.png",
    "a//b.jpg",
    "/a.jpg",
    "a.jpg/",
    "a/./b.jpg",
    "a/../b.jpg",
    "./a.jpg",
    "../a.jpg",
    ".",
    "..",
    "/",
    "//",
    "a/...b/..c",
    "a%2Fb.jpg",
    "%2e%2e/b.jpg",
    "a?b=c&d.jpg",
    "a#b.jpg",
    "a\\b.jpg",
    "~a*'(b)!$@:;,=&.jpg",
    "a\nb\t\x7f.jpg",
    "e\u0301.jpg",
    "\U0001f600/\u202e.jpg",
    "k" * 1024,
]


@pytest.fixture
def server(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    with object_server() as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", found.url)
        yield found


def store_for(server: ObjectServer, *, timeout_s: float = 5, max_bytes: int = MAX_BYTES) -> S3ImageStore:
    """A store that has fetched from bucket `b`: first with boto3, and from then on with obstore."""
    store = S3ImageStore(max_bytes=max_bytes, timeout_s=timeout_s)
    before, server.answer = server.answer, always(Answer(b"x"))
    for _ in range(2):
        assert store.fetch(ImageRef(uri="s3://b/first")) == b"x"
    assert [asked.by_obstore for asked in server.asked] == [False, True]
    server.answer = before
    server.asked.clear()
    return store


def fetch(store: S3ImageStore, key: str = "k", etag: str | None = None) -> bytes:
    return store.fetch(ImageRef(uri=f"s3://b/{key}", etag=etag))


@pytest.fixture(params=["boto3", "obstore"])
def store(request: pytest.FixtureRequest, server: ObjectServer) -> S3ImageStore:
    """A store whose next request is made by boto3, because it is new, or by obstore."""
    return store_for(server) if request.param == "obstore" else S3ImageStore(max_bytes=MAX_BYTES, timeout_s=5)


def in_turn(*answers: Answer) -> Callable[[Asked], Answer]:
    """Gives these answers in order, and then always the last one."""
    number = count()
    return lambda _: answers[min(next(number), len(answers) - 1)]


def always(answer: Answer) -> Callable[[Asked], Answer]:
    return in_turn(answer)


# Requests


def test_boto3_and_obstore_make_the_same_request(server: ObjectServer) -> None:
    store = S3ImageStore(max_bytes=MAX_BYTES)
    for _ in range(2):
        fetch(store, "a b/ü.jpg", "abc-3")
    first, second = server.asked
    assert (first.by_obstore, second.by_obstore) == (False, True)
    assert first.path == second.path == "/b/a%20b/%C3%BC.jpg"
    assert first.credential == second.credential == ("test", "us-east-1")
    assert first.headers["if-match"] == second.headers["if-match"] == '"abc-3"'


def test_keys_arrive_byte_by_byte(server: ObjectServer) -> None:
    store = store_for(server, max_bytes=4000)
    assert [fetch(store, key).decode() for key in KEYS] == ["/b/" + quote(key, safe="/~") for key in KEYS]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(["/", ".", "%", "a", "ü", " ", "\\", "\x00", "\x85", "?"]), min_size=1).map("".join))
def test_any_key_arrives_byte_by_byte(taught: S3ImageStore, key: str) -> None:
    if "\x00" not in key:  # no ref has a NUL
        assert fetch(taught, key).decode() == "/b/" + quote(key, safe="/~")


@pytest.fixture
def taught(server: ObjectServer) -> S3ImageStore:
    return store_for(server)


def test_any_key_fetches_its_own_object(bucket: str, s3_environment: str) -> None:
    """A server with real objects. Some have keys that another key could be confused with."""
    client = boto3.client("s3", endpoint_url=s3_environment)
    keys = ["b.jpg", "a.jpg", "a/b.jpg", "a", *KEYS]
    keys = [key for key in keys if key not in {".", "..", "/", "//"} and "\n" not in key]  # moto does not route these
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    store = S3ImageStore(max_bytes=4000)
    for _ in range(2):
        assert [store.fetch(ImageRef(uri=f"s3://{bucket}/{key}")).decode() for key in keys] == keys


def test_etags_are_sent_in_quotes(server: ObjectServer) -> None:
    store = store_for(server)
    for etag in ["abc", "abc-3", "a b", "*", "a\\b", 'a"b']:
        fetch(store, etag=etag)
        assert server.asked[-1].headers["if-match"] == f'"{etag}"'
        assert server.asked[-1].by_obstore


@pytest.mark.parametrize("etag", ["a\nb", "a\rb", "ü"])
def test_boto3_sends_an_etag_that_obstore_cannot_send(server: ObjectServer, etag: str) -> None:
    def outcome(store: S3ImageStore) -> str:
        try:
            return fetch(store, etag=etag).decode()
        except (ImageError, StorageUnavailableError) as error:
            return str(error)

    assert outcome(store_for(server)) == outcome(S3ImageStore(max_bytes=MAX_BYTES))
    assert not any(asked.by_obstore for asked in server.asked)


# Answers


PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 40


def packed(data: bytes) -> bytes:
    """Without the time: pytest-xdist needs the same test names in each process."""
    return gzip.compress(data, mtime=0)


RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("gzip", packed(PNG)),
        ("GZIP", packed(PNG[:20]) + packed(PNG[20:])),
        ("x-gzip", packed(PNG)),
        ("gzip,aws-chunked", packed(PNG)),
        ("gzip, gzip", packed(packed(PNG))),
        ("deflate", zlib.compress(PNG)),
        ("deflate", RAW_DEFLATE.compress(PNG) + RAW_DEFLATE.flush()),
        ("deflate, gzip", packed(zlib.compress(PNG))),
        *((lie, PNG) for lie in ("gzip", "deflate", "br", "base64", "utf-8", "aws-chunked", "identity", "")),
    ],
)
def test_a_compressed_image_is_unpacked(
    server: ObjectServer, store: S3ImageStore, encoding: str, stored: bytes
) -> None:
    server.answer = always(Answer(stored, headers={"Content-Encoding": encoding, "ETag": '"packed"'}))
    assert fetch(store, etag="packed") == PNG
    assert {asked.headers["if-match"] for asked in server.asked} == {'"packed"'}
    assert len(server.asked) == 1


@pytest.mark.parametrize("stored", [packed(b"hello"), zlib.compress(b"hello"), b"hello"])
def test_bytes_without_content_encoding_are_not_unpacked(
    server: ObjectServer, store: S3ImageStore, stored: bytes
) -> None:
    server.answer = always(Answer(stored))
    assert fetch(store) == stored


@pytest.mark.parametrize(
    ("encoding", "stored", "reason"),
    [
        ("gzip", packed(b"x" * (MAX_BYTES + 1)), Reason.TOO_LARGE),
        ("gzip, gzip", packed(packed(b"x" * 10**6)), Reason.TOO_LARGE),
        ("deflate", zlib.compress(b"x" * 10**6), Reason.TOO_LARGE),
        ("gzip", packed(PNG)[:-9], Reason.CORRUPT),
        ("gzip", packed(PNG)[:20] + b"?" + packed(PNG)[21:], Reason.CORRUPT),
        ("br", b"\x0b\x02\x80hello\x03", Reason.UNSUPPORTED_FORMAT),
        ("zstd", b"\x28\xb5\x2f\xfd rest", Reason.UNSUPPORTED_FORMAT),
    ],
)
def test_bytes_that_cannot_be_unpacked_fail_without_a_retry(
    server: ObjectServer, store: S3ImageStore, encoding: str, stored: bytes, reason: Reason
) -> None:
    server.answer = always(Answer(stored, headers={"Content-Encoding": encoding}))
    with pytest.raises(ImageError) as caught:
        fetch(store)
    assert caught.value.reason == reason
    assert len(server.asked) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_unknown_length(server: ObjectServer, store: S3ImageStore, chunked: bool) -> None:
    server.answer = always(Answer(b"hello", promised=None, chunked=chunked))
    assert fetch(store) == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"abc", promised=10**15, then="hang"),  # who reads this body waits without end
        Answer(b"x" * 600, promised=None, endless=True),
        Answer(b"x" * 600, promised=None, endless=True, chunked=True),
    ],
    ids=["promised", "no length", "chunked"],
)
def test_a_body_over_the_limit_is_not_read_to_its_end(
    server: ObjectServer, store: S3ImageStore, answer: Answer
) -> None:
    server.answer = always(answer)
    with pytest.raises(ImageError, match="FAKESWEEP_MAX_BYTES") as caught:
        fetch(store)
    assert caught.value.reason == Reason.TOO_LARGE
    # obstore refuses an answer without a length, so boto3 is asked. Neither reads on, times out and asks again.
    refused = server.asked[0].by_obstore and answer.promised is None
    assert len(server.asked) == (2 if refused else 1)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"abc", promised=900, then="hang up"),
        Answer(b"abc", promised=900, then="hang"),
        Answer(b"abc", promised=None, chunked=True, then="hang up"),
        Answer(b"abc", promised=None, chunked=True, then="hang"),
        Answer(silent=True, then="hang up"),
        Answer(silent=True, then="hang"),
    ],
    ids=["cut", "stalled", "cut chunks", "stalled chunks", "no answer", "silence"],
)
def test_a_body_that_breaks_off_or_stalls_is_a_transient_error(server: ObjectServer, answer: Answer) -> None:
    store = store_for(server, timeout_s=0.3)
    server.answer = always(answer)
    with pytest.raises(StorageUnavailableError):
        fetch(store)
    assert [asked.by_obstore for asked in server.asked][:2] == [True, False]
    assert len(server.asked) <= 4


def test_a_body_that_broke_off_once_is_fetched_again(server: ObjectServer) -> None:
    store = store_for(server)
    server.answer = in_turn(Answer(b"abc", promised=900, then="hang up"), Answer(b"whole"))
    assert fetch(store) == b"whole"


def test_a_busy_server_gets_four_requests_in_all(server: ObjectServer) -> None:
    store = store_for(server)
    server.answer = always(error("SlowDown", 503))
    with pytest.raises(StorageUnavailableError, match="S3 answered SlowDown"):
        fetch(store)
    assert [asked.by_obstore for asked in server.asked] == [True, False, False, False]


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_a_server_that_is_busy_for_a_moment_is_no_error(server: ObjectServer, bad: int) -> None:
    store = store_for(server)
    server.answer = in_turn(*[error("InternalError", 500)] * bad, Answer(b"ok"))
    assert fetch(store) == b"ok"


ERRORS = {
    ("NoSuchKey", 404): Reason.NOT_FOUND,
    ("NoSuchBucket", 404): Reason.NOT_FOUND,
    ("InvalidBucketName", 400): Reason.NOT_FOUND,
    ("KeyTooLongError", 400): Reason.NOT_FOUND,
    ("AccessDenied", 403): Reason.ACCESS_DENIED,
    ("AllAccessDisabled", 403): Reason.ACCESS_DENIED,
    ("InvalidObjectState", 403): Reason.ACCESS_DENIED,
    ("PreconditionFailed", 412): Reason.CHANGED,
    ("ExpiredToken", 400): None,
    ("InvalidAccessKeyId", 403): None,
    ("SignatureDoesNotMatch", 403): None,
    ("Unauthorized", 401): None,
}


def test_errors_are_the_same_when_obstore_fetches(server: ObjectServer) -> None:
    store = store_for(server)
    for (code, status), reason in ERRORS.items():
        server.answer = always(error(code, status))
        with pytest.raises((ImageError, StorageUnavailableError), match=f"S3 answered {code}(: so it is)?$") as caught:
            fetch(store)
        assert getattr(caught.value, "reason", None) == reason, code
        assert [asked.by_obstore for asked in server.asked] == [True, False], code
        server.asked.clear()


@pytest.mark.parametrize(("status", "reason"), [(403, Reason.ACCESS_DENIED), (404, Reason.NOT_FOUND), (502, None)])
def test_an_html_page_in_place_of_xml(
    server: ObjectServer, store: S3ImageStore, status: int, reason: Reason | None
) -> None:
    page = Answer(b"<html><p>Proxy<br></html>", status, {"Content-Type": "text/html"})
    server.answer = always(page)
    with pytest.raises((ImageError, StorageUnavailableError)) as caught:
        fetch(store)
    assert getattr(caught.value, "reason", None) == reason


# Regions


def region_is(wanted: str, refusal: Callable[[str], Answer]) -> Callable[[Asked], Answer]:
    return lambda asked: Answer(b"here") if asked.credential[1] == wanted else refusal(wanted)


@pytest.mark.parametrize(
    "refusal",
    [
        lambda region: error("PermanentRedirect", 301, headers={"x-amz-bucket-region": region}),
        lambda region: error("AuthorizationHeaderMalformed", 400, more=f"<Region>{region}</Region>"),
        lambda region: error("TemporaryRedirect", 307, headers={"x-amz-bucket-region": region}),
    ],
    ids=["301", "400", "307"],
)
def test_a_bucket_in_another_region(server: ObjectServer, refusal: Callable[[str], Answer]) -> None:
    store = S3ImageStore(max_bytes=MAX_BYTES)
    server.answer = region_is("eu-west-3", refusal)
    assert [fetch(store) for _ in range(3)] == [b"here"] * 3
    assert [(asked.by_obstore, asked.credential[1]) for asked in server.asked] == [
        (False, "us-east-1"), (False, "eu-west-3"), (True, "eu-west-3"), (True, "eu-west-3"),
    ]  # fmt: skip

    server.asked.clear()
    server.answer = region_is("eu-north-1", refusal)  # deleted there, made again elsewhere
    assert [fetch(store) for _ in range(2)] == [b"here"] * 2
    assert (server.asked[-1].by_obstore, server.asked[-1].credential[1]) == (True, "eu-north-1")


@pytest.fixture
def elsewhere() -> Iterator[ObjectServer]:
    with object_server() as found:
        yield found


def test_a_redirect_is_not_followed_without_a_signature(server: ObjectServer, elsewhere: ObjectServer) -> None:
    """obstore's client follows a redirect without the signature. S3 then denies the access."""
    store = store_for(server)
    elsewhere.answer = always(error("AccessDenied", 403))
    server.answer = in_turn(Answer(status=307, headers={"Location": f"{elsewhere.url}/b/k"}), Answer(b"here"))
    assert fetch(store) == b"here"


@pytest.mark.parametrize(("listed", "pages"), [(None, ""), ("an-etag", "another"), ("an-etag", "")])
def test_a_page_behind_a_redirect_is_not_taken_for_an_image(
    server: ObjectServer, elsewhere: ObjectServer, listed: str | None, pages: str
) -> None:
    store = store_for(server)
    elsewhere.answer = always(Answer(b"please log in", headers={"ETag": pages}))
    server.answer = always(Answer(status=302, headers={"Location": f"{elsewhere.url}/login"}))
    with pytest.raises(StorageUnavailableError, match="S3 answered"):
        fetch(store, etag=listed)
    assert len(elsewhere.asked) == 1


# What obstore cannot do


def test_boto3_is_used_for_a_server_that_obstore_cannot_use(server: ObjectServer) -> None:
    store = S3ImageStore(max_bytes=MAX_BYTES)
    server.answer = lambda asked: error("NoRobots", 406) if asked.by_obstore else Answer(b"x")
    with capture_logs() as logs:
        assert [fetch(store) for _ in range(6)] == [b"x"] * 6
    assert [asked.by_obstore for asked in server.asked] == [False, *[True, False] * 3, False, False]
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warning["bucket"] == "b"
    assert "406" in warning["error"]
    assert "Debug" not in warning["error"]


def test_obstore_is_kept_after_it_has_succeeded(server: ObjectServer) -> None:
    store = store_for(server)
    server.answer = lambda asked: error("NoRobots", 406) if asked.by_obstore else Answer(b"x")
    assert [fetch(store) for _ in range(5)] == [b"x"] * 5
    server.answer = lambda asked: Answer(b"y" if asked.by_obstore else b"x")
    assert fetch(store) == b"y"


def test_a_password_in_the_endpoint_does_not_replace_the_credentials(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url.replace("//", "//me:secret@"))
    store = S3ImageStore(max_bytes=MAX_BYTES)
    for _ in range(2):
        fetch(store)
    assert all(asked.credential[0] == "test" for asked in server.asked)


# Many requests at once


def _fetch_and_rest(store: S3ImageStore) -> bytes:
    """A connection is back in the pool a moment after its answer. Before that, a thread would open another one."""
    content = fetch(store)
    time.sleep(0.05)
    return content


def test_connections_are_reused(server: ObjectServer) -> None:
    store = store_for(server)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: _fetch_and_rest(store), range(100))) == {b"/b/k"}
    assert all(asked.by_obstore for asked in server.asked)
    assert server.connections <= 2 + 8


def test_many_threads_use_a_new_bucket_at_once(server: ObjectServer) -> None:
    store = S3ImageStore(max_bytes=MAX_BYTES)
    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(lambda n: fetch(store, f"k{n % 16}") == f"/b/k{n % 16}".encode(), range(64))) == {True}
    fetch(store)
    assert server.asked[-1].by_obstore


def test_the_number_of_remembered_buckets_is_limited(server: ObjectServer) -> None:
    store = S3ImageStore(max_bytes=MAX_BYTES)
    names = [f"bucket-{number}" for number in range(MAX_BUCKETS + 1)]
    for name in [*names, names[-1], names[0]]:
        store.fetch(ImageRef(uri=f"s3://{name}/k"))
    assert [asked.by_obstore for asked in server.asked[-2:]] == [True, False]
