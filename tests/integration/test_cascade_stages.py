"""Which stage gave a verdict: stored, shown, counted, and decisive for what may be reused."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from PIL.Image import Image
from sqlalchemy import text
from sqlmodel import Session

from producers import scans
from producers.reporting import progress, reports, results
from producers.reporting.csv_findings import csv_pieces
from tests.cascades import Cascade
from tests.desk import desk_app, logged_in, person
from tests.integration.test_policies import png
from worker.database import Database, transaction
from worker.database.detectors import register_detector
from worker.errors import EngineGenerateError, StorageUnavailableError
from worker.messages import ImageRef, JudgeImages, Policy
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import Scan, ScanStatus
from worker.testing import InMemoryImageStore, ScriptedEngine

GREYS = {"s3://b/10": "#0a0a0a", "s3://b/20": "#141414", "s3://b/100": "#646464", "s3://b/200": "#c8c8c8"}
"""Images of these grey levels. The first stage clears the darker two."""


def parts_of(database: Database, cascade: Cascade) -> Parts:
    store = InMemoryImageStore({uri: png(colour) for uri, colour in GREYS.items()})
    return Parts(store, database, cascade.detector, register_detector(database, cascade.description.row()))


def scanned(
    database: Database, parts: Parts, policy: Policy | None = None, uris: Iterable[str] = GREYS, **message: Any
) -> UUID:
    refs = tuple(ImageRef(uri=uri) for uri in uris)
    scan = scans.start_scan(database, scans.Listing(sources=("s3://b/",)), policy=policy or Policy())
    with transaction(database) as session:
        row = session.get_one(Scan, scan.id)
        row.listed, row.status = len(refs), ScanStatus.RUNNING
    moderate(JudgeImages(scan_id=scan.id, images=refs, **message), uuid4(), parts)
    return scan.id


def stages(database: Database, scan_id: UUID) -> dict[str, tuple[str, str]]:
    return {row["uri"][7:]: (row["outcome"], row["stage"]) for row in results.rows(database, scan_id)}


def test_results_csv_and_lines_say_which_stage_gave_the_verdict(database: Database) -> None:
    found = {row["uri"][7:]: row for row in results.rows(database, scanned(database, parts_of(database, Cascade())))}
    assert {name: row["stage"] for name, row in found.items()} == {
        "10": "first", "20": "first", "100": "judge", "200": "judge",
    }  # fmt: skip
    assert found["200"]["first_score"] == pytest.approx(200 / 255)
    assert found["10"]["score"] == found["10"]["first_score"]
    lines = "".join(csv_pieces([found.values()])).splitlines()
    assert ",stage,first_score," in lines[0]
    assert ",first,0.039" in next(line for line in lines if line.startswith("s3://b/10,"))
    assert "real 0.039 (cleared by the first stage)" in progress.line(found["10"])
    assert "fake 0.784 (decided by the judge)" in progress.line(found["200"])


def test_a_report_says_that_a_cleared_image_has_no_reasons(database: Database, tmp_path: Path) -> None:
    scan_id = scanned(database, parts_of(database, Cascade()))
    rows = [row | {"verdict": "fake"} for row in results.rows(database, scan_id)]  # a report shows what is flagged

    def away(_uri: str, _etag: str | None) -> bytes:
        raise StorageUnavailableError("away")

    reports.write_report(results.summary(database, scan_id), rows, away, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert html.count("The first stage cleared this image; it gives no reasons.") == 2
    assert html.count("decided by the judge; the first stage's score was 0.784") == 1


def test_the_desk_says_which_stage_gave_the_verdict(database: Database) -> None:
    found = {row["uri"][7:]: row for row in results.rows(database, scanned(database, parts_of(database, Cascade())))}
    person(database, "heron")
    heron = logged_in(desk_app(database), "heron")
    cleared, judged = (heron.get(f"/items/{found[name]['sha256']}").text for name in ("10", "200"))
    assert "cleared by the first stage" in cleared
    assert "The first stage cleared this image; it gives no reasons." in cleared
    assert "decided by the judge; the first stage's score was 0.784" in judged
    assert "it gives no reasons" not in judged


def test_a_message_can_ask_for_the_judge_and_then_no_cleared_verdict_is_reused(database: Database) -> None:
    parts = parts_of(database, Cascade())
    scanned(database, parts)
    assert stages(database, scanned(database, parts)) == {
        "10": ("reused", "first"), "20": ("reused", "first"), "100": ("reused", "judge"), "200": ("reused", "judge"),
    }  # fmt: skip
    assert stages(database, scanned(database, parts, judge=True)) == {
        "10": ("judged", "judge"), "20": ("judged", "judge"), "100": ("reused", "judge"), "200": ("reused", "judge"),
    }  # fmt: skip
    dark = ["s3://b/10"]
    assert stages(database, scanned(database, parts, Policy(judge=True), dark)) == {"10": ("reused", "judge")}


def test_a_submission_without_a_scan_can_ask_for_the_judge(database: Database) -> None:
    message_id = uuid4()
    moderate(JudgeImages(images=(ImageRef(uri="s3://b/10"),), judge=True), message_id, parts_of(database, Cascade()))
    assert stages(database, message_id) == {"10": ("judged", "judge")}
    with Session(database) as session:
        assert session.get_one(Scan, message_id).policy["judge"] is True


def test_a_message_says_nothing_of_the_judge_unless_it_is_asked_for() -> None:
    """Workers of the release before refuse messages with a field that they do not know."""
    refs = (ImageRef(uri="s3://b/10"),)
    assert "judge" not in JudgeImages(images=refs).payload()
    assert JudgeImages(images=refs, judge=True).payload()["judge"] is True


def test_a_cleared_verdict_is_not_reused_by_a_scan_that_would_not_call_it_real(database: Database) -> None:
    parts = parts_of(database, Cascade())
    scanned(database, parts)
    strict = scanned(database, parts, Policy(real_to=0.05))
    assert stages(database, strict)["10"] == ("reused", "first")
    assert stages(database, strict)["20"] == ("judged", "judge")


def test_the_stages_of_each_scan_and_day_are_counted_once(database: Database) -> None:
    parts = parts_of(database, Cascade(clear={"audit_share": 1.0}, judge=lambda _image: 0.9))
    first = scanned(database, parts)
    scanned(database, parts)  # reuses everything
    moderate(JudgeImages(images=(ImageRef(uri="s3://b/10"),)), uuid4(), parts)  # reuses the audit
    with database.connect() as connection:
        rows = [dict(row) for row in connection.execute(text("SELECT * FROM cascade_audits")).mappings()]
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert rows == [
        {
            "day": today, "kind": "scan", "scan_id": first, "scan_name": rows[0]["scan_name"],
            "detector_id": parts.detector_id, "detector_name": "two", "cleared": 2, "audited": 2, "audited_flagged": 2,
            "judged": 2, "judged_flagged": 2, "max_miss_rate": 0.005, "audit_share": 1.0, "judge_flags": 0.0,
        }
    ]  # fmt: skip


def counts(database: Database) -> dict[str, int]:
    with database.connect() as connection:
        (row,) = connection.execute(text("SELECT * FROM cascade_audits")).mappings()
    names = ("cleared", "audited", "audited_flagged", "judged", "judged_flagged")
    return {name: row[name] for name in names}


def test_the_counts_are_by_the_cascades_own_thresholds(database: Database) -> None:
    """A scan that calls more images fake must not look as if the first stage had missed them."""
    parts = parts_of(database, Cascade(clear={"audit_share": 1.0}, judge=lambda _image: 0.3))
    scan_id = scanned(database, parts, Policy(fake_from=0.2, real_to=0.2))
    assert {row["verdict"] for row in results.rows(database, scan_id)} == {"fake"}
    assert counts(database) == {"cleared": 2, "audited": 2, "audited_flagged": 0, "judged": 2, "judged_flagged": 0}


def test_an_image_that_saw_the_judge_only_because_it_was_asked_for_is_not_counted(database: Database) -> None:
    """It would be another fake that the first stage has not cleared, so that alarms come later."""
    scanned(database, parts_of(database, Cascade(judge=lambda _image: 0.9)), Policy(judge=True))
    assert counts(database) == {"cleared": 0, "audited": 0, "audited_flagged": 0, "judged": 2, "judged_flagged": 2}


def test_an_image_that_the_first_stage_refused_is_counted(database: Database) -> None:
    def refuse(_image: Image) -> None:
        raise EngineGenerateError("refused")

    scanned(database, parts_of(database, Cascade(first=ScriptedEngine(fail=refuse), judge=lambda _image: 0.9)))
    assert counts(database) == {"cleared": 0, "audited": 0, "audited_flagged": 0, "judged": 4, "judged_flagged": 4}


def test_submissions_are_counted_together(database: Database) -> None:
    parts = parts_of(database, Cascade())
    for uri in ("s3://b/10", "s3://b/20", "s3://b/200"):
        moderate(JudgeImages(images=(ImageRef(uri=uri),)), uuid4(), parts)
    with database.connect() as connection:
        (row,) = connection.execute(text("SELECT * FROM cascade_audits")).all()
    assert (row.kind, row.scan_id, row.cleared, row.audited, row.judged_flagged) == ("live", None, 2, 0, 1)
