"""Sources in S3, over HTTP: listings, manifests and S3 Inventory."""

import gzip
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pyarrow
import pytest
from pyarrow import parquet

from producers.listing import Page, Rules, SkipReason
from producers.sources import open_source
from tests.listing_server import BUCKET, ListedKeys, serving
from worker.errors import SourceError, UnknownSourceError

NASTY = ["a b.jpg", "a+b.jpg", "a%2Bb.jpg", "100%.jpg", "ü/é\U0001f600.png", "d//e?&=#.jpg", "'\"<&>.jpg", "x" * 1024]


def pages_of(*sources: str, cursor: str | None = None, rules: Rules | None = None) -> list[Page]:
    return list(open_source(sources, rules or Rules(), print).pages(cursor))


def uris(pages: Sequence[Page]) -> list[str]:
    return [ref.uri for page in pages for ref in page.refs]


def skipped(pages: Sequence[Page]) -> dict[SkipReason, int]:
    return {why: sum(page.skipped.get(why, 0) for page in pages) for page in pages for why in page.skipped}


def put(bucket: str, key: str, body: bytes = b"image") -> str:
    return str(boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=body)["ETag"].strip('"'))


@pytest.fixture
def listed(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ListedKeys]:
    """Keys that a server of ours lists, in the bucket `archive`."""
    keys = ListedKeys([])
    with serving(keys) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        yield keys


def test_keys_are_listed_unchanged(bucket: str) -> None:
    etags = {f"s3://{bucket}/{key}": put(bucket, key, key.encode()) for key in NASTY}
    (page,) = pages_of(f"s3://{bucket}")
    assert {ref.uri: ref.etag for ref in page.refs} == etags
    assert {ref.uri: ref.size for ref in page.refs} == {f"s3://{bucket}/{key}": len(key.encode()) for key in NASTY}
    assert uris(pages_of(f"s3://{bucket}/a+")) == [f"s3://{bucket}/a+b.jpg"]


def test_keys_that_only_our_own_server_accepts(listed: ListedKeys) -> None:
    listed.keys = sorted([*NASTY, "new\nline\r.jpg", "tab\t", "\x01", "nul\x00"])
    (page,) = pages_of(f"s3://{BUCKET}/")
    assert uris([page]) == [f"s3://{BUCKET}/{key}" for key in listed.keys if key != "nul\x00"]
    assert page.skipped == {SkipReason.INVALID: 1}
    assert page.refs[0].etag == "d41d8cd98f00b204e9800998ecf8427e"


def test_a_listing_continues_at_any_key(listed: ListedKeys) -> None:
    listed.keys = sorted(f"{name}/{number}" for name in [*NASTY, "\n", "+", "%25"] for number in range(30))
    listed.page = 7
    whole = pages_of(f"s3://{BUCKET}")
    assert sorted(uris(whole)) == [f"s3://{BUCKET}/{key}" for key in listed.keys]
    for page in whole[::9]:
        rest = uris(pages_of(f"s3://{BUCKET}", cursor=page.cursor))
        assert sorted(uris(whole[: whole.index(page) + 1]) + rest) == sorted(uris(whole))


def test_an_empty_prefix_is_an_empty_listing(bucket: str) -> None:
    assert uris(pages_of(f"s3://{bucket}/nothing/here")) == []
    assert uris(pages_of(f"s3://{bucket}")) == []


def test_a_bucket_that_does_not_exist(s3_environment: str) -> None:
    for source in ("s3://no-such-bucket-anywhere/x", "s3://no-such-bucket-anywhere/x.jsonl", "s3://n^t/a"):
        with pytest.raises(UnknownSourceError, match="check the bucket's name") as raised:
            open_source([source], Rules(), print)
        assert "\n" not in str(raised.value)


