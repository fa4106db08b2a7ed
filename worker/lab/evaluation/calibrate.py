"""Calibrates a detector on one labelled set and measures it on another: fit, choose thresholds, report, warn."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from worker.detector.calibration import Calibration
from worker.detector.description import CascadeDescription, DetectorDescription, Thresholds
from worker.errors import ConfigurationError
from worker.lab.evaluation.disjoint import check_disjoint
from worker.lab.evaluation.evaluated import Evaluated, Floats
from worker.lab.evaluation.fitting import Method, fit
from worker.lab.evaluation.reliability import Reliability, reliability
from worker.lab.evaluation.thresholds import Share, choose_thresholds, images_needed, share
from worker.lab.evaluation.trained import learned

ENOUGH_FOR_ISOTONIC = 1000
"""With fewer images, isotonic regression overfits, and a sigmoid does better (Niculescu-Mizil and Caruana 2005)."""


@dataclass(frozen=True)
class Wanted:
    """How to fit, and the acceptable error rates: real images called fake, and fakes called real."""

    method: Method = "temperature"
    false_positive_rate: float = 0.01
    miss_rate: float | None = None


@dataclass(frozen=True)
class Figures:
    """The figures of one set. Undecided images are called neither fake nor real, and do not count in `before` and
    `after`, which are the reliability of the scores. `false_positives` is a share of the real images, the other two
    shares are of the fakes.
    """

    name: str
    images: int
    real: int
    fake: int
    undecided: int
    perturbed: int
    before: Reliability
    after: Reliability
    false_positives: Share
    recall: Share
    missed: Share


@dataclass(frozen=True)
class Calibrated:
    """A calibration with its thresholds, measured on the images that it was fitted on and on others.

    The fingerprints are None if the revision of the model is unknown. `real_images_needed`: see images_needed().
    """

    wanted: Wanted
    calibration: Calibration
    thresholds: Thresholds
    fit: Figures
    report: Figures
    real_images_needed: int
    fingerprint_before: str | None
    fingerprint_after: str | None
    warnings: tuple[str, ...]


def calibrate(description: DetectorDescription, fit_on: Evaluated, report_on: Evaluated, wanted: Wanted) -> Calibrated:
    """Fits on one set of predictions by the detector of this description, and reports on the other.

    All rates are shares of all images of a class. An image without a score is called neither fake nor real. Raises
    ConfigurationError if the sets share an image (worker.lab.evaluation.disjoint), lack a class or are of another
    detector. Raises it also if nothing can be fitted (worker.lab.evaluation.fitting), or no threshold is good enough
    (worker.lab.evaluation.thresholds), and for a cascade.
    """
    if isinstance(description, CascadeDescription):
        raise ConfigurationError(
            f"{description.name} is a cascade, which has no calibration of its own: calibrate its stages by "
            "themselves, or give --max-miss-rate to find its clear threshold"
        )
    alike = tuple(check_disjoint(fit_on, report_on))
    for role, evaluated in (("FIT", fit_on), ("REPORT", report_on)):
        check_both_classes(role, evaluated)
    revision = checked_revision(description, fit_on, report_on)
    log_odds, is_fake = fit_on.log_odds[fit_on.decided], fit_on.is_fake[fit_on.decided]
    fitted = fit(log_odds, is_fake, wanted.method)
    thresholds = choose_thresholds(
        scores(fitted, fit_on.log_odds), fit_on.is_fake, description.thresholds,
        false_positive_rate=wanted.false_positive_rate, miss_rate=wanted.miss_rate,
    )  # fmt: skip
    on_fit, on_report = (
        figures(
            one, scores(description.calibration, one.log_odds), scores(fitted, one.log_odds), thresholds
        ) for one in (fit_on, report_on)
    )  # fmt: skip
    origin = {
        "fitted_on": f"{fit_on.name} ({wanted.method})",
        "images": len(log_odds),
        "preprocessing": description.preprocessing.revision,
        "error_before": round(on_report.before.expected_calibration_error, 4),
        "error_after": round(on_report.after.expected_calibration_error, 4),
    }
    calibration = fitted.model_copy(update=origin)
    pinned = description.model_copy(update={"revision": revision})
    return Calibrated(
        wanted, calibration, thresholds, on_fit, on_report,
        real_images_needed=images_needed(wanted.false_positive_rate),
        fingerprint_before=revision and pinned.fingerprint,
        fingerprint_after=revision and pinned.model_copy(update={"calibration": calibration}).fingerprint,
        warnings=(*alike, *unnamed(fit_on, report_on), *learned(fit_on, report_on),
                  *_doubts(on_fit, on_report, wanted)),
    )  # fmt: skip


def scores(calibration: Calibration, log_odds: Floats) -> Floats:
    """Returns P(fake) of log-odds of the shape (images,), exactly as the worker computes it. NaN stays NaN."""
    return np.array([one if np.isnan(one) else calibration.score(float(one)) for one in log_odds])


def figures(evaluated: Evaluated, before: Floats, score: Floats, thresholds: Thresholds) -> Figures:
    """Returns the figures of scores, before and after, of the shape (images,). NaN in `score`: undecided."""
    decided, is_fake = ~np.isnan(score), evaluated.is_fake
    called_fake, called_real = score >= thresholds.fake_from, score <= thresholds.real_to
    # Fake is checked first, as in worker.detector.verdicts.verdict_of().
    called_real &= ~called_fake
    return Figures(
        evaluated.name, len(is_fake), int((~is_fake).sum()), int(is_fake.sum()), int((~decided).sum()),
        evaluated.perturbed,
        before=reliability(before[decided], is_fake[decided]),
        after=reliability(score[decided], is_fake[decided]),
        false_positives=share(called_fake[~is_fake]),
        recall=share(called_fake[is_fake]),
        missed=share(called_real[is_fake]),
    )  # fmt: skip


def check_both_classes(role: str, evaluated: Evaluated) -> None:
    """Raises ConfigurationError if a class has no image with a score. `role` is FIT or REPORT."""
    for word, is_fake in (("fake", True), ("real", False)):
        if not np.any(evaluated.decided & (evaluated.is_fake == is_fake)):
            raise ConfigurationError(
                f"{role}: {evaluated.name} holds no {word} image with a score "
                f"({len(evaluated.predictions)} images, {int((~evaluated.decided).sum())} of them undecided); "
                "give a set with scores of both classes"
            )


def checked_revision(description: DetectorDescription, *made: Evaluated) -> str | None:
    """Returns the model's revision from the evaluations, or from the description if the predictions do not name it.

    An evaluation names revision and fingerprint, so the model itself, perhaps 14 GB, need not be here. Raises
    ConfigurationError if an evaluation is of another detector, or two are of two revisions.
    """
    known = [(one.name, one.detector) for one in made if one.detector]
    for name, detector in known:
        if description.model_copy(update={"revision": detector["revision"]}).fingerprint != detector["fingerprint"]:
            raise ConfigurationError(
                f"{name} is of another detector ({detector['name']}, {detector['fingerprint'][:12]}…) than "
                f"--detector describes ({description.name}): give the description of that detector, or evaluate again"
            )
    if len({detector["fingerprint"] for _, detector in known}) > 1:
        raise ConfigurationError("FIT and REPORT are of two revisions of the model: evaluate both with the same one")
    return known[0][1]["revision"] if known else description.revision


def unnamed(*made: Evaluated) -> Iterator[str]:
    """Yields a warning for each evaluation that does not say which detector made it."""
    for one in made:
        if not one.detector:
            yield f"{one.name} has no run.json beside it, so it is not known which detector made it"


def _doubts(fitted: Figures, report: Figures, wanted: Wanted) -> Iterator[str]:
    if wanted.method == "isotonic" and (count := fitted.images - fitted.undecided) < ENOUGH_FOR_ISOTONIC:
        yield f"isotonic regression on {count} images overfits; below {ENOUGH_FOR_ISOTONIC} choose platt or temperature"
    yield from rates_in_doubt(fitted, report, wanted)
    before, after = (one.expected_calibration_error for one in (report.before, report.after))
    if after > before:
        yield f"the calibration makes the error on REPORT larger ({before:.4f} -> {after:.4f}): better leave it out"


def rates_in_doubt(fitted: Figures, report: Figures, wanted: Wanted) -> Iterator[str]:
    """Yields a warning for each rate that the sets are too small to show, and for each that REPORT does not keep."""
    yield from _unshown("false-positive rate", "real", wanted.false_positive_rate, fitted, report)
    yield from _above("false-positive rate", wanted.false_positive_rate, report.false_positives)
    if wanted.miss_rate is not None:
        yield from _unshown("miss rate", "fake", wanted.miss_rate, fitted, report)
        yield from _above("miss rate", wanted.miss_rate, report.missed)


def _unshown(name: str, word: str, rate: float, fitted: Figures, report: Figures) -> Iterator[str]:
    for role, figures in (("FIT", fitted), ("REPORT", report)):
        images = figures.real if word == "real" else figures.fake
        if not rate:
            yield f"{role} cannot show a {name} of 0, and no set can: give a larger rate"
        elif images < (needed := images_needed(rate)):
            yield (f"{role} is too small to show a {name} of {rate:g}: it has {images} {word} images, but "
                   f"{needed} without an error are needed")  # fmt: skip


def _above(name: str, rate: float, found: Share) -> Iterator[str]:
    if found.low > rate:
        yield f"the {name} on REPORT is above {rate:g}: FIT and REPORT hold different kinds of images"
