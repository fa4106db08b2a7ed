"""Folders and manifests."""

import gzip
import json
import os
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from producers.sources import SourceError, UnknownSourceError, list_source
from worker.storage import local_path


def listed(source: object, skipped: list[str] | None = None) -> list[str]:
    lines = [] if skipped is None else skipped
    return [ref.uri for ref in list_source(str(source), lines.append)]


def test_a_folder_gives_every_file_below_it(tmp_path: Path) -> None:
    names = ["b.jpg", "a b+%.png", "ü/x\ny.gif", "notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    paths = {str(local_path(uri).relative_to(tmp_path)) for uri in listed(tmp_path)}
    assert paths == set(names)
    assert listed(tmp_path) == listed(tmp_path.as_uri())


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / name).write_bytes(b"x")
    (uri,) = listed(tmp_path)
    assert uri.endswith("caf%E9.jpg")
    assert local_path(uri).read_bytes() == b"x"


def test_a_link_to_nowhere_is_listed_and_a_loop_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert [Path(uri).name for uri in listed(tmp_path)] == ["dangling.jpg"]


def test_json_lines_as_rekognition_takes_them(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    entries = [{"source-ref": "s3://b/1", "external_id": "one"}, {"source-ref": "s3://b/2"}, {"source-ref": "s3://b/1"}]
    manifest.write_text("\n".join(map(json.dumps, entries)) + "\n\nnot json\n" + '{"source-ref": "ftp://x"}\n')
    skipped: list[str] = []
    refs = list(list_source(str(manifest), skipped.append))
    assert [(ref.uri, ref.external_id) for ref in refs] == [("s3://b/1", "one"), ("s3://b/2", None)]
    assert len(skipped) == 3
    assert any("line 5" in line for line in skipped)


@pytest.mark.parametrize("packed", [False, True])
def test_inventory_csv(tmp_path: Path, packed: bool) -> None:
    text = b'"b","a+b%2Bc.jpg","123"\n"b","plain.jpg","5"\n\n'
    path = tmp_path / ("i.csv.gz" if packed else "i.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    assert listed(path) == ["s3://b/a b+c.jpg", "s3://b/plain.jpg"]


def test_inventory_parquet(tmp_path: Path) -> None:
    table = pyarrow.table({"bucket": ["b"], "key": ["k%20.jpg"], "e_tag": ["abc"], "size": [7]})
    parquet.write_table(table, tmp_path / "i.parquet")
    (ref,) = list_source(str(tmp_path / "i.parquet"), print)
    assert (ref.uri, ref.etag, ref.size) == ("s3://b/k .jpg", "abc", 7)


@pytest.mark.parametrize("source", ["/nowhere/at/all", "s3://", "nothing.jsonl"])
def test_a_source_that_is_not_there(source: str) -> None:
    with pytest.raises(UnknownSourceError):
        list_source(source, print)


def test_a_manifest_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "i.csv.gz"
    path.write_bytes(gzip.compress(b'"b","k"\n' * 1000)[:20])
    with pytest.raises(SourceError, match=r"i\.csv\.gz"):
        listed(path)