def test_a_bucket_that_may_not_be_listed(listed: ListedKeys) -> None:
    listed.refuse_from = 0
    with pytest.raises(SourceError, match="grant s3:ListBucket"):
        open_source([f"s3://{BUCKET}/x"], Rules(), print)


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ({"AWS_ENDPOINT_URL_S3": "nonsense"}, "Invalid endpoint: nonsense: set the AWS_… variables"),
        ({"AWS_PROFILE": "nobody"}, "could not be found: set the AWS_… variables"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"},
            "set AWS_PROFILE",
        ),
    ],
)
def test_a_wrong_setting_of_boto3(
    setting: dict[str, str], remedy: str, s3_environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceError, match=remedy):
        open_source(["s3://some-bucket/x"], Rules(), print)


def test_ten_thousand_folders_over_http(listed: ListedKeys) -> None:
    listed.keys = [f"p/{number:05d}/x.jpg" for number in range(10_000)]
    assert sorted(uris(pages_of(f"s3://{BUCKET}/p/"))) == [f"s3://{BUCKET}/{key}" for key in listed.keys]
    assert listed.requests <= 44


def test_a_thousand_prefixes_over_http(listed: ListedKeys) -> None:
    listed.keys = [f"p/{number:05d}/x.jpg" for number in range(1000)]
    pages = pages_of(*(f"s3://{BUCKET}/p/{number:05d}/" for number in range(1000)))
    assert sorted(uris(pages)) == [f"s3://{BUCKET}/{key}" for key in listed.keys]


def test_a_listing_that_fails_in_the_middle_continues_from_its_last_page(listed: ListedKeys) -> None:
    listed.keys, listed.page = sorted(f"{number:02d}/{k}" for number in range(20) for k in range(50)), 10
    source = open_source([f"s3://{BUCKET}"], Rules(), print)
    taken: list[Page] = []
    listed.refuse_from = 60
    with pytest.raises(SourceError, match="cannot be read"):
        taken.extend(source.pages(None))
    assert 0 < len(uris(taken)) < 1000
    listed.refuse_from = None
    rest = pages_of(f"s3://{BUCKET}", cursor=taken[-1].cursor)
    assert sorted(uris(taken) + uris(rest)) == [f"s3://{BUCKET}/{key}" for key in listed.keys]


def test_a_server_that_fails_for_a_moment_is_asked_again(listed: ListedKeys) -> None:
    listed.keys = ["a", "b"]
    listed.stumbles = 2
    assert uris(pages_of(f"s3://{BUCKET}")) == [f"s3://{BUCKET}/a", f"s3://{BUCKET}/b"]
    assert listed.stumbles == 0


def test_folder_markers_and_rules(bucket: str) -> None:
    for key, body in {"a/": b"", "a/1.jpg": b"x" * 20, "a/2.jpg": b"", "a/3.txt": b"x"}.items():
        put(bucket, key, body)
    pages = pages_of(f"s3://{bucket}/a/", rules=Rules(suffixes=(".jpg",), min_bytes=1))
    assert uris(pages) == [f"s3://{bucket}/a/1.jpg"]
    assert skipped(pages) == {SkipReason.FOLDER_MARKER: 1, SkipReason.TOO_SMALL: 1, SkipReason.SUFFIX: 1}


def test_a_manifest_in_s3(bucket: str) -> None:
    text = "".join(f'{{"source-ref": "s3://b/{number}"}}\n' for number in range(2500))
    put(bucket, "m.jsonl.gz", gzip.compress(text.encode()))
    whole = pages_of(f"s3://{bucket}/m.jsonl.gz")
    assert uris(whole) == [f"s3://b/{number}" for number in range(2500)]
    assert uris(pages_of(f"s3://{bucket}/m.jsonl.gz", cursor=whole[0].cursor)) == uris(whole[1:])
    with pytest.raises(UnknownSourceError, match="on its own"):
        open_source([f"s3://{bucket}/m.jsonl.gz", f"s3://{bucket}/x"], Rules(), print)
    put(bucket, "m.jsonl.gz", gzip.compress(text.encode() * 2))
    with pytest.raises(SourceError, match="changed since"):
        pages_of(f"s3://{bucket}/m.jsonl.gz", cursor=whole[0].cursor)


