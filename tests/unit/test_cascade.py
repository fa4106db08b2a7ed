"""What a cascade clears, whom it asks about the rest, and which cleared images it audits."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image
from structlog.testing import capture_logs

from tests.cascades import Cascade, cascade_description
from worker.detector.cascade import CascadeDetector
from worker.detector.description import CascadeDescription
from worker.detector.detector import warm_up
from worker.detector.maker import maker_of
from worker.detector.start import supply_detector
from worker.detector.verdicts import Answer, Judgement
from worker.detector.vlm import VlmDetector
from worker.errors import ConfigurationError, EngineDeadError, EngineGenerateError
from worker.messages import Explain, Policy
from worker.settings import Settings
from worker.tables import Stage
from worker.testing import ScriptedEngine, brightness, scripted_description

Answers = Sequence[Judgement | EngineGenerateError]


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (level,) * 3)


def stages(answers: Answers) -> list[str]:
    return [str(one.stage) if isinstance(one, Judgement) else "error" for one in answers]


def refusing(*levels: int) -> ScriptedEngine:
    """An engine that refuses images of these grey levels."""

    def fail(image: Image.Image) -> None:
        if image.getpixel((0, 0))[0] in levels:  # type: ignore[index]  # an RGB image has tuples
            raise EngineGenerateError("refused")

    return ScriptedEngine(fail=fail)


def test_a_cleared_image_has_the_first_stages_score_and_the_judge_is_not_asked() -> None:
    cascade = Cascade(judge=lambda _image: 0.9)
    (cleared,) = cascade.detector.judge([grey(10)], Policy(explain=Explain.ALL))
    assert isinstance(cleared, Judgement)
    assert (cleared.stage, cleared.score, cleared.first_score) == (Stage.FIRST, *[pytest.approx(10 / 255)] * 2)
    assert cleared.explanation is None
    assert cascade.asked.calls == []


@pytest.mark.parametrize(
    ("first", "judge", "shown"),
    [
        ("No photos.", "Demo.", "Demo. No photos."),
        ("Demo. A head on it.", "Demo.", "Demo. A head on it."),
        ("Demo.", "Demo.", "Demo."),
        (None, None, None),
    ],
)
def test_the_notices_of_both_stages_are_shown_once(first: str | None, judge: str | None, shown: str | None) -> None:
    quick, slow = scripted_description(name="quick", notice=first), scripted_description(notice=judge)
    assert cascade_description(first=quick, judge=slow).notice == shown


def test_a_cleared_image_is_real_even_if_the_first_stage_answers_fake() -> None:
    """With an offset in its calibration, an answer of fake can have a low score."""
    quick = scripted_description(name="quick", revision="7", calibration={"offset": -5.0})
    description = cascade_description(first=quick)
    first, judge = VlmDetector(ScriptedEngine(), quick), VlmDetector(ScriptedEngine(), scripted_description())
    alone, cleared = (
        one.judge([grey(150)], Policy())[0] for one in (first, CascadeDetector(description, first, judge))
    )
    assert isinstance(alone, Judgement)
    assert isinstance(cleared, Judgement)
    assert (alone.answer, cleared.answer, cleared.stage) == (Answer.FAKE, Answer.REAL, Stage.FIRST)
    assert cleared.score == alone.score


def test_the_rest_has_the_judges_answer_with_the_first_stages_score_in_the_order_of_the_images() -> None:
    cascade = Cascade(judge=lambda image: 1 - brightness(image))
    levels = [200, 10, 100, 20, 250]
    answers = cascade.detector.judge([grey(level) for level in levels], Policy())
    assert stages(answers) == ["judge", "first", "judge", "first", "judge"]
    scores = [one.score for one in answers if isinstance(one, Judgement)]
    assert scores == pytest.approx([1 - 200 / 255, 10 / 255, 1 - 100 / 255, 20 / 255, 1 - 250 / 255], abs=1e-6)
    firsts = [one.first_score for one in answers if isinstance(one, Judgement)]
    assert firsts == pytest.approx([level / 255 for level in levels])
    assert cascade.asked.calls == [3]


def test_what_the_first_stage_refuses_goes_to_the_judge() -> None:
    cascade = Cascade(first=refusing(10))
    answers = cascade.detector.judge([grey(20), grey(10)], Policy())
    assert stages(answers) == ["first", "judge"]
    assert isinstance(answers[1], Judgement)
    assert answers[1].first_score is None


def test_if_the_first_stage_fails_unexpectedly_the_judge_sees_every_image() -> None:
    def fail(_image: Image.Image) -> None:
        raise ZeroDivisionError

    cascade = Cascade(first=ScriptedEngine(fail=fail), clear={"audit_share": 1.0})
    with capture_logs() as logs:
        answers = cascade.detector.judge([grey(10), grey(200)], Policy())
    assert stages(answers) == ["judge", "judge"]
    assert [one.first_score for one in answers if isinstance(one, Judgement)] == [None, None]
    assert [(one["event"], one["images"]) for one in logs] == [("first_stage_failed", 2)]


def test_what_both_stages_refuse_has_an_error_and_the_others_their_answers() -> None:
    cascade = Cascade(first=refusing(100), judge_engine=refusing(100))
    assert stages(cascade.detector.judge([grey(100), grey(10), grey(200)], Policy())) == ["error", "first", "judge"]


def test_an_audited_image_has_the_judges_answer_and_stays_cleared_if_the_judge_refuses_it() -> None:
    cascade = Cascade(judge_engine=refusing(10), clear={"audit_share": 1.0})
    answers = cascade.detector.judge([grey(10), grey(20), grey(100)], Policy())
    assert stages(answers) == ["first", "audit", "judge"]


def test_a_policy_can_ask_for_the_judge() -> None:
    cascade = Cascade(clear={"audit_share": 1.0})
    answers = cascade.detector.judge([grey(10), grey(100)], Policy(judge=True))
    assert stages(answers) == ["judge", "judge"]
    assert cascade.asked.calls == [2]


@pytest.mark.parametrize(
    ("policy", "stage"),
    [
        (Policy(), "first"),
        (Policy(real_to=0.1), "judge"),  # a score of 0.157 would be uncertain
        (Policy(real_to=0.16), "first"),
        (Policy(fake_from=0.15), "judge"),  # it would be fake
        (Policy(real_to=40 / 255, fake_from=40 / 255), "judge"),  # a score on both thresholds is fake
    ],
)
def test_an_image_that_a_scan_would_not_call_real_is_not_cleared(policy: Policy, stage: str) -> None:
    exact = ScriptedEngine(lambda _image: 40 / 255)
    assert stages(Cascade(first=exact).detector.judge([grey(40)], policy)) == [stage]


def test_both_stages_learn_that_an_image_is_live() -> None:
    cascade = Cascade()
    for live in (True, False):
        cascade.detector.judge([grey(200)], Policy(), live=live)
    assert cascade.first.lives == cascade.asked.lives == [True, False]


def test_warming_up_warms_both_stages() -> None:
    cascade = Cascade(first=ScriptedEngine(lambda _image: 0.01))
    warm_up(cascade.detector)
    assert (cascade.first.calls, cascade.asked.calls) == ([1], [1])


@pytest.mark.parametrize("dead", ["first", "asked"])
def test_it_is_dead_if_one_of_its_stages_is(dead: str) -> None:
    cascade = Cascade()
    cascade.detector.check()
    getattr(cascade, dead).close()
    with pytest.raises(EngineDeadError):
        cascade.detector.check()
    with pytest.raises(EngineDeadError):
        cascade.detector.judge([grey(200)], Policy())


class OtherEngine(ScriptedEngine):
    name = "transformers"


def test_what_made_a_verdict_are_the_engines_of_both_stages() -> None:
    assert maker_of(Cascade().detector).engine == "scripted"
    maker = maker_of(Cascade(first=OtherEngine()).detector)
    assert maker.engine == "transformers + scripted"
    assert maker.torch
    assert maker.vllm is None


def test_closing_closes_both_stages() -> None:
    cascade = Cascade()
    cascade.detector.close()
    for engine in (cascade.first, cascade.asked):
        with pytest.raises(EngineDeadError):
            engine.check()


@pytest.mark.parametrize(
    ("share", "drawn", "expected"),
    [
        (0.01, [0.0, 0.0099, 0.01, 0.5], ["audit", "audit", "first", "first"]),
        (0.0, [0.0] * 4, ["first"] * 4),
        (1.0, [0.999] * 4, ["audit"] * 4),
    ],
)
def test_each_cleared_image_has_a_chance_of_its_own_to_be_audited(
    share: float, drawn: list[float], expected: list[str]
) -> None:
    """Copies of one picture, too: nobody can know from a picture whether it is audited."""
    chance = iter(drawn)
    cascade = Cascade(chance=lambda: next(chance), clear={"audit_share": share})
    assert stages(cascade.detector.judge([grey(200), *[grey(10)] * 4], Policy())) == ["judge", *expected]


def test_the_chance_of_a_cascade_is_random_even_after_an_engine_has_seeded_pythons_generator() -> None:
    quick, description = (
        scripted_description(name="quick", revision="7"),
        cascade_description(clear={"audit_share": 0.5}),
    )
    audited = []
    for _ in range(2):
        random.seed(0)
        stages_of_it = VlmDetector(ScriptedEngine(), quick), VlmDetector(ScriptedEngine(), scripted_description())
        audited.append(stages(CascadeDetector(description, *stages_of_it).judge([grey(10)] * 200, Policy())))
    assert audited[0] != audited[1]
    assert 50 < audited[0].count("audit") < 150  # 100 are expected, with a standard deviation of 7


def test_a_new_threshold_makes_another_detector() -> None:
    one, other = cascade_description(), cascade_description(clear={"up_to": 0.1})
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == cascade_description(clear={"fakes": 7}).fingerprint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clear": {"up_to": 0.5}}, "clear.up_to must not be above thresholds.real_to"),
        ({"first": scripted_description(preprocessing={"fit": "pad"})}, "both stages see the same square"),
        ({"calibration": {"slope": 2.0}}, "calibration belongs to the stages"),
        ({"revision": "1"}, "revision belongs to the stages"),
    ],
)
def test_a_description_that_cannot_be_a_cascade_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cascade_description(**changes)


def test_a_cascade_without_a_threshold_can_be_written_but_does_not_start() -> None:
    stage = scripted_description()
    description = CascadeDescription(name="new", first=stage, judge=stage)  # type: ignore[call-arg]  # a validator fills in
    assert description.fingerprint
    with pytest.raises(ConfigurationError, match="run fakesweep calibrate --max-miss-rate"):
        supply_detector(description, Settings())
