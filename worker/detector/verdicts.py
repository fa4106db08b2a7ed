"""Turns a completion into a judgement: the answer, P(fake), and the explanation, checked against the answer."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from worker.detector.statements import Grammar, Mood, Statement
from worker.tables import Stage, Verdict
from worker.texts import storable

if TYPE_CHECKING:  # producers import this module without the modules for images
    from worker.detector.description import VlmDescription
    from worker.detector.engine import Completion, Step


class Answer(StrEnum):
    """The detector's own word. It is `undecided` if the answer is not plain; nothing is guessed."""

    FAKE = "fake"
    REAL = "real"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Judgement:
    """What the detector said about one content.

    `log_odds` is log P(fake) - log P(real) at the verdict token, in nats. `score` is P(fake) in 0..1, calibrated. Both
    are None if undecided. `contradicts`: the explanation says the opposite of the answer. `cut_off`: the limit on its
    length ended the answer. `stage` is the stage of a cascade that gave the judgement, and `first_score` what its first
    stage said.
    """

    answer: Answer
    log_odds: float | None
    score: float | None
    completion: str
    explanation: str | None
    contradicts: bool
    cut_off: bool
    prompt_tokens: int
    completion_tokens: int
    latency_ms: int
    stage: Stage | None = None
    first_score: float | None = None


def verdict_of(score: float | None, *, fake_from: float, real_to: float) -> Verdict:
    """Returns fake from `fake_from` upwards, real up to `real_to`, and uncertain between the two or without a score."""
    if score is None or real_to < score < fake_from:
        return Verdict.UNCERTAIN
    return Verdict.FAKE if score >= fake_from else Verdict.REAL


_FAKE_WORDS = ("fake", "AI-generated", "computer-generated", "synthetic", "manipulated", "deepfake", "fabricated")
_REAL_WORDS = ("real", "authentic", "genuine", "unaltered", "unedited", "unmanipulated")
"""Words that can contradict a verdict. Only the description's own two words can give one, because they have a score."""


class Reader:
    """Reads the answers of one detector."""

    def __init__(self, description: "VlmDescription") -> None:
        form = description.answer
        self._openings = tuple(sentence.rstrip(".!").lower() for sentence in (form.fake, form.real))
        self._calibration = description.calibration
        self._pattern = re.compile(form.pattern, re.IGNORECASE) if form.pattern else None
        self._verdicts = Grammar((form.fake_word,), (form.real_word,))
        self._words = form.fake_word, form.real_word

    def read(self, completion: "Completion") -> Judgement:
        """Returns the judgement. The first plain statement decides, and its word gives the score.

        An answer is undecided if it states nothing plainly, if it states both without one of the detector's openings,
        or if it writes its word in tokens that are not verdict tokens. The judgement's texts are storable
        (worker.texts), whatever the model wrote.
        """
        text = completion.text
        statement = self._decisive(text)
        step = _verdict_step(completion, statement.word) if statement else None
        log_odds = step.fake - step.real if step else math.nan
        answer, score, explanation, contradicts = Answer.UNDECIDED, None, text, False
        if statement and math.isfinite(log_odds):
            answer = Answer.FAKE if statement.side else Answer.REAL
            score = self._calibration.score(log_odds)
            explanation = _without(text, statement.whole)
            contradicts = bool(contradictions(explanation, answer, self._words))
        return Judgement(
            answer, None if score is None else log_odds, score, storable(text),
            storable(explanation).strip() or None, contradicts, completion.cut_off,
            len(completion.prompt_token_ids), len(completion.steps), completion.latency_ms,
        )  # fmt: skip

    def _decisive(self, text: str) -> Statement | None:
        found = list(self._statements(text))
        opens = text.lstrip(" \t\n\"'*").lower().startswith(self._openings)
        both = len({statement.side for statement in found}) > 1
        return found[0] if found and (opens or not both) else None

    def _statements(self, text: str) -> Iterator[Statement]:
        if self._pattern is None:
            return (statement for statement in self._verdicts.statements(text) if statement.mood is Mood.PLAIN)
        return (
            Statement(side, Mood.PLAIN, found.span("fake" if side else "real"), found.span())
            for found in self._pattern.finditer(text)
            for side in (found["fake"] is not None,)
        )


def contradictions(
    explanation: str, answer: Answer, words: tuple[str, str] = ("fake", "real")
) -> list[tuple[int, int]]:
    """Returns where an explanation says the opposite of the answer: the (start, end) of each such statement.

    `words` are the description's own words for fake and for real.
    """
    claims = _claims(*words).statements(explanation)
    return [claim.whole for claim in claims if _opposes(claim, answer)]


@cache
def _claims(fake_word: str, real_word: str) -> Grammar:
    return Grammar((fake_word, *_FAKE_WORDS), (real_word, *_REAL_WORDS))


def _verdict_step(completion: "Completion", word: tuple[int, int]) -> "Step | None":
    """Returns the step that generated a verdict token within the word, which spans (start, end) of the text."""
    end = 0
    for step in completion.steps:
        start, end = end, end + len(step.text)
        if step.is_verdict and start < word[1] and end > word[0]:
            return step
    return None


def _without(text: str, statement: tuple[int, int]) -> str:
    """Returns the text without the statement and the punctuation that ends it."""
    before, after = text[: statement[0]].rstrip(), text[statement[1] :].lstrip(" \t\n.,;:!*\"'")
    return f"{before} {after}" if before else after


def _opposes(claim: Statement, answer: Answer) -> bool:
    plainly = claim.mood is Mood.PLAIN and claim.side != (answer is Answer.FAKE)
    denying = claim.mood is Mood.NEGATED and claim.side == (answer is Answer.FAKE)
    return plainly or denying
