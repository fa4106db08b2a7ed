"""Reads a dataset record by record: FakeClue's JSON, JSON Lines, or a folder with real/ and fake/."""

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from worker.errors import ConfigurationError
from worker.files import read_text
from worker.lab.datasets.json_values import values_of
from worker.lab.datasets.records import FAKE, REAL, Cause, Fault, Record
from worker.texts import storable
from worker.wording import worded

_SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def read_dataset(path: Path) -> Iterator[Record | Fault]:
    """Yields the records of a dataset in order, with a fault in place of each that cannot be used.

    If several records have the same image, the first is used. Raises ConfigurationError if there is no such dataset.
    """
    known: dict[str, Record] = {}
    for found in _in_folder(path) if path.is_dir() else _in_file(path):
        if isinstance(found, Record):
            first = known.setdefault(_normal(found.image), found)
            if first is not found:
                other = "" if first.label == found.label else ", with the other label"
                detail = f"already in line {first.line}{other}"
                yield Fault(found.line, found.image, Cause.DUPLICATE, detail)
                continue
        yield found


def _normal(image: str) -> str:
    """Returns one spelling of a relative name: ./a.png is a.png. In a uri, dots are part of the key."""
    return image if "://" in image or image.startswith("/") else posixpath.normpath(image)


def _in_file(path: Path) -> Iterator[Record | Fault]:
    try:
        # A record that is not UTF-8 is only one fault: values_of() finds it.
        text = read_text(path, errors="surrogateescape")
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"DATASET: {path} cannot be read: {error}; give a JSON file or a folder") from None
    return (value if isinstance(value, Fault) else _record(value, line) for line, value in values_of(text))


def _record(value: Any, line: int) -> Record | Fault:
    if not isinstance(value, dict):
        return Fault(line, None, Cause.NOT_A_RECORD, f"a {type(value).__name__}, where an object should be")
    image = value.get("image")
    if not isinstance(image, str) or not image:
        return Fault(line, None, Cause.NO_IMAGE_NAMED, "the field image is missing or empty")
    if _normal(image).split("/")[0] == "..":
        return Fault(line, image, Cause.NO_IMAGE_NAMED, "the name leads out of the folder of the images")
    if not _is_text(image):
        detail = "the name is not Unicode text: give file:///… with its bytes percent-encoded"
        return Fault(line, image, Cause.NO_IMAGE_NAMED, detail)
    try:
        return Record.model_validate({**value, "line": line})
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        cause = Cause.UNKNOWN_LABEL if field == "label" else Cause.NOT_A_RECORD
        return Fault(line, image, cause, f"{field}: {worded(fault)}, not {str(fault['input'])[:80]!r}")


def _in_folder(folder: Path) -> Iterator[Record | Fault]:
    """Yields the files in any folder with the name of a class, in the order of paths. Each file counts as a line."""
    classes = dict.fromkeys(REAL, 1) | dict.fromkeys(FAKE, 0)
    line = 0
    for found in _below(folder):
        path = Path(found.filename) if isinstance(found, OSError) else found
        relative = path.relative_to(folder)
        # The last part counts, too: a broken link with the name real looks like a file.
        label = next((classes[part.lower()] for part in relative.parts if part.lower() in classes), None)
        if isinstance(found, OSError):
            line += 1
            yield Fault(line, str(relative), Cause.UNREADABLE_IMAGE, f"a folder that cannot be read: {found.strerror}")
        elif label is not None:
            line += 1
            yield _labelled(relative, label, line, folder)
    if not line:
        raise ConfigurationError(f"DATASET: {folder} holds no images below a folder real/ or fake/")


def _labelled(image: Path, label: int, line: int, folder: Path) -> Record | Fault:
    if image.suffix.lower() not in _SUFFIXES:
        detail = f"not read as an image: its name does not end in one of {' '.join(_SUFFIXES)}"
        return Fault(line, str(image), Cause.UNSUPPORTED_SUFFIX, detail)
    # A name that is not UTF-8 cannot be written to our files, but its uri can.
    name = str(image) if _is_text(str(image)) else Path(folder, image).absolute().as_uri()
    return _record({"image": name, "label": label}, line)


def _is_text(name: str) -> bool:
    return storable(name) == name.replace("\x00", "")


def _below(folder: Path, around: tuple[Path, ...] = ()) -> Iterator[Path | OSError]:
    """Yields all files, also through links to folders. Yields an error for a folder that cannot be listed.

    `around` are the real paths of the folders around this one. A link to one of them would never end.
    """
    try:
        real, paths = folder.resolve(), sorted(folder.iterdir())
    except OSError as error:
        yield error
        return
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises if permission is missing
            yield path
        elif path.resolve() not in (*around, real):
            yield from _below(path, (*around, real))
