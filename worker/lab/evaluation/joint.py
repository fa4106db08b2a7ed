"""Puts the evaluations of several detectors on the same images together: one row of log-odds for each image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from worker.detector.verdicts import Answer
from worker.errors import ConfigurationError
from worker.lab.evaluation.disjoint import check_disjoint
from worker.lab.evaluation.evaluated import Evaluated, Floats, Truths, split

FEWEST = 2


@dataclass(frozen=True)
class Joint:
    """The predictions of several detectors, each of the same images in the same order.

    `left_out` counts the images that not all detectors judged, and `other_content` those whose bytes differ.
    """

    members: tuple[Evaluated, ...]
    left_out: int = 0
    other_content: int = 0

    @property
    def name(self) -> str:
        """The names of the evaluations."""
        return " + ".join(one.name for one in self.members)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprint of each detector."""
        return tuple(map(fingerprint_of, self.members))

    @cached_property
    def log_odds(self) -> Floats:
        """The log-odds in nats, of the shape (images, detectors). NaN where a detector was undecided."""
        return np.stack([one.log_odds for one in self.members], axis=1)

    @property
    def is_fake(self) -> Truths:
        """The labels, of the shape (images,)."""
        return self.members[0].is_fake

    @cached_property
    def as_one(self) -> Evaluated:
        """The images as one evaluation. An image on which any detector was undecided is undecided."""
        undecided = {"verdict": Answer.UNDECIDED, "score": None, "log_odds": None}
        pairs = zip(self.members[0].predictions, self.decided, strict=True)
        predictions = tuple(one if decided else one.model_copy(update=undecided) for one, decided in pairs)
        return replace(
            self.members[0],
            name=self.name,
            predictions=predictions,
            perturbed=sum(one.perturbed for one in self.members),
        )

    @cached_property
    def decided(self) -> Truths:
        """Which images have log-odds of all detectors, of the shape (images,)."""
        return np.asarray(~np.isnan(self.log_odds).any(axis=1), dtype=np.bool_)


def fingerprint_of(evaluated: Evaluated) -> str:
    """Returns the fingerprint of the detector. Raises ConfigurationError if the evaluation does not name it."""
    if evaluated.detector is None:
        raise ConfigurationError(
            f"{evaluated.name} has no run.json beside it, so it is not known which detector made it: give a folder "
            "that evaluate has written"
        )
    return str(evaluated.detector["fingerprint"])


def join(evaluations: Sequence[Evaluated], *, role: str) -> Joint:
    """Returns what these detectors said of the images that all of them judged, with the same bytes as far as is known.

    Images have the same name in each evaluation. Raises ConfigurationError if there are fewer than two detectors, if
    one is not named or there twice, if they share no image, or if they label one differently. `role` is FIT or REPORT.
    """
    if len(evaluations) < FEWEST:
        raise ConfigurationError(f"{role}: a stack needs the evaluations of two detectors or more; give another one")
    for one, other in combinations(evaluations, 2):
        if fingerprint_of(one) == fingerprint_of(other):
            raise ConfigurationError(
                f"{role}: {one.name} and {other.name} are of the same detector: give one of them; "
                "--report comes before each evaluation to measure on"
            )
    by_image = [{one.image: one for one in each.predictions} for each in evaluations]
    known = dict.fromkeys(image for each in by_image for image in each)
    named_alike = [image for image in known if all(image in each for each in by_image)]
    shared = [image for image in named_alike if len({each[image].sha256 for each in by_image} - {None}) <= 1]
    if not shared:
        raise ConfigurationError(
            f"{role}: the evaluations share no image ({len(named_alike)} have the same name, but other content): "
            "evaluate all detectors on the same files"
        )
    for image in shared:
        if len({each[image].label for each in by_image}) > 1:
            raise ConfigurationError(f"{role}: {image} is labelled differently: evaluate all on one dataset")
    members = (
        replace(each, predictions=tuple(own[image] for image in shared))
        for each, own in zip(evaluations, by_image, strict=True)
    )
    return Joint(tuple(members), len(known) - len(named_alike), len(named_alike) - len(shared))


def divided(joint: Joint, share: float, seed: int) -> tuple[Joint, Joint]:
    """Splits it in two by the content of the images, as worker.lab.evaluation.evaluated.split() does.

    What was left out is counted in the first part.
    """
    first, rest = split(joint.members[0], share, seed)
    return _part(joint, first), replace(_part(joint, rest), left_out=0, other_content=0)


def _part(joint: Joint, part: Evaluated) -> Joint:
    """Returns the images of this part of the first member."""
    chosen, whole = frozenset(one.image for one in part.predictions), joint.members[0].name
    members = (
        replace(
            each, name=part.name.replace(whole, each.name, 1),
            predictions=tuple(one for one in each.predictions if one.image in chosen),
        ) for each in joint.members
    )  # fmt: skip
    return replace(joint, members=tuple(members))


def in_order(report: Joint, fit: Joint) -> Joint:
    """Returns REPORT with its detectors in the order of FIT. Raises ConfigurationError if they are not the same."""
    own, wanted = ({fingerprint_of(one): one for one in joint.members} for joint in (report, fit))
    if lacking := sorted(set(own) ^ set(wanted)):
        one = (own | wanted)[lacking[0]]
        raise ConfigurationError(
            f"FIT and REPORT are not of the same detectors: only one of them has {(one.detector or {})['name']} "
            f"({lacking[0][:12]}…, {one.name}); give the same detectors for both"
        )
    return replace(report, members=tuple(own[one] for one in wanted))


def unproven(joint: Joint, role: str) -> Iterator[str]:
    """Yields a warning if it is not known of each image that all detectors saw the same bytes."""
    unhashed = sum(one.sha256 is None for each in joint.members for one in each.predictions)
    if unhashed:
        yield (f"{role}: {unhashed} predictions do not name the content of their image, so the detectors may have seen "
               "different files of one name: evaluate again")  # fmt: skip


def check_apart(fit: Joint, report: Joint) -> Iterator[str]:
    """Yields the warnings of check_disjoint(), each once, and raises like it. It asks for each detector."""
    asked = (check_disjoint(one, other) for one, other in zip(fit.members, report.members, strict=True))
    yield from dict.fromkeys(warning for each in asked for warning in each)
