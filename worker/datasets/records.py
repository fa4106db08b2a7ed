"""Labelled images, record by record: FakeClue's JSON, JSON Lines, or a folder with real/ and fake/.

Neither json nor ijson goes on after a broken record or knows the line of one, and a dataset of 100,000 records with one
comma too few is common. So an array is taken apart here with the standard library's own decoder, a record at a time.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from worker.errors import ConfigurationError

_SPLITS = {"train", "training", "test", "val", "valid", "validation", "images", "image", "imgs"}
_REAL, _FAKE = {"real", "0_real", "nature"}, {"fake", "1_fake", "ai"}
"""What benchmarks call the folders of their two classes: FakeClue and FF++, CNNDetection, GenImage."""
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}


def _encodable(text: str) -> str:
    text.encode()  # JSON can spell half of a surrogate pair, and no file can hold it
    return text


Text = Annotated[str, AfterValidator(_encodable)]


class Turn(BaseModel):
    """One side of a record's conversation: `human` asks, `gpt` answers."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    speaker: Text = Field(alias="from")
    value: Text


class Record(BaseModel):
    """One labelled image, as FakeClue writes it: `label` 1 is real, 0 is fake; `cate` is its category.

    `image` is a path below the dataset's images, or an s3:// or file:/// uri. `line` is where it stands, from 1 on; of
    a folder, its place in the listing. Fields that are not FakeClue's are kept in `model_extra`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    image: str = Field(min_length=1)
    label: Literal[0, 1]
    cate: Text | None = None
    width: int | None = None
    height: int | None = None
    conversations: tuple[Turn, ...] = ()
    line: int = Field(ge=1)

    @field_validator("label", mode="before")
    @classmethod
    def _a_number(cls, label: object) -> object:
        if isinstance(label, bool) or not isinstance(label, int):
            raise ValueError("must be 1 (real) or 0 (fake)")  # noqa: TRY004 - pydantic wants it so
        return label

    @property
    def is_fake(self) -> bool:
        """The label in words."""
        return self.label == 0

    @property
    def category(self) -> str | None:
        """FakeClue's `cate`: deepfake, object, satellite, animal, doc, human, scene."""
        return self.cate or None

    @property
    def question(self) -> str | None:
        """What the human asks first, with its image placeholder."""
        return next((turn.value for turn in self.conversations if turn.speaker == "human"), None)

    @property
    def answer(self) -> str | None:
        """What the model should answer."""
        return next((turn.value for turn in self.conversations if turn.speaker == "gpt"), None)

    @property
    def generator(self) -> str | None:
        """What made the image, where its path tells: the folder below fake/ or real/, else the first that says."""
        folders = PurePosixPath(self.image).parts[:-1]
        if "://" in self.image:
            folders = folders[2:]  # the scheme and the bucket
        for place, folder in enumerate(folders[:-1]):
            if folder.lower() in _REAL | _FAKE:
                return folders[place + 1]
        return next((one for one in folders if one.lower() not in _SPLITS | _REAL | _FAKE | {"/"}), None)


class Cause(StrEnum):
    """Why a record is not used."""

    BROKEN_JSON = "broken_json"
    NOT_A_RECORD = "not_a_record"
    NO_IMAGE_NAMED = "no_image_named"
    UNKNOWN_LABEL = "unknown_label"
    DUPLICATE = "duplicate"
    MISSING_IMAGE = "missing_image"
    UNREADABLE_IMAGE = "unreadable_image"
    STORAGE_UNAVAILABLE = "storage_unavailable"  # may be there the next time
    ENGINE_FAILED = "engine_failed"


@dataclass(frozen=True)
class Fault:
    """A record that is not used, with its line. `cause`: one of Cause, or of whoever used the records."""

    line: int
    image: str | None
    cause: StrEnum
    detail: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.cause}: {f'{self.image}: ' if self.image else ''}{self.detail}"


def read_dataset(path: Path) -> Iterator[Record | Fault]:
    """The records of a dataset in their order, a fault in place of each that cannot be used.

    Of several with the same image the first is used. Raises ConfigurationError when there is no such dataset.
    """
    lines: dict[str, int] = {}
    for found in _read(path):
        if isinstance(found, Record):
            if found.image in lines:
                first = lines[found.image]
                yield Fault(found.line, found.image, Cause.DUPLICATE, f"stands in line {first} already")
                continue
            lines[found.image] = found.line
        yield found


def _read(path: Path) -> Iterator[Record | Fault]:
    if path.is_dir():
        return _in_folder(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"DATASET: {path} cannot be read: {error}; give a JSON file or a folder") from None
    values = _in_array(text) if text.lstrip().startswith("[") else _in_lines(text)
    return (value if isinstance(value, Fault) else _record(value, line) for line, value in values)


def _in_lines(text: str) -> Iterator[tuple[int, Any]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            try:
                yield line, json.loads(content)
            except (ValueError, RecursionError) as error:
                yield line, Fault(line, None, Cause.BROKEN_JSON, str(error))


def _in_array(text: str) -> Iterator[tuple[int, Any]]:
    """Each element of a JSON array with its line. After a fault it goes on with the next object that names an image."""
    decoder, place, line, counted = json.JSONDecoder(), text.index("[") + 1, 1, 0
    closed = False
    while (place := _start(text, place)) < len(text):
        line, counted = line + text.count("\n", counted, place), place
        if text[place] == "]":
            closed = True
            break
        try:
            value, place = decoder.raw_decode(text, place)
            yield line, value
        except (ValueError, RecursionError) as error:
            yield line, Fault(line, None, Cause.BROKEN_JSON, str(error))
            place = _next_object(decoder, text, place + 1)
    if not closed:
        yield line, Fault(line, None, Cause.BROKEN_JSON, "the array does not end: is the file whole?")


def _start(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n,":
        place += 1
    return place


def _next_object(decoder: json.JSONDecoder, text: str, place: int) -> int:
    while (place := text.find("{", place)) != -1:
        try:
            value, _ = decoder.raw_decode(text, place)
            if "image" in value:
                return place
        except (ValueError, RecursionError):
            pass
        place += 1
    return len(text)


def _record(value: Any, line: int) -> Record | Fault:
    if not isinstance(value, dict):
        return Fault(line, None, Cause.NOT_A_RECORD, f"a {type(value).__name__}, where an object should be")
    image = value.get("image")
    if not isinstance(image, str) or not image:
        return Fault(line, None, Cause.NO_IMAGE_NAMED, "the field image is missing or empty")
    try:
        return Record.model_validate({**value, "line": line})
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        cause = Cause.UNKNOWN_LABEL if field == "label" else Cause.NOT_A_RECORD
        said = fault["msg"].removeprefix("Value error, ")
        return Fault(line, image, cause, f"{field}: {said}, not {str(fault['input'])[:80]!r}")


def _in_folder(folder: Path) -> Iterator[Record | Fault]:
    """Images below any folder with the name of a class, in the order of their paths."""
    classes = dict.fromkeys(_REAL, 1) | dict.fromkeys(_FAKE, 0)
    line = 0
    for path in sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names):
        relative = path.relative_to(folder)
        label = next((classes[part.lower()] for part in relative.parts[:-1] if part.lower() in classes), None)
        if label is not None and path.suffix.lower() in _SUFFIXES:
            line += 1
            yield _record({"image": str(relative), "label": label}, line)
    if not line:
        raise ConfigurationError(f"DATASET: {folder} holds no images below a folder real/ or fake/")