def test_a_manifest_that_is_replaced_between_opening_and_reading(bucket: str) -> None:
    put(bucket, "m.jsonl", b'{"source-ref": "s3://b/1"}\n')
    source = open_source([f"s3://{bucket}/m.jsonl"], Rules(), print)
    put(bucket, "m.jsonl", b'{"source-ref": "s3://b/2"}\n')
    with pytest.raises(SourceError, match="changed since"):
        list(source.pages(None))


def test_a_prefix_that_ends_like_a_manifest(bucket: str) -> None:
    put(bucket, "x.jsonl/1.jpg")
    assert uris(pages_of(f"s3://{bucket}/x.jsonl")) == [f"s3://{bucket}/x.jsonl/1.jpg"]


ROWS = [
    # key, latest, delete marker, size, etag
    ("a b+%.jpg", True, False, 5, "e1"),
    ("old.jpg", False, False, 5, "e2"),
    ("gone.jpg", True, True, None, None),
    ("gone.jpg", False, True, None, None),
    ("ü.jpg", True, False, 7, "e5"),
]


def inventory_csv() -> bytes:
    keys = {"a b+%.jpg": "a+b%2B%25.jpg", "ü.jpg": "%C3%BC.jpg"}
    rows = (
        [keys.get(key, key), "v", str(latest).lower(), str(marker).lower(), str(size or ""), etag or ""]
        for key, latest, marker, size, etag in ROWS
    )
    return gzip.compress("".join('"src","' + '","'.join(row) + '"\n' for row in rows).encode())


def inventory_parquet() -> bytes:
    file = io.BytesIO()
    names = ("key", "is_latest", "is_delete_marker", "size", "e_tag")
    columns = dict(zip(names, map(list, zip(*ROWS, strict=True)), strict=True))
    parquet.write_table(pyarrow.table({"bucket": ["src"] * len(ROWS), **columns}), file)
    return file.getvalue()


def manifest(bucket: str, form: str, parts: dict[str, bytes], **changes: Any) -> bytes:
    files = [{"key": key, "size": len(p), "MD5checksum": hashlib.md5(p).hexdigest()} for key, p in parts.items()]
    schema = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, ETag" if form == "CSV" else "message s3.inventory"
    facts = {"sourceBucket": "src", "destinationBucket": f"arn:aws:s3:::{bucket}", "version": "2016-11-30"}
    return json.dumps(facts | {"fileFormat": form, "fileSchema": schema, "files": files} | changes).encode()


FORMS = [("CSV", "csv.gz", inventory_csv), ("Parquet", "parquet", inventory_parquet)]


@pytest.mark.parametrize(("form", "ending", "write"), FORMS)
def test_an_inventory_is_read(bucket: str, form: str, ending: str, write: Any) -> None:
    more = pyarrow.table({"bucket": ["src"] * 6500, "key": [f"{n}.jpg" for n in range(6500)]})
    parquet.write_table(more, last := io.BytesIO())
    rows = "".join(f'"src","{n}.jpg","v","true","false","",""\n' for n in range(6500))
    parts = {
        f"dest/src/cfg/data/1.{ending}": write(),
        f"dest/src/cfg/data/2.{ending}": gzip.compress(rows.encode()) if form == "CSV" else last.getvalue(),
    }
    for key, body in parts.items():
        put(bucket, key, body)
    key = "dest/src/cfg/2024-01-01T00-00Z/manifest.json"
    put(bucket, key, manifest(bucket, form, parts))
    whole = pages_of(f"s3://{bucket}/{key}")
    refs = [(ref.uri, ref.size, ref.etag) for ref in whole[0].refs]
    assert refs == [("s3://src/a b+%.jpg", 5, "e1"), ("s3://src/ü.jpg", 7, "e5")]
    assert skipped(whole) == {SkipReason.OLD_VERSION: 2, SkipReason.DELETE_MARKER: 1}
    assert [len(page.refs) for page in whole] == [2, 5000, 1500]
    for place, page in enumerate(whole):
        assert uris(pages_of(f"s3://{bucket}/{key}", cursor=page.cursor)) == uris(whole[place + 1 :])
    put(bucket, key, manifest(bucket, form, parts, version="later"))
    with pytest.raises(SourceError, match="changed since"):
        pages_of(f"s3://{bucket}/{key}", cursor=whole[0].cursor)


