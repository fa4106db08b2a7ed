"""Shows a clear threshold: as JSON, as lines for a terminal, and as a page with curves."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from worker.detector.description import CascadeDescription
from worker.lab.evaluation.calibrate import scores
from worker.lab.evaluation.cleared import Cleared
from worker.lab.evaluation.evaluated import Evaluated
from worker.lab.evaluation.page import FAKE, REAL, SOFT, inline_svg, write_page
from worker.lab.evaluation.thresholds import Share


def as_json(found: Cleared) -> dict[str, Any]:
    """Returns the whole result, for json.dumps()."""
    return asdict(found) | {"rule": found.rule.model_dump(mode="json"), "unseen_family": found.unseen_family}


def as_lines(found: Cleared) -> Iterator[str]:
    """Yields the lines that a person wants to see first."""
    wanted, report = found.wanted, found.report
    yield f"cleared up to {found.rule.up_to:.6g}: with 95 % confidence, at most {wanted.max_miss_rate:.3%} of the fakes"
    yield f"found on {found.fit.missed.images} fakes and {found.fit.cleared.images} real images of {found.fit.name}"
    yield f"on REPORT, {report.name}:"
    yield f"  fakes cleared: {_words(report.missed)}"
    yield f"  real images cleared: {_words(report.cleared)}"
    if found.judge_flags:
        yield f"  of these, the judge calls fake: {_words(found.judge_flags)}"
    if found.unseen_family is not None:
        yield f"the alarm cannot see a new family below {found.unseen_family:.3%} of the cleared images"
    yield f"without a score, and so not cleared: {found.fit.undecided} and {report.undecided}"
    yield (f"if {wanted.fake_share:.3g} of the images are fake, {found.share_cleared:.1%} are cleared, and the judge "
           f"sees {found.share_judged:.1%}, the audited sample of {found.rule.audit_share:.3g} included")  # fmt: skip


def _words(of: Share) -> str:
    return f"{of.count} of {of.images}, {100 * of.share:.2f} % (95 %: {100 * of.low:.2f} to {100 * of.high:.2f} %)"


def write_clearing_page(
    found: Cleared, description: CascadeDescription, sets: tuple[Evaluated, Evaluated], output: Path
) -> None:
    """Writes the page, with the shares of REPORT that other thresholds would clear."""
    score = scores(description.first.calibration, sets[1].log_odds)
    curves = {
        "Real images cleared, by threshold": (score[~sets[1].is_fake], REAL),
        "Fakes cleared, by threshold": (score[sets[1].is_fake], FAKE),
    }
    diagrams = {
        caption: inline_svg(_curve(of, colour, found.rule.up_to or 0), f"{caption}: share of REPORT's images")
        for caption, (of, colour) in curves.items()
    }
    write_page(
        "clearing.html.j2", output, name=description.name, notice=description.notice, found=found, diagrams=diagrams,
        first=description.first.name, judge=description.judge.name, sets=(("FIT", found.fit), ("REPORT", found.report)),
    )  # fmt: skip


def _curve(score: Any, colour: str, up_to: float) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        known = np.sort(score[~np.isnan(score)])
        axes.step([0, *known, 1], [0, *(np.arange(1, len(known) + 1) / len(score)), len(known) / len(score)],
                  where="post", color=colour, linewidth=1)  # fmt: skip
        axes.axvline(up_to, color=SOFT, linestyle=":", linewidth=1)
        axes.set(xlabel="threshold: score of the first stage", ylabel="share cleared", xlim=(-0.03, 1.03))

    return draw
