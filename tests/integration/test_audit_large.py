"""Packages about many scans: the statement and the summary stay small, and `verify` reads what `build` wrote."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from producers.audit.building import build
from producers.audit.notes import SHOWN
from producers.audit.selection import Selection
from producers.audit.signing import make_key, signer_with
from producers.audit.verifying import verify
from tests.packages import members, scanned
from worker.database import Database, transaction
from worker.errors import UsageError
from worker.tables import Finding, Scan, ScanStatus

SINCE = Selection(since=datetime(2020, 1, 1, tzinfo=UTC))
SUBMISSIONS = 2000


@pytest.fixture
def many(database: Database) -> Database:
    """Running submissions and scans, with a finding each."""
    partition = scanned(database, 12).partition
    kinds = ("live",) * SUBMISSIONS + ("scan",) * (SHOWN + 20)
    with transaction(database) as session:
        for number, kind in enumerate(kinds):
            scan = Scan(
                kind=kind, name=f"{kind} {number}", source="api", policy={}, partition=partition,
                status=ScanStatus.RUNNING, listed=2, failed=1,
            )  # fmt: skip
            found = Finding(
                partition=partition, scan_id=scan.id, uri=f"s3://b/{number}", outcome="failed", reason="not_found"
            )
            session.add_all([scan, found])
    return database


def test_submissions_share_a_line(many: Database, tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    signer, output = signer_with(tmp_path / "key"), tmp_path / "package.zip"
    built = build(many, SINCE, signer, output)
    assert built.rows["scans"] == SUBMISSIONS + SHOWN + 21
    assert "2,020 more scans and submissions had not ended" in built.notes[-1]
    assert len(built.notes) == SHOWN + 1
    predicate = verify(output, signer.public).predicate
    assert "scans" not in predicate
    assert tuple(predicate["notes"]) == built.notes
    files = dict(members(output.read_bytes()))
    assert len(files["statement.dsse.json"]) < 40_000
    summary = files["summary.html"].decode()
    assert "2,021 more scans and submissions: scans.jsonl names them" in summary
    assert "live 1" not in summary


def test_a_package_that_verify_would_refuse_is_not_written(many: Database, tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    with pytest.raises(UsageError, match="give a later --since"):
        build(many, SINCE, signer_with(tmp_path / "key"), tmp_path / "package.zip", most_bytes=5000)
    assert not (tmp_path / "package.zip").exists()
