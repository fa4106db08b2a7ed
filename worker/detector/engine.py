"""The interface between the detector and what runs it: vLLM, transformers, or the scripted fake of worker.testing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image

from worker.errors import ConfigurationError, EngineGenerateError
from worker.messages import Explain


@dataclass(frozen=True)
class Step:
    """One generated token: its id and the text that it adds.

    `fake` and `real` are the log-probabilities, at this step, of all fake and of all real verdict tokens together.
    `is_verdict` says whether the generated token is a verdict token.
    """

    token_id: int
    text: str
    fake: float
    real: float
    is_verdict: bool


@dataclass(frozen=True)
class Completion:
    """One answer, without special tokens in its text. `latency_ms` is the time from hand-over to the last token.

    `cut_off`: the limit on its length ended the answer.
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
    """Makes the error for an engine whose packages are missing."""
    return ConfigurationError(
        f"FAKESWEEP_ENGINE: {engine} cannot be imported ({error}); "
        "install fakesweep[gpu], fakesweep[cpu] or fakesweep[transformers]"
    )


class Engine(Protocol):
    """Runs one model. Thread-safe: many threads call complete() at the same time."""

    @property
    def name(self) -> str:
        """What the table `makers` calls it, such as `vllm`."""

    @property
    def on_gpu(self) -> bool:
        """Whether it judges on a GPU."""

    def complete(
        self,
        images: Sequence[Image],
        *,
        explain: Explain = Explain.FLAGGED,
        max_tokens: int | None = None,
        live: bool = False,
    ) -> list[Completion | EngineGenerateError]:
        """Returns the greedy answer for each `edge` x `edge` RGB image, in order, or the error of that image.

        Explain.FLAGGED ends the answer after the opening for real, NONE after either opening. `max_tokens` can only
        lower the description's limit. `live` images go before those of scans. Raises EngineDeadError when the engine is
        dead or stalled: it has images, but has finished none for too long.
        """

    def check(self) -> None:
        """Raises EngineDeadError when the engine is dead or stalled, also when nobody waits for an answer."""

    def close(self) -> None:
        """Ends the engine and every process it started. Calling it twice is fine."""
