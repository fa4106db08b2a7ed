"""Finds the clear threshold of a cascade: up to which score of the first stage an image is real at once.

The promise is about the fakes: with 95 % confidence, at most so many of them are cleared.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from worker.detector.description import CascadeDescription, ClearRule, Thresholds
from worker.errors import ConfigurationError
from worker.lab.evaluation.calibrate import checked_revision, scores, unnamed
from worker.lab.evaluation.cleared import Cleared, Figures, Wanted, doubts
from worker.lab.evaluation.disjoint import check_disjoint
from worker.lab.evaluation.evaluated import Evaluated, Floats, Truths, distinct
from worker.lab.evaluation.thresholds import Share, images_needed, share, upper_bound
from worker.lab.evaluation.trained import learned


def clear(
    description: CascadeDescription, fit_on: Evaluated, report_on: Evaluated, wanted: Wanted,
    judged: Evaluated | None = None,
) -> Cleared:  # fmt: skip
    """Returns the largest threshold that keeps the promise on FIT, with its figures on REPORT.

    Both are evaluations with the first stage; each content counts once. `judged` is an evaluation of REPORT's images
    with the judge. Raises ConfigurationError if a set has another detector, lacks a class or shares an image with the
    other set; if FIT cannot show the promise; if REPORT shows that it is not kept; and if `judged` lacks an image.
    """
    alike = tuple(check_disjoint(fit_on, report_on))
    _check_classes(fit_on, report_on)
    checked_revision(description.first, fit_on, report_on)
    fitted, reported = distinct(fit_on), distinct(report_on)
    score = _scores(description, fitted)
    kept = keeping(score[fitted.is_fake], score[~fitted.is_fake], wanted.max_miss_rate, fit_on.name)
    up_to = _allowed(kept, description.thresholds)
    cleared = _scores(description, reported) <= up_to
    fit, report = _figures(fit_on, fitted, score <= up_to), _figures(report_on, reported, cleared)
    _check_kept(report, wanted)
    flags = None if judged is None else _flagged(description, reported, cleared & ~reported.is_fake, judged)
    rule = _rule(description.clear, up_to, wanted, fit, report, flags)
    rule = rule.model_copy(update={"fitted_with": fit_on.detector and fit_on.detector["fingerprint"]})
    share_cleared = (1 - wanted.fake_share) * report.cleared.share + wanted.fake_share * report.missed.share
    found = Cleared(
        wanted, rule, fit, report, images_needed(wanted.max_miss_rate), share_cleared,
        1 - share_cleared * (1 - rule.audit_share), flags,
    )  # fmt: skip
    warnings = (*alike, *unnamed(fit_on, report_on), *learned(fit_on, report_on), *doubts(found), *_capped(kept, up_to))
    return replace(found, warnings=warnings)


def _check_classes(fit_on: Evaluated, report_on: Evaluated) -> None:
    for role, evaluated in (("FIT", fit_on), ("REPORT", report_on)):
        for word, of_class in (("fake", evaluated.is_fake), ("real", ~evaluated.is_fake)):
            if not of_class.any():
                raise ConfigurationError(f"{role}: {evaluated.name} holds no {word} image; give a set with both")


def _check_kept(report: Figures, wanted: Wanted) -> None:
    if report.missed.low > wanted.max_miss_rate:
        raise ConfigurationError(
            f"REPORT: {report.missed.count} of {report.missed.images} fakes of {report.name} would be "
            f"cleared, which is more than --max-miss-rate {wanted.max_miss_rate:g}: FIT and REPORT hold different "
            "kinds of images; fit on images like those of REPORT"
        )


def _rule(
    before: ClearRule, up_to: float, wanted: Wanted, fit: Figures, report: Figures, flags: Share | None
) -> ClearRule:
    return before.model_copy(
        update={
            "up_to": up_to,
            "max_miss_rate": wanted.max_miss_rate,
            "miss_rate_high": round(report.missed.high, 6),
            "judge_flags": None if flags is None else round(upper_bound(flags.count, flags.images), 6),
            "fitted_on": fit.name,
            "fakes": fit.missed.images,
        }
    )


def _scores(description: CascadeDescription, evaluated: Evaluated) -> Floats:
    """The first stage's scores, exactly as the worker computes them. NaN, which is below nothing, where undecided."""
    return scores(description.first.calibration, evaluated.log_odds)


