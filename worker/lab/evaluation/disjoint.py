"""That the set which a calibration is fitted on and the one which it is measured on have no image in common."""

from collections.abc import Callable, Iterator

from worker.errors import ConfigurationError
from worker.lab.evaluation.evaluated import Evaluated, address
from worker.lab.evaluation.predictions import Prediction

Shared = list[tuple[Prediction, Prediction]]


def check_disjoint(fit_on: Evaluated, report_on: Evaluated) -> Iterator[str]:
    """Told by the hash of their content; by address and name, where a prediction has no hash.

    Yields a warning where only the folders tell images apart. Raises ConfigurationError when an image is in both.
    """
    _check_none_shared(_both(fit_on, report_on, lambda one, _: one.sha256), "contents")
    _check_none_shared(_unchecked(_both(fit_on, report_on, lambda one, of: address(one, of.images))), "images")
    alike = _unchecked(_both(fit_on, report_on, lambda one, _: one.image))
    if alike and not _elsewhere(fit_on, report_on):
        _check_none_shared(alike, "images")
    if alike:
        yield (f"{len(alike)} images have one name in {fit_on.images} and in {report_on.images}, {alike[0][0].image} "
               "for one: they are taken as different images")  # fmt: skip


def _both(fit_on: Evaluated, report_on: Evaluated, told_by: Callable[[Prediction, Evaluated], str | None]) -> Shared:
    """The images of REPORT that are in FIT too, each with one of FIT's that it cannot be told from."""
    of_fit = {told_by(one, fit_on): one for one in fit_on.predictions}
    of_report = ((told_by(one, report_on), one) for one in report_on.predictions)
    return [(of_fit[mark], one) for mark, one in of_report if mark is not None and mark in of_fit]


def _unchecked(shared: Shared) -> Shared:
    """Those whose contents are not known to differ."""
    return [(one, other) for one, other in shared if not (one.sha256 and other.sha256)]


def _check_none_shared(shared: Shared, what: str) -> None:
    if shared:
        one, other = min((one.image, other.image) for one, other in shared)
        raise ConfigurationError(
            f"FIT and REPORT share {len(shared)} {what}, {one} of FIT and {other} of REPORT for one: a calibration is "
            "measured on others; evaluate two sets without common images, or give one set and --split"
        )


def _elsewhere(fit_on: Evaluated, report_on: Evaluated) -> bool:
    """Whether the images of the two start from different places, and are not one dataset that was moved."""
    pairs = ((fit_on.images, report_on.images), (fit_on.dataset, report_on.dataset))
    return all(one is not None and other is not None and one != other for one, other in pairs)
