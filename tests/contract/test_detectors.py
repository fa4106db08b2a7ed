"""One suite for every detector: vision-language models on each engine, classifiers of five forms, and a cascade."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.demo.answers import FAMILIES, REAL
from deploy.demo.draw import draw
from tests.classifiers import ARCHITECTURES, classifier_description, save_classifier
from tests.conftest import demo_detector
from worker.detector.calibration import Calibration
from worker.detector.cascade import CascadeDetector
from worker.detector.classifier import ClassifierDetector
from worker.detector.description import CascadeDescription
from worker.detector.detector import Detector, warm_up
from worker.detector.verdicts import Answer, Judgement
from worker.detector.vlm import VlmDetector
from worker.errors import ConfigurationError, EngineDeadError, EngineGenerateError
from worker.images import to_square
from worker.messages import Explain, Policy
from worker.testing import ScriptedEngine, brightness, scripted_description

SEEDS = range(920_000, 920_010)
CALIBRATION = Calibration(slope=0.8, offset=-0.3)
EVERY = ("scripted", "transformers", "vllm", *ARCHITECTURES, "cascade")
CLOSED_HERE = tuple(name for name in EVERY if name != "vllm")
"""Other modules use the same vLLM, and another one takes half a minute to start."""
REFUSING = tuple(name for name in EVERY if name != "transformers")
"""transformers' own processor resizes every image, so this engine refuses none."""


@dataclass(frozen=True)
class Candidate:
    """A detector for the suite. `within`: how far scores may differ between batches of different sizes."""

    make: Callable[[], Detector]
    within: float = 1e-5

    def squares(self, detector: Detector) -> list[Image.Image]:
        """Images that the detector can judge."""
        kinds = [REAL, *FAMILIES]
        edge = detector.description.preprocessing.edge
        return [to_square(draw(seed, kinds[seed % len(kinds)]), edge=edge) for seed in SEEDS]


def refuse_other_sizes(image: Image.Image) -> None:
    if image.size != (336, 336):
        raise EngineGenerateError("another size")


def scripted_detector(score: Callable[[Image.Image], float] = brightness, **changes: Any) -> VlmDetector:
    description = scripted_description(calibration=CALIBRATION, **changes)
    return VlmDetector(ScriptedEngine(score, fail=refuse_other_sizes), description)


def cascade() -> Detector:
    first, judge = scripted_detector(name="first"), scripted_detector(lambda one: brightness(one) ** 2, name="judge")
    content = {"first": first.description, "judge": judge.description, "clear": {"up_to": 0.3, "audit_share": 0}}
    description = CascadeDescription.model_validate({"name": "both", **content})
    return CascadeDetector(description, first, judge)


def own_transformers() -> Detector:
    from worker.detector.transformers_engine import TransformersEngine

    description, folder, _ = demo_detector()
    return VlmDetector(TransformersEngine(description, folder), description)


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Candidate]:
    found = {}
    for name in ARCHITECTURES:
        folder = save_classifier(tmp_path_factory.mktemp("classifiers") / name, name)
        description = classifier_description(folder, name, calibration=CALIBRATION)
        found[name] = Candidate(partial(ClassifierDetector, description, folder))
    return found


@pytest.fixture
def candidate(request: pytest.FixtureRequest, classifiers: dict[str, Candidate]) -> Candidate:
    """The detector that the test's parameter names. vLLM and transformers run on an engine that tests share."""
    if request.param in classifiers:
        return classifiers[request.param]
    if request.param in {"transformers", "vllm"}:
        engine = request.getfixturevalue(request.param)
        description = demo_detector()[0].model_copy(update={"calibration": CALIBRATION})
        return Candidate(partial(VlmDetector, engine, description), within=0.02)
    return Candidate({"scripted": scripted_detector, "cascade": cascade}[request.param])


@pytest.fixture
def closed_here(request: pytest.FixtureRequest, classifiers: dict[str, Candidate]) -> Detector:
    """A detector that the test may close."""
    own: dict[str, Callable[[], Detector]] = {
        "scripted": scripted_detector, "cascade": cascade, "transformers": own_transformers
    }  # fmt: skip
    return (own | {name: one.make for name, one in classifiers.items()})[request.param]()


on_every = pytest.mark.parametrize("candidate", EVERY, indirect=True)


def judged(detector: Detector, images: list[Image.Image], **how: Any) -> list[Judgement]:
    found = detector.judge(images, Policy(explain=Explain.NONE), **how)
    assert not any(isinstance(one, EngineGenerateError) for one in found)
    return [one for one in found if isinstance(one, Judgement)]


