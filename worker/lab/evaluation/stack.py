"""Stacks detectors on one labelled set and measures the stack on another: fit, choose thresholds, report, warn."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from worker.detector.description import Thresholds
from worker.errors import ConfigurationError
from worker.lab.evaluation.calibrate import Figures, Wanted, check_both_classes, figures, rates_in_doubt
from worker.lab.evaluation.evaluated import Floats
from worker.lab.evaluation.joint import FEWEST, Joint, check_apart, in_order, unproven
from worker.lab.evaluation.reliability import Reliability, reliability
from worker.lab.evaluation.stack_fit import check_any_helps, fit_weights
from worker.lab.evaluation.stack_gain import RESAMPLES, Gain, gain, image_losses, roc_auc
from worker.lab.evaluation.thresholds import choose_thresholds
from worker.lab.evaluation.trained import learned
from worker.stacking import Stack, Weighted, stacked_score

EVENTS_FOR_EACH = 10
"""How many images of the rarer class a fitted number needs (Peduzzi et al. 1996)."""
ALIKE = 0.9
"""From this correlation within the classes on, two detectors say nearly the same."""
_SURE = 2.58
"""Standard errors of a two-sided test at 1 %."""


@dataclass(frozen=True)
class Alone:
    """A detector of the stack by itself, on the images of REPORT that all detectors decided.

    `own` is the reliability of its own score, and `fitted` that after an offset and a slope were fitted to it on FIT.
    `undecided` counts all images of REPORT on which it was undecided. `fit_log_loss` is that of the fitted score on
    FIT. `scores` are the fitted ones of REPORT, of the shape (images,), NaN where it was undecided.
    """

    name: str
    fingerprint: str
    weight: float
    own: Reliability
    fitted: Reliability
    roc_auc: float
    undecided: int
    fit_log_loss: float
    scores: Floats = field(repr=False, compare=False)


@dataclass(frozen=True)
class Stacked:
    """A stack, measured on the images that it was fitted on and on others.

    In the figures, `before` is the own score of the best detector alone, and `after` is the stack's. `left_out` counts
    images of FIT and REPORT that not all detectors judged, and those whose bytes differ.
    """

    wanted: Wanted
    stack: Stack
    fit: Figures
    report: Figures
    alone: tuple[Alone, ...]
    gain: Gain
    left_out: tuple[int, int]
    warnings: tuple[str, ...]


def stack(fit: Joint, report: Joint, wanted: Wanted, *, resamples: int = RESAMPLES) -> Stacked:
    """Fits on one set and reports on the other. An image is undecided if any detector of the stack was undecided.

    All rates are shares of all images of a class. Raises ConfigurationError if the sets share an image, lack a class or
    are of other detectors, or if nothing can be fitted, fewer than two detectors help, or no threshold is good enough.
    """
    report = in_order(report, fit)
    alike = tuple(check_apart(fit, report))
    for role, joint in (("FIT", fit), ("REPORT", report)):
        check_both_classes(role, joint.as_one)
    fit, report, dropped = _helping(fit, report)
    offset, weights = _fitted(fit)
    fitted, measured = (_scores(joint.log_odds, offset, weights) for joint in (fit, report))
    alone = tuple(_alone(number, weight, fit, report) for number, weight in enumerate(weights))
    best = min(range(len(alone)), key=lambda number: alone[number].fit_log_loss)
    thresholds = choose_thresholds(
        fitted, fit.is_fake, Thresholds(),
        false_positive_rate=wanted.false_positive_rate, miss_rate=wanted.miss_rate,
    )  # fmt: skip
    on_fit = figures(fit.as_one, _own(fit, best), fitted, thresholds)
    on_report = figures(report.as_one, _own(report, best), measured, thresholds)
    gained = gain(report.as_one, measured, report.members[best], alone[best].scores, resamples=resamples)
    made = _named(fit, alone, offset, thresholds, on_report)
    return Stacked(
        wanted, made, on_fit, on_report, alone, gained, (_left_out(fit), _left_out(report)),
        warnings=(
            *alike, *learned(*fit.members, *report.members), *unproven(fit, "FIT"), *unproven(report, "REPORT"),
            *(f"{name} adds nothing here: its weight is 0, so the stack leaves it out" for name in dropped),
            *_doubts(fit, alone), *rates_in_doubt(on_fit, on_report, wanted),
            *_drift(fit, fitted, report, measured), *gained.doubts(),
        ),
    )  # fmt: skip


def _helping(fit: Joint, report: Joint) -> tuple[Joint, Joint, tuple[str, ...]]:
    """Returns both sets without the detectors whose weight is 0, and the names of these.

    They would make images undecided and cost time, and change nothing else. Each fit leaves one or more out, until all
    weights are above 0. Raises ConfigurationError if fewer than two detectors are left.
    """
    dropped: list[str] = []
    while not all(weights := _fitted(fit)[1]):
        check_any_helps(weights)
        names = [str((one.detector or {})["name"]) for one in fit.members]
        dropped += [name for name, weight in zip(names, weights, strict=True) if not weight]
        kept = [number for number, weight in enumerate(weights) if weight]
        if len(kept) < FEWEST:
            raise ConfigurationError(
                f"FIT: {names[kept[0]]} alone is as good as a stack: the weight of {' and '.join(dropped)} is 0; "
                "no stack is written, so use this detector, or give other ones"
            )
        fit, report = (replace(one, members=tuple(one.members[number] for number in kept)) for one in (fit, report))
    return fit, report, tuple(dropped)


def _fitted(fit: Joint) -> tuple[float, tuple[float, ...]]:
    return fit_weights(fit.log_odds[fit.decided], fit.is_fake[fit.decided])


def _named(fit: Joint, alone: Sequence[Alone], offset: float, thresholds: Thresholds, on_report: Figures) -> Stack:
    """Returns the stack, with where its numbers come from."""
    return Stack(
        name=" + ".join(one.name for one in alone)[:200], offset=offset, **thresholds.model_dump(),
        fitted_on=fit.name, images=int(fit.decided.sum()),
        error_before=round(on_report.before.expected_calibration_error, 4),
        error_after=round(on_report.after.expected_calibration_error, 4),
        detectors=tuple(Weighted(name=one.name, fingerprint=one.fingerprint, weight=one.weight) for one in alone),
    )  # fmt: skip


def _scores(log_odds: Floats, offset: float, weights: Sequence[float]) -> Floats:
    """Returns the scores of log-odds of the shape (images, detectors). NaN where any of them is NaN."""
    return np.array([
        np.nan if any(map(math.isnan, row)) else stacked_score(offset, weights, row) for row in log_odds.tolist()
    ])  # fmt: skip


def _own(joint: Joint, number: int) -> Floats:
    """Returns a detector's own scores, of the shape (images,). NaN if it was undecided."""
    return np.array([np.nan if one.score is None else one.score for one in joint.members[number].predictions])


