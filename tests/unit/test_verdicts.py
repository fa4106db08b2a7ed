"""Reading answers: the score stands where the verdict word does, and what is not said is not guessed."""

import math

import pytest

from worker.detector.engine import Completion
from worker.detector.verdicts import Answer, read, verdict_of
from worker.messages import Policy
from worker.tables import Verdict

FAKE, REAL = 7, 8


def completion(text: str, tokens: list[int], fake: float = 0.9) -> Completion:
    """An answer whose log-probabilities say `fake` where a verdict token stands, and nonsense elsewhere."""
    steps = tuple(
        (math.log(fake), math.log(1 - fake)) if token in {FAKE, REAL} else (math.log(0.001), math.log(0.002))
        for token in tokens
    )
    return Completion(text, tuple(tokens), steps, prompt_tokens=587, latency_ms=5)


@pytest.mark.parametrize(
    ("text", "answer", "explanation"),
    [
        ("This is a fake image. The shadows disagree.", Answer.FAKE, "The shadows disagree."),
        (" This is a fake image. The hand is unrealistic.", Answer.FAKE, "The hand is unrealistic."),
        ("\nThis is a fake image.", Answer.FAKE, None),
        ("THIS IS A FAKE IMAGE. No.", Answer.FAKE, "No."),
        ("This image is fake. Look at the hair.", Answer.FAKE, "Look at the hair."),
        ("This is a fake photo, made by a generator. See.", Answer.FAKE, "See."),
    ],
)
def test_openings(text: str, answer: Answer, explanation: str | None) -> None:
    judgement = read(completion(text, [1, 2, FAKE, 3]), (FAKE, REAL))
    assert (judgement.answer, judgement.explanation) == (answer, explanation)
    assert judgement.score == pytest.approx(0.9)


def test_the_score_is_read_at_the_first_verdict_token() -> None:
    steps = ((0.0, 0.0), (math.log(0.2), math.log(0.8)), (math.log(0.9), math.log(0.1)))
    judgement = read(Completion("This is a real image. Not fake.", (1, REAL, FAKE), steps, 587, 5), (FAKE, REAL))
    assert judgement.answer == Answer.REAL
    assert judgement.score == pytest.approx(0.2)


@pytest.mark.parametrize("text", ["", "I cannot tell.", "The unrealistic light surprises.", "Это подделка.", "This is"])
def test_without_a_verdict_it_is_undecided(text: str) -> None:
    judgement = read(completion(text, [1, 2, 3]), (FAKE, REAL))
    assert judgement.answer == Answer.UNDECIDED
    assert judgement.score is None
    assert verdict_of(judgement.score, Policy()) == Verdict.UNCERTAIN


def test_an_explanation_that_says_the_opposite_is_marked() -> None:
    text = "This is a fake image. All in all this is a real photo."
    assert read(completion(text, [FAKE, REAL]), (FAKE, REAL)).contradicts
    assert not read(completion("This is a fake image. It is a fake picture.", [FAKE]), (FAKE, REAL)).contradicts


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (1.0, "fake"),
        (0.8, "fake"),
        (0.79, "uncertain"),
        (0.31, "uncertain"),
        (0.3, "real"),
        (0.0, "real"),
        (None, "uncertain"),
    ],
)
def test_thresholds_are_inclusive(score: float | None, verdict: str) -> None:
    assert verdict_of(score, Policy(fake_from=0.8, real_to=0.3)) == verdict


def test_extreme_log_probabilities_do_not_overflow() -> None:
    steps = ((-5000.0, 0.0),)
    assert read(Completion("This is a real image.", (REAL,), steps, 1, 1), (FAKE, REAL)).score == pytest.approx(0.0)
