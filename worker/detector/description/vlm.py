"""The description of a vision-language model: it is asked a question about the image, and answers in words."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from worker.detector.description.base import DetectorDescription, Kind, Section, Text
from worker.messages import Explain
from worker.tables import NO_PROMPT


class AnswerForm(Section):
    """How the detector words its answer.

    `fake` and `real` are the sentences with which it begins. The answer ends after them if no reasons are wanted.
    `fake_word` and `real_word` are the words in which they differ: the tokens of these words carry the score. `pattern`
    replaces the built-in reading of English statements (worker.detector.statements). It is a regular expression with
    the groups `fake` and `real` around the two words, and it ignores case. `max_tokens` limits the whole answer.
    """

    fake: Text = "This is a fake image."
    real: Text = "This is a real image."
    fake_word: Text = "fake"
    real_word: Text = "real"
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


class EngineLimits(Section):
    """How the engine runs the model. `max_model_len`, in tokens, is for prompt, image and answer together."""

    dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: Annotated[int, Field(ge=64)] = 800
    enforce_eager: bool = False


class VlmDescription(DetectorDescription):
    """A vision-language model. See DetectorDescription for the other fields.

    `prompt` selects one of `prompts`. These texts are sent as they are, and each holds `image_placeholder` once.
    """

    overridable: ClassVar[Mapping[str, str | None]] = {
        "prompt": "prompt",
        "revision": "revision",
        "dtype": "engine.dtype",
        "quantization": "engine.quantization",
        "kv_cache_dtype": "engine.kv_cache_dtype",
    }

    kind: Literal[Kind.VLM] = Kind.VLM
    prompt: str
    prompts: dict[str, str]
    image_placeholder: Text = "<image>"
    answer: AnswerForm = AnswerForm()
    engine: EngineLimits = EngineLimits()

    @model_validator(mode="after")
    def _one_image_in_every_prompt(self) -> Self:
        for revision, text in self.prompts.items():
            if (count := text.count(self.image_placeholder)) != 1:
                raise ValueError(f"prompts.{revision} must hold {self.image_placeholder} once, not {count} times")
        if NO_PROMPT in self.prompts:
            raise ValueError(f"prompts.{NO_PROMPT} needs another name: {NO_PROMPT} means that a detector has no prompt")
        if self.prompt not in self.prompts:
            raise ValueError(f"prompt must be one of {', '.join(self.prompts)}, not {self.prompt}")
        return self

    @property
    def prompt_text(self) -> str:
        """The selected prompt, with exactly one image placeholder."""
        return self.prompts[self.prompt]

    @property
    def asks_with(self) -> str:
        """See DetectorDescription."""
        return self.prompt

    @property
    def number_format(self) -> tuple[str, str | None]:
        """See DetectorDescription."""
        return self.engine.dtype, self.engine.quantization

    @property
    def decisive(self) -> dict[str, Any]:
        """See DetectorDescription."""
        return {
            "prompt": self.prompt_text,
            "answer": self.answer.model_dump(mode="json"),
            "kv_cache_dtype": self.engine.kv_cache_dtype,
            "calibration": self.calibration.parameters,
        }

    @property
    def answer_limit(self) -> int | None:
        """See DetectorDescription."""
        return self.answer.max_tokens
