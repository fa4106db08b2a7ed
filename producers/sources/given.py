r"""The uri of an image that a person, or a person's tool, names: in a line, in a manifest, on the command line.

`s3://bucket/key` and `/path` are taken as they stand, so that nothing in them needs an escape. `file:///path` is
difficult: uris are percent-encoded, and `find -printf 'file://%p\n'` encodes nothing. Without a "%", both mean the same
file. With one, the file that is there decides. Where both files are there, a line of text means the path as it stands,
as `find` writes it, and every other place is refused; where none is there, all are. `/path` is always exact. Messages
(docs/message.md) are written by programs: there the uri is percent-encoded.
"""

import os
import re
from pathlib import Path

from worker.errors import BadRowError
from worker.files import local_path

_PLAIN = re.compile(r"file:///[A-Za-z0-9/_.~-]*")
"""Uris that are the same whether or not they are percent-encoded, and that nothing is wrong with."""
_WINDOWS = re.compile(r"(?:file:/*)?(?:[A-Za-z]:[\\/]|\\\\)")
_EXACT = "give the plain path, /folder/name, without file://"


def given_uri(text: str, *, line: bool = False) -> str:
    """The uri as it is stored and published. `line`: the text is a whole line, as `find` may have written it.

    Only `file:` uris with a "%", and paths that end in white space, are looked for on this machine. Bytes that are no
    UTF-8 stand in `text` as Python reads them from file names (surrogateescape); those of a path are percent-encoded in
    the uri. Raises BadRowError.
    """
    if text.startswith("s3://"):
        _check_unicode(text)
        return text
    if _PLAIN.fullmatch(text):
        return text
    _check_name(text)
    if text.startswith("/"):
        return _of_path(text)
    return _of_path(_path_of(text, line=line)) if text[:5].lower() == "file:" else _of_another_kind(text)


def given_line(line: str) -> str:
    """The uri in a line of which the newline is taken off. A carriage return before it belongs to the line's end,
    unless a file has it in its name. Raises BadRowError.
    """
    text = line.rstrip("\r")
    if text == line or line.startswith("s3://"):
        return given_uri(text, line=True)
    try:
        exact = given_uri(line, line=True)
    except BadRowError:
        return given_uri(text, line=True)
    if local_path(exact.removesuffix("%0D")).exists():
        raise BadRowError(f"{text!r}: two files have this name, with a carriage return at its end and without")
    return exact


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRowError(f"{text!r}: not UTF-8, as keys of S3 are") from None


def _check_name(text: str) -> None:
    if "\0" in text:
        raise BadRowError(f"{text[:80]!r}: holds NUL: give UTF-8 text, and each name in a line of its own")
    if text.startswith(('"', "'", "`")):
        raise BadRowError(f"{text!r}: begins with a quotation mark: give the name without quotes")
    if _WINDOWS.match(text) and not (text.startswith("file:///") and _is_there(text.removeprefix("file://"))):
        raise BadRowError(f"{text!r}: a path of Windows: give the path that the file has on this machine, /mnt/…")


def _of_another_kind(text: str) -> str:
    if "://" not in text:
        raise BadRowError(f"{text[:200]!r}: no uri: give s3://bucket/key, file:///path or an absolute path")
    _check_unicode(text)
    return text  # ImageRef says what it must be


def _path_of(uri: str, *, line: bool) -> str:
    """The path that a `file:` uri names, percent-encoded or not."""
    place = uri[5:]
    if place.startswith("//"):
        host, slash, path = place[2:].partition("/")
        if host.lower() not in {"", "localhost"}:
            raise BadRowError(f"{uri!r}: names another machine, {host!r}: {_EXACT}")
        place = slash + path
    if not place.startswith("/"):
        raise BadRowError(f"{uri!r}: no absolute path: give file:///folder/name")
    try:
        decoded = str(local_path(f"file://{place}")) if "%" in place else place
    except UnicodeEncodeError:  # bytes that are no UTF-8: no encoded uri holds them
        decoded = place
    if decoded == place:
        return place
    there = [path for path in (place, decoded) if _is_there(path)]
    if not there or (len(there) > 1 and not line):
        which = "two files have this name, as it stands and percent-decoded" if there else "no such file is there"
        raise BadRowError(f"{uri!r}: {which}: {_EXACT}")
    return there[0]


def _of_path(path: str) -> str:
    if path != path.rstrip() and not _is_there(path):
        raise BadRowError(f"{path!r}: ends in white space, and no such file is there")
    try:
        return Path(path).as_uri()
    except UnicodeEncodeError:
        raise BadRowError(f"{path!r}: no text: it holds half of a surrogate pair") from None


def _is_there(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL, or half of a surrogate pair
        return False
