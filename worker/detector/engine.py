"""The seam between the detector and what runs it: vLLM, transformers, or the scripted fake of worker.testing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL.Image import Image

from worker.errors import EngineGenerateError
from worker.messages import Explain


@dataclass(frozen=True)
class Completion:
    """One answer. For each generated token: its id, and the log-probabilities (fake, real) of the verdict words there.

    `text` is the answer without the prompt and special tokens; `latency_ms` from hand-over to the last token.
    """

    text: str
    token_ids: tuple[int, ...]
    verdict_logprobs: tuple[tuple[float, float], ...]
    prompt_tokens: int
    latency_ms: int


class Engine(Protocol):
    """Runs one model. Thread-safe: many threads call complete() at once."""

    verdict_ids: tuple[int, int]
    """Token ids of the words for fake and real."""

    def complete(
        self, images: Sequence[Image], *, explain: Explain = Explain.FLAGGED, live: bool = False
    ) -> list[Completion | EngineGenerateError]:
        """The greedy answer for each `edge` x `edge` RGB image, in order, or why there is none for that image.

        Explain.FLAGGED ends the answer after the real opening, NONE after either. `live` goes before scans.
        Raises EngineDeadError when the engine is dead or has not answered in time.
        """

    def close(self) -> None:
        """Ends the engine and every process it started. Calling it twice is fine."""
