"""Scans: their rows, how they start, and how people pause, resume, cancel and repair them."""

from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from producers.further import ready_policy
from producers.limits import Limits
from producers.listing import Rules
from worker.database import Database, counters, figures, lifecycle, partitions, transaction
from worker.errors import NoSuchScanError, ScanStateError
from worker.messages import FORGOTTEN, Policy, Record, Text
from worker.tables import Repaired, Scan, ScanStatus, Unpublished


class Listing(BaseModel):
    """What a scan lists, as stored in `scans.listing`: enough to continue, or to list again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[str, ...]
    rules: Rules = Rules()
    require_images: bool = False
    """Whether a listing without an image fails. It is stored only when it is true: older releases do not know it."""

    @model_serializer(mode="wrap")
    def _stored(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        if not self.require_images:
            del fields["require_images"]
        return fields

    @classmethod
    def of(cls, scan: Scan) -> Self:
        """Returns the listing of a scan. A scan of the release before this one has only its source, without rules."""
        return cls.model_validate(scan.listing or {"sources": [scan.source]})


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("must have 1 or more characters")
    return text


class Names(BaseModel):
    """The names of a scan, in characters that Postgres can store. An empty one comes from an unset variable."""

    name: Annotated[Text, AfterValidator(_not_empty)] | None = None
    token: Annotated[Text, AfterValidator(_not_empty)] | None = None


def start_scan(
    database: Database,
    listing: Listing,
    *,
    name: str | None = None,
    token: str | None = None,
    policy: Policy | None = None,
    limits: Limits | None = None,
    **more: Any,
) -> Scan:
    """Creates a scan and returns its row. If the token was used before, it returns the row of that scan. `more` are
    columns of Scan.

    Raises what ready_policy() raises.
    """
    scan_id = uuid4()
    limits = limits or Limits()
    source = " ".join(listing.sources[:3]) + (" …" if len(listing.sources) > 3 else "")  # noqa: PLR2004 - a line's worth
    values = {
        "id": scan_id,
        "kind": "scan",
        "name": name or source,
        "source": source,
        "listing": listing.model_dump(mode="json"),
        "token": token,
        "partition": f"scan_{scan_id.hex}",
        "status": ScanStatus.LISTING,
        "max_flagged_share": limits.max_flagged_share,
        "max_failed_share": limits.max_failed_share,
        **more,
    }
    with transaction(database) as session:
        values["policy"] = ready_policy(session, policy or Policy()).stored()
        session.execute(insert(Scan).values(**values).on_conflict_do_nothing(index_elements=["token"]))
        scan = session.get(Scan, scan_id)
        if scan is None:
            scan = session.execute(select(Scan).where(col(Scan.token) == token)).scalars().one()
        else:
            partitions.ensure_partition(session, scan.partition)
    return scan


def check_same(scan: Scan, listing: Listing, policy: Policy, *, rejudge: bool, record: Record) -> None:
    """Raises ScanStateError if the token was used before for another source or for other options."""
    stored = Policy.model_validate(scan.policy).model_dump()
    wanted = policy.model_dump(exclude_none=True)  # thresholds that were not given are filled in by now
    same = {name: stored[name] for name in wanted} == wanted
    if Listing.of(scan) != listing or not same or scan.rejudge != rejudge or scan.record != record:
        raise ScanStateError(
            f"token {scan.token} is scan {scan.id} of {scan.source}, or one with other options: take another token, or "
            "the same options again"
        )


def find_scan(session: Session, scan_id: UUID) -> Scan:
    """Returns the scan's row. Raises NoSuchScanError."""
    scan = session.get(Scan, scan_id)
    if scan is None:
        raise NoSuchScanError(f"there is no scan {scan_id}; `fakesweep status` lists them")
    return scan


def pause(database: Database, scan_id: UUID, note: str = "paused by hand", *, again: bool = False) -> bool:
    """Pauses a scan: no more of its images are published or judged until it is resumed. Images that are being judged
    now are finished.

    Returns whether the scan has changed. With `again`, a scan that is paused already stays as it is.
    Raises NoSuchScanError, ScanStateError.
    """
    with transaction(database) as session:
        if again and find_scan(session, scan_id).status == ScanStatus.PAUSED:
            return False
        scan = _locked(session, scan_id, lifecycle.ACTIVE, "paused")
        scan.paused_from, scan.status, scan.note = scan.status, ScanStatus.PAUSED, note
    return True


