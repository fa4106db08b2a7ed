"""Which rows belong to a package: those of a scan, of uris, or since a time, and all that they refer to."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, CompoundSelect, Select, and_, cast, column, func, select, true, union
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import col

from worker.messages import texts_of
from worker.tables import Finding, Review, Scan, StoredVerdict


@dataclass(frozen=True)
class Selection:
    """What a package is about. Exactly one of the three is given."""

    scan_id: UUID | None = None
    uris: tuple[str, ...] = ()
    since: datetime | None = None

    def described(self) -> dict[str, Any]:
        """Returns the selection as the statement names it."""
        since = self.since.isoformat() if self.since else None
        return {"scan": str(self.scan_id) if self.scan_id else None, "uris": list(self.uris), "since": since}

    def by(self, scan_id: Any, uri: Any, time: Any) -> ColumnElement[bool]:
        """Returns the condition of rows that name a scan, a uri and a time in these columns.

        A uri also finds what was kept when it was forgotten.
        """
        if self.scan_id is not None:
            return col(scan_id) == self.scan_id
        if not self.uris:
            return col(time) >= self.since
        return col(uri).in_([text for one in self.uris for text in texts_of(one)])

    @property
    def findings(self) -> ColumnElement[bool]:
        """The condition of the findings."""
        chosen = self.by(Finding.scan_id, Finding.uri, Finding.decided_at)
        if self.scan_id is None:
            return chosen
        # The partition, so that Postgres reads no other one.
        partition = select(col(Scan.partition)).where(col(Scan.id) == self.scan_id).scalar_subquery()
        return and_(col(Finding.partition) == partition, chosen)

    # Each set below is one UNION and not an OR of two: Postgres joins with it, and would run a subquery under OR again
    # for each row when the set does not fit into its memory.

    @property
    def contents(self) -> CompoundSelect[Any]:
        """The SHA-256 of all contents: those of the findings, and those of reviews."""
        reviewed = select(col(Review.sha256)).where(self.by(Review.scan_id, Review.uri, Review.created_at))
        return union(select(col(Finding.sha256)).where(self.findings), reviewed)

    @property
    def reviews(self) -> CompoundSelect[Any]:
        """The ids of the reviews: all about these contents, and old ones that name no content."""
        about = select(col(Review.id)).where(col(Review.sha256).in_(_column(self.contents)))
        return union(about, select(col(Review.id)).where(self.by(Review.scan_id, Review.uri, Review.created_at)))

    @property
    def verdicts(self) -> CompoundSelect[Any]:
        """The ids of the verdicts that findings or reviews name, those of second opinions among them."""
        shown = select(col(Review.verdict_id)).where(col(Review.id).in_(_column(self.reviews)))
        each = func.jsonb_array_elements(col(Finding.opinions)).table_valued(column("one", JSONB))
        opinion = each.render_derived("opinion")
        given = select(cast(opinion.c.one["verdict_id"], BigInteger)).select_from(Finding).join(opinion, true())
        second = given.where(self.findings)
        return union(select(col(Finding.verdict_id)).where(self.findings), shown, second)

    @property
    def scans(self) -> CompoundSelect[Any]:
        """The ids of the scans that findings or reviews name, and the scan that was asked for."""
        found = select(col(Finding.scan_id)).where(self.findings)
        seen = select(col(Review.scan_id)).where(col(Review.id).in_(_column(self.reviews)))
        return union(found, seen, select(col(Scan.id)).where(col(Scan.id) == self.scan_id))

    @property
    def makers(self) -> CompoundSelect[Any]:
        """The ids of what made these verdicts."""
        made = select(col(StoredVerdict.maker_id)).where(col(StoredVerdict.id).in_(_column(self.verdicts)))
        return union(made)

    @property
    def detectors(self) -> CompoundSelect[Any]:
        """The ids of the detectors of these verdicts, and of those that the scans name."""
        judged = select(col(StoredVerdict.detector_id)).where(col(StoredVerdict.id).in_(_column(self.verdicts)))
        held = select(func.unnest(col(Scan.detector_ids))).where(col(Scan.id).in_(_column(self.scans)))
        return union(judged, held)


def among(column: Any, chosen: CompoundSelect[Any]) -> ColumnElement[bool]:
    """Returns the condition that a column is in the set."""
    return col(column).in_(_column(chosen))


def _column(chosen: CompoundSelect[Any]) -> Select[Any]:
    return select(chosen.subquery().c[0])