def scores(judgements: list[Judgement]) -> list[float]:
    return [-1.0 if one.score is None else one.score for one in judgements]


@on_every
def test_an_answer_for_every_image_in_order_alone_or_in_a_batch(candidate: Candidate) -> None:
    detector = candidate.make()
    images = candidate.squares(detector)
    together = judged(detector, images)
    assert len({one.score for one in together}) > 1
    alone = [judged(detector, [image])[0] for image in images]
    assert scores(together) == pytest.approx(scores(alone), abs=candidate.within)
    assert [one.answer for one in together] == [one.answer for one in alone]


@on_every
def test_no_images_no_answers(candidate: Candidate) -> None:
    assert candidate.make().judge([], Policy()) == []


@on_every
def test_the_same_answers_from_several_threads_and_for_live_images(candidate: Candidate) -> None:
    detector = candidate.make()
    images = candidate.squares(detector)
    expected = scores(judged(detector, images))
    found: dict[int, list[float]] = {}

    def work(number: int) -> None:
        found[number] = scores(judged(detector, images[number : number + 3], live=number % 2 == 0))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    for number in range(6):
        assert found[number] == pytest.approx(expected[number : number + 3], abs=candidate.within)


@on_every
def test_scores_are_calibrated_and_log_odds_are_finite(candidate: Candidate) -> None:
    detector = candidate.make()
    for one in judged(detector, candidate.squares(detector)):
        assert one.log_odds is not None
        assert math.isfinite(one.log_odds)
        assert one.score == pytest.approx(CALIBRATION.score(one.log_odds), abs=1e-12)
        assert one.answer is (Answer.FAKE if one.log_odds > 0 else Answer.REAL)


@on_every
def test_a_healthy_detector_passes_its_check_and_warms_up(candidate: Candidate) -> None:
    detector = candidate.make()
    detector.check()
    warm_up(detector)
    assert detector.engine_name
    assert detector.on_gpu is False


@pytest.mark.parametrize("candidate", REFUSING, indirect=True)
def test_a_refused_image_is_one_error_and_not_the_others(candidate: Candidate) -> None:
    detector = candidate.make()
    first, last = candidate.squares(detector)[:2]
    edge = detector.description.preprocessing.edge
    given = [first, Image.new("RGB", (edge - 8, edge)), last]
    found = detector.judge(given, Policy(explain=Explain.NONE))
    assert isinstance(found[1], EngineGenerateError)
    kept = [one for one in found if isinstance(one, Judgement)]
    assert scores(kept) == pytest.approx(scores(judged(detector, [first, last])), abs=candidate.within)


@pytest.mark.parametrize("closed_here", CLOSED_HERE, indirect=True)
def test_a_closed_detector_judges_nothing_and_closes_twice(closed_here: Detector) -> None:
    edge = closed_here.description.preprocessing.edge
    square = Image.new("RGB", (edge, edge))
    assert len(closed_here.judge([square], Policy(explain=Explain.NONE))) == 1
    closed_here.close()
    closed_here.close()
    with pytest.raises(EngineDeadError):
        closed_here.judge([square], Policy())
    with pytest.raises(EngineDeadError):
        closed_here.check()


# What concerns vision-language models alone


def test_an_image_that_the_engine_refuses_once_is_asked_about_again() -> None:
    grey = Image.fromarray(np.full((10, 10, 3), 128, dtype=np.uint8))
    refusals = iter([True, False])

    def refuse_grey_once(image: Image.Image) -> None:
        if image.getpixel((0, 0)) == (128, 128, 128) and next(refusals):
            raise EngineGenerateError("refused")

    engine = ScriptedEngine(fail=refuse_grey_once)
    found = VlmDetector(engine, scripted_description()).judge([Image.new("RGB", (10, 10)), grey], Policy())
    assert not any(isinstance(judgement, EngineGenerateError) for judgement in found)
    assert engine.calls == [2, 1]


def test_a_live_image_is_live_for_the_engine_too() -> None:
    engine = ScriptedEngine()
    VlmDetector(engine, scripted_description()).judge([Image.new("RGB", (10, 10))], Policy(), live=True)
    assert engine.lives == [True]


def test_a_detector_that_cannot_judge_a_grey_image_does_not_start() -> None:
    def refuse(_image: Image.Image) -> None:
        raise EngineGenerateError("the prompt is longer than max_model_len")

    warm_up(VlmDetector(ScriptedEngine(), scripted_description()))
    with pytest.raises(ConfigurationError, match="longer than max_model_len"):
        warm_up(VlmDetector(ScriptedEngine(fail=refuse), scripted_description()))
