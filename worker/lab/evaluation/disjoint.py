"""Checks that the set that a calibration is fitted on and the set that it is measured on have no common image."""

from collections.abc import Callable, Iterator

from worker.errors import ConfigurationError
from worker.lab.evaluation.evaluated import Evaluated, address
from worker.lab.evaluation.predictions import Prediction

Shared = list[tuple[Prediction, Prediction]]


def check_disjoint(fit_on: Evaluated, report_on: Evaluated) -> Iterator[str]:
    """Compares images by the hash of their content. A prediction without a hash is compared by address and name.

    Yields a warning if only the folders tell images apart. Raises ConfigurationError if an image is in both sets.
    """
    _check_none_shared(_both(fit_on, report_on, lambda one, _: one.sha256), "contents")
    _check_none_shared(_unchecked(_both(fit_on, report_on, lambda one, of: address(one, of.images))), "images")
    alike = _unchecked(_both(fit_on, report_on, lambda one, _: one.image))
    if alike and not _elsewhere(fit_on, report_on):
        _check_none_shared(alike, "images")
    if alike:
        yield (f"{len(alike)} images have one name in {fit_on.images} and in {report_on.images}, such as "
               f"{alike[0][0].image}: they are taken as different images")  # fmt: skip


def _both(fit_on: Evaluated, report_on: Evaluated, told_by: Callable[[Prediction, Evaluated], str | None]) -> Shared:
    """Returns the images of REPORT that are also in FIT, each with an image of FIT that has the same mark."""
    of_fit = {told_by(one, fit_on): one for one in fit_on.predictions}
    of_report = ((told_by(one, report_on), one) for one in report_on.predictions)
    return [(of_fit[mark], one) for mark, one in of_report if mark is not None and mark in of_fit]


def _unchecked(shared: Shared) -> Shared:
    """Returns the pairs whose contents are not known to differ."""
    return [(one, other) for one, other in shared if not (one.sha256 and other.sha256)]


def _check_none_shared(shared: Shared, what: str) -> None:
    if shared:
        one, other = min((one.image, other.image) for one, other in shared)
        raise ConfigurationError(
            f"FIT and REPORT share {len(shared)} {what}, such as {one} of FIT and {other} of REPORT: a calibration is "
            "measured on other images; evaluate two sets without common images, or give one set and --split"
        )


def _elsewhere(fit_on: Evaluated, report_on: Evaluated) -> bool:
    """Whether the images of both sets are in different places, and are not one dataset that was moved."""
    pairs = ((fit_on.images, report_on.images), (fit_on.dataset, report_on.dataset))
    return all(one is not None and other is not None and one != other for one, other in pairs)
