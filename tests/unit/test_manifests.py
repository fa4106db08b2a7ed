"""Manifests and standard input: their forms, uris that come twice, and how a listing is continued."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from producers.listing import Page, Rules, SkipReason
from producers.sources import open_source
from producers.sources.distinct import seen_uris
from producers.sources.rows import PAGE_ROWS
from worker.errors import SourceError, UnknownSourceError


def pages_of(path: object, cursor: str | None = None, lines: list[str] | None = None) -> list[Page]:
    warn = print if lines is None else lines.append
    return list(open_source([str(path)], Rules(), warn).pages(cursor))


def uris(pages: Sequence[Page]) -> list[str]:
    return [ref.uri for page in pages for ref in page.refs]


def skipped(pages: Sequence[Page], why: SkipReason) -> int:
    return sum(page.skipped.get(why, 0) for page in pages)


@pytest.mark.parametrize("packed", [False, True])
def test_json_lines_in_the_form_of_rekognition(tmp_path: Path, packed: bool) -> None:
    manifest = tmp_path / ("m.csv.jsonl.gz" if packed else "m.jsonl")
    entries = [
        {"source-ref": "s3://b/1", "external_id": "one", "etag": '"e"', "size": 3},
        {"source-ref": "s3://b/2", "external-id": "two"},
        {"source-ref": "s3://b/1"},
    ]
    text = (
        "\n".join(map(json.dumps, entries)) + "\n\nnot json\n" + '{"source-ref": "ftp://x"}\n[1]\n{"source-ref": 5}\n'
    )
    manifest.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    lines: list[str] = []
    pages = pages_of(manifest, lines=lines)
    found = [(ref.uri, ref.external_id, ref.etag, ref.size) for page in pages for ref in page.refs]
    assert found == [("s3://b/1", "one", "e", 3), ("s3://b/2", "two", None, None)]
    assert [line.split(": ")[0] for line in lines] == [f"{manifest.name} line {number}" for number in (5, 6, 7, 8)]
    assert (skipped(pages, SkipReason.INVALID), skipped(pages, SkipReason.DUPLICATE)) == (4, 1)


@pytest.mark.parametrize("packed", [False, True])
def test_inventory_csv(tmp_path: Path, packed: bool) -> None:
    text = b'"b","a+b%2Bc.jpg","123"\n"b","plain.jpg","5"\n\n"b"\n"b","caf%E9.jpg"\n"","x"\n'
    path = tmp_path / ("i.csv.gz" if packed else "i.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    lines: list[str] = []
    pages = pages_of(path, lines=lines)
    assert uris(pages) == ["s3://b/a b+c.jpg", "s3://b/plain.jpg"]
    assert skipped(pages, SkipReason.INVALID) == 3
    assert [line.partition("line ")[2] for line in lines] == [
        "4: no bucket and key",
        "5: key 'caf%E9.jpg' is not UTF-8",
        "6: no bucket and key",
    ]


def test_csv_with_a_header(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_text(
        '\ufeffsize,URI,external_id,etag,x\n5,s3://b/a+b%20.jpg,one,"e",\n,"s3://b/2\n.jpg",,,\n1,s3://b/3\n'
    )
    lines: list[str] = []
    (page,) = pages_of(path, lines=lines)
    assert [(ref.uri, ref.size, ref.external_id, ref.etag) for ref in page.refs] == [
        ("s3://b/a+b%20.jpg", 5, "one", "e"),
        ("s3://b/2\n.jpg", None, None, None),
    ]
    assert lines == ["h.csv line 5: 2 columns, but the header has 5"]


def test_keys_in_parquet_are_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "i.parquet"
    parquet.write_table(
        pyarrow.table({"bucket": ["b"], "key": ["k%20+ .jpg"], "e_tag": ['"abc"'], "size": [7], "other": [1]}), path
    )
    ((ref,),) = [page.refs for page in pages_of(path)]
    assert (ref.uri, ref.etag, ref.size) == ("s3://b/k%20+ .jpg", "abc", 7)
    parquet.write_table(pyarrow.table({"uri": ["s3://b/x", None], "external_id": ["one", "two"]}), path)
    lines: list[str] = []
    (page,) = pages_of(path, lines=lines)
    assert [(ref.uri, ref.external_id) for ref in page.refs] == [("s3://b/x", "one")]
    assert lines == ["i.parquet row 2: no uri, and no bucket and key"]
    parquet.write_table(pyarrow.table({"name": ["s3://b/x"]}), path)
    with pytest.raises(UnknownSourceError, match="columns"):
        pages_of(path)


def jsonl(path: Path, names: Sequence[str]) -> None:
    path.write_text("".join(json.dumps({"source-ref": f"s3://b/{name}"}) + "\n" for name in names))


def csv_gz(path: Path, names: Sequence[str]) -> None:
    path.write_bytes(gzip.compress("".join(f'"b","{name}"\n' for name in names).encode()))


def table(path: Path, names: Sequence[str]) -> None:
    parquet.write_table(pyarrow.table({"uri": [f"s3://b/{name}" for name in names]}), path)


@pytest.mark.parametrize(("name", "write"), [("m.jsonl", jsonl), ("m.csv.gz", csv_gz), ("m.parquet", table)])
def test_a_manifest_continues_after_each_page(
    tmp_path: Path, name: str, write: Callable[[Path, Sequence[str]], None]
) -> None:
    names = [str(number % 2200) for number in range(3500)]
    write(tmp_path / name, names)
    whole = pages_of(tmp_path / name)
    assert uris(whole) == [f"s3://b/{number}" for number in range(2200)]
    assert skipped(whole, SkipReason.DUPLICATE) == 1300
    for place, page in enumerate(whole):
        rest = pages_of(tmp_path / name, page.cursor)
        assert uris(rest) == uris(whole[place + 1 :])
        assert skipped(rest, SkipReason.DUPLICATE) == skipped(whole[place + 1 :], SkipReason.DUPLICATE)


def test_a_manifest_that_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    jsonl(path, ["1"])
    (page,) = pages_of(path)
    jsonl(path, ["1", "2"])
    with pytest.raises(SourceError, match="changed since the scan began"):
        pages_of(path, page.cursor)


@pytest.mark.parametrize("name", ["i.csv.gz", "i.jsonl.gz", "i.csv", "i.parquet"])
def test_a_manifest_that_breaks_off(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(os.urandom(1000))[:500] if name.endswith(".gz") else b"PAR1\xff\xfe\xff")
    with pytest.raises(SourceError, match=name):
        pages_of(path)


def test_images_before_the_end_of_a_broken_manifest_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "m.csv.gz"
    csv_gz(path, [os.urandom(9).hex() for _ in range(25_000)])
    path.write_bytes(path.read_bytes()[:-3000])
    pages = open_source([str(path)], Rules(), print).pages(None)
    assert len(next(pages).refs) == PAGE_ROWS
    with pytest.raises(SourceError, match=r"m\.csv\.gz"):
        list(pages)


@given(st.lists(st.lists(st.text(max_size=3), max_size=30), max_size=8))
def test_seen_uris_are_exact(batches: list[list[str]]) -> None:
    before: set[str] = set()
    with seen_uris() as seen:
        for batch in batches:
            first = {place for place, uri in enumerate(batch) if uri not in before and batch.index(uri) == place}
            assert seen.new(batch) == first
            before |= set(batch)


def test_seen_uris_leave_no_file_behind_a_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with seen_uris() as seen:
        assert list(tmp_path.iterdir()) == []
        for start in range(0, 600_000, 30_000):  # more than SQLite keeps in memory
            uris = [str(number) for number in range(start, start + 30_000)]
            assert len(seen.new(uris)) == 30_000
            assert list(tmp_path.iterdir()) == []
        assert seen.new(["5", "599999", "600000"]) == {2}


def test_seen_uris_are_exact_when_a_listing_is_no_longer_sorted() -> None:
    uris = [f"{number:05d}" for number in range(0, 20_000, 2)]
    with seen_uris() as seen:
        for start in range(0, 10_000, 3_000):
            page = uris[start : start + 3_000]
            assert seen.new(page) == set(range(len(page)))
        assert seen.new(["20000", "20001"]) == {0, 1}
        assert seen.new(["20002", "20001", "00002", "00003", "00003"]) == {0, 3}
        assert seen.new(["20003", *uris[-3:], "20002", "20004"]) == {0, 5}


def test_memory_does_not_grow_with_the_manifest(tmp_path: Path) -> None:
    def peak(lines: int) -> int:
        path = tmp_path / f"{lines}.jsonl"
        with path.open("w") as file:
            file.writelines(f'{{"source-ref": "s3://bucket/{number}"}}\n' for number in range(lines))
        tracemalloc.start()
        for _ in open_source([str(path)], Rules(), print).pages(None):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1000)
    assert peak(100_000) < 1.5 * peak(10_000)


def test_parquet_without_pyarrow_is_refused_at_once(tmp_path: Path) -> None:
    table(tmp_path / "m.parquet", ["1"])
    program = (
        "import sys\nsys.modules['pyarrow'] = None\n"
        "from producers.listing import Rules\nfrom producers.sources import open_source\n"
        "from worker.errors import UnknownSourceError\n"
        f"try:\n    open_source([{str(tmp_path / 'm.parquet')!r}], Rules(), print)\n"
        "except UnknownSourceError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert "pip install 'fakesweep[parquet]'" in done.stdout
