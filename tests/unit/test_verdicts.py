"""Reading answers: the score is that of the verdict word, and a missing verdict is not guessed."""

import math
import shutil
from importlib.resources import files
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaTokenizer

from tests.authors_evaluation import authors_verdict
from tests.conftest import DEMO_DETECTOR
from tests.unit.answers import ANSWERS, LOTS, NOT_FAKE
from worker.detector.engine import Completion, Step
from worker.detector.tokens import texts, verdict_tokens
from worker.detector.verdicts import Answer, Judgement, Reader, verdict_of
from worker.testing import answering, scripted_description


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tokenizers: that of the demo detector, and a complete one of Llama's kind that comes with vLLM."""
    folder = tmp_path_factory.mktemp("llama")
    shutil.copy(str(files("mistral_common") / "data" / "tokenizer.model.v1"), folder / "tokenizer.model")
    return {"demo": AutoTokenizer.from_pretrained(DEMO_DETECTOR), "mistral": LlamaTokenizer.from_pretrained(folder)}


def read(text: str, fake: float = 0.9) -> Judgement:
    return Reader(scripted_description()).read(answering(text, fake))


def steps(*pieces: tuple[str, float | None]) -> Completion:
    """Returns a completion of these pieces. Those with a P(fake) are verdict tokens."""
    made = [
        Step(1, text, math.log(fake or 0.5), math.log(1 - (fake or 0.5)), is_verdict=fake is not None)
        for text, fake in pieces
    ]
    return Completion(tuple(made), (1,), 5)


@pytest.mark.parametrize(("text", "says", "authors_err"), ANSWERS)
def test_the_verdict_of_an_answer(text: str, says: str, authors_err: str | None) -> None:
    judgement = read(text)
    assert judgement.answer == says
    assert (judgement.score is None) == (judgement.log_odds is None) == (says == "undecided")
    if says != "undecided":
        assert judgement.score == pytest.approx(0.9)
    theirs = authors_verdict(text)
    assert (theirs != says) == bool(authors_err), "a verdict that is not there, another one, or one by lot"
    assert (theirs is None) == (authors_err == LOTS)


@pytest.mark.parametrize(("text", "says"), NOT_FAKE)
def test_words_that_are_denied_doubted_quoted_or_about_another_thing_are_no_verdict(text: str, says: str) -> None:
    assert read(text).answer == says


@pytest.mark.parametrize("tokenizer", ["demo", "mistral"])
def test_the_table_of_answers_with_tokens_of_sentencepiece(tokenizer: str, tokenizers: dict[str, Any]) -> None:
    made = tokenizers[tokenizer]
    description = scripted_description()
    tokens = verdict_tokens(made, description.answer)
    for text, says, _ in ANSWERS:
        ids = made.encode(text, add_special_tokens=False)
        pieces = zip(ids, texts(made, ids), strict=True)
        steps = [Step(one, piece, -0.1, -2.4, is_verdict=one in tokens.ids) for one, piece in pieces]
        assert Reader(description).read(Completion(tuple(steps), (1,), 5)).answer == says, text


def test_an_answer_without_finite_log_odds_is_undecided() -> None:
    lost = Completion((Step(1, "Fake.", -math.inf, -math.inf, is_verdict=True),), (1,), 1)
    judgement = Reader(scripted_description()).read(lost)
    assert (judgement.answer, judgement.score, judgement.log_odds) == (Answer.UNDECIDED, None, None)


def test_two_contrary_verdicts_are_undecided_unless_the_detectors_opening_comes_first() -> None:
    assert read("The image is fake. The image is real.").answer == Answer.UNDECIDED
    opened = read("This is a fake image. The image is real.")
    assert (opened.answer, opened.contradicts) == (Answer.FAKE, True)


def test_the_table_is_large_and_has_answers_that_the_authors_parser_misreads() -> None:
    assert len({text for text, _, _ in ANSWERS}) == len(ANSWERS) >= 60
    assert {says for _, says, _ in ANSWERS} == set(Answer)
    assert sum(reason is not None for _, _, reason in ANSWERS) >= 20


