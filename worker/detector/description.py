"""What a detector is, read from one detector.toml: everything that can change a score, and so its identity."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from worker.detector.prompts import PROMPTS
from worker.errors import ConfigurationError
from worker.images import PREPROCESSING_REVISION

FILE = "detector.toml"


class DetectorDescription(BaseModel):
    """One detector. `identity` is what `detectors` stores and every verdict names.

    `model` is a hub id or a folder; `revision` a hub commit or branch, and for a folder the checksum that
    detector.supply computes. `edge` in pixels; `max_model_len` and `max_tokens` (of an answer) in tokens, image
    tokens included. `notice` is shown on every screen and report.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    model: str
    revision: str | None = None
    prompt: str = "official-raw"
    edge: Annotated[int, Field(ge=14, le=4096)] = 336
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    quantization: str | None = None
    enforce_eager: bool = False
    max_model_len: Annotated[int, Field(ge=64)] = 800
    max_tokens: Annotated[int, Field(ge=4)] = 200
    fake_opening: str = "This is a fake image."
    real_opening: str = "This is a real image."
    notice: str | None = None

    @field_validator("prompt")
    @classmethod
    def _known_prompt(cls, prompt: str) -> str:
        if prompt not in PROMPTS:
            raise ValueError(f"must be one of {', '.join(PROMPTS)}")
        return prompt

    @property
    def prompt_text(self) -> str:
        """What is sent before the answer, with exactly one image placeholder."""
        return PROMPTS[self.prompt]

    @property
    def identity(self) -> dict[str, str | None]:
        """The columns of `detectors`. A folder is named by its last part: the same files are the same model."""
        return {
            "name": self.name,
            "model": Path(self.model).name if Path(self.model).is_absolute() else self.model,
            "revision": self.revision or "main",
            "prompt_revision": self.prompt,
            "preprocessing_revision": f"{PREPROCESSING_REVISION}@{self.edge}",
            "dtype": self.dtype,
            "quantization": self.quantization,
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the identity, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls, detector: str, *, model: str | None = None, revision: str | None = None) -> Self:
        """The description that FAKESWEEP_DETECTOR names, with FAKESWEEP_MODEL and FAKESWEEP_REVISION applied.

        Raises ConfigurationError when there is none or it is not valid.
        """
        path = _find(detector)
        try:
            description = cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise ConfigurationError(f"FAKESWEEP_DETECTOR: {path}: {where}: {fault['msg']}") from None
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"FAKESWEEP_DETECTOR: {path} is not a description: {error}") from None
        if model:
            return description.model_copy(update={"model": _absolute(model, Path.cwd()), "revision": revision})
        own = {"model": _absolute(description.model, path.parent), "revision": revision or description.revision}
        return description.model_copy(update=own)


def _find(detector: str) -> Path:
    shipped = Path(__file__).parent
    if "/" not in detector and (shipped / f"{detector}.toml").is_file():
        return shipped / f"{detector}.toml"
    if (Path(detector) / FILE).is_file():
        return (Path(detector) / FILE).resolve()
    names = ", ".join(sorted(path.stem for path in shipped.glob("*.toml")))
    raise ConfigurationError(f"FAKESWEEP_DETECTOR: {detector!r} is neither one of {names} nor a folder with {FILE}")


def _absolute(model: str, base: Path) -> str:
    folder = base / Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() or model.startswith((".", "/", "~")) else model