def _alone(number: int, weight: float, fit: Joint, report: Joint) -> Alone:
    detector, is_fake, decided = report.members[number].detector or {}, report.is_fake, report.decided
    slope = fit_weights(fit.log_odds[fit.decided][:, [number]], fit.is_fake[fit.decided])
    on_fit, on_report = (_scores(joint.log_odds[:, [number]], *slope) for joint in (fit, report))
    return Alone(
        str(detector["name"]), report.fingerprints[number], weight,
        own=reliability(_own(report, number)[decided], is_fake[decided]),
        fitted=reliability(on_report[decided], is_fake[decided]),
        roc_auc=roc_auc(on_report[decided], is_fake[decided]),
        undecided=int(np.isnan(on_report).sum()),
        fit_log_loss=float(image_losses(on_fit[fit.decided], fit.is_fake[fit.decided]).mean()),
        scores=on_report,
    )  # fmt: skip


def _left_out(joint: Joint) -> int:
    return joint.left_out + joint.other_content


def _doubts(fit: Joint, alone: Sequence[Alone]) -> Iterator[str]:
    rarer = min(int((fit.decided & (fit.is_fake == word)).sum()) for word in (True, False))
    if rarer < (needed := EVENTS_FOR_EACH * len(alone)):
        yield (f"FIT is too small for {len(alone)} detectors: its rarer class has {rarer} images, "
               f"but {needed} are needed")  # fmt: skip
    for (number, one), (other_number, other) in combinations(enumerate(alone), 2):
        if (likeness := _likeness(fit, number, other_number)) > ALIKE:
            yield (f"{one.name} and {other.name} say nearly the same (correlation {likeness:.2f} within the classes): "
                   "the stack gains little, and their weights say little about them")  # fmt: skip


def _likeness(fit: Joint, number: int, other: int) -> float:
    """Returns the correlation of two detectors' log-odds within the classes. All good detectors agree on the class."""
    log_odds, is_fake = fit.log_odds[fit.decided][:, [number, other]], fit.is_fake[fit.decided]
    for word in (True, False):
        log_odds[is_fake == word] -= log_odds[is_fake == word].mean(axis=0)
    spread = np.sqrt((log_odds**2).sum(axis=0)).prod()
    return float((log_odds[:, 0] * log_odds[:, 1]).sum() / spread) if spread else 0.0


def _drift(fit: Joint, fitted: Floats, report: Joint, measured: Floats) -> Iterator[str]:
    losses = [
        image_losses(scores[joint.decided], joint.is_fake[joint.decided])
        for joint, scores in ((fit, fitted), (report, measured))
    ]
    before, after = (float(one.mean()) for one in losses)
    error = float(np.sqrt(sum(one.var() / len(one) for one in losses)))
    if after - before > _SURE * error:
        yield (f"the log loss on REPORT is higher than on FIT ({before:.4f} -> {after:.4f}): they hold different kinds "
               "of images, or FIT is too small")  # fmt: skip
