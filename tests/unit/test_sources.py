"""Sources that are folders or single files, and how `open_source` reads a name."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from s3transfer.exceptions import S3DownloadFailedError

from producers.listing import Page, Rules, SkipReason
from producers.sources import absolute, open_source
from producers.sources.folders import FolderSource
from producers.sources.locations import Location, copied
from worker.errors import SourceError, UnknownSourceError
from worker.files import local_path


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


def test_a_walk_continues_after_each_of_its_files(tmp_path: Path) -> None:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = FolderSource(tmp_path, Rules(), print, page_files=1)
    whole = list(folder.pages(None))
    assert len(uris(whole)) == len(TREE)
    for place, page in enumerate(whole):
        assert uris(list(folder.pages(page.cursor))) == uris(whole)[place + 1 :]


def test_a_walk_continues_if_its_last_file_is_gone(tmp_path: Path) -> None:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = FolderSource(tmp_path, Rules(), print, page_files=1)
    whole = list(folder.pages(None))
    place = next(place for place, uri in enumerate(uris(whole)) if uri.endswith("a/a/2"))
    shutil.rmtree(tmp_path / "a" / "a")
    assert uris(list(folder.pages(whole[place].cursor))) == uris(whole)[place + 1 :]


def test_a_folder_that_cannot_be_read_is_reported_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b").mkdir()
    lines: list[str] = []
    pages = FolderSource(tmp_path, Rules(), lines.append, page_files=1).pages(None)
    first = next(pages)
    (tmp_path / "b").rmdir()  # root could read it whatever its permissions are, so it is removed
    (last,) = pages
    assert last.skipped == {SkipReason.UNREADABLE: 1}
    assert last.cursor == first.cursor
    assert len(lines) == 1
    assert str(tmp_path / "b") in lines[0]


def test_files_that_the_rules_skip_are_counted(tmp_path: Path) -> None:
    for name, size in {"a.jpg": 5, "b.JPG": 500, "c.txt": 5, "d.jpg": 50_000}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    (page,) = pages_of(tmp_path, rules=Rules(suffixes=(".jpg",), min_bytes=10, max_bytes=1000))
    assert [Path(uri).name for uri in uris([page])] == ["b.JPG"]
    assert page.skipped == {SkipReason.TOO_SMALL: 1, SkipReason.SUFFIX: 1, SkipReason.TOO_LARGE: 1}


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
def test_a_source_that_does_not_exist(source: str) -> None:
    with pytest.raises(UnknownSourceError):
        open_source([source], Rules(), print)


def test_several_sources_must_lie_in_s3(tmp_path: Path) -> None:
    for sources in ([], [str(tmp_path), str(tmp_path)], ["s3://b/x", str(tmp_path)], ["-", "-"]):
        with pytest.raises(UnknownSourceError, match="give"):
            open_source(sources, Rules(), print)


def test_a_cursor_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cursor"):
        pages_of(tmp_path, '{"rows": 5}')


def test_a_path_becomes_a_uri_that_means_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b%").mkdir()
    (tmp_path / "link").symlink_to("a b%")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "a b%")
    uri = f"file://{tmp_path}/a%20b%25"
    for source in (".", "../a b%", "../link/", "~/a b%", str(tmp_path / "a b%"), uri, f"file://{tmp_path}/link"):
        assert absolute(source) == uri
    assert absolute("x.jpg") == f"{uri}/x.jpg"
    for source in ("-", "s3://b/a b%", "s3://b/../x"):
        assert absolute(source) == source


@pytest.mark.parametrize("source", ["a\0b", "file:///a%00b", "", "file://photos/x", "~nobody-of-that-name/x"])
def test_names_that_cannot_be_a_path(source: str) -> None:
    for look in (absolute, lambda source: open_source([source], Rules(), print)):
        with pytest.raises(UnknownSourceError, match="give s3://bucket/prefix") as raised:
            look(source)
        assert "\0" not in str(raised.value)


NAMES = ["plain", "a b", "50%", "%41", "ü", "a?b#c", "new\nline", os.fsdecode(b"caf\xe9")]


@pytest.mark.parametrize("name", NAMES)
def test_folders_files_and_manifests_are_opened_by_their_uris(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"{name}.jpg").write_bytes(b"x")
    uri = absolute(name)
    uri.encode("ascii")
    json.dumps(uri)
    assert listed(uri) == listed(absolute(f"{name}/{name}.jpg")) == [(folder / f"{name}.jpg").as_uri()]
    (folder / f"{name}.jsonl").write_text('{"source-ref": "s3://b/1"}\n')
    (first,) = pages_of(absolute(f"{name}/{name}.jsonl"))
    assert uris([first]) == ["s3://b/1"]
    assert pages_of(folder / f"{name}.jsonl", first.cursor) == []


def test_a_link_with_the_name_of_a_manifest_is_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "digest").write_text('{"source-ref": "s3://b/1"}\n')
    (tmp_path / "today.jsonl").symlink_to("digest")
    assert listed(absolute(str(tmp_path / "today.jsonl"))) == ["s3://b/1"]


def test_another_folder_does_not_continue_a_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").touch()
        (tmp_path / folder / "2.jpg").touch()
    monkeypatch.chdir(tmp_path / "a")
    first = next(iter(FolderSource(tmp_path / "a", Rules(), print, page_files=1).pages(None)))
    assert [Path(uri).name for uri in uris(pages_of(".", first.cursor))] == ["2.jpg"]
    monkeypatch.chdir(tmp_path / "b")
    with pytest.raises(SourceError, match="cursor is of another folder: give"):
        pages_of(".", first.cursor)
    older = '{"path": ["1.jpg"]}'  # a cursor of an older release
    assert [Path(uri).name for uri in uris(pages_of(".", older))] == ["2.jpg"]


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").touch()
    source = open_source([str(tmp_path / "m.jsonl")], Rules(), print)
    (tmp_path / "m.jsonl").unlink()
    with pytest.raises(SourceError, match=r"m\.jsonl: cannot be read: No such file"):
        list(source.pages(None))


class ChangedMeanwhile:
    """A client whose object is replaced during the download."""

    def download_fileobj(self, *_args: object, **_options: object) -> None:
        raise S3DownloadFailedError("the contents did not match the expected ETag")


def test_a_manifest_that_is_replaced_while_it_is_copied_is_a_fault_of_the_source() -> None:
    client: Any = ChangedMeanwhile()
    with (
        pytest.raises(SourceError, match=r"^s3://b/m\.jsonl: cannot be read: .* expected ETag: try again later$"),
        copied(Location("s3://b/m.jsonl", "e", client=client)),
    ):
        pass
