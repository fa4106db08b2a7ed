"""What the descriptions of all kinds of detectors share."""

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker.detector.calibration import Calibration
from worker.images import EDGE, PREPROCESSING_REVISIONS, Decoding, Fit
from worker.tables import NO_PROMPT, Detector

Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Kind(StrEnum):
    """What a detector is: a vision-language model, a classifier of images, or a cascade of two detectors."""

    VLM = "vlm"
    CLASSIFIER = "classifier"
    CASCADE = "cascade"


class Section(BaseModel):
    """A table of the file. Unknown names are faults."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocessing(Section):
    """How an image is prepared for the detector: `edge` x `edge` pixels, by crop, pad or stretch.

    `decode` says whether large JPEGs are decoded in full or at a fraction of their size.
    """

    edge: Annotated[int, Field(ge=14, le=4096)] = EDGE
    fit: Fit = Fit.CROP
    decode: Decoding = Decoding.FULL

    @property
    def revision(self) -> str:
        """The revision as `detectors` stores it."""
        return f"{PREPROCESSING_REVISIONS[self.fit, self.decode]}@{self.edge}"


class Thresholds(Section):
    """The thresholds of scans that set none: fake from `fake_from` on, real up to `real_to`, else uncertain."""

    fake_from: Annotated[float, Field(ge=0, le=1)] = 0.6
    real_to: Annotated[float, Field(ge=0, le=1)] = 0.4

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.real_to > self.fake_from:
            raise ValueError("real_to must not be above fake_from")
        return self


class DetectorDescription(Section):
    """What every detector has. `identity` is what `detectors` stores and every verdict names.

    `model` is a hub id, a folder, or s3://bucket/prefix; a path that begins with `.` is relative to the file.
    `revision` is a commit on the hub; for a folder it is the checksum that detector.supply computes. `checksums` are
    SHA-256 sums by file name, checked before the start. `license` names the licence of the weights. `notice` is shown
    on every screen and report.
    """

    overridable: ClassVar[Mapping[str, str | None]] = {}
    """The settings that override the file, and the dotted names of their places. None: for the judge of a cascade."""

    kind: Kind
    name: Annotated[str, Field(min_length=1, max_length=100)]
    model: Text
    revision: str | None = None
    preprocessing: Preprocessing = Preprocessing()
    thresholds: Thresholds = Thresholds()
    calibration: Calibration = Calibration()
    checksums: dict[str, Sha256] = {}
    license: str | None = None
    notice: str | None = None

    @property
    def asks_with(self) -> str:
        """What `detectors` stores as the revision of the prompt: NO_PROMPT if it has none."""
        return NO_PROMPT

    @property
    def number_format(self) -> tuple[str, str | None]:
        """The dtype and the quantisation of the weights."""
        raise NotImplementedError

    @property
    def decisive(self) -> dict[str, Any]:
        """All that can change a score or an explanation, besides `identity`."""
        raise NotImplementedError

    @property
    def answer_limit(self) -> int | None:
        """The most tokens of an answer. None: it gives no reasons. See worker.database.detectors.answer_limit."""
        return None

    @property
    def identity(self) -> dict[str, Any]:
        """The columns of `detectors`. A folder is named by its last part, because the same files are the same model."""
        dtype, quantization = self.number_format
        return {
            "name": self.name,
            "model": Path(self.model).name if Path(self.model).is_absolute() else self.model,
            "revision": self.revision or "main",
            "prompt_revision": self.asks_with,
            "preprocessing_revision": self.preprocessing.revision,
            "dtype": dtype,
            "quantization": quantization,
        }

    @property
    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal, of all that can change a score or an explanation. Thresholds do not count."""
        content = self.identity | self.decisive
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def row(self) -> Detector:
        """The row of `detectors`."""
        content = self.identity | {"notice": self.notice, "description": self.model_dump(mode="json")}
        return Detector(fingerprint=self.fingerprint, **content)
