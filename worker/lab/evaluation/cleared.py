"""What `fakesweep calibrate --max-miss-rate` found, and what is in doubt about it."""

from collections.abc import Iterator
from dataclasses import dataclass

from worker.detector.description import ClearRule
from worker.lab.evaluation.thresholds import Share, images_needed


@dataclass(frozen=True)
class Wanted:
    """The promise: at most `max_miss_rate` of the fakes are cleared. `fake_share` is the share of fakes among the
    images that will be scanned: it changes the saving and what the alarm can see, and not the promise.
    """

    max_miss_rate: float
    fake_share: float = 0.02


@dataclass(frozen=True)
class Figures:
    """The figures of one set: how many of its fakes are cleared (`missed`), and how many of its real images. An image
    without a score is not cleared. `repeated` images have the content of another one, and are left out.
    """

    name: str
    images: int
    repeated: int
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
    warnings: tuple[str, ...] = ()

    @property
    def allowed_misses(self) -> float:
        """The most missed fakes that keep the promise, as a share of the cleared images. See docs/cascades.md."""
        rate = self.wanted.max_miss_rate
        return min(rate / (1 - rate) * self.wanted.fake_share / self.share_cleared, 1) if self.share_cleared else 1

    @property
    def unseen_family(self) -> float | None:
        """The share of the cleared images that a new family of fakes can have without an alarm, ever. None: unknown.

        The alarm allows for `allowed_misses` and for the bound on the judge's own flags. The judge's true flags use up
        a part of this; the rest is room for fakes.
        """
        if self.judge_flags is None or self.rule.judge_flags is None:
            return None
        return min(self.allowed_misses + self.rule.judge_flags - self.judge_flags.share, 1)


def doubts(found: Cleared) -> Iterator[str]:
    """Yields what the user must know before the cascade is used."""
    report, rule, rate = found.report, found.rule, found.wanted.max_miss_rate
    for role, figures in (("FIT", found.fit), ("REPORT", report)):
        if figures.repeated:
            yield f"{role}: {figures.repeated} images have the content of another one, and are left out"
    if report.missed.images < (needed := images_needed(rate)):
        yield (f"REPORT is too small to show a miss rate of {rate:g}: it has {report.missed.images} "
               f"fakes, but {needed} of which none is cleared are needed")  # fmt: skip
    if not report.cleared.count:
        yield "no real image of REPORT is cleared: the cascade would save nothing"
    elif rule.judge_flags is None:
        yield ("without --judged, the alarm counts each audited image that the judge flags as a missed fake; "
               "give an evaluation of REPORT's images with the judge")  # fmt: skip
    elif rule.judge_flags > found.allowed_misses:
        allowed = found.allowed_misses
        remedy = f"; {images_needed(allowed)} are needed of which the judge flags none" if allowed else ""
        yield (f"the judge may flag up to {rule.judge_flags:.4%} of the cleared real images, and the promise allows "
               f"only {allowed:.4%} missed fakes among them: the alarm is slow to see a broken promise. "
               f"{report.cleared.count} real images of REPORT are cleared{remedy}")  # fmt: skip
    if rule.fitted_with is None:
        yield "it is not known which detector judged FIT: a start cannot see if the first stage is still the same"
    if rule.audit_share == 0:
        yield "audit_share is 0: no cleared image is audited, and nobody will see if the promise is broken"
