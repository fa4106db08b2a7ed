"""Stacks detectors on one set and measures the stack on another. Tests also which sets are refused."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.unit.predicting import evaluated, hashed, of_detector, predicted
from worker.errors import ConfigurationError
from worker.lab.evaluation.calibrate import Wanted
from worker.lab.evaluation.evaluated import Evaluated
from worker.lab.evaluation.joint import Joint, divided, in_order, join
from worker.lab.evaluation.predictions import Prediction
from worker.lab.evaluation.stack import Stacked, stack
from worker.lab.evaluation.stack_fit import fit_weights
from worker.lab.evaluation.stack_page import as_lines
from worker.stacking import MOST
from worker.testing import scripted_description

NAMES = ("one", "two", "three")


def of(name: str, predictions: Sequence[Prediction], source: str = "", **more: Any) -> Evaluated:
    return evaluated(predictions, source or name, detector=of_detector(scripted_description(name=name)), **more)


def drawn(count: int, seed: int, signals: Sequence[float], common: float = 0.0) -> np.ndarray:
    """Draws the log-odds of detectors and the labels, which are the last column.

    Each detector sees the truth with this signal and unit noise, of which the share `common` is the same for all.
    """
    chance = np.random.default_rng(seed)
    is_fake = chance.random(count) < 0.5
    shared = chance.normal(0, 1, count) * math.sqrt(common)
    own = [chance.normal(0, 1, count) * math.sqrt(1 - common) + shared for _ in signals]
    columns = [signal * np.where(is_fake, 1, -1) + noise for signal, noise in zip(signals, own, strict=True)]
    return np.column_stack([*columns, is_fake])


def joint(count: int, seed: int, signals: Sequence[float], common: float = 0.0, undecided: float = 0.0) -> Joint:
    rows = drawn(count, seed, signals, common)
    silent = np.random.default_rng(seed + 1000).random(count) < undecided
    return join([
        of(NAMES[number], hashed(*(
            predicted(f"{seed}/{place}.png", fake=bool(row[-1]),
                      log_odds=None if number == 0 and silent[place] else float(row[number]))
            for place, row in enumerate(rows)
        ))) for number in range(len(signals))
    ], role="FIT")  # fmt: skip


def stacked(fit: Joint, report: Joint, resamples: int = 200, **wanted: Any) -> Stacked:
    return stack(fit, report, Wanted(**({"false_positive_rate": 0.05} | wanted)), resamples=resamples)


def test_two_detectors_with_independent_errors_are_better_together() -> None:
    report = joint(2000, 2, [1, 0.7])
    found = stacked(joint(2000, 1, [1, 0.7]), report)
    # The true log-odds of a unit-variance Gaussian at +-s are 2 s x: so are the best weights.
    assert [one.weight for one in found.stack.detectors] == pytest.approx([2, 1.4], abs=0.25)
    assert found.stack.offset == pytest.approx(0, abs=0.2)
    assert found.gain.best == "one"
    assert found.gain.helps
    assert found.gain.roc_auc.low > 0.01
    assert found.gain.roc_auc.low < found.gain.roc_auc.difference < found.gain.roc_auc.high
    assert found.gain.log_loss.high < 0
    is_fake, decided = report.is_fake, report.decided
    assert found.alone[1].roc_auc == pytest.approx(roc_auc_score(is_fake[decided], report.log_odds[decided][:, 1]))
    assert found.gain.duel.only_a > found.gain.duel.only_b
    assert found.gain.duel.p < 0.01
    assert found.report.after.log_loss < min(one.fitted.log_loss for one in found.alone)
    assert found.fit.false_positives.share <= 0.05
    assert not found.warnings


def test_the_stack_is_what_its_numbers_say() -> None:
    fit, report = joint(500, 1, [1, 0.7], undecided=0.1), joint(500, 2, [1, 0.7], undecided=0.1)
    found = stacked(fit, report)
    made = found.stack
    scores = [
        None if None in said else made.score(dict(zip(made.fingerprints, said, strict=True)))
        for said in zip(*([one.log_odds for one in each.predictions] for each in report.members), strict=True)
    ]
    real = [score for score, one in zip(scores, report.members[0].predictions, strict=True) if not one.is_fake]
    fake = [score for score, one in zip(scores, report.members[0].predictions, strict=True) if one.is_fake]
    assert found.report.false_positives.count == sum(one is not None and one >= made.fake_from for one in real)
    assert found.report.recall.count == sum(one is not None and one >= made.fake_from for one in fake)
    assert (found.report.recall.images, found.report.false_positives.images) == (len(fake), len(real))
    assert made.images == 500 - found.fit.undecided
    assert made.fitted_on == "one + two"
    assert made.error_after == round(found.report.after.expected_calibration_error, 4)
    assert made.error_before == round(found.alone[0].own.expected_calibration_error, 4)


def test_an_image_is_undecided_if_any_detector_is() -> None:
    found = stacked(joint(1000, 1, [1, 1], undecided=0.2), joint(1000, 2, [1, 1], undecided=0.2))
    silent = int((np.random.default_rng(1002).random(1000) < 0.2).sum())
    assert found.report.undecided == found.alone[0].undecided == silent
    assert found.alone[1].undecided == 0
    assert found.report.after.images == found.gain.scored == 1000 - silent
    assert found.gain.duel.images == 1000
    known = joint(1000, 1, [1, 1])
    assert found.stack.images == int((np.random.default_rng(1001).random(1000) >= 0.2).sum()) < len(known.is_fake)


def test_a_stack_that_is_often_undecided_loses_to_its_best_detector() -> None:
    """Where it is decided, the stack is better. But the first detector is undecided on half of the images."""
    found = stacked(joint(2000, 1, [1, 1.2], undecided=0.5), joint(2000, 2, [1, 1.2], undecided=0.5))
    assert found.gain.best == "two"
    assert found.gain.roc_auc.low > 0
    assert not found.gain.helps
    share = found.report.undecided / 2000
    said = f"two alone is right more often than the stack, which is undecided on {share:.1%} of the images"
    assert list(as_lines(found))[-1] == said
    assert f"{said}: use that detector" in found.warnings


def test_a_useless_detector_gets_nearly_no_weight() -> None:
    found = stacked(joint(3000, 1, [1, 0]), joint(3000, 2, [1, 0]))
    assert found.stack.detectors[0].weight == pytest.approx(2, abs=0.2)
    assert found.stack.detectors[1].weight < 0.2
    assert not found.gain.helps
    assert any("the stack is not shown to be better than one alone" in one for one in found.warnings)


def test_if_one_detector_alone_helps_there_is_no_stack() -> None:
    with pytest.raises(ConfigurationError, match="one alone is as good as a stack: the weight of two is 0"):
        stacked(joint(1000, 1, [1, -1]), joint(1000, 2, [1, -1]))
    with pytest.raises(ConfigurationError, match="no detector gives fakes higher log-odds"):
        stacked(joint(1000, 1, [-1, -1]), joint(1000, 2, [1, 1]))


def test_a_detector_that_is_wrong_is_left_out_and_the_others_are_fitted_again() -> None:
    """The first one is wrong, and often undecided. Both end with it."""
    fit, report = (joint(1000, seed, [-1, 1, 0.7], undecided=0.5) for seed in (1, 2))
    found = stacked(fit, report)
    assert [one.name for one in found.stack.detectors] == ["two", "three"]
    assert "one adds nothing here: its weight is 0, so the stack leaves it out" in found.warnings
    assert (found.fit.undecided, found.report.undecided, found.stack.images) == (0, 0, 1000)
    fit, report = (replace(one, members=one.members[1:]) for one in (fit, report))
    assert found.stack == stacked(fit, report).stack


def test_detectors_that_say_the_same_share_the_weight() -> None:
    found = stacked(joint(2000, 1, [1, 1], common=1.0), joint(2000, 2, [1, 1], common=1.0))
    assert sum(one.weight for one in found.stack.detectors) == pytest.approx(2, abs=0.25)
    assert any("one and two say nearly the same (correlation 1.00 within" in one for one in found.warnings)
    assert not found.gain.helps


def test_weights_are_finite_for_classes_without_overlap_and_for_extreme_log_odds() -> None:
    is_fake = np.array([True] * 20 + [False] * 20)
    far = np.where(is_fake, 1e6, -1e6)
    offset, weights = fit_weights(np.column_stack([far, far / 1e6, np.full(40, 3.0)]), is_fake)
    assert math.isfinite(offset)
    assert all(math.isfinite(one) for one in weights)
    assert weights[2] == 0  # it says the same of all images
    _, (tiny, _) = fit_weights(np.column_stack([far * 1e-15, np.zeros(40)]), is_fake)
    assert tiny == MOST


def test_doubtful_results_cause_warnings() -> None:
    def warnings(fit: Joint, report: Joint, **wanted: Any) -> str:
        return "\n".join(stacked(fit, report, **wanted).warnings)

    good, other = joint(1000, 1, [1, 0.7]), joint(1000, 2, [1, 0.7])
    few = warnings(joint(30, 3, [1, 0.7]), other, false_positive_rate=0.3)
    assert "FIT is too small for 2 detectors: its rarer class has" in few
    assert "too small" not in warnings(good, other)
    assert "but 299 without an error are needed" in warnings(joint(400, 3, [1, 0.7]), other, false_positive_rate=0.01)
    shifted = joint(1000, 4, [0.2, 0.2])
    assert "the log loss on REPORT is higher than on FIT" in warnings(good, shifted)
    assert "the false-positive rate on REPORT is above 0.05" in warnings(good, shifted)
    assert "log loss on REPORT" not in warnings(good, other)
    assert "do not name the content" not in warnings(good, other)
    unhashed = [one.model_copy(update={"sha256": None}) for one in MORE]
    assert "REPORT: 2 predictions do not name the content of their image" in warnings(
        both(BOTH, "one", "two"), join([of("one", MORE), of("two", unhashed)], role="REPORT")
    )


def test_a_set_that_a_detector_was_trained_on_causes_a_warning() -> None:
    fit = join([of("one", BOTH, dataset="d1", trained_on=("d1",)), of("two", BOTH, dataset="d1")], role="FIT")
    report = join([of("one", MORE, dataset="d2", trained_on=("d1",)), of("two", MORE, dataset="d2")], role="REPORT")
    told = [one for one in stacked(fit, report, false_positive_rate=0.5).warnings if "trained on" in one]
    (warning,) = told
    assert warning.startswith("one is on the dataset that one was trained on, so its figures are too good: evaluate it")


# The sets


BOTH = hashed(predicted("a", fake=True, log_odds=2.0), predicted("b", fake=False, log_odds=-2.0))
MORE = hashed(predicted("c", fake=True, log_odds=1.0), predicted("d", fake=False, log_odds=-1.0))


def test_only_images_that_all_judged_with_the_same_bytes_count() -> None:
    other = hashed(BOTH[1], content="another")
    found = join([of("one", [*BOTH, *MORE]), of("two", [MORE[1], BOTH[0], *other])], role="FIT")
    assert [one.image for one in found.members[0].predictions] == ["a", "d"]
    assert [one.image for one in found.members[1].predictions] == ["a", "d"]
    assert (found.left_out, found.other_content) == (1, 1)
    assert found.log_odds.tolist() == [[2, 2], [-1, -1]]
    unhashed = [one.model_copy(update={"sha256": None}) for one in BOTH]
    assert len(join([of("one", BOTH), of("two", unhashed)], role="FIT").is_fake) == 2


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([of("one", BOTH)], "FIT: a stack needs the evaluations of two detectors or more"),
        ([of("one", BOTH), of("one", BOTH, "again")], "FIT: one and again are of the same detector"),
        ([of("one", BOTH), of("two", MORE)], r"FIT: the evaluations share no image \(0 have"),
        ([of("one", BOTH), of("two", hashed(*BOTH, content="x"))], r"share no image \(2 have"),
        ([of("one", BOTH), evaluated(BOTH, "lone")], "lone has no run.json beside it"),
        ([of("one", BOTH), of("two", [BOTH[0].model_copy(update={"label": 1})])], "FIT: a is labelled differently"),
    ],
)
def test_sets_that_do_not_fit_together_are_refused(sets: list[Evaluated], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        join(sets, role="FIT")


def both(predictions: Sequence[Prediction], *names: str) -> Joint:
    return join([of(name, predictions) for name in names], role="FIT")


def test_fit_and_report_are_of_the_same_detectors_in_any_order() -> None:
    fit = both(BOTH, "one", "two")
    assert in_order(both(MORE, "two", "one"), fit).fingerprints == fit.fingerprints
    with pytest.raises(ConfigurationError, match=r"only one of them has t.*; give the same detectors for both"):
        stacked(fit, both(MORE, "one", "three"))
    with pytest.raises(ConfigurationError, match="only one of them has three"):
        stacked(fit, both(MORE, "one", "two", "three"))


def test_fit_and_report_share_no_content() -> None:
    again = hashed(BOTH[0].model_copy(update={"image": "again"}), content="a")
    with pytest.raises(ConfigurationError, match="share 1 contents, such as a of FIT and again of REPORT"):
        stacked(both(BOTH, "one", "two"), both([*MORE, *again], "two", "one"))


def test_both_sets_need_both_classes() -> None:
    silent = hashed(predicted("a", fake=True, log_odds=None))
    fit = join([of("one", BOTH), of("two", [*silent, BOTH[1]])], role="FIT")
    with pytest.raises(ConfigurationError, match=r"FIT: one \+ two holds no fake image with a score"):
        stacked(fit, both(MORE, "one", "two"))


def test_a_set_is_divided_by_content_in_the_same_way_for_all_detectors() -> None:
    whole = joint(400, 1, [1, 1])
    first, rest = divided(replace(whole, left_out=3), 0.25, seed=3)
    assert len(first.is_fake) + len(rest.is_fake) == 400
    assert 60 < len(first.is_fake) < 140
    for part in (first, rest):
        one, two = ([each.image for each in member.predictions] for member in part.members)
        assert one == two
    assert (first.left_out, rest.left_out) == (3, 0)
    assert first.name == "one (split 0.25, seed 3) + two (split 0.25, seed 3)"
    assert rest.name == "the rest of one + the rest of two"
