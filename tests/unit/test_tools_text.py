"""Text as users' tools write it: byte-order marks, numbers in place of text, headers, quotes, line endings."""

import codecs
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from producers.listing import SkipReason
from producers.nightly.schedule import load
from producers.sources.piped import MAX_LINE_BYTES
from tests.unit.test_manifests import pages_of, skipped, uris
from tests.unit.test_standard_input import read_from
from worker.errors import ConfigurationError, SourceError
from worker.lab.datasets.reading import read_dataset
from worker.lab.datasets.records import Record
from worker.lab.training.recipe import load_recipe

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
"""The encodings that a file may have. The last three have a byte-order mark."""


def listed(path: Path, text: str | bytes) -> tuple[list[str], list[str]]:
    """Returns the uris and the warnings of a manifest."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    lines: list[str] = []
    return uris(pages_of(path, lines=lines)), lines


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.jsonl", '{"source-ref": "s3://b/é"}\n{"uri": "s3://b/2"}\n'),
        ("m.csv", "uri\ns3://b/é\ns3://b/2\n"),
        ("M.TXT", "s3://b/é\ns3://b/2\n"),
    ],
)
def test_byte_order_marks(tmp_path: Path, name: str, text: str, ends: str, encoding: str) -> None:
    written = text.replace("\n", ends).encode(encoding)
    for data in (written, gzip.compress(written)):  # compressed, whatever its name says
        assert listed(tmp_path / name, data) == (["s3://b/é", "s3://b/2"], [])


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
def test_a_carriage_return_alone_ends_a_line(tmp_path: Path, name: str) -> None:
    text = {"m.jsonl": '{"uri": "s3://b/1"}\r{"uri": "s3://b/2"}\r', "m.csv": "uri\rs3://b/1\rs3://b/2\r"}[name]
    assert listed(tmp_path / name, text) == (["s3://b/1", "s3://b/2"], [])


def test_byte_order_marks_and_line_endings_in_standard_input() -> None:
    lines: list[str] = []
    assert uris(read_from(codecs.BOM_UTF8 + b"s3://b/1\r\n\r\n \n", lines=lines)) == ["s3://b/1"]
    assert uris(read_from(b"s3://b/1\rs3://b/2\r", lines=lines)) == []
    (line,) = lines
    assert line.startswith("standard input line 1: lines that end in a carriage return alone: convert them")
    for encoding in ("utf-16", "utf-32"):
        with pytest.raises(SourceError, match=f"standard input: the text is in {encoding.upper()}: pipe UTF-8 in"):
            read_from("s3://b/1\n".encode(encoding))
    with pytest.raises(SourceError, match="a line of more than"):
        uris(pages_of_pipe(b"x" * (MAX_LINE_BYTES + 1)))


def pages_of_pipe(data: bytes) -> Any:
    import io

    from producers.listing import Rules
    from producers.sources.manifests import StandardInput
    from producers.sources.piped import lines

    class Raw(io.RawIOBase):
        """A stream without a buffer."""

        source = io.BytesIO(data)

        def read(self, size: int = -1) -> bytes:
            return self.source.read(size)

    return list(StandardInput(lines(Raw()), Rules(), print).pages(None))


def test_each_fault_in_standard_input_has_its_line() -> None:
    lines: list[str] = []
    text = b's3://b/\xff\n"s3://b/quoted \\u00e9"\n\'s3://b/2\'\nC:\\a.jpg\n/a.jpg\0/b.jpg\n{"uri": "s3://b/\xe9"}\nx\ns3://b/3\n'
    pages = read_from(text, lines=lines)
    assert uris(pages) == ["s3://b/quoted é", "s3://b/3"]
    assert [line.split(":")[0] for line in lines] == [f"standard input line {number}" for number in (1, 3, 4, 5, 6, 7)]
    assert skipped(pages, SkipReason.INVALID) == 6


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("bucket,key", "b,a+b%20.jpg"),
        ("Key,Size,Bucket", "a+b%20.jpg,5,b"),
        ("uri", "s3://b/a+b%20.jpg"),
        ("SIZE,Source-Ref,x", "5,s3://b/a+b%20.jpg,y"),
        ("id,url", "7,s3://b/a+b%20.jpg"),
        ("label; path", "0; s3://b/a+b%20.jpg"),
        ("bucket\tkey", "b\ta+b%20.jpg"),
        ('\n"bucket", "key"', 'b,"a+b%20.jpg"'),
    ],
)
def test_headers_of_csv(tmp_path: Path, header: str, row: str) -> None:
    assert listed(tmp_path / "m.csv", f"{header}\n{row}\n") == (["s3://b/a+b%20.jpg"], [])


@pytest.mark.parametrize(
    "first",
    ["filename,label", "Key,LastModified,ETag", "image_id,photo", "name", "s3://b/1.jpg", "s3://b/1.jpg,fake",
     "/a/b.jpg,1", "file:///a.jpg", "id,image,label", "sep=;", "PAR1\udcff"],
)  # fmt: skip
def test_an_unknown_first_line(tmp_path: Path, first: str) -> None:
    data = f"{first}\nphotos,a.jpg\n".encode(errors="surrogateescape")
    with pytest.raises(SourceError, match=r"m\.csv: line 1 is neither .*: give a first line that names the columns"):
        listed(tmp_path / "m.csv", data)


def test_csv_without_a_header_is_still_read(tmp_path: Path) -> None:
    for first in ("photos,imagery", "b,key.jpg", "my-bucket.x,name/1.jpg"):
        found, _ = listed(tmp_path / "m.csv", f"{first}\nphotos,a+b%2Bc.jpg\n")
        assert found == ["s3://" + first.replace(",", "/"), "s3://photos/a b+c.jpg"][-len(found) :]
    found, lines = listed(tmp_path / "m.csv", "photos,1.jpg\ns3://b/2.jpg,x\n")
    assert found == ["s3://photos/1.jpg"]
    assert lines == [
        "m.csv line 2: 's3://b/2.jpg' is not a bucket: name the columns in the first line: uri, or bucket,key"
    ]


def test_long_fields_and_missing_quotation_marks_in_csv(tmp_path: Path) -> None:
    long = "x" * 200_000
    text = f'uri,note\ns3://b/1,{long}\ns3://b/2,"a\nb"\ns3://b/3,"a"b\ns3://b/4,\ns3://b/5\ns3://b/6,"a\n'
    found, lines = listed(tmp_path / "m.csv", text)
    assert found == ["s3://b/1", "s3://b/2", "s3://b/4"]
    assert [line.split(":")[0] for line in lines] == [f"m.csv line {number}" for number in (5, 7, 8)]
    assert "is a quotation mark missing?" in lines[0]
    assert "1 columns" in lines[1]
    assert "unexpected end of data" in lines[2]


@pytest.mark.parametrize(
    ("given", "text"),
    [(17, "17"), (17.0, "17"), (17.5, "17.5"), (10**30, str(10**30)), (float("nan"), None), ("017", "017"), (0, "0"),
     ("", None)],
)  # fmt: skip
def test_numbers_in_place_of_text(tmp_path: Path, given: Any, text: str | None) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"source-ref": "s3://b/1", "external_id": given}) + "\n")
    ((ref,),) = [page.refs for page in pages_of(path)]
    assert ref.external_id == text
    if given != 10**30:
        parquet.write_table(pyarrow.table({"uri": ["s3://b/1"], "external_id": [given]}), tmp_path / "m.parquet")
        ((ref,),) = [page.refs for page in pages_of(tmp_path / "m.parquet")]
        assert ref.external_id == text


def test_numbers_in_other_columns(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rows = [{"bucket": "b", "key": 17, "etag": 5, "size": 7.0}, {"uri": "s3://b/2", "size": float("nan")}]
    faults = [{"uri": "s3://b/3", "etag": 1.5}, {"uri": "s3://b/4", "external_id": 1e300}, {"uri": []}, {"uri": 5},
              {"uri": "s3://b/5", "external_id": True}, {"uri": "s3://b/6", "external_id": {}}]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows + faults))
    lines: list[str] = []
    (page,) = pages_of(path, lines=lines)
    assert [(ref.uri, ref.etag, ref.size) for ref in page.refs] == [("s3://b/17", "5", 7), ("s3://b/2", None, None)]
    assert [line.split(":")[0] for line in lines] == [f"m.jsonl line {number}" for number in range(3, 9)]
    assert "has lost digits: write it in quotation marks" in lines[0]


def test_numbers_as_pandas_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("uri,external_id,size,etag\ns3://b/1,17.0,5.0,12.0\ns3://b/2,,,\ns3://b/3,1.5,6,a.0\n")
    (page,) = pages_of(path)
    facts = [(ref.external_id, ref.size, ref.etag) for ref in page.refs]
    assert facts == [("17.0", 5, "12.0"), (None, None, None), ("1.5", 6, "a.0")]


def test_columns_of_parquet_in_other_types(tmp_path: Path) -> None:
    columns = {"Bucket": [b"b"], "KEY": [17], "external_id": [Decimal("17.00")], "size": [5.0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    ((ref,),) = [page.refs for page in pages_of(tmp_path / "m.parquet")]
    assert (ref.uri, ref.external_id, ref.size) == ("s3://b/17", "17.00", 5)


def test_names_in_manifests_that_are_not_utf_8(tmp_path: Path) -> None:
    name = str(tmp_path / "caf\udce9.jpg")
    raw = name.encode(errors="surrogateescape")
    uri = f"{tmp_path.as_uri()}/caf%E9.jpg"
    assert listed(tmp_path / "m.csv", b"path\n" + raw + b"\n") == ([uri], [])
    assert listed(tmp_path / "m.txt", raw + b"\n") == ([uri], [])
    assert listed(tmp_path / "m.jsonl", json.dumps({"path": name}) + "\n") == ([uri], [])  # written by Python
    found, lines = listed(tmp_path / "m.jsonl", b'{"path": "' + raw + b'"}\n{"uri": "s3://b/\xe9"}\n')
    assert (found, len(lines)) == ([], 2)
    assert "not UTF-8" in lines[0]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_files_of_settings_and_datasets(tmp_path: Path, encoding: str) -> None:
    schedule = '[photos]\ncrontab = "0 2 * * *"\nsource = "s3://photos/é/"\n'
    (tmp_path / "nightly.toml").write_bytes(schedule.encode(encoding))
    assert load(tmp_path / "nightly.toml")["photos"].sources == ("s3://photos/é/",)
    shipped = Path("worker/lab/training/recipes/lora.toml").read_text()
    (tmp_path / "r.toml").write_bytes(shipped.encode(encoding))
    assert load_recipe(str(tmp_path / "r.toml")) == load_recipe("lora")
    (tmp_path / "records.json").write_bytes(json.dumps([{"image": "é.png", "label": 1}]).encode(encoding))
    (record,) = read_dataset(tmp_path / "records.json")
    assert isinstance(record, Record)


def test_settings_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b'[caf\xe9]\ncrontab = "0 2 * * *"\n')
    with pytest.raises(ConfigurationError, match=r"FAKESWEEP_NIGHTLY: .*: save it as UTF-8"):
        load(tmp_path / "x.toml")
    with pytest.raises(ConfigurationError, match=r"--recipe: .*: save it as UTF-8"):
        load_recipe(str(tmp_path / "x.toml"))
