"""What the tables say of scans, in the forms that `status`, `results` and `report` give out."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, RowMapping, select, text
from sqlmodel import col

from worker import database
from worker.errors import NoSuchScanError
from worker.messages import Policy
from worker.tables import Scan

_DETECTOR_FIELDS = {
    "name": "detector_name",
    "model": "detector_model",
    "revision": "detector_revision",
    "prompt_revision": "prompt_revision",
    "preprocessing_revision": "preprocessing_revision",
    "dtype": "dtype",
    "quantization": "quantization",
}
_FIELDS = ("uri", "external_id", "outcome", "verdict", "score", "answer", "explanation", "contradicts", "cut_off",
           "reason", "detail", "etag", "sha256", "width", "height")  # fmt: skip


def summary(postgres: Engine, scan_id: UUID) -> dict[str, Any]:
    """A scan's counts and what it ran with, as `fakesweep status SCAN --json` prints them.

    Raises NoSuchScanError.
    """
    with database.transaction(postgres) as session:
        scan = session.get(Scan, scan_id)
        if scan is None:
            raise NoSuchScanError(f"there is no scan {scan_id}; `fakesweep status` lists them")
        detectors = session.execute(
            text(
                "SELECT * FROM detectors WHERE id IN (SELECT v.detector_id FROM findings f "
                "JOIN verdicts v ON v.id = f.verdict_id WHERE f.partition = :partition AND f.scan_id = :scan_id)"
            ),
            {"partition": scan.partition, "scan_id": scan.id},
        ).mappings()
        found = [dict(row) for row in detectors]
    notices = [row["notice"] for row in found if row["notice"]]
    return {
        **_counts(scan),
        "policy": Policy.model_validate(scan.policy).model_dump(mode="json"),
        "detectors": [{name: row[name] for name in (*_DETECTOR_FIELDS, "fingerprint")} for row in found],
        "notice": notices[0] if notices else None,
    }


def _counts(scan: Scan) -> dict[str, Any]:
    names = ("name", "source", "kind", "status", "listed", "skipped", "judged", "reused", "failed", "fake", "real",
             "uncertain")  # fmt: skip
    return {
        "scan": str(scan.id),
        **{name: getattr(scan, name) for name in names},
        "created_at": scan.created_at.isoformat(),
        "finished_at": scan.finished_at.isoformat() if scan.finished_at else None,
    }


def progress(postgres: Engine, scan_id: UUID) -> dict[str, Any]:
    """The counts alone: one row read by its key, cheap enough to ask for every second."""
    with database.transaction(postgres) as session:
        scan = session.get(Scan, scan_id)
        if scan is None:
            raise NoSuchScanError(f"there is no scan {scan_id}; `fakesweep status` lists them")
        return _counts(scan)


def recent_scans(postgres: Engine, limit: int = 20) -> list[dict[str, Any]]:
    """The newest scans first."""
    with database.transaction(postgres) as session:
        query = select(Scan).order_by(col(Scan.created_at).desc()).limit(limit)
        return [_counts(scan) for scan in session.execute(query).scalars()]


def rows(postgres: Engine, scan_id: UUID) -> Iterator[dict[str, Any]]:
    """The lines of `fakesweep results`, by uri, streamed. Raises NoSuchScanError."""
    with database.transaction(postgres) as session:
        scan = session.get(Scan, scan_id)
        if scan is None:
            raise NoSuchScanError(f"there is no scan {scan_id}; `fakesweep status` lists them")
        found = session.execute(
            text(
                "SELECT * FROM finding_details WHERE partition = :partition AND scan_id = :scan_id "
                "ORDER BY partition, scan_id, uri"
            ),
            {"partition": scan.partition, "scan_id": scan.id},
            execution_options={"yield_per": 1000},
        )
        for row in found.mappings():
            yield _row(row)


def _row(row: RowMapping) -> dict[str, Any]:
    detector: Mapping[str, Any] | None = None
    if row["detector_name"] is not None:
        detector = {name: row[column] for name, column in _DETECTOR_FIELDS.items()}
    return {
        **{name: row[name] for name in _FIELDS},
        "detector": detector,
        "reused_from": row["reused_from"],
        "attempts": row["attempts"],
        "decided_at": row["decided_at"].isoformat(),
    }
