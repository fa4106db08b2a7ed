"""What the tables say about scans, in the form in which `status`, `results` and `report` show it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, select, text
from sqlmodel import col

from producers.reporting import opinions
from producers.reporting.audits import audits_of
from producers.reporting.combined import with_combined
from producers.reporting.provenance import FIELDS, newest_row
from producers.scans import find_scan
from worker.database import Database, figures, transaction
from worker.database.lifecycle import ACTIVE
from worker.errors import ScanStateError, UsageError
from worker.messages import Policy, texts_of
from worker.tables import NO_PROMPT, Detector, ReplacedFailure, Scan, ScanStatus

WORDLESS = "This detector gives a score and no reasons."
"""Stands where people look for an explanation, if the detector gives none to any image."""

_DETECTOR_FIELDS = {
    "name": "detector_name",
    "model": "detector_model",
    "revision": "detector_revision",
    "prompt_revision": "prompt_revision",
    "preprocessing_revision": "preprocessing_revision",
    "dtype": "dtype",
    "quantization": "quantization",
}
_MAKER_FIELDS = ("release", "engine", "vllm", "torch", "transformers", "driver", "card")
_CALIBRATION = ("fitted_on", "images", "error_before", "error_after")
_FIELDS = ("uri", "external_id", "outcome", "verdict", "score", "answer", "explanation", "contradicts", "cut_off",
           "stage", "first_score", "reason", "detail", "etag", "sha256", "width", "height")  # fmt: skip

DETAILS = f"SELECT d.*, p.* FROM finding_details d LEFT JOIN LATERAL ({newest_row('d.sha256')}) p ON true"  # noqa: S608 - constants
"""Selects the rows from which `finding` makes a line. The findings are `d`."""

_WITH_OPINIONS = f"""
SELECT d.*, p.*, o.opinions
FROM finding_details d
JOIN findings o ON o.partition = d.partition AND o.scan_id = d.scan_id AND o.uri = d.uri
LEFT JOIN LATERAL ({newest_row("d.sha256")}) p ON true
"""  # noqa: S608 - constants


def details_of(scan: Scan) -> str:
    """Returns DETAILS, with the column `opinions` if the scan asks for second opinions."""
    return _WITH_OPINIONS if scan.policy.get("also") else DETAILS


def summary(database: Database, scan_id: UUID) -> dict[str, Any]:
    """A scan's counts and what it ran with, as `fakesweep status SCAN --json` prints them.

    Raises NoSuchScanError.
    """
    with transaction(database) as session:
        scan = find_scan(session, scan_id)
        query = select(Detector).where(col(Detector.id).in_(scan.detector_ids)).order_by(col(Detector.id))
        found = [row.model_dump() for row in session.execute(query).scalars()]
        audits = audits_of(session, scan_id)
        differing = opinions.differing(session, scan)
    notices = [row["notice"] for row in found if row["notice"]]
    return {
        **counts(scan),
        **differing,
        "policy": _policy(scan),
        "detectors": [_detector(row) for row in found],
        "notice": notices[0] if notices else None,
        "audits": audits,
    }


def _policy(scan: Scan) -> dict[str, Any]:
    """The policy with all its parts. Further detectors are left out of scans that ask for none."""
    policy = Policy.model_validate(scan.policy)
    return policy.model_dump(mode="json", exclude=None if policy.also else {"also", "also_thresholds"})


def _detector(row: Mapping[str, Any]) -> dict[str, Any]:
    """`calibration` says what its scores were fitted on; it is null where they are the model's own, or unknown."""
    known = with_gives_reasons({name: row[name] for name in (*_DETECTOR_FIELDS, "fingerprint")})
    description = row["description"] or {}
    calibration = description.get("judge", description).get("calibration") or {}  # a cascade's is that of its judge
    fitted = calibration.get("knots") or (calibration.get("slope", 1.0), calibration.get("offset", 0.0)) != (1.0, 0.0)
    return known | {"calibration": {name: calibration.get(name) for name in _CALIBRATION} if fitted else None}


def with_gives_reasons(detector: dict[str, Any]) -> dict[str, Any]:
    """Returns the detector with `gives_reasons`: false if it has no prompt. `prompt_revision` is null then."""
    reasons = detector["prompt_revision"] != NO_PROMPT
    return detector | {"prompt_revision": detector["prompt_revision"] if reasons else None, "gives_reasons": reasons}


def counts(scan: Scan) -> dict[str, Any]:
    """A scan's counts, as `fakesweep status --json` prints them."""
    names = ("name", "source", "kind", "record", "status", "note", "listed", "skipped", "skipped_by", "judged",
             "reused", "unchanged", "failed", "fake", "real", "uncertain")  # fmt: skip
    flagged, failed = figures.shares(scan)
    rate = figures.rate(scan, datetime.now(UTC))
    left = scan.listed - scan.judged - scan.reused - scan.unchanged - scan.failed
    still_s = figures.stalled_s(scan, datetime.now(UTC))
    return {
        "scan": str(scan.id),
        **{name: getattr(scan, name) for name in names},
        "share_flagged": flagged,
        "share_failed": failed,
        "rate": round(rate, 2),
        "eta_s": round(left / rate) if scan.status == ScanStatus.RUNNING and rate > 0.01 else None,  # noqa: PLR2004
        "stalled_s": None if still_s is None else round(still_s),
        "created_at": scan.created_at.isoformat(),
        "finished_at": scan.finished_at.isoformat() if scan.finished_at else None,
    }


