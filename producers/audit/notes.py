"""The notes of a package: sentences that say what it does not hold.

A note names a scan. At most `SHOWN` scans have notes of their own for each cause. The others share a note with their
number, so that a package about many submissions stays small.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlmodel import Session, col

from producers.audit.selection import Selection, among
from worker.messages import FORGOTTEN
from worker.tables import Finding, Scan, ScanStatus, StoredVerdict

SHOWN = 50
"""As many lines as a person reads. scans.jsonl has all."""
GONE = "gone"
"""The `explain` of a verdict whose explanation was removed: see migration 0017."""


@dataclass(frozen=True)
class _Lack:
    """A cause for which scans lack something. `one` says it of a scan, and `more` follows the number of others."""

    where: ColumnElement[bool]
    one: Callable[[Scan], str]
    more: str


def read_notes(session: Session, selection: Selection) -> tuple[str, ...]:
    """Returns the notes of a package."""
    return (*_about_scans(session, selection), *_about_forgotten(session, selection))


def named(selection: Selection) -> ColumnElement[bool]:
    """Returns the condition of the scans that a page or a note may name: no submissions but the one asked for."""
    return and_(among(Scan.id, selection.scans), or_(col(Scan.kind) == "scan", col(Scan.id) == selection.scan_id))


def _about_scans(session: Session, selection: Selection) -> Iterator[str]:
    lacks = _lacks()
    counts = [func.count().filter(lack.where) for lack in lacks]
    found = session.execute(select(*counts).select_from(Scan).where(among(Scan.id, selection.scans))).one()
    for lack, count in zip(lacks, found, strict=True):
        if count:
            query = select(Scan).where(named(selection), lack.where).order_by(col(Scan.id)).limit(SHOWN)
            scans = session.execute(query).scalars().all()
            yield from map(lack.one, scans)
            if count > len(scans):
                more = "more " if scans else ""
                yield f"{count - len(scans):,} {more}scans and submissions {lack.more} scans.jsonl names them."


def _lacks() -> tuple[_Lack, ...]:
    ended = col(Scan.status).in_((ScanStatus.DONE, ScanStatus.CANCELLED))
    cancelled = col(Scan.status) == ScanStatus.CANCELLED
    outcomes = col(Scan.judged) + col(Scan.reused) + col(Scan.unchanged) + col(Scan.failed)
    return (
        _Lack(
            col(Scan.dropped_at).is_not(None),
            lambda scan: (
                f"The findings of {_which(scan)} were dropped at {scan.dropped_at:%Y-%m-%d %H:%M} UTC: this package "
                "holds none of them, and only those verdicts that reviews name."
            ),
            "have dropped findings: this package holds none of these, and only those verdicts that reviews name.",
        ),
        _Lack(
            ~ended,
            lambda scan: (
                f"The {_which(scan)} was {scan.status} when this package was built: outcomes that came later are not "
                "in it."
            ),
            "had not ended when this package was built: outcomes that came later are not in it.",
        ),
        _Lack(
            and_(cancelled, col(Scan.listed) > outcomes),
            lambda scan: f"The {_which(scan)} was cancelled: {_left(scan)} listed images have no outcome.",
            "were cancelled: some of their listed images have no outcome.",
        ),
        _Lack(
            col(Scan.unchanged) > 0,
            lambda scan: (
                f"The {_which(scan)} recorded changes only: {scan.unchanged} unchanged images have no finding in it. "
                "What was decided about them is in the findings of earlier scans."
            ),
            "recorded changes only: what was decided about unchanged images is in the findings of earlier scans.",
        ),
    )


def _which(scan: Scan) -> str:
    return f"scan {scan.id} ({scan.name})"


def _left(scan: Scan) -> int:
    return scan.listed - scan.judged - scan.reused - scan.unchanged - scan.failed


def _about_forgotten(session: Session, selection: Selection) -> Iterator[str]:
    forgotten = col(Finding.uri).startswith(FORGOTTEN)
    if count := _count(session, Finding, and_(selection.findings, forgotten)):
        yield (
            f"{count:,} findings are about pictures that were forgotten: in place of the uri stands `{FORGOTTEN}` with "
            "its SHA-256. A package from before has the uri."
        )
    gone = col(StoredVerdict.explain) == GONE
    if count := _count(session, StoredVerdict, and_(among(StoredVerdict.id, selection.verdicts), gone)):
        yield (
            f"{count:,} verdicts have no explanation any more, because their pictures were forgotten. A package from "
            "before has it."
        )


def _count(session: Session, table: Any, where: ColumnElement[bool]) -> int:
    return int(session.execute(select(func.count()).select_from(table).where(where)).scalar_one())
