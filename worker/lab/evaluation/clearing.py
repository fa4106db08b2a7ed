"""Finds the clear threshold of a cascade: up to which score of the first stage an image is real at once.

The promise is about the fakes: with 95 % confidence, at most so many of them are cleared.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from worker.detector.description import CascadeDescription, ClearRule, Thresholds
from worker.errors import ConfigurationError
from worker.lab.evaluation.calibrate import checked_revision, scores, unnamed
from worker.lab.evaluation.confidence import LEVEL
from worker.lab.evaluation.disjoint import check_disjoint
from worker.lab.evaluation.evaluated import Evaluated, Floats, Truths
from worker.lab.evaluation.thresholds import Share, images_needed, share
from worker.lab.evaluation.trained import learned


@dataclass(frozen=True)
class Wanted:
    """The promise: at most `max_miss_rate` of the fakes are cleared. `fake_share` is the share of fakes among the
    images that will be scanned: it changes the saving, and not the promise.
    """

    max_miss_rate: float
    fake_share: float = 0.02


@dataclass(frozen=True)
class Figures:
    """The figures of one set: how many of its fakes are cleared (`missed`), and how many of its real images. An image
    without a score is not cleared.
    """

    name: str
    images: int
    undecided: int
    missed: Share
    cleared: Share


@dataclass(frozen=True)
class Cleared:
    """A clear threshold, measured on the images that it was found on and on others.

    `share_cleared` and `share_judged` are shares of the images that will be scanned; the audited sample counts as
    judged. `judge_flags` says how many of the cleared real images of REPORT the judge calls fake, if that is known.
    """

    wanted: Wanted
    rule: ClearRule
    fit: Figures
    report: Figures
    fakes_needed: int
    share_cleared: float
    share_judged: float
    judge_flags: Share | None
    warnings: tuple[str, ...]


def bound(count: int, images: int) -> float:
    """Returns the upper end of the exact one-sided 95 % interval of `count` / `images` (Clopper and Pearson 1934)."""
    return float(binomtest(count, images, alternative="less").proportion_ci(LEVEL, method="exact").high)


def clear(
    description: CascadeDescription, fit_on: Evaluated, report_on: Evaluated, wanted: Wanted,
    judged: Evaluated | None = None,
) -> Cleared:  # fmt: skip
    """Returns the largest threshold that keeps the promise on FIT, with its figures on REPORT.

    Both are evaluations with the first stage. `judged` is an evaluation of REPORT's images with the judge. Raises
    ConfigurationError if a set has another detector, lacks a class or shares an image with the other set; if FIT cannot
    show the promise; and if REPORT shows that it is not kept.
    """
    alike = tuple(check_disjoint(fit_on, report_on))
    for role, evaluated in (("FIT", fit_on), ("REPORT", report_on)):
        for word, of_class in (("fake", evaluated.is_fake), ("real", ~evaluated.is_fake)):
            if not of_class.any():
                raise ConfigurationError(f"{role}: {evaluated.name} holds no {word} image; give a set with both")
    checked_revision(description.first, fit_on, report_on)
    score, fake = _scores(description, fit_on), fit_on.is_fake
    kept = keeping(score[fake], score[~fake], wanted.max_miss_rate, fit_on.name)
    up_to = _allowed(kept, description.thresholds)
    on_fit, on_report = (_figures(one, _scores(description, one) <= up_to) for one in (fit_on, report_on))
    if on_report.missed.low > wanted.max_miss_rate:
        raise ConfigurationError(
            f"REPORT: {on_report.missed.count} of {on_report.missed.images} fakes of {report_on.name} would be "
            f"cleared, which is more than --max-miss-rate {wanted.max_miss_rate:g}: FIT and REPORT hold different "
            "kinds of images; fit on images like those of REPORT"
        )
    flags = None if judged is None else _flagged(description, report_on, judged, up_to)
    share_cleared = (1 - wanted.fake_share) * on_report.cleared.share + wanted.fake_share * on_report.missed.share
    rule = description.clear.model_copy(
        update={
            "up_to": up_to,
            "max_miss_rate": wanted.max_miss_rate,
            "miss_rate_high": round(on_report.missed.high, 6),
            "judge_flags": None if flags is None else round(bound(flags.count, flags.images), 6),
            "fitted_on": fit_on.name,
            "fakes": on_fit.missed.images,
        }
    )
    return Cleared(
        wanted, rule, on_fit, on_report, images_needed(wanted.max_miss_rate), share_cleared,
        1 - share_cleared * (1 - rule.audit_share), flags,
        warnings=(*alike, *unnamed(fit_on, report_on), *learned(fit_on, report_on),
                  *_doubts(on_report, rule, wanted), *_capped(kept, up_to)),
    )  # fmt: skip


def _scores(description: CascadeDescription, evaluated: Evaluated) -> Floats:
    """The first stage's scores, exactly as the worker computes them. NaN, which is below nothing, where undecided."""
    return scores(description.first.calibration, evaluated.log_odds)


