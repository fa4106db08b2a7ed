"""Calibrates on one set and measures on another. Tests also which sets are refused."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from tests.unit.predicting import drawn_predictions, evaluated, hashed, of_detector, predicted, write_evaluation
from worker.detector.verdicts import verdict_of
from worker.errors import ConfigurationError
from worker.lab.evaluation.calibrate import Calibrated, Wanted, calibrate
from worker.lab.evaluation.evaluated import read_evaluated, split
from worker.lab.evaluation.fitting import Method
from worker.lab.evaluation.predictions import Prediction
from worker.tables import Verdict
from worker.testing import scripted_description

DESCRIPTION = scripted_description()
BOTH = (predicted("a", fake=True, log_odds=2.0), predicted("b", fake=False, log_odds=-2.0))
OTHERS = (predicted("c", fake=True, log_odds=1.0), predicted("d", fake=False, log_odds=-1.0))


def calibrated(fit: Sequence[Prediction], report: Sequence[Prediction], **wanted: Any) -> Calibrated:
    made = {"detector": of_detector(DESCRIPTION)}
    return calibrate(DESCRIPTION, evaluated(fit, "fit", **made), evaluated(report, "report", **made), Wanted(**wanted))


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_it_is_fitted_on_one_set_and_measured_on_the_other(method: Method) -> None:
    report = drawn_predictions(3000, seed=2)
    found = calibrated(drawn_predictions(3000, seed=1), report, method=method, false_positive_rate=0.05)
    is_fake = [one.is_fake for one in report]
    before = [one.score for one in report]
    after = [found.calibration.score(one.log_odds or math.nan) for one in report]
    assert found.report.before.brier_score == pytest.approx(brier_score_loss(is_fake, before))
    assert found.report.after.brier_score == pytest.approx(brier_score_loss(is_fake, after))
    assert found.report.before.log_loss == pytest.approx(log_loss(is_fake, before))
    assert found.report.after.log_loss == pytest.approx(log_loss(is_fake, after))
    assert found.calibration.images == 3000
    assert found.calibration.preprocessing == "clip-pillow-1@336"
    assert found.calibration.fitted_on == f"fit ({method})"
    assert found.calibration.error_before == round(found.report.before.expected_calibration_error, 4)
    assert found.calibration.error_after == round(found.report.after.expected_calibration_error, 4)
    assert found.calibration.error_after < found.calibration.error_before
    assert found.fit.false_positives.share <= 0.05
    assert not found.warnings


def test_rates_count_the_workers_verdicts_and_undecided_is_neither() -> None:
    undecided = [predicted(f"u{place}", fake=place % 3 == 0, log_odds=None) for place in range(30)]
    report = [*drawn_predictions(500, seed=2), *undecided]
    found = calibrated(drawn_predictions(500, seed=1), report, false_positive_rate=0.05, miss_rate=0.05)
    scores = [None if one.log_odds is None else found.calibration.score(one.log_odds) for one in report]
    verdicts = [verdict_of(one, **found.thresholds.model_dump()) for one in scores]
    for share, verdict, fake in (
        (found.report.false_positives, Verdict.FAKE, False),
        (found.report.recall, Verdict.FAKE, True),
        (found.report.missed, Verdict.REAL, True),
    ):
        of_class = [said for said, one in zip(verdicts, report, strict=True) if one.is_fake == fake]
        assert (share.count, share.images) == (of_class.count(verdict), len(of_class))
        assert share.count > 0
    assert (found.report.images, found.report.undecided, found.report.after.images) == (530, 30, 500)


def test_a_score_on_both_thresholds_is_fake() -> None:
    """verdict_of() compares with fake_from first: a score that equals both thresholds is fake."""
    description = scripted_description(thresholds={"fake_from": 1, "real_to": 1})
    found = calibrate(description, evaluated(BOTH), evaluated(OTHERS), Wanted())
    assert found.thresholds.real_to == found.thresholds.fake_from
    exact = calibrate(
        description, evaluated(BOTH), evaluated([predicted("c", fake=True, log_odds=2.0), OTHERS[1]]), Wanted()
    )
    assert (exact.report.recall.count, exact.report.missed.count) == (1, 0)


def test_undecided_images_are_not_used_in_the_fit() -> None:
    without = drawn_predictions(300, seed=1)
    undecided = [predicted(f"u{place}", fake=True, log_odds=None) for place in range(100)]
    report = drawn_predictions(300, seed=2)
    found = calibrated([*without, *undecided], report, false_positive_rate=0.1)
    assert found.calibration == calibrated(without, report, false_positive_rate=0.1).calibration
    assert found.calibration.images == 300
    assert found.fit.undecided == 100


def test_the_rate_on_fit_counts_all_real_images_as_on_report() -> None:
    """One of six real images is above the fakes, which the rate of 0.2 allows.

    Of the three with a score, one would be too many.
    """
    fakes = [predicted(f"f{place}", fake=True, log_odds=2.0) for place in range(3)]
    reals = [
        predicted(f"r{place}", fake=False, log_odds=one) for place, one in enumerate([3.0, -3.0, -3.0, *[None] * 3])
    ]
    found = calibrated([*fakes, *reals], OTHERS, false_positive_rate=0.2)
    assert (found.fit.false_positives.count, found.fit.false_positives.images, found.fit.recall.count) == (1, 6, 3)


@pytest.mark.parametrize(
    ("fit", "report", "said"),
    [
        (BOTH, [*OTHERS, BOTH[1]], "share 1 images, such as b of FIT and b of REPORT:"),
        (BOTH[:1], OTHERS, r"FIT: fit holds no real image with a score \(1 images, 0 of them undecided\)"),
        (BOTH, OTHERS[1:], "REPORT: report holds no fake image with a score"),
        ([predicted("a", fake=True, log_odds=None), BOTH[1]], OTHERS, r"no fake .*\(2 images, 1 of them undecided\)"),
        ([], OTHERS, "FIT: .*0 images"),
    ],
)
def test_sets_that_cannot_be_used_are_refused(fit: Any, report: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        calibrated(fit, report)


@pytest.mark.parametrize(
    ("images", "dataset", "different"),
    [("/b", "2", True), ("/a", "2", False), ("/b", "1", False), (None, "2", False), ("/b", None, False)],
)
def test_one_name_in_two_places_is_two_images(images: str | None, dataset: str | None, different: bool) -> None:
    fit_on = evaluated(BOTH, detector=of_detector(DESCRIPTION), images="/a", dataset="1")
    report_on = evaluated(BOTH, detector=of_detector(DESCRIPTION), images=images, dataset=dataset)
    if different:
        warnings = calibrate(DESCRIPTION, fit_on, report_on, Wanted()).warnings
        assert "2 images have one name in /a and in /b, such as a: they are taken as different images" in warnings
    else:
        with pytest.raises(ConfigurationError, match="share 2 images"):
            calibrate(DESCRIPTION, fit_on, report_on, Wanted())


def in_places(fit: Sequence[Prediction], report: Sequence[Prediction], images: tuple[str, str]) -> Calibrated:
    """Calibrates on two datasets whose images are in these two places."""
    fit_on, report_on = (
        evaluated(one, detector=of_detector(DESCRIPTION), images=place, dataset=place)
        for one, place in zip((fit, report), images, strict=True)
    )
    return calibrate(DESCRIPTION, fit_on, report_on, Wanted())


@pytest.mark.parametrize(
    ("image", "other", "images"),
    [
        ("a.png", "a.png", ("/images", "/images/")),
        ("a.png", "./sub/../a.png", ("/images", "/images")),
        ("sub/a.png", "a.png", ("/images", "/images/sub")),
        ("s3://b/a.png", "s3://b/a.png", ("/one", "/two")),
        ("s3://b/p/a.png", "a.png", ("/one", "s3://b/p/")),
        ("file:///images/a.png", "a.png", ("/one", "/images")),
    ],
)
def test_one_address_is_one_image(image: str, other: str, images: tuple[str, str]) -> None:
    fit = [*BOTH, predicted(image, fake=True, log_odds=1.0)]
    with pytest.raises(ConfigurationError, match=r"share 1 images, such as .* of FIT and .* of REPORT:"):
        in_places(fit, [*OTHERS, predicted(other, fake=True, log_odds=1.0)], images)


def test_one_content_under_two_names_is_one_image() -> None:
    fit, report = hashed(*BOTH), hashed(*OTHERS)
    assert not any("one name" in one for one in in_places(fit, report, ("/a", "/b")).warnings)
    (again,) = hashed(predicted("again.png", fake=True, log_odds=1.0), content=BOTH[0].image)
    with pytest.raises(ConfigurationError, match=r"share 1 contents, such as a of FIT and again\.png of REPORT:"):
        in_places(fit, [*report, again], ("/a", "/b"))


def test_two_contents_under_one_name_are_two_images() -> None:
    fit = hashed(*BOTH)
    report = [*hashed(BOTH[0], content="another"), *hashed(BOTH[1], content="a third")]
    assert not any("one name" in one for one in in_places(fit, report, ("/a", "/a")).warnings)
    with pytest.raises(ConfigurationError, match="share 2 images"):
        in_places(fit, [one.model_copy(update={"sha256": None}) for one in report], ("/a", "/a"))


def test_the_files_of_an_evaluation_are_read(tmp_path: Path) -> None:
    more = [predicted("e", fake=True, log_odds=1.0, perturbation="flip")]
    folder = write_evaluation(tmp_path / "made", [*BOTH, *more], DESCRIPTION)
    wanted = evaluated(
        BOTH, str(folder), perturbed=1, detector=of_detector(DESCRIPTION), dataset="made", dataset_name="x",
        images="/x", explain="none",
    )  # fmt: skip
    assert read_evaluated(folder) == wanted
    assert read_evaluated(folder / "predictions.jsonl") == replace(wanted, name=str(folder / "predictions.jsonl"))


@pytest.mark.parametrize(
    ("predictions", "run", "said"),
    [
        ([predicted("a", fake=True, log_odds=1.0, perturbation="flip")], None, "no predictions of unchanged images"),
        ([], None, "no predictions of unchanged images"),
        ([*BOTH, BOTH[1]], None, "holds 2 predictions of b"),
        (BOTH, "{", "is not what evaluate writes"),
        (BOTH, "[]", "is not what evaluate writes"),
        (BOTH, '{"detector": {}}', "is not what evaluate writes"),
    ],
)
def test_files_that_no_evaluation_writes_are_refused(
    predictions: Any, run: str | None, said: str, tmp_path: Path
) -> None:
    folder = write_evaluation(tmp_path / "made", predictions)
    if run is not None:
        (folder / "run.json").write_text(run)
    with pytest.raises(ConfigurationError, match=said):
        read_evaluated(folder)


def test_predictions_of_another_detector_are_refused() -> None:
    for other in (scripted_description(name="other"), scripted_description(calibration={"slope": 0.5})):
        with pytest.raises(ConfigurationError, match="report is of another detector"):
            calibrate(
                DESCRIPTION, evaluated(BOTH, detector=of_detector(DESCRIPTION)),
                evaluated(OTHERS, "report", detector=of_detector(other)), Wanted(),
            )  # fmt: skip


def test_two_revisions_of_one_model_are_refused() -> None:
    made = [of_detector(DESCRIPTION.model_copy(update={"revision": one})) for one in ("sha256:1", "sha256:2")]
    with pytest.raises(ConfigurationError, match="two revisions"):
        calibrate(DESCRIPTION, evaluated(BOTH, detector=made[0]), evaluated(OTHERS, detector=made[1]), Wanted())


def test_the_fingerprints_are_those_of_the_revision_that_was_measured() -> None:
    measured = DESCRIPTION.model_copy(update={"revision": "sha256:1"})
    fit_on, report_on = (evaluated(one, detector=of_detector(measured)) for one in (BOTH, OTHERS))
    found = calibrate(DESCRIPTION.model_copy(update={"revision": None}), fit_on, report_on, Wanted())
    assert found.fingerprint_before == measured.fingerprint
    assert found.fingerprint_after == measured.model_copy(update={"calibration": found.calibration}).fingerprint
    assert found.fingerprint_after != found.fingerprint_before


def test_predictions_of_an_unknown_detector_cause_a_warning() -> None:
    found = calibrate(DESCRIPTION.model_copy(update={"revision": None}), evaluated(BOTH), evaluated(OTHERS), Wanted())
    assert (found.fingerprint_before, found.fingerprint_after) == (None, None)
    assert sum("it is not known which detector made it" in one for one in found.warnings) == 2


def test_doubtful_results_cause_warnings() -> None:
    def warnings(fit: Any, report: Any, **wanted: Any) -> str:
        return "\n".join(calibrated(fit, report, **wanted).warnings)

    good, other = drawn_predictions(1500, seed=1, slope=1), drawn_predictions(1500, seed=2, slope=1)
    assert "too small" not in warnings(good, other, false_positive_rate=0.05)
    assert warnings(good[:300], other, false_positive_rate=0.01).count("but 299 without an error are needed") == 1
    assert warnings(good, other[:300], false_positive_rate=0.01).count("but 299 without an error are needed") == 1
    assert "isotonic" in warnings(good[:900], other, method="isotonic", false_positive_rate=0.1)
    assert "isotonic" not in warnings(good, other, method="isotonic", false_positive_rate=0.1)
    reals = [one for one in good if not one.is_fake]
    harder = [predicted(f"h{place}", fake=False, log_odds=9.0) for place in range(len(reals))]
    assert "above 0.05" in warnings(good, [*other, *harder], false_positive_rate=0.05)
    assert "the miss rate" not in warnings(good, other, false_positive_rate=0.05)
    few = warnings(good[:300], other[:300], false_positive_rate=0.3, miss_rate=0.01)
    assert few.count("is too small to show a miss rate of 0.01") == 2
    assert few.count("fake images, but 299 without an error are needed") == 2
    missed = [predicted(f"m{place}", fake=True, log_odds=-9.0) for place in range(len(good) - len(reals))]
    assert "the miss rate on REPORT is above 0.05" in warnings(
        good, [*other, *missed], false_positive_rate=0.05, miss_rate=0.05
    )
    assert "cannot show a miss rate of 0," in warnings(BOTH, OTHERS, miss_rate=0)
    assert "better leave it out" in warnings(drawn_predictions(500, seed=1), other, false_positive_rate=0.1)


# One set, split in two


def test_a_split_depends_on_the_seed_and_the_names() -> None:
    predictions = drawn_predictions(2000, seed=1)
    first, second = split(evaluated(predictions), 0.3, seed=0)
    assert {one.image for one in first.predictions} | {one.image for one in second.predictions} == {
        one.image for one in predictions
    }
    assert len(first.predictions) + len(second.predictions) == 2000
    assert len(first.predictions) == pytest.approx(600, abs=4 * math.sqrt(2000 * 0.3 * 0.7))
    again, _ = split(evaluated(predictions[::-1]), 0.3, seed=0)
    assert again.predictions == first.predictions[::-1]
    another, _ = split(evaluated(predictions), 0.3, seed=1)
    assert another.predictions != first.predictions
    assert "split 0.3, seed 0" in first.name


def test_one_content_is_on_one_side_of_a_split() -> None:
    predictions = drawn_predictions(200, seed=1)
    doubled = [*hashed(*predictions)]
    for one in predictions:
        doubled += hashed(one.model_copy(update={"image": f"copy of {one.image}"}), content=one.image)
    first, second = split(evaluated(doubled), 0.5, seed=0)
    assert first.predictions
    assert second.predictions
    assert not {one.sha256 for one in first.predictions} & {one.sha256 for one in second.predictions}


def test_a_split_stays_when_the_set_grows() -> None:
    predictions = drawn_predictions(200, seed=1)
    some, _ = split(evaluated(predictions[:100]), 0.5, seed=0)
    more, _ = split(evaluated(predictions), 0.5, seed=0)
    assert more.predictions[: len(some.predictions)] == some.predictions


def test_the_arrays_of_a_set() -> None:
    made = evaluated([*BOTH, predicted("u", fake=True, log_odds=None)])
    assert np.array_equal(made.log_odds, [2, -2, math.nan], equal_nan=True)
    assert made.is_fake.tolist() == [True, False, True]
    assert made.decided.tolist() == [True, True, False]
