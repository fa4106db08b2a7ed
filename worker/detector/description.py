"""Reads the detector.toml of a detector. It holds everything that can change a score, so it identifies the detector."""

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.detector.calibration import Calibration
from worker.errors import ConfigurationError
from worker.images import EDGE, PREPROCESSING_REVISIONS, Decoding, Fit
from worker.messages import Explain
from worker.tables import Detector
from worker.wording import worded

FILE = "detector.toml"

_Text = Annotated[str, Field(min_length=1)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AnswerForm(_Section):
    """How the detector words its answer.

    `fake` and `real` are the sentences with which it begins. The answer ends after them if no reasons are wanted.
    `fake_word` and `real_word` are the words in which they differ: the tokens of these words carry the score. `pattern`
    replaces the built-in reading of English statements (worker.detector.statements). It is a regular expression with
    the groups `fake` and `real` around the two words, and it ignores case. `max_tokens` limits the whole answer.
    """

    fake: _Text = "This is a fake image."
    real: _Text = "This is a real image."
    fake_word: _Text = "fake"
    real_word: _Text = "real"
    pattern: str | None = None
    max_tokens: Annotated[int, Field(ge=4)] = 200

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for word, sentence in ((self.fake_word, self.fake), (self.real_word, self.real)):
            if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", sentence):
                raise ValueError(f"fake must contain fake_word, and real must contain real_word: {word!r} is missing")
        if self.fake_word.lower() == self.real_word.lower():
            raise ValueError("fake_word and real_word must differ: without two words there is no score")
        if self.pattern is not None:
            try:
                groups = re.compile(self.pattern).groupindex
            except re.error as error:
                raise ValueError(f"pattern is not a regular expression: {error}") from None
            if not {"fake", "real"} <= set(groups):
                raise ValueError("pattern must have the groups (?P<fake>…) and (?P<real>…)")
        return self

    def stops(self, explain: Explain) -> list[str]:
        """Returns the strings after which an answer ends, because this mode wants no reasons there."""
        return {Explain.ALL: [], Explain.FLAGGED: [self.real], Explain.NONE: [self.real, self.fake]}[explain]


class Preprocessing(_Section):
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


class EngineLimits(_Section):
    """How the engine runs the model. `max_model_len`, in tokens, is for prompt, image and answer together."""

    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: Annotated[int, Field(ge=64)] = 800
    enforce_eager: bool = False


class Thresholds(_Section):
    """The thresholds of scans that set none: fake from `fake_from` on, real up to `real_to`, else uncertain."""

    fake_from: Annotated[float, Field(ge=0, le=1)] = 0.6
    real_to: Annotated[float, Field(ge=0, le=1)] = 0.4

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.real_to > self.fake_from:
            raise ValueError("real_to must not be above fake_from")
        return self


class DetectorDescription(_Section):
    """The description of one detector. `identity` is what `detectors` stores and every verdict names.

    `model` is a hub id, a folder, or s3://bucket/prefix; a path that begins with `.` is relative to the file.
    `revision` is a commit on the hub; for a folder it is the checksum that detector.supply computes. `prompt` selects
    one of `prompts`. These texts are sent as they are, and each holds `image_placeholder` once. `checksums` are SHA-256
    sums by file name, checked before the start. `notice` is shown on every screen and report.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    model: _Text
    revision: str | None = None
    prompt: str
    prompts: dict[str, str]
    image_placeholder: _Text = "<image>"
    answer: AnswerForm = AnswerForm()
    preprocessing: Preprocessing = Preprocessing()
    engine: EngineLimits = EngineLimits()
    thresholds: Thresholds = Thresholds()
    calibration: Calibration = Calibration()
    checksums: dict[str, _Sha256] = {}
    notice: str | None = None

    @model_validator(mode="after")
    def _one_image_in_every_prompt(self) -> Self:
        for revision, text in self.prompts.items():
            if (count := text.count(self.image_placeholder)) != 1:
                raise ValueError(f"prompts.{revision} must hold {self.image_placeholder} once, not {count} times")
        if self.prompt not in self.prompts:
            raise ValueError(f"prompt must be one of {', '.join(self.prompts)}, not {self.prompt}")
        return self

    @property
    def prompt_text(self) -> str:
        """The selected prompt, with exactly one image placeholder."""
        return self.prompts[self.prompt]

    @property
    def identity(self) -> dict[str, Any]:
        """The columns of `detectors`. A folder is named by its last part, because the same files are the same model."""
        return {
            "name": self.name,
            "model": Path(self.model).name if Path(self.model).is_absolute() else self.model,
            "revision": self.revision or "main",
            "prompt_revision": self.prompt,
            "preprocessing_revision": self.preprocessing.revision,
            "dtype": self.engine.dtype,
            "quantization": self.engine.quantization,
        }

    @property
    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal, of all that can change a score or an explanation. Thresholds do not count."""
        content = self.identity | {
            "prompt": self.prompt_text,
            "answer": self.answer.model_dump(mode="json"),
            "kv_cache_dtype": self.engine.kv_cache_dtype,
            "calibration": self.calibration.parameters,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def row(self) -> Detector:
        """The row of `detectors`."""
        content = self.identity | {"notice": self.notice, "description": self.model_dump(mode="json")}
        return Detector(fingerprint=self.fingerprint, **content)

    @classmethod
    def parse(cls, text: str, *, where: str, changes: dict[str, Any] | None = None) -> Self:
        """Returns the description in a file's text. `changes` (dotted names) come from the environment and override it.

        Raises ConfigurationError with the name of the file, `where`, and the first fault in it.
        """
        try:
            content = tomllib.loads(text)
            for name, value in (changes or {}).items():
                section, _, key = name.rpartition(".")
                (content.setdefault(section, {}) if section else content)[key] = value
            return cls.model_validate(content)
        except ValidationError as error:
            fault = error.errors()[0]
            field = ".".join(map(str, fault["loc"]))
            raise ConfigurationError(f"FAKESWEEP_DETECTOR: {where}: {field or 'whole file'}: {worded(fault)}") from None
        except (ValueError, AttributeError, TypeError) as error:
            raise ConfigurationError(f"FAKESWEEP_DETECTOR: {where} is not a description: {error}") from None
