"""The clear threshold of a cascade keeps its promise, or is refused."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.cascades import cascade_description
from tests.unit.predicting import evaluated, hashed, of_detector, predicted
from worker.detector.description import DetectorDescription
from worker.errors import ConfigurationError
from worker.lab.evaluation.calibrate import Wanted as Rates
from worker.lab.evaluation.calibrate import calibrate
from worker.lab.evaluation.cleared import Cleared, Wanted
from worker.lab.evaluation.clearing import clear, keeping
from worker.lab.evaluation.clearing_page import as_lines
from worker.lab.evaluation.evaluated import Evaluated
from worker.lab.evaluation.predictions import Prediction
from worker.lab.evaluation.thresholds import images_needed, upper_bound

CASCADE = cascade_description(clear={"up_to": None, "max_miss_rate": None, "audit_share": 0.1})


def scored(name: str, *, fakes: Sequence[float | None], reals: Sequence[float | None]) -> tuple[Prediction, ...]:
    """Predictions with these scores."""
    return tuple(
        predicted(f"{name}/{kind}{number}", fake=kind == "fake", log_odds=score and math.log(score / (1 - score)))
        for kind, of_kind in (("fake", fakes), ("real", reals))
        for number, score in enumerate(of_kind)
    )


def made(predictions: Sequence[Prediction], name: str, by: DetectorDescription = CASCADE.first) -> Evaluated:
    return evaluated(predictions, name, detector=of_detector(by))


def cleared(
    fit: Sequence[Prediction], report: Sequence[Prediction], *, judged: Sequence[Prediction] | None = None, **more: Any
) -> Cleared:
    by_judge = None if judged is None else made(judged, "judged", CASCADE.judge)
    wanted = Wanted(**{"max_miss_rate": 0.005} | more)
    return clear(CASCADE, made(fit, "fit"), made(report, "report"), wanted, by_judge)


LOW, HIGH = [0.01 + 0.0001 * number for number in range(100)], [0.9] * 1000
GOOD = scored("fit", fakes=HIGH, reals=LOW)
OTHERS = scored("report", fakes=HIGH, reals=[*LOW[:75], *[0.3] * 25])


def test_it_is_the_largest_score_of_a_real_image_that_keeps_the_promise() -> None:
    found = cleared(GOOD, OTHERS)
    assert found.rule.up_to == pytest.approx(LOW[-1])
    assert (found.rule.max_miss_rate, found.rule.fakes, found.rule.fitted_on) == (0.005, 1000, "fit")
    assert (found.report.missed.count, found.report.cleared.count, found.report.cleared.images) == (0, 75, 100)
    assert found.rule.miss_rate_high == pytest.approx(found.report.missed.high, abs=1e-6)


def test_so_many_fakes_may_be_below_it_as_the_exact_bound_allows() -> None:
    """Of 1,500 fakes, two may be cleared for 0.5 %, and three may not: the bounds are 0.42 and 0.52 %."""
    assert upper_bound(2, 1500) < 0.005 < upper_bound(3, 1500)
    fakes = [0.1, 0.15, 0.2, *[0.9] * 1497]
    found = cleared(scored("fit", fakes=fakes, reals=[0.05, 0.12, 0.17, 0.2, 0.3]), OTHERS)
    assert found.rule.up_to == pytest.approx(0.17)
    assert found.fit.missed.count == 2


def test_the_saving_is_that_of_the_images_that_will_be_scanned() -> None:
    found = cleared(GOOD, OTHERS, fake_share=0.2)
    assert found.share_cleared == pytest.approx(0.8 * 0.75)
    assert found.share_judged == pytest.approx(1 - 0.8 * 0.75 * 0.9)


def test_images_without_a_score_are_not_cleared_and_count() -> None:
    report = scored("report", fakes=[*HIGH, None], reals=[*LOW, *[None] * 100])
    found = cleared(scored("fit", fakes=[*HIGH, None], reals=[*LOW, None]), report)
    assert (found.fit.undecided, found.report.undecided) == (2, 101)
    assert (found.report.cleared.count, found.report.cleared.images) == (100, 200)
    assert (found.report.missed.count, found.report.missed.images) == (0, 1001)


def test_the_threshold_ends_at_real_to_and_says_so() -> None:
    found = cleared(scored("fit", fakes=HIGH, reals=[0.1, 0.35, 0.45]), OTHERS)
    assert found.rule.up_to == pytest.approx(0.35)
    assert any("the promise would hold up to 0.45" in warning for warning in found.warnings)


def test_the_promise_is_kept_although_the_threshold_is_chosen_on_the_same_images() -> None:
    """The scores of fakes are even, so a threshold clears its own share of them. In 300 draws, 15 may break it."""
    chance = np.random.default_rng(7)
    broken = 0
    for _ in range(300):
        broken += keeping(chance.random(700), chance.random(2000) ** 3, 0.02, "fit")[-1] > 0.02
    assert 1 <= broken <= 15 + 2 * math.sqrt(15)


def test_the_judges_own_false_alarms_are_bounded() -> None:
    judged = [
        predicted(one.image, fake=one.is_fake, log_odds=2.0 if one.image == "report/real3" else -2.0) for one in OTHERS
    ]
    found = cleared(GOOD, OTHERS, judged=judged)
    assert found.judge_flags is not None
    assert (found.judge_flags.count, found.judge_flags.images) == (1, 75)
    assert found.rule.judge_flags == pytest.approx(upper_bound(1, 75), abs=1e-6)
    assert not any("--judged" in warning for warning in found.warnings)
    assert any("--judged" in warning for warning in cleared(GOOD, OTHERS).warnings)


@pytest.mark.parametrize(
    ("fit", "report", "said"),
    [
        (
            scored("fit", fakes=[0.9] * 597, reals=LOW),
            OTHERS,
            "fit has 597 fakes. .* needs at least 598; give more",
        ),
        (scored("fit", fakes=[0.001] * 1000, reals=LOW), OTHERS, "does not tell the real images of fit from its 1000"),
        (scored("fit", fakes=HIGH, reals=[0.5]), OTHERS, "above the cascade's real_to"),
        (GOOD, scored("report", fakes=[0.01] * 30, reals=LOW), "30 of 30 fakes of report would be cleared"),
        (GOOD, GOOD, "share 1100 images"),
        (scored("fit", fakes=HIGH, reals=[]), OTHERS, "FIT: fit holds no real image"),
        (GOOD, scored("report", fakes=[], reals=LOW), "REPORT: report holds no fake image"),
    ],
)
def test_what_cannot_promise_anything_is_refused(fit: Any, report: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        cleared(fit, report)


def test_every_cleared_real_image_of_report_must_have_been_judged() -> None:
    """With a few of them, the bound would be so high that the alarm is off."""
    reals = [one for one in OTHERS if not one.is_fake]
    with pytest.raises(ConfigurationError, match=r"--judged: judged lacks 3 of the 75 real images of REPORT that are"):
        cleared(GOOD, OTHERS, judged=reals[3:])


def test_it_says_which_new_family_the_alarm_cannot_see() -> None:
    found = cleared(GOOD, OTHERS, judged=OTHERS[-100:], fake_share=0.02)
    allowed = 0.005 / 0.995 * 0.02 / (0.98 * 0.75)
    assert found.allowed_misses == pytest.approx(allowed)
    assert found.unseen_family == pytest.approx(allowed + upper_bound(0, 75), abs=1e-5)
    assert any("alarm cannot see a new family below 3.929% of" in line for line in as_lines(found))
    assert any(f"{images_needed(allowed)} are needed of which the judge flags" in one for one in found.warnings)


def test_without_any_fakes_to_scan_the_promise_allows_no_misses() -> None:
    found = cleared(GOOD, OTHERS, judged=OTHERS, fake_share=0.0)
    assert found.allowed_misses == 0
    assert any("allows only 0.0000% missed fakes" in one for one in found.warnings)


def test_a_bound_that_is_small_enough_for_the_alarm_is_not_warned_about() -> None:
    found = cleared(GOOD, OTHERS, judged=OTHERS, max_miss_rate=0.4, fake_share=0.5)
    assert not any("the judge may flag" in one for one in found.warnings)


def test_a_content_under_several_names_counts_once() -> None:
    fit = hashed(*GOOD)
    again = [one.model_copy(update={"image": f"again/{one.image}"}) for one in fit[:40]]
    found = cleared([*fit, *again], hashed(*OTHERS))
    assert (found.rule.fakes, found.fit.images, found.fit.repeated, found.report.repeated) == (1000, 1100, 40, 0)
    assert "FIT: 40 images have the content of another one, and are left out" in found.warnings


def test_images_needed_is_the_number_that_is_enough() -> None:
    needed = images_needed(0.005)
    assert upper_bound(0, needed) <= 0.005 < upper_bound(0, needed - 1)
    cleared(scored("fit", fakes=HIGH[:needed], reals=LOW), OTHERS)


def test_predictions_of_another_detector_than_the_first_stage_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="is of another detector"):
        clear(CASCADE, made(GOOD, "fit", CASCADE.judge), made(OTHERS, "report"), Wanted(0.005))
    with pytest.raises(ConfigurationError, match="is of another detector"):
        clear(CASCADE, made(GOOD, "fit"), made(OTHERS, "report"), Wanted(0.005), made(OTHERS, "judged"))


def test_the_first_stage_that_judged_fit_is_remembered() -> None:
    found = cleared(GOOD, OTHERS)
    assert found.rule.fitted_with == CASCADE.first.fingerprint
    assert not any("it is not known which detector" in warning for warning in found.warnings)
    unnamed = clear(CASCADE, evaluated(GOOD, "fit"), made(OTHERS, "report"), Wanted(0.005))
    assert unnamed.rule.fitted_with is None
    assert any("it is not known which detector judged FIT" in warning for warning in unnamed.warnings)


def test_a_small_report_is_warned_about() -> None:
    found = cleared(GOOD, scored("report", fakes=HIGH[:20], reals=LOW))
    assert any("REPORT is too small" in warning for warning in found.warnings)


def test_a_cascade_has_no_calibration_of_its_own() -> None:
    with pytest.raises(ConfigurationError, match="calibrate its stages by themselves, or give --max-miss-rate"):
        calibrate(CASCADE, made(GOOD, "fit"), made(OTHERS, "report"), Rates())