def test_an_inventory_whose_files_do_not_fit_its_manifest(bucket: str) -> None:
    put(bucket, "data/1.csv.gz", inventory_csv())
    put(bucket, "x/manifest.json", manifest(bucket, "CSV", {"data/1.csv.gz": b"something else"}))
    with pytest.raises(SourceError, match="MD5"):
        pages_of(f"s3://{bucket}/x/manifest.json")
    put(bucket, "x/manifest.json", manifest(bucket, "CSV", {"data/2.csv.gz": b"not there"}))
    with pytest.raises(SourceError, match=r"data/2\.csv\.gz"):
        pages_of(f"s3://{bucket}/x/manifest.json")


def test_an_inventory_without_buckets_or_keys(tmp_path: Path) -> None:
    def invalid(form: str, name: str, part: bytes, **changes: Any) -> list[str]:
        (tmp_path / name).write_bytes(part)
        (tmp_path / "manifest.json").write_bytes(manifest("b", form, {name: part}, **changes))
        lines: list[str] = []
        (page,) = open_source([str(tmp_path / "manifest.json")], Rules(), lines.append).pages(None)
        assert uris([page]) == ["s3://src/ok"] * (len(lines) > 1)
        assert page.skipped == {SkipReason.INVALID: len(lines)}
        return [line.partition(": ")[2] for line in lines]

    assert invalid("CSV", "1.csv", b'"x.jpg"\n', fileSchema="Key") == ["no bucket and key"]
    text = b'"src","caf%E9.jpg"\n"src","ok"\n"src",""\n'
    not_utf_8 = "key 'caf%E9.jpg' is not UTF-8"
    assert invalid("CSV", "2.csv", text, fileSchema="Bucket, Key") == [not_utf_8, "no bucket and key"]
    table = pyarrow.table({"bucket": ["src", "src", None], "key": [None, "ok", "x"]})
    parquet.write_table(table, file := io.BytesIO())
    assert invalid("Parquet", "3.parquet", file.getvalue()) == ["no bucket and key"] * 2


def test_the_local_copy_of_a_manifest_has_no_name(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    put(bucket, "m.jsonl", b'{"source-ref": "s3://b/1"}\n')
    pages = open_source([f"s3://{bucket}/m.jsonl"], Rules(), print).pages(None)
    assert uris([next(iter(pages))]) == ["s3://b/1"]
    assert list(tmp_path.iterdir()) == []


def test_an_inventory_that_cannot_be_read(bucket: str) -> None:
    put(bucket, "manifest.json", manifest(bucket, "ORC", {}))
    with pytest.raises(UnknownSourceError, match="ask S3 for CSV or Parquet"):
        open_source([f"s3://{bucket}/manifest.json"], Rules(), print)
    put(bucket, "manifest.json", b'{"files": 5}')
    with pytest.raises(UnknownSourceError, match=r"manifest\.json"):
        open_source([f"s3://{bucket}/manifest.json"], Rules(), print)


@pytest.mark.parametrize("folder", ["here", "here/data", "data"])
def test_an_inventory_that_was_copied_to_this_machine(tmp_path: Path, folder: str) -> None:
    parts = {"dest/src/cfg/data/1.csv.gz": inventory_csv()}
    (tmp_path / "here").mkdir()
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / "here" / "manifest.json").write_bytes(manifest("b", "CSV", parts))
    with pytest.raises(SourceError, match="copy the inventory's data folder"):
        pages_of(str(tmp_path / "here" / "manifest.json"))
    (tmp_path / folder / "1.csv.gz").write_bytes(inventory_csv())
    assert len(uris(pages_of(str(tmp_path / "here" / "manifest.json")))) == 2
