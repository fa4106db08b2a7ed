"""The tables of a package: which rows and columns of Postgres they hold, in which order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, or_, select
from sqlmodel import SQLModel, col

from producers.audit.selection import Selection, among
from worker.tables import (
    ContentProvenance,
    Detector,
    Event,
    EventKind,
    Finding,
    Maker,
    ReplacedFailure,
    Review,
    Scan,
    StoredVerdict,
    Withdrawal,
)

WITHOUT_SCAN = (
    EventKind.ROLES_GRANTED,
    EventKind.TOKEN_ADDED,
    EventKind.TOKEN_WITHDRAWN,
    EventKind.WEBHOOK_ADDED,
    EventKind.WEBHOOK_ENABLED,
    EventKind.WEBHOOK_DISABLED,
    EventKind.WEBHOOK_REMOVED,
    EventKind.REVIEWER_ADDED,
    EventKind.REVIEWER_CHANGED,
    EventKind.RETENTION,
    EventKind.DETECTOR_ADDED,
    EventKind.DETECTOR_CHANGED,
    EventKind.STACK_ADDED,
)
"""Events about no scan that are in each package. Those about logins name people, and those about forgotten pictures may
be about others than the ones of the package.
"""


@dataclass(frozen=True)
class Part:
    """One table of a package: NAME.jsonl, and NAME.parquet if `parquet`. `order` makes the order of rows definite."""

    name: str
    columns: Sequence[Any]
    where: ColumnElement[bool]
    order: Sequence[Any]
    parquet: bool = False

    @property
    def query(self) -> Select[Any]:
        """The rows."""
        return select(*self.columns).where(self.where).order_by(*map(col, self.order))


def parts(selection: Selection) -> tuple[Part, ...]:
    """Returns the tables of a package in the order of its files."""
    detectors, contents, reviews = selection.detectors, selection.contents, selection.reviews
    description: Any = col(Detector.description)
    calibration: tuple[Any, ...] = (
        col(Detector.id).label("detector_id"),
        col(Detector.fingerprint),
        description["calibration"].label("calibration"),
        description["thresholds"].label("thresholds"),
    )
    failures = selection.by(ReplacedFailure.scan_id, ReplacedFailure.uri, ReplacedFailure.replaced_at)
    return (
        _part("findings", Finding, selection.findings, Finding.partition, Finding.scan_id, Finding.uri, parquet=True),
        _part("verdicts", StoredVerdict, among(StoredVerdict.id, selection.verdicts), StoredVerdict.id, parquet=True),
        # The token makes a start repeatable, and the cursor is where a listing goes on: they are no part of a record.
        _part("scans", Scan, among(Scan.id, selection.scans), Scan.id, without=("token", "cursor")),
        _part("detectors", Detector, among(Detector.id, detectors), Detector.id),
        Part("calibrations", calibration, among(Detector.id, detectors), (Detector.id,)),
        _part("makers", Maker, among(Maker.id, selection.makers), Maker.id),
        _part(
            "provenance", ContentProvenance, among(ContentProvenance.sha256, contents),
            ContentProvenance.sha256, ContentProvenance.revision,
        ),
        _part("reviews", Review, among(Review.id, reviews), Review.id),
        _part("withdrawals", Withdrawal, among(Withdrawal.review_id, reviews), Withdrawal.review_id),
        _part("replaced_failures", ReplacedFailure, failures, ReplacedFailure.id),
        _part("events", Event, _events(selection), Event.id),
    )  # fmt: skip


def _part(
    name: str,
    model: type[SQLModel],
    where: ColumnElement[bool],
    *order: Any,
    parquet: bool = False,
    without: tuple[str, ...] = (),
) -> Part:
    """Returns a part with all columns of a table but those in `without`."""
    table: Table = model.__table__  # type: ignore[attr-defined]
    return Part(name, [column for column in table.columns if column.name not in without], where, order, parquet)


def _events(selection: Selection) -> ColumnElement[bool]:
    """The events of the scans, and those about rights, detectors and retention. Packages are left out: otherwise, each
    package of the same data would differ from the one before.
    """
    general = and_(col(Event.scan_id).is_(None), col(Event.kind).in_(WITHOUT_SCAN))
    return or_(general, and_(among(Event.scan_id, selection.scans), col(Event.kind) != EventKind.AUDIT_BUILT))
