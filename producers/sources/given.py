r"""Makes a uri of the name that a person, or a person's tool, gives to an image.

Names stand in a line of text, in a manifest or on the command line. `s3://bucket/key` and `/path` are exact: nothing in
them is escaped. `file:///path` may be percent-encoded, as uris are. Or it may be the path exactly as written, because
`find -printf 'file://%p\n'` encodes nothing. Without a "%", both mean the same file. With a "%", we look which file
exists. If both exist, a line of text means the path as written, and everywhere else the name is refused. If neither
exists, the name is refused. Programs write messages (docs/message.md): there a uri is always percent-encoded.
"""

import os
import re
from pathlib import Path

from worker.errors import BadRowError
from worker.files import local_path

_PLAIN = re.compile(r"file:///[A-Za-z0-9/_.~-]*")
"""Valid uris that mean the same file with and without percent-decoding."""
_WINDOWS = re.compile(r"(?:file:/*)?(?:[A-Za-z]:[\\/]|\\\\)")
_EXACT = "give the plain path, /folder/name, without file://"


def given_uri(text: str, *, line: bool = False) -> str:
    """Returns the uri for this name, as it is stored and published. Raises BadRowError.

    `line`: the text is a whole line, which `find` may have written. Only some names are looked up on this machine:
    `file:` uris with a "%", paths that end in white space, and paths in the form of Windows. In `text`, bytes that are
    not UTF-8 are as Python reads them from file names (surrogateescape). In the uri of a path they are percent-encoded.
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
    """Returns the uri in a line without its newline. Raises BadRowError.

    A carriage return at the end belongs to the end of the line, unless there is a file with this character in its name.
    """
    text = line.rstrip("\r")
    if text == line or line.startswith("s3://"):
        return given_uri(text, line=True)
    try:
        exact = given_uri(line, line=True)
    except BadRowError:
        return given_uri(text, line=True)
    if local_path(exact.removesuffix("%0D")).exists():
        raise BadRowError(f"{text!r}: two files have this name, one with a carriage return at its end and one without")
    return exact


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRowError(f"{text!r}: not UTF-8, which S3 requires of keys") from None


def _check_name(text: str) -> None:
    if "\0" in text:
        raise BadRowError(f"{text[:80]!r}: contains NUL: give UTF-8 text, with one name in each line")
    if text.startswith(('"', "'", "`")):
        raise BadRowError(f"{text!r}: begins with a quotation mark: give the name without quotes")
    if _WINDOWS.match(text) and not (text.startswith("file:///") and _is_there(text.removeprefix("file://"))):
        raise BadRowError(f"{text!r}: a Windows path: give the path that the file has on this machine, /mnt/…")


def _of_another_kind(text: str) -> str:
    if "://" not in text:
        raise BadRowError(f"{text[:200]!r}: not a uri: give s3://bucket/key, file:///path or an absolute path")
    _check_unicode(text)
    return text  # ImageRef refuses it, and says what a uri must be


def _path_of(uri: str, *, line: bool) -> str:
    """Returns the path that a `file:` uri names, whether it is percent-encoded or not."""
    place = uri[5:]
    if place.startswith("//"):
        host, slash, path = place[2:].partition("/")
        if host.lower() not in {"", "localhost"}:
            raise BadRowError(f"{uri!r}: names another machine, {host!r}: {_EXACT}")
        place = slash + path
    if not place.startswith("/"):
        raise BadRowError(f"{uri!r}: not an absolute path: give file:///folder/name")
    try:
        decoded = str(local_path(f"file://{place}")) if "%" in place else place
    except UnicodeEncodeError:  # bytes that are not UTF-8 would be percent-encoded in an encoded uri
        decoded = place
    if decoded == place:
        return place
    there = [path for path in (place, decoded) if _is_there(path)]
    if not there or (len(there) > 1 and not line):
        which = "two files have this name, as written and percent-decoded" if there else "there is no such file"
        raise BadRowError(f"{uri!r}: {which}: {_EXACT}")
    return there[0]


def _of_path(path: str) -> str:
    if path != path.rstrip() and not _is_there(path):
        raise BadRowError(f"{path!r}: ends in white space, and there is no such file")
    try:
        return Path(path).as_uri()
    except UnicodeEncodeError:
        raise BadRowError(f"{path!r}: not valid text: it contains half of a surrogate pair") from None


def _is_there(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL, or half of a surrogate pair
        return False