@pytest.mark.parametrize(
    ("text", "explanation"),
    [
        ("This is a fake image. The shadows disagree.", "The shadows disagree."),
        ("\nThis is a fake image.", None),
        ("This is a fake photo, made by a generator. See.", "made by a generator. See."),
        ("It shows a cat. This is a fake image. Six legs.", "It shows a cat. Six legs."),
        ("**Fake** The ears differ.", "The ears differ."),
        ("I cannot tell.", "I cannot tell."),
        ("", None),
    ],
)
def test_the_explanation_is_the_answer_without_its_statement(text: str, explanation: str | None) -> None:
    assert read(text).explanation == explanation


def test_the_score_is_read_at_the_word_of_the_statement() -> None:
    late = steps(("A", None), (" real", 0.01), (" sky", None), (". This is a", None), (" fake", 0.8), (" image.", None))
    judgement = Reader(scripted_description()).read(late)
    assert judgement.answer == Answer.FAKE
    assert judgement.score == pytest.approx(0.8)


def test_a_word_of_several_tokens_has_its_score_at_the_token_that_decides() -> None:
    capitals = steps(("THIS IS A ", None), ("F", 0.7), ("AKE", None), (" IMAGE.", None))
    judgement = Reader(scripted_description()).read(capitals)
    assert judgement.answer == Answer.FAKE
    assert judgement.score == pytest.approx(0.7)


def test_a_statement_without_a_verdict_token_has_no_score_and_is_undecided() -> None:
    judgement = Reader(scripted_description()).read(steps(("This is a fa", None), ("ke image.", None)))
    assert (judgement.answer, judgement.score) == (Answer.UNDECIDED, None)


@pytest.mark.parametrize(
    ("text", "contradicts"),
    [
        ("This is a fake image. All in all this is a real photo.", True),
        ("This is a fake image. The image is authentic.", True),
        ("This is a fake image. This is not a fake image.", True),
        ("This is a real image. The image is AI-generated.", True),
        ("This is a real image. It looks genuine. It is a fake picture.", True),
        ("This is a fake image. It is a fake picture.", False),
        ("This is a fake image. The light is real, the hand unrealistic.", False),
        ("This is a fake image. In a real image, the hands match.", False),
        ("This is a fake image. It is not an authentic photograph.", False),
        ("This is a real image. It might be a fake image to some.", False),
        ("This is a real image. Nothing suggests that the image is manipulated.", False),
        ("This is a real image. The image is generated by a camera sensor.", False),
        ("This is a fake image. It is an attempt to look genuine.", False),
        ("This is a fake image. The image was designed to look real.", False),
        ("This is a real image.", False),
    ],
)
def test_an_explanation_that_contradicts_the_answer_is_marked(text: str, contradicts: bool) -> None:
    assert read(text).contradicts is contradicts


def test_a_description_may_have_its_own_words_and_pattern() -> None:
    answer = {
        "fake": "Verdict: fake", "real": "Verdict: real",
        "pattern": r"verdict: (?:(?P<fake>fake)|(?P<real>real))",
    }  # fmt: skip
    reader = Reader(scripted_description(answer=answer))
    judged = [reader.read(answering(text, 0.2)) for text in ("Six fingers. VERDICT: fake", "This is a fake image.")]
    assert [judgement.answer for judgement in judged] == [Answer.FAKE, Answer.UNDECIDED]
    assert judged[0].explanation == "Six fingers."


def test_the_score_is_calibrated_and_the_log_odds_are_not() -> None:
    reader = Reader(scripted_description(calibration={"slope": 0.5, "offset": -0.25}))
    judgement = reader.read(answering("This is a fake image.", 0.9))
    assert judgement.log_odds == pytest.approx(math.log(9))
    assert judgement.score == pytest.approx(1 / (1 + math.exp(0.25 - math.log(9) / 2)))


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
    assert verdict_of(score, fake_from=0.8, real_to=0.3) == verdict


@pytest.mark.parametrize(("fake", "real", "score"), [(-5000.0, 0.0, 0.0), (0.0, -5000.0, 1.0)])
def test_extreme_log_probabilities_do_not_overflow(fake: float, real: float, score: float) -> None:
    certain = Completion((Step(1, "Fake.", fake, real, is_verdict=True),), (1,), 1)
    assert Reader(scripted_description()).read(certain).score == pytest.approx(score)


def test_an_answer_that_was_cut_off_is_marked() -> None:
    cut = Reader(scripted_description()).read(answering("This is a fake image. The light is wrong.", max_tokens=7))
    assert (cut.answer, cut.cut_off, cut.completion_tokens) == (Answer.FAKE, True, 7)
    assert not read("This is a fake image.").cut_off
