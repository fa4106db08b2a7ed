"""Names of images as people and their tools write them.

Each gives the right image, or an error, but never another image.
"""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.commands.options import uri_of
from producers.sources.given import given_line, given_uri
from tests.unit.test_sources import uris
from tests.unit.test_standard_input import read_from
from worker.errors import BadRowError, ImageError, UsageError
from worker.files import local_path
from worker.messages import ImageRef
from worker.storage import LocalImageStore

NAMES = [
    b"plain.jpg", b"a b.jpg", b"IMG#1.jpg", b"who?.jpg", b"50%25off.jpg", b"50%off.jpg", b"100%.jpg", b"%41.jpg",
    b"caf\xe9.jpg", "café.jpg".encode(), b"caf%E9.jpg", b"tab\t.jpg", b"quote'\".jpg", b"back\\slash.jpg", b"ends ",
    b"&amp;;=+$,.jpg", "图😀.jpg".encode(), b"%", b"a:b.jpg", b"carriage\r", b"cr\rmiddle.jpg", b"{}.jpg",
]  # fmt: skip


def put(folder: Path, *names: bytes) -> None:
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(name)


def content(uri: str) -> bytes:
    uri.encode()
    return LocalImageStore(max_bytes=1000).fetch(ImageRef(uri=uri))


@pytest.mark.parametrize("form", ["file://%p\\n", "%p\\n"])
def test_all_files_that_find_lists_are_found(tmp_path: Path, form: str) -> None:
    put(tmp_path, *NAMES)
    listed = subprocess.run(["find", tmp_path, "-type", "f", "-printf", form], capture_output=True, check=True).stdout
    warnings: list[str] = []
    assert {content(uri) for uri in uris(read_from(listed, lines=warnings))} == set(NAMES)
    assert warnings == []


def test_percent_encoded_names_are_found_too(tmp_path: Path) -> None:
    put(tmp_path, b"a b.jpg", b"caf\xe9.jpg")
    listed = "".join(f"{path.as_uri()}\n" for path in sorted(tmp_path.iterdir()))
    assert [content(uri) for uri in uris(read_from(listed.encode()))] == [b"a b.jpg", b"caf\xe9.jpg"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(
    there=st.sets(st.text("a%2541 #é", min_size=1, max_size=6), max_size=6),
    name=st.text("a%2541 #é", min_size=1, max_size=6),
)
def test_no_name_is_ever_taken_for_another_one(
    tmp_path_factory: pytest.TempPathFactory, there: set[str], name: str
) -> None:
    """An existing file is never judged in place of one that does not exist, however the name is written."""
    folder = tmp_path_factory.mktemp("names")
    put(folder, *(one.encode() for one in there))
    literal, decoded = name, os.fsdecode(local_path(f"file://{name}"))
    try:
        found = Path(local_path(given_uri(f"file://{folder}/{name}"))).name
    except BadRowError:
        assert "%" in name or name.endswith(" ")
        assert (literal in there) == (decoded in there) or decoded.endswith(" ")
        return
    assert found == (decoded if decoded in there and literal not in there else literal)
    assert literal == decoded or found in there


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("C:\\photos\\a.jpg", "a Windows path"),
        ("c:/photos/a.jpg", "a Windows path"),
        ("file:///C:/photos/a.jpg", "a Windows path"),
        ("\\\\server\\share\\a.jpg", "a Windows path"),
        ("file://server/share/a.jpg", "another machine, 'server'"),
        ("file:a.jpg", "not an absolute path"),
        ("./a.jpg", "not a uri: give s3://bucket/key, file:///path or an absolute path"),
        ("'s3://b/k'", "quotation mark"),
        ('"/a.jpg"', "quotation mark"),
        ("/a.jpg\0/b.jpg\0", "NUL: give UTF-8 text, with one name in each line"),
        ("/nowhere/a.jpg ", "ends in white space"),
        ("file:///nowhere/a%20b.jpg", "there is no such file: give the plain path"),
        ("s3://b/caf\udce9.jpg", "not UTF-8"),
        ("http://b/caf\udce9.jpg", "not UTF-8"),
        ("/half\ud800.jpg", "half of a surrogate pair"),
    ],
)
def test_a_wrong_name_is_an_error_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(BadRowError, match=said) as raised:
        given_uri(text)
    assert "\n" not in str(raised.value)
    with pytest.raises(UsageError, match=said):
        uri_of(text)


def test_keys_of_s3_are_not_changed() -> None:
    for key in ("a b%20c+d.jpg", "#?&.jpg", " ends ", "a\\b", "%", "é"):
        assert given_uri(f"s3://b/{key}") == given_line(f"s3://b/{key}\r") == f"s3://b/{key}"


def test_other_spellings_of_a_file_uri() -> None:
    for uri in ("file:/x.jpg", "file://localhost/x.jpg", "FILE:///x.jpg", "file:///x.jpg", "/x.jpg"):
        assert given_uri(uri) == "file:///x.jpg"


def test_two_files_that_a_name_could_mean(tmp_path: Path) -> None:
    put(tmp_path, b"50%25off.jpg", b"50%off.jpg", b"cr.jpg\r", b"cr.jpg")
    with pytest.raises(BadRowError, match=r"two files have this name, .*: give the plain path"):
        given_uri(f"file://{tmp_path}/50%25off.jpg")
    assert content(given_line(f"file://{tmp_path}/50%25off.jpg")) == b"50%25off.jpg"
    assert content(given_uri(f"{tmp_path}/50%25off.jpg")) == b"50%25off.jpg"
    with pytest.raises(BadRowError, match="two files have this name, one with a carriage return"):
        given_line(f"{tmp_path}/cr.jpg\r")


def test_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, b"caf\xe9.jpg", b"a#b.jpg")
    monkeypatch.chdir(tmp_path)
    assert uri_of("a#b.jpg") == f"{tmp_path.as_uri()}/a%23b.jpg"
    for text in ("caf\udce9.jpg", f"{tmp_path}/caf\udce9.jpg", f"file://{tmp_path}/caf\udce9.jpg"):
        assert content(uri_of(text)) == b"caf\xe9.jpg"
    with pytest.raises(UsageError, match="not a uri"):
        uri_of("gone.jpg")


def test_in_a_message_only_percent_encoding_is_decoded(tmp_path: Path) -> None:
    put(tmp_path, b"a", b"a#b", b"a?b", b"a b", b"caf\xe9")
    for uri, name in {"a#b": b"a#b", "a?b": b"a?b", "a%23b": b"a#b", "a b": b"a b", "caf%E9": b"caf\xe9"}.items():
        assert content(f"{tmp_path.as_uri()}/{uri}") == name
    with pytest.raises(ImageError):
        content(f"{tmp_path.as_uri()}/a\n")  # urllib would remove the newline
