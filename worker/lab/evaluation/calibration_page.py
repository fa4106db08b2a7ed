"""Shows a calibration to people and programs: as one page, and as one JSON object."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from worker.detector.description import DetectorDescription
from worker.lab.evaluation.calibrate import Calibrated
from worker.lab.evaluation.page import FAKE, SOFT, inline_svg, write_page
from worker.lab.evaluation.reliability import BINS, Reliability
from worker.lab.evaluation.thresholds import Share


def as_json(calibrated: Calibrated) -> dict[str, Any]:
    """Returns the whole calibration, for json.dumps()."""
    return asdict(calibrated) | {
        "calibration": calibrated.calibration.model_dump(mode="json", exclude_defaults=True),
        "thresholds": calibrated.thresholds.model_dump(),
    }


def as_lines(calibrated: Calibrated) -> Iterator[str]:
    """Yields the lines that a person wants to see first."""
    fit, report = calibrated.fit, calibrated.report
    before, after = report.before, report.after
    yield (f"{calibrated.wanted.method} on {calibrated.calibration.images} images of {fit.name}; "
           f"measured on {report.images - report.undecided} of {report.name}")  # fmt: skip
    yield f"undecided and left out: {fit.undecided} and {report.undecided}"
    if perturbed := fit.perturbed + report.perturbed:
        yield f"predictions of perturbed images left out: {perturbed}"
    for name in ("expected_calibration_error", "brier_score", "log_loss"):
        yield f"{name.replace('_', ' ')}: {getattr(before, name):.4f} -> {getattr(after, name):.4f}"
    yield f"fake from {calibrated.thresholds.fake_from:.4g}, real to {calibrated.thresholds.real_to:.4g}; on REPORT:"
    yield f"  real images called fake: {in_words(report.false_positives)}"
    yield f"  fakes called fake: {in_words(report.recall)}"
    yield f"  fakes called real: {in_words(report.missed)}"
    unknown = "not known"
    yield f"fingerprint: {calibrated.fingerprint_before or unknown} -> {calibrated.fingerprint_after or unknown}"


def in_words(of: Share) -> str:
    """Returns the share with its count and interval."""
    interval = f"{100 * of.low:.2f} to {100 * of.high:.2f} %"
    return f"{of.count} of {of.images}, {100 * of.share:.2f} % (95 %: {interval})"


def write_calibration_page(calibrated: Calibrated, description: DetectorDescription, output: Path) -> None:
    """Writes the page, with reliability diagrams of the images that the calibration was measured on."""
    diagrams = {
        f"{name}: expected calibration error {one.expected_calibration_error:.4f}": inline_svg(
            diagram(one), f"Reliability diagram {name.lower()}: share of fakes by score, in {BINS} bins"
        )
        for name, one in (("Before", calibrated.report.before), ("After", calibrated.report.after))
    }
    write_page(
        "calibration.html.j2", output, name=description.name, notice=description.notice, calibrated=calibrated,
        sets=(("FIT", calibrated.fit), ("REPORT", calibrated.report)), diagrams=diagrams, bins=BINS,
    )  # fmt: skip


def diagram(of: Reliability) -> Callable[[Axes], None]:
    """Returns what draws a reliability diagram."""

    def draw(axes: Axes) -> None:
        shares = [one.images / of.images for one in of.bins]
        points = [one.score for one in of.bins], [one.share_fake for one in of.bins]
        axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1)
        axes.plot(*points, color=FAKE, linewidth=1)
        axes.scatter(*points, s=[20 + 300 * one for one in shares], color=FAKE, alpha=0.7)
        axes.set(xlabel="score: probability of fake", ylabel="share of fakes", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))

    return draw