def progress(database: Database, scan_id: UUID) -> dict[str, Any]:
    """The counts alone: one row read by its key, cheap enough to ask for every second."""
    with transaction(database) as session:
        return counts(find_scan(session, scan_id))


def recent_scans(database: Database, limit: int = 20) -> list[dict[str, Any]]:
    """The newest scans first, and after them older ones that stand still (`stalled_s`)."""
    newest = select(Scan).order_by(col(Scan.created_at).desc())
    with transaction(database) as session:
        recent = [counts(scan) for scan in session.execute(newest.limit(limit)).scalars()]
        older = newest.where(col(Scan.status).in_(ACTIVE), col(Scan.id).not_in([scan["scan"] for scan in recent]))
        active = [counts(scan) for scan in session.execute(older).scalars()]
    return recent + [scan for scan in active if scan["stalled_s"] is not None]


def rows(
    database: Database, scan_id: UUID, *, verdicts: Sequence[str] = (), disagreements: bool = False
) -> Iterator[dict[str, Any]]:
    """The lines of `fakesweep results`, by uri, streamed; only those with these verdicts, if some are given.

    `disagreements`: only images that one detector of the scan calls fake and another one real. Lines of a scan with
    further detectors have `second_opinions`.

    Raises NoSuchScanError, ScanStateError, and UsageError for disagreements of a scan without second opinions.
    """
    wanted = "AND d.verdict = ANY(:verdicts) " if verdicts else ""
    wanted += "AND detectors_differ(o.verdict, o.opinions) " if disagreements else ""
    with transaction(database) as session:
        scan = find_scan(session, scan_id)
        if scan.dropped_at is not None:
            dropped = f"its findings were dropped at {scan.dropped_at:%Y-%m-%d %H:%M}"
            raise ScanStateError(f"scan {scan_id}: {dropped}; verdicts and reviews are kept")
        further = opinions.Opinions(session, scan)
        if disagreements and not scan.policy.get("also"):
            raise UsageError(f"scan {scan_id} asked for no second opinions: `fakesweep scan --also DETECTOR` does")
        found = session.execute(
            text(
                f"{details_of(scan)} WHERE d.partition = :partition AND d.scan_id = :scan_id {wanted}"
                "ORDER BY d.partition, d.scan_id, d.uri"
            ),
            {"partition": scan.partition, "scan_id": scan.id, "verdicts": [str(verdict) for verdict in verdicts]},
            execution_options={"yield_per": 1000},
        )
        lines = (finding(row) | further.of(row["verdict"], row.get("opinions")) for row in found.mappings())
        yield from with_combined(session, scan, lines)


def history(database: Database, uri: str) -> list[dict[str, Any]]:
    """What every scan found at a uri, newest first, in the form of `rows`. Also what was kept when it was forgotten."""
    query = text(f"{DETAILS} WHERE d.uri = ANY(:uris) ORDER BY d.decided_at DESC")
    with transaction(database) as session:
        found = session.execute(query, {"uris": list(texts_of(uri))}).mappings()
        return [{"scan": str(row["scan_id"])} | finding(row) for row in found]


def replaced_failures(database: Database, uri: str) -> list[dict[str, Any]]:
    """The failures at a uri that a later outcome of the same scan replaced, newest first."""
    own = col(ReplacedFailure.uri).in_(texts_of(uri))
    query = select(ReplacedFailure).where(own).order_by(col(ReplacedFailure.id).desc())
    with transaction(database) as session:
        found = [row.model_dump(mode="json", exclude={"id"}) for row in session.execute(query).scalars()]
    return [{"scan": row.pop("scan_id")} | row for row in found]


def finding(row: RowMapping) -> dict[str, Any]:
    """A row of the view `finding_details`, as `fakesweep results` writes it."""
    detector: Mapping[str, Any] | None = None
    if row["detector_name"] is not None:
        detector = with_gives_reasons({name: row[column] for name, column in _DETECTOR_FIELDS.items()})
    return {
        **{name: row[name] for name in _FIELDS},
        # The view compares the verdict with the detector's own word. A detector without reasons has none to contradict.
        "contradicts": row["contradicts"] and (detector is None or detector["gives_reasons"]),
        "detector": detector,
        "maker": _maker(row),
        "reused_from": row["reused_from"],
        "attempts": row["attempts"],
        "decided_at": row["decided_at"].isoformat(),
        "provenance": _provenance(row),
    }


def _maker(row: RowMapping) -> dict[str, Any] | None:
    """The software and the card that made the verdict, or None for verdicts from before migration 0015."""
    return None if row["maker_id"] is None else {name: row[f"maker_{name}"] for name in _MAKER_FIELDS}


def _provenance(row: RowMapping) -> dict[str, Any] | None:
    """What the content says about its origin, or None if no worker has read it."""
    return None if row["c2pa"] is None else {name: row[name] for name in FIELDS}