def keeping(fakes: Floats, reals: Floats, rate: float, name: str) -> Floats:
    """Returns the scores of real images up to which the exact bound on the share of cleared fakes is at most `rate`.

    `fakes` and `reals` are scores of FIT, which is called `name`, of the shape (images,). NaN: without a score.

    The largest is chosen on the same images, and the bound holds for it all the same. The share of fakes that are
    cleared never falls when the threshold rises. So the bound needs to hold only at the first threshold that breaks the
    promise, and not at all of them at once (Bates, Angelopoulos, Lei, Malik and Jordan, Distribution-free,
    Risk-Controlling Prediction Sets, Journal of the ACM 68, 2021, theorem 1). It is also the fixed-sequence test of
    Angelopoulos et al., Learn then Test, 2021, from strict to loose.
    """
    if bound(0, len(fakes)) > rate:
        raise ConfigurationError(
            f"FIT: {name} has {len(fakes)} fakes, and to promise --max-miss-rate {rate:g} with 95 % confidence, "
            f"{images_needed(rate)} are needed of which none is cleared; give more fakes, or a larger rate"
        )
    # NaN sorts last, so no fake without a score is below a candidate.
    may_miss = bisect_right(range(len(fakes) + 1), rate, key=lambda count: bound(count, len(fakes))) - 1
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


def _figures(evaluated: Evaluated, cleared: Truths) -> Figures:
    fake = evaluated.is_fake
    return Figures(
        evaluated.name, len(fake), int((~evaluated.decided).sum()), share(cleared[fake]), share(cleared[~fake])
    )


def _flagged(description: CascadeDescription, report_on: Evaluated, judged: Evaluated, up_to: float) -> Share:
    """How many of the real images of REPORT that are cleared the judge would call fake."""
    checked_revision(description.judge, judged)
    by_judge = dict(
        zip(
            (one.sha256 or one.image for one in judged.predictions),
            scores(description.judge.calibration, judged.log_odds) >= description.thresholds.fake_from,
            strict=True,
        )
    )
    cleared = (_scores(description, report_on) <= up_to) & ~report_on.is_fake
    wanted = [one.sha256 or one.image for one, there in zip(report_on.predictions, cleared, strict=True) if there]
    known = np.array([by_judge[one] for one in wanted if one in by_judge], dtype=np.bool_)
    if not len(known):
        raise ConfigurationError(
            f"--judged: {judged.name} holds none of the {len(wanted)} real images of REPORT that are cleared; evaluate "
            "the images of REPORT with the judge"
        )
    return share(known)


def _doubts(report: Figures, rule: ClearRule, wanted: Wanted) -> Iterator[str]:
    if report.missed.images < (needed := images_needed(wanted.max_miss_rate)):
        yield (f"REPORT is too small to show a miss rate of {wanted.max_miss_rate:g}: it has {report.missed.images} "
               f"fakes, but {needed} of which none is cleared are needed")  # fmt: skip
    if not report.cleared.count:
        yield "no real image of REPORT is cleared: the cascade would save nothing"
    if rule.judge_flags is None:
        yield ("without --judged, the alarm about audited images takes each one that the judge flags for a fake: "
               "give an evaluation of REPORT's images with the judge")  # fmt: skip
    if rule.audit_share == 0:
        yield "audit_share is 0: no cleared image is audited, and nobody will see if the promise is broken"


def _capped(kept: Floats, up_to: float) -> Iterator[str]:
    if kept[-1] > up_to:
        yield (f"the promise would hold up to {kept[-1]:g}, but a cleared image must be real: the threshold ends at "
               "[thresholds] real_to of the cascade")  # fmt: skip
