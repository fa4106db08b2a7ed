"""A labelled image in FakeClue's form, and the description of a record that cannot be used."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

_SPLITS = {"train", "training", "test", "val", "valid", "validation", "images", "image", "imgs"}
REAL, FAKE = {"real", "0_real", "nature"}, {"fake", "1_fake", "ai"}
"""How benchmarks name the folders of their two classes: FakeClue and FF++, CNNDetection, GenImage."""


def _encodable(text: str) -> str:
    text.encode()  # JSON can contain half of a surrogate pair, which no file can hold
    return text


Text = Annotated[str, AfterValidator(_encodable)]


class Turn(BaseModel):
    """One side of a record's conversation: `human` asks, `gpt` answers."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    speaker: Text = Field(alias="from")
    value: Text


class Record(BaseModel):
    """One labelled image in FakeClue's form: `label` 1 is real, 0 is fake; `cate` is its category.

    `image` is a path under the dataset's images, or an s3:// or file:/// uri. `line` is its line, from 1 on; for a
    folder, its place in the listing. Fields that FakeClue does not have are kept in `model_extra`.
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
        """Whether the label is fake."""
        return self.label == 0

    @property
    def category(self) -> str | None:
        """FakeClue's `cate`: deepfake, object, satellite, animal, doc, human, scene."""
        return self.cate or None

    @property
    def question(self) -> str | None:
        """The first question of the human, with its image placeholder."""
        return next((turn.value for turn in self.conversations if turn.speaker == "human"), None)

    @property
    def answer(self) -> str | None:
        """The answer that the model should give."""
        return next((turn.value for turn in self.conversations if turn.speaker == "gpt"), None)

    @property
    def generator(self) -> str | None:
        """The generator, if the image's path names one: the folder below fake/ or real/, or the first other name."""
        folders = [part for part in PurePosixPath(self.image).parts[:-1] if part != ".."]
        if "://" in self.image:
            folders = folders[2:]  # the scheme and the bucket
        for place, folder in enumerate(folders[:-1]):
            if folder.lower() in REAL | FAKE:
                return folders[place + 1]
        return next((one for one in folders if one.lower() not in _SPLITS | REAL | FAKE | {"/"}), None)


class Cause(StrEnum):
    """Why a record is not used."""

    BROKEN_JSON = "broken_json"
    NOT_A_RECORD = "not_a_record"
    NO_IMAGE_NAMED = "no_image_named"
    UNKNOWN_LABEL = "unknown_label"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"  # the same content has both labels
    CONTRADICTS_LABEL = "contradicts_label"  # the answer of the record says the opposite of its label
    UNSUPPORTED_SUFFIX = "unsupported_suffix"  # a file in a folder does not have the suffix of an image
    MISSING_IMAGE = "missing_image"
    UNREADABLE_IMAGE = "unreadable_image"
    STORAGE_UNAVAILABLE = "storage_unavailable"  # may be readable the next time
    ENGINE_FAILED = "engine_failed"


@dataclass(frozen=True)
class Fault:
    """A record that is not used, with its line. `cause` is one of Cause, or of the code that used the records."""

    line: int
    image: str | None
    cause: StrEnum
    detail: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.cause}: {f'{self.image}: ' if self.image else ''}{self.detail}"