def keeping(fakes: Floats, reals: Floats, rate: float, name: str) -> Floats:
    """Returns the scores of real images up to which the exact bound on the share of cleared fakes is at most `rate`.

    `fakes` and `reals` are scores of FIT, which is called `name`, of the shape (images,). NaN: without a score.

    The largest is chosen on the same images, and the bound holds for it, too. The share of fakes that are
    cleared never falls when the threshold rises. So the bound needs to hold only at the first threshold that breaks the
    promise, and not at all of them at once (Bates, Angelopoulos, Lei, Malik and Jordan, Distribution-free,
    Risk-Controlling Prediction Sets, Journal of the ACM 68, 2021, theorem 1). It is also the fixed-sequence test of
    Angelopoulos et al., Learn then Test, 2021, from strict to loose.
    """
    if upper_bound(0, len(fakes)) > rate:
        raise ConfigurationError(
            f"FIT: {name} has {len(fakes)} fakes. --max-miss-rate {rate:g} with 95 % confidence needs at least "
            f"{images_needed(rate)}; give more fakes, or a larger rate"
        )
    # NaN sorts last, so no fake without a score is below a candidate.
    may_miss = bisect_right(range(len(fakes) + 1), rate, key=lambda count: upper_bound(count, len(fakes))) - 1
    candidates = np.unique(reals[~np.isnan(reals)])
    kept: Floats = candidates[np.searchsorted(np.sort(fakes), candidates, side="right") <= may_miss]
    if not len(kept):
        raise ConfigurationError(
            f"FIT: no threshold of the first stage clears a real image and keeps --max-miss-rate {rate:g}: it does not "
            f"tell the real images of {name} from its {len(fakes)} fakes; give a better first stage, or a "
            "larger rate"
        )
    return kept


def _allowed(kept: Floats, thresholds: Thresholds) -> float:
    """Returns the largest of these scores at which an image is real, too."""
    allowed = kept[(kept <= thresholds.real_to) & (kept < thresholds.fake_from)]
    if not len(allowed):
        raise ConfigurationError(
            f"the lowest score of a real image of FIT is {kept[0]:g}, which is above the cascade's real_to, "
            f"{thresholds.real_to:g}: raise [thresholds] real_to of the cascade, or calibrate the first stage"
        )
    return float(allowed[-1])


def _figures(whole: Evaluated, once: Evaluated, cleared: Truths) -> Figures:
    fake = once.is_fake
    return Figures(
        whole.name, len(fake), len(whole.predictions) - len(fake), int((~once.decided).sum()), share(cleared[fake]),
        share(cleared[~fake]),
    )  # fmt: skip


def _flagged(description: CascadeDescription, report_on: Evaluated, cleared: Truths, judged: Evaluated) -> Share | None:
    """How many of the `cleared` images of REPORT the judge would call fake. None: nothing is cleared."""
    checked_revision(description.judge, judged)
    by_judge = dict(
        zip(
            (one.sha256 or one.image for one in judged.predictions),
            scores(description.judge.calibration, judged.log_odds) >= description.thresholds.fake_from,
            strict=True,
        )
    )
    wanted = [one.sha256 or one.image for one, there in zip(report_on.predictions, cleared, strict=True) if there]
    if missing := sum(one not in by_judge for one in wanted):
        raise ConfigurationError(
            f"--judged: {judged.name} lacks {missing} of the {len(wanted)} real images of REPORT that are cleared; "
            "evaluate all images of REPORT with the judge"
        )
    return share(np.array([by_judge[one] for one in wanted], dtype=np.bool_)) if wanted else None


def _capped(kept: Floats, up_to: float) -> Iterator[str]:
    if kept[-1] > up_to:
        yield (f"the promise would hold up to {kept[-1]:g}, but a cleared image must be real: the threshold ends at "
               "[thresholds] real_to of the cascade")  # fmt: skip
