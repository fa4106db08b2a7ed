"""Folders, single files, and what `open_source` makes of a name."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from producers.listing import Page, PassedOver, Rules, SourceError, UnknownSourceError
from producers.sources import open_source
from producers.sources.folders import FolderSource
from worker.storage import local_path


def pages_of(source: object, cursor: str | None = None, rules: Rules | None = None) -> list[Page]:
    return list(open_source([str(source)], rules or Rules(), print).pages(cursor))


def listed(source: object) -> list[str]:
    return uris(pages_of(source))


def uris(pages: Sequence[Page]) -> list[str]:
    return [ref.uri for page in pages for ref in page.refs]


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
    (page,) = pages_of(tmp_path)
    (uri,) = uris([page])
    assert uri.endswith("caf%E9.jpg")
    assert local_path(uri).read_bytes() == b"x"
    page.cursor.encode()
    assert pages_of(tmp_path, page.cursor) == []


def test_a_link_to_nowhere_is_listed_and_a_loop_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert [Path(uri).name for uri in listed(tmp_path)] == ["dangling.jpg"]


TREE = ["a/a/1", "a/a/2", "a/b/1", "a.jpg", "a/z", "a-b/1", "b/é/1", "b/é/x/y/1", "c", os.fsdecode(b"d\xff/\xfe")]


def test_a_walk_goes_on_from_each_of_its_files(tmp_path: Path) -> None:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = FolderSource(tmp_path, Rules(), print, page_files=1)
    whole = list(folder.pages(None))
    assert len(uris(whole)) == len(TREE)
    for place, page in enumerate(whole):
        assert uris(list(folder.pages(page.cursor))) == uris(whole)[place + 1 :]


def test_a_walk_goes_on_where_its_last_file_is_gone(tmp_path: Path) -> None:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = FolderSource(tmp_path, Rules(), print, page_files=1)
    whole = list(folder.pages(None))
    place = next(place for place, uri in enumerate(uris(whole)) if uri.endswith("a/a/2"))
    shutil.rmtree(tmp_path / "a" / "a")
    assert uris(list(folder.pages(whole[place].cursor))) == uris(whole)[place + 1 :]


def test_a_folder_that_cannot_be_read_is_told_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b").mkdir()
    lines: list[str] = []
    pages = FolderSource(tmp_path, Rules(), lines.append, page_files=1).pages(None)
    first = next(pages)
    (tmp_path / "b").rmdir()  # as root, no permission would keep it from being read
    (last,) = pages
    assert last.skipped == {PassedOver.UNREADABLE: 1}
    assert last.cursor == first.cursor
    assert len(lines) == 1
    assert str(tmp_path / "b") in lines[0]


def test_rules_are_counted(tmp_path: Path) -> None:
    for name, size in {"a.jpg": 5, "b.JPG": 500, "c.txt": 5, "d.jpg": 50_000}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    (page,) = pages_of(tmp_path, rules=Rules(suffixes=(".jpg",), min_bytes=10, max_bytes=1000))
    assert [Path(uri).name for uri in uris([page])] == ["b.JPG"]
    assert page.skipped == {PassedOver.TOO_SMALL: 1, PassedOver.SUFFIX: 1, PassedOver.TOO_LARGE: 1}


def test_pages_of_a_folder_are_no_longer_than_five_thousand(tmp_path: Path) -> None:
    for number in range(5001):
        (tmp_path / str(number)).touch()
    assert [len(page.refs) for page in pages_of(tmp_path)] == [5000, 1]


def test_a_single_file_is_one_image(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"x")
    (page,) = pages_of(tmp_path / "x.jpg")
    assert page.refs[0].size == 1
    assert pages_of(tmp_path / "x.jpg", page.cursor) == []


@pytest.mark.parametrize("source", ["/nowhere/at/all", "s3://", "nothing.jsonl", "manifest.json"])
def test_a_source_that_is_not_there(source: str) -> None:
    with pytest.raises(UnknownSourceError):
        open_source([source], Rules(), print)


def test_several_sources_must_lie_in_s3(tmp_path: Path) -> None:
    for sources in ([], [str(tmp_path), str(tmp_path)], ["s3://b/x", str(tmp_path)], ["-", "-"]):
        with pytest.raises(UnknownSourceError, match="give"):
            open_source(sources, Rules(), print)


def test_a_cursor_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cursor"):
        pages_of(tmp_path, '{"rows": 5}')
