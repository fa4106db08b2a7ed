"""The seam between the detector and what runs it: vLLM, transformers, or the scripted fake of worker.testing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image

from worker.errors import ConfigurationError, EngineGenerateError
from worker.messages import Explain


@dataclass(frozen=True)
class Step:
    """One generated token: its id and the text that it adds.

    `fake` and `real` are the log-probabilities, at this step, of all verdict tokens of that side together;
    `is_verdict` says that the token which was generated is one of them.
    """

    token_id: int
    text: str
    fake: float
    real: float
    is_verdict: bool


@dataclass(frozen=True)
class Completion:
    """One answer, without special tokens in its text. `latency_ms` from hand-over to the last token.

    `cut_off`: the answer reached the limit on its length before its end.
    """

    steps: tuple[Step, ...]
    prompt_token_ids: tuple[int, ...]
    latency_ms: int
    cut_off: bool = False

    @property
    def text(self) -> str:
        """The answer as the model wrote it."""
        return "".join(step.text for step in self.steps)


def not_importable(engine: str, error: ImportError) -> ConfigurationError:
    """What to say where the packages of an engine are missing."""
    return ConfigurationError(
        f"FAKESWEEP_ENGINE: {engine} cannot be imported ({error}); "
        "install fakesweep[gpu], fakesweep[cpu] or fakesweep[transformers]"
    )


class Engine(Protocol):
    """Runs one model. Thread-safe: many threads call complete() at once."""

    def complete(
        self,
        images: Sequence[Image],
        *,
        explain: Explain = Explain.FLAGGED,
        max_tokens: int | None = None,
        live: bool = False,
    ) -> list[Completion | EngineGenerateError]:
        """The greedy answer for each `edge` x `edge` RGB image, in order, or why there is none for that image.

        Explain.FLAGGED ends the answer after the real opening, NONE after either. `max_tokens` of an answer may only
        lower the description's limit. `live` goes before scans.
        Raises EngineDeadError when the engine is dead, or stalled: no image finished for too long with some in it.
        """

    def check(self) -> None:
        """Raises EngineDeadError when the engine is dead or stalled; also when nobody waits for an answer."""

    def close(self) -> None:
        """Ends the engine and every process it started. Calling it twice is fine."""
