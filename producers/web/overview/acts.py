"""What a lead can do with a scan, and in which status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from producers import scans, submissions
from producers.bulk import BulkPublisher
from producers.web.access.people import Person
from producers.web.overview import figures
from producers.web.overview.starting import Shares
from producers.web.parts import Parts
from worker.database import Database, acting, actors
from worker.errors import NoSuchScanError, ScanStateError
from worker.tables import ScanStatus

UNLISTED = (ScanStatus.LISTING, ScanStatus.REPAIRING)
ACTIVE = (*UNLISTED, ScanStatus.RUNNING)
PATIENCE_S = 5.0
"""How long a page waits for a broker that is away."""
RETRYABLE = frozenset(map(str, submissions.RETRYABLE))


@dataclass(frozen=True)
class Act:
    """Something that can be done with a scan: its buttons, the question before it, and the statuses in which it makes
    sense.

    `done` is used in the sentence that refuses it: the scan cannot be `done`.
    """

    name: str
    button: str
    sure: str
    question: str
    text: str
    done: str
    allowed: Sequence[ScanStatus]

    @property
    def kind(self) -> str:
        """The CSS class of its button."""
        return "danger" if self.name == "cancel" else "main"


ACTS = {
    one.name: one
    for one in (
        Act(
            "resume", "Resume", "Resume the scan", "Resume this scan?",
            "It continues from where it stopped. If it is over one of its limits, that limit no longer applies, unless "
            "you give another one.",
            "resumed", (ScanStatus.PAUSED,),
        ),
        Act(
            "publish", "Continue publishing", "Continue publishing", "Continue publishing this scan?",
            "A process starts that lists the source from where the last one stopped. If another process does so "
            "already, one of the two stops, and nothing is counted twice.",
            "listed further", UNLISTED,
        ),
        Act(
            "retry", "Judge failed images again", "Judge them again", "Judge failed images again?",
            "Images whose storage did not answer, or for which the detector gave no answer, are judged once more. "
            "Other failures stay as they are.",
            "retried", (*ACTIVE, ScanStatus.DONE),
        ),
        Act(
            "pause", "Pause", "Pause the scan", "Pause this scan?",
            "No more images are judged until somebody resumes the scan. Images that are being judged now are finished.",
            "paused", ACTIVE,
        ),
        Act(
            "cancel", "Cancel…", "Cancel the scan", "Cancel this scan?",
            "Its findings stay. Images that are not judged yet are never judged by it. This cannot be undone.",
            "cancelled", (*ACTIVE, ScanStatus.PAUSED),
        ),
    )
}  # fmt: skip


def retryable(failures: Sequence[Mapping[str, Any]]) -> int:
    """Returns how many of these failures a retry may cure. They are rows of `figures.failures_of`."""
    return int(sum(row["images"] for row in failures if row["reason"] in RETRYABLE))


def possible(parts: Parts, scan: Mapping[str, Any], failures: Sequence[Mapping[str, Any]]) -> list[Act]:
    """Returns what makes sense for this scan now. `scan` is a row of `scan_progress`."""
    senseless = set()
    if parts.scans.running(scan["scan_id"]):
        senseless.add("publish")
    if not retryable(failures) or scan["dropped_at"] is not None:
        senseless.add("retry")
    return [act for act in ACTS.values() if scan["status"] in act.allowed and act.name not in senseless]


def wanted(parts: Parts, scan_id: UUID, name: str) -> tuple[Act, Mapping[str, Any]]:
    """Returns the act with this name, and the scan's row of `scan_progress`.

    Raises NoSuchScanError, and ScanStateError if the scan's status does not allow the act.
    """
    act = ACTS.get(name)
    if act is None:
        raise NoSuchScanError("There is no such page")
    scan = figures.of_scan(parts.database, scan_id)
    if scan["status"] not in act.allowed:
        raise ScanStateError(f"The scan is {scan['status']}. So it cannot be {act.done}")
    if name == "retry" and not retryable(figures.failures_of(parts.database, scan_id)):
        raise ScanStateError("No image of this scan failed for a reason that a retry may cure")
    return act, scan


def do(parts: Parts, person: Person, scan_id: UUID, name: str, limits: Shares) -> str | None:
    """Does it, and returns a sentence about the result, if there is anything to say.

    Raises the errors of `wanted`, and BrokerUnavailableError.
    """
    wanted(parts, scan_id, name)
    database = acting(parts.database, actors.reviewer(person.name))
    if name == "pause":
        scans.pause(database, scan_id, f"paused by {person.name}")
    elif name == "cancel":
        scans.cancel(database, scan_id)
    elif name == "retry":
        count = _retry(parts, database, scan_id)
        return f"{count:,} {'image is' if count == 1 else 'images are'} published again."
    else:
        if name == "resume":
            scans.resume(database, scan_id, **limits.model_dump())
        parts.scans.start(scan_id)
    return None


class _Impatient:
    """A publisher that does not wait for room in the queue, because a person waits for the page."""

    def __init__(self, bulk: BulkPublisher) -> None:
        self._bulk = bulk

    def publish(self, queue: str, messages: Sequence[dict[str, Any]], **_: Any) -> None:
        """See BulkPublisher. Raises ScanStateError if the queue is full."""
        self._bulk.publish(queue, messages, waiting=self._full)

    @staticmethod
    def _full() -> None:
        raise ScanStateError("The queue is full now. Some of the images may be published already. Try again later")


def _retry(parts: Parts, database: Database, scan_id: UUID) -> int:
    with BulkPublisher(parts.broker, max_depth=parts.max_queue_depth, patience_s=PATIENCE_S) as bulk:
        return submissions.retry(_Impatient(bulk), database, scan_id)
