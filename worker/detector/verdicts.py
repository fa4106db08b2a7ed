"""From a completion to a judgement: the answer that was given, P(fake), and the explanation, checked against it."""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from worker.detector.engine import Completion
from worker.messages import Policy
from worker.tables import Verdict


class Answer(StrEnum):
    """The detector's own word. `undecided` is a state, never a guess."""

    FAKE = "fake"
    REAL = "real"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Judgement:
    """What the detector said of one content.

    `score` is P(fake) in 0..1, None when undecided. `contradicts`: a later sentence says the opposite of the opening.
    """

    answer: Answer
    score: float | None
    completion: str
    explanation: str | None
    contradicts: bool
    prompt_tokens: int
    completion_tokens: int
    latency_ms: int

    def verdict(self, policy: Policy) -> Verdict:
        """The verdict under a scan's thresholds."""
        return verdict_of(self.score, policy)


def verdict_of(score: float | None, policy: Policy) -> Verdict:
    """Fake from `fake_from` up, real from `real_to` down, uncertain between and without a score."""
    if score is None or policy.real_to < score < policy.fake_from:
        return Verdict.UNCERTAIN
    return Verdict.FAKE if score >= policy.fake_from else Verdict.REAL


# Anchored to the opening sentence: "unrealistic" further on must not read as "real".
_OPENING = re.compile(
    r"\s*(?:this|the) (?:is an? (?P<a>fake|real) (?:image|photo|picture)|(?:image|photo|picture) is (?P<b>fake|real))\b"
    r"[^.!?\n]*[.!?]?\s*",
    re.IGNORECASE,
)
_CLAIM = re.compile(r"\bis an? (fake|real) (?:image|photo|picture)\b", re.IGNORECASE)


def read(completion: Completion, verdict_ids: tuple[int, int]) -> Judgement:
    """Reads the answer.

    The score is the softmax over the two verdict tokens at the step where the first of them was generated, wherever
    in the answer that is. An answer without an opening that names one, or without such a token, is undecided.
    """
    opening = _OPENING.match(completion.text)
    step = next((index for index, token in enumerate(completion.token_ids) if token in verdict_ids), None)
    answer, score, explanation, contradicts = Answer.UNDECIDED, None, completion.text.strip() or None, False
    if opening and step is not None:
        answer = Answer((opening["a"] or opening["b"]).lower())
        score = _probability_of_fake(*completion.verdict_logprobs[step])
        explanation = completion.text[opening.end() :].strip() or None
        contradicts = any(claim.lower() != answer for claim in _CLAIM.findall(explanation or ""))
    return Judgement(
        answer, score, completion.text, explanation, contradicts,
        completion.prompt_tokens, len(completion.token_ids), completion.latency_ms,
    )  # fmt: skip


def _probability_of_fake(fake: float, real: float) -> float:
    # exp overflows beyond 709; the difference of two log-probabilities can be that large in float16's tails.
    return 1.0 / (1.0 + math.exp(min(real - fake, 700.0)))