def resume(
    database: Database, scan_id: UUID, *, max_flagged_share: float | None = None, max_failed_share: float | None = None
) -> None:
    """Makes a paused scan active again. After that, `publishing.publish_scan` continues it.

    If the scan is over one of its limits, that limit is replaced by the new one, or removed, because a person has
    looked at the scan.

    Raises NoSuchScanError, ScanStateError.
    """
    with transaction(database) as session:
        scan = _locked(session, scan_id, (*lifecycle.ACTIVE, ScanStatus.PAUSED), "resumed")
        if scan.status != ScanStatus.PAUSED:
            return
        flagged, failed = figures.shares(scan)
        scan.max_flagged_share = _limit(scan.max_flagged_share, max_flagged_share, flagged)
        scan.max_failed_share = _limit(scan.max_failed_share, max_failed_share, failed)
        scan.status, scan.paused_from, scan.note = scan.paused_from or ScanStatus.RUNNING, None, None
        session.flush()
        counters.finish_if_full(session, scan_id)


def _limit(old: float | None, new: float | None, share: float) -> float | None:
    return new if new is not None else None if old is not None and share > old else old


def cancel(database: Database, scan_id: UUID, *, again: bool = False) -> bool:
    """Cancels the scan, which cannot be undone. Its findings stay; workers drop its messages.

    Returns whether the scan has changed. With `again`, a scan that is cancelled already stays as it is.
    Raises NoSuchScanError, ScanStateError.
    """
    with transaction(database) as session:
        if again and find_scan(session, scan_id).status == ScanStatus.CANCELLED:
            return False
        scan = _locked(session, scan_id, (*lifecycle.ACTIVE, ScanStatus.PAUSED), "cancelled")
        scan.status, scan.note, scan.finished_at = ScanStatus.CANCELLED, "cancelled by hand", datetime.now(UTC)
        session.execute(delete(Unpublished).where(col(Unpublished.scan_id) == scan_id))
    return True


def repair(database: Database, scan_id: UUID) -> None:
    """Prepares a scan to be listed again from its start. After that, `publishing.publish_scan` publishes images without
    an outcome.

    Raises NoSuchScanError, ScanStateError.
    """
    with transaction(database) as session:
        allowed = (*lifecycle.ACTIVE, ScanStatus.PAUSED, ScanStatus.DONE)
        scan = _locked(session, scan_id, allowed, "repaired")
        if scan.kind != "scan" or scan.dropped_at is not None:
            raise ScanStateError(f"scan {scan_id} cannot be repaired: it lists no source, or its findings are dropped")
        if any(source.startswith(FORGOTTEN) for source in Listing.of(scan).sources):
            raise ScanStateError(f"scan {scan_id} listed a picture that was forgotten: start a new scan")
        if "-" in Listing.of(scan).sources:
            # Nobody can tell whether standard input now has everything that it had the first time.
            raise ScanStateError(f"scan {scan_id} read standard input, which cannot be listed again: start a new scan")
        scan.status, scan.paused_from, scan.note, scan.finished_at = ScanStatus.REPAIRING, None, None, None
        # Unchanged images have no finding: the new listing counts them again.
        scan.cursor, scan.skipped, scan.skipped_by = None, 0, None
        scan.unchanged = scan.unchanged_missing_opinions = 0
        session.execute(delete(Unpublished).where(col(Unpublished.scan_id) == scan_id))
        session.execute(delete(Repaired).where(col(Repaired.scan_id) == scan_id))


def _locked(session: Session, scan_id: UUID, allowed: tuple[ScanStatus, ...], wanted: str) -> Scan:
    find_scan(session, scan_id)
    scan = session.get_one(Scan, scan_id, with_for_update=True, populate_existing=True)
    if scan.status not in allowed:
        raise ScanStateError(f"scan {scan_id} is {scan.status}: it cannot be {wanted}")
    return scan
