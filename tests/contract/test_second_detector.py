"""A second detector that is described only by its detector.toml: another architecture, question, words and pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoProcessor

from tests import second_detector
from worker.detector.description import VlmDescription, vlm_only
from worker.detector.detector import warm_up
from worker.detector.engine import Completion, Engine
from worker.detector.loading import load_description
from worker.detector.supply import supply
from worker.detector.verdicts import Answer, Judgement, verdict_of
from worker.detector.vlm import VlmDetector
from worker.images import to_square
from worker.messages import Explain, Policy
from worker.settings import Settings
from worker.tables import Verdict

HELD_OUT = range(1_000, 1_012)
"""Seeds. Training used 0 to 63. Images of even seeds are bright and synthetic."""
TWILIGHT = range(124, 142, 2)
"""Grey levels between those of the training, at which the scores are neither 0 nor 1."""


@dataclass(frozen=True)
class Supplied:
    """What the worker's `__main__` has before it starts an engine."""

    description: VlmDescription
    folder: Path
    settings: Settings


@pytest.fixture(scope="module")
def supplied(tmp_path_factory: pytest.TempPathFactory) -> Supplied:
    folder = tmp_path_factory.mktemp("detectors") / "second"
    second_detector.build(folder)
    settings = Settings(detector=str(folder), max_num_seqs=16, max_num_batched_tokens=2048, gpu_memory_utilization=0.2)
    return Supplied(*supply(vlm_only(load_description(settings), "a test"), settings), settings)


@pytest.fixture(scope="module")
def served(supplied: Supplied) -> Iterator[Engine]:
    from worker.detector.vllm_engine import VllmEngine

    engine = VllmEngine(supplied.description, supplied.folder, supplied.settings)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference(supplied: Supplied) -> Iterator[Engine]:
    from worker.detector.transformers_engine import TransformersEngine

    engine = TransformersEngine(supplied.description, supplied.folder)
    yield engine
    engine.close()


@pytest.fixture(params=["reference", "served"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def held_out(supplied: Supplied) -> list[Image.Image]:
    return [prepared(supplied, second_detector.draw(seed)) for seed in HELD_OUT]


def prepared(supplied: Supplied, image: Image.Image) -> Image.Image:
    preprocessing = supplied.description.preprocessing
    return to_square(image, edge=preprocessing.edge, fit=preprocessing.fit)


def judged(
    engine: Engine, supplied: Supplied, images: list[Image.Image], explain: Explain = Explain.FLAGGED
) -> list[Judgement]:
    policy = Policy(explain=explain, **supplied.description.thresholds.model_dump())
    answers = VlmDetector(engine, supplied.description).judge(images, policy)
    return [answer for answer in answers if isinstance(answer, Judgement)]


def test_it_is_another_detector(supplied: Supplied, description: VlmDescription) -> None:
    assert supplied.description.fingerprint != description.fingerprint
    identity = supplied.description.identity
    assert identity["name"] == "brightness"
    assert identity["prompt_revision"] == "chat"
    assert identity["preprocessing_revision"] == "pad-pillow-1@112"
    assert identity["revision"].startswith("sha256:")


def test_the_verdicts_of_images_that_it_has_not_seen(
    engine: Engine, supplied: Supplied, held_out: list[Image.Image]
) -> None:
    thresholds = supplied.description.thresholds.model_dump()
    found = judged(engine, supplied, held_out)
    assert [one.answer for one in found] == [Answer.REAL if seed % 2 else Answer.FAKE for seed in HELD_OUT]
    assert [verdict_of(one.score, **thresholds) for one in found] == [
        Verdict.REAL if seed % 2 else Verdict.FAKE for seed in HELD_OUT
    ]


def test_synthetic_images_are_explained_and_authentic_ones_are_not(
    engine: Engine, supplied: Supplied, held_out: list[Image.Image]
) -> None:
    for one in judged(engine, supplied, held_out):
        if one.answer == Answer.FAKE:
            assert one.completion == second_detector.SYNTHETIC
            assert one.explanation == second_detector.SYNTHETIC.removeprefix("Provenance: synthetic. ")
        else:
            assert (one.completion, one.explanation) == ("Provenance: authentic.", None)
        assert not one.contradicts
        assert not one.cut_off


def test_all_explains_everything_and_none_nothing(
    engine: Engine, supplied: Supplied, held_out: list[Image.Image]
) -> None:
    everything = judged(engine, supplied, held_out[:4], Explain.ALL)
    assert {one.completion for one in everything} == {second_detector.SYNTHETIC, second_detector.AUTHENTIC}
    nothing = judged(engine, supplied, held_out[:4], Explain.NONE)
    assert {one.completion for one in nothing} == {"Provenance: synthetic.", "Provenance: authentic."}


def test_both_engines_give_the_same_scores(
    served: Engine, reference: Engine, supplied: Supplied, held_out: list[Image.Image]
) -> None:
    twilight = [prepared(supplied, second_detector.draw(2_000 + level, level)) for level in TWILIGHT]
    ours, theirs = (
        [one.score for one in judged(engine, supplied, [*held_out, *twilight])] for engine in (served, reference)
    )
    assert ours == pytest.approx(theirs, abs=0.02)
    assert any(score is not None and 0.02 < score < 0.98 for score in ours), "nothing between the extremes compared"


def test_the_engine_gets_what_the_processor_makes(
    engine: Engine, supplied: Supplied, held_out: list[Image.Image]
) -> None:
    processor = AutoProcessor.from_pretrained(supplied.folder)
    prompt = supplied.description.prompt_text
    assert prompt == second_detector.PROMPT
    expected = processor(images=held_out[0], text=prompt, return_tensors="pt")["input_ids"][0].tolist()
    assert expected.count(processor.image_token_id) == 16
    [answer] = engine.complete(held_out[:1])
    assert isinstance(answer, Completion)
    assert list(answer.prompt_token_ids) == expected


def test_it_can_judge_the_grey_image_that_is_judged_at_the_start(engine: Engine, supplied: Supplied) -> None:
    warm_up(VlmDetector(engine, supplied.description))


def test_without_its_pattern_every_answer_is_undecided(
    reference: Engine, supplied: Supplied, held_out: list[Image.Image]
) -> None:
    """The pattern of the file reads the answer. The built-in reading does not know these words, and guesses nothing."""
    answer = supplied.description.answer.model_copy(update={"pattern": None})
    unread = VlmDetector(reference, supplied.description.model_copy(update={"answer": answer}))
    for one in unread.judge(held_out[:2], Policy()):
        assert isinstance(one, Judgement)
        assert (one.answer, one.score) == (Answer.UNDECIDED, None)
