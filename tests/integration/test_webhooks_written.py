"""What the triggers put into the outbox, on a real Postgres, with a scripted engine."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from producers import reviews, scans
from producers.reviews import Stated
from producers.webhooks.drift import tell_of_drift
from producers.webhooks.endpoints import add_endpoint, endpoints, find_endpoint, remove_endpoint, replay
from tests.integration.test_drift import weeks
from tests.integration.test_moderate import BRIGHT, DARK, job, make_parts, png, start
from worker.database import Database, transaction
from worker.database.counters import finish_if_full
from worker.errors import UsageError
from worker.messages import ImageRef
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import Scan, ScanStatus, Statement, WebhookKind

__all__ = ["make_parts"]
MakeParts = Callable[..., Parts]
FAKE, REAL = "s3://b/fake", "s3://b/real"


def written(database: Database) -> list[dict[str, Any]]:
    with transaction(database) as session:
        rows = session.execute(text("SELECT kind, subject, data FROM outbox ORDER BY id")).mappings()
        return [dict(row) for row in rows]


def listen(database: Database, *kinds: WebhookKind, name: str = "e") -> None:
    add_endpoint(database, name, "https://example.org/", kinds)


def sweep(database: Database, parts: Parts, *, listed: int = 2) -> Scan:
    """A scan of a fake and a real image, which is done if no others are listed."""
    scan = start(database, listed)
    moderate(job(scan, ImageRef(uri=FAKE, external_id="7"), REAL), uuid4(), parts)
    return scan


@pytest.fixture
def parts(make_parts: MakeParts) -> Parts:
    return make_parts({FAKE: png(BRIGHT), REAL: png(DARK)})


def test_nothing_is_written_for_nobody(database: Database, parts: Parts) -> None:
    listen(database, WebhookKind.SCAN_PAUSED)
    sweep(database, parts)
    assert written(database) == []


def test_a_flagged_finding_and_the_end_of_its_scan(database: Database, parts: Parts) -> None:
    listen(database, WebhookKind.FINDING_FLAGGED, WebhookKind.SCAN_DONE)
    listen(database, WebhookKind.SCAN_DONE, name="other")
    scan = sweep(database, parts)
    flagged, done, also_done = written(database)
    data = flagged.pop("data")
    assert flagged == {"kind": "finding.flagged", "subject": data["sha256"]}
    assert len(data["sha256"]) == 64
    assert {name: data[name] for name in ("scan_id", "uri", "external_id", "verdict", "outcome", "detector")} == {
        "scan_id": str(scan.id), "uri": FAKE, "external_id": "7", "verdict": "fake", "outcome": "judged",
        "detector": parts.description.name,
    }  # fmt: skip
    assert data["score"] > data["policy"]["fake_from"] > data["policy"]["real_to"]
    assert set(data) == {
        "scan_id", "uri", "external_id", "sha256", "verdict", "score", "outcome", "policy", "detector",
    }, "no explanation leaves the database"  # fmt: skip
    assert done == also_done
    assert (done["kind"], done["subject"]) == ("scan.done", str(scan.id))
    assert {name: done["data"][name] for name in ("status", "listed", "judged", "fake", "real")} == {
        "status": "done", "listed": 2, "judged": 2, "fake": 1, "real": 1,
    }  # fmt: skip


def test_what_is_rolled_back_is_not_told(database: Database, parts: Parts) -> None:
    listen(database, *WebhookKind)
    scan = start(database, 2)
    with database.connect() as connection:
        connection.execute(text("UPDATE scans SET status = 'paused' WHERE id = :id"), {"id": scan.id})
        connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        assert connection.execute(text("SELECT kind FROM outbox")).scalar() == "scan.paused"
        connection.rollback()
    assert written(database) == []


def test_a_scan_that_is_paused_is_told_with_its_note(database: Database, parts: Parts) -> None:
    listen(database, *WebhookKind)
    scan = start(database, 9)
    scans.pause(database, scan.id)
    (paused,) = written(database)
    assert (paused["kind"], paused["data"]["status"]) == ("scan.paused", "paused")


def test_a_scan_that_runs_again_in_the_same_transaction_is_not_done(database: Database, parts: Parts) -> None:
    """A repair may find that a full scan waits for another image: see worker.database.counters.finish_if_full."""
    listen(database, WebhookKind.SCAN_DONE)
    scan = sweep(database, parts, listed=3)
    with transaction(database) as session:
        session.execute(text("INSERT INTO repaired VALUES (:id, 's3://b/late')"), {"id": scan.id})
        session.execute(text("UPDATE scans SET listed = 2 WHERE id = :id"), {"id": scan.id})
        finish_if_full(session, scan.id)
    with transaction(database) as session:
        assert session.get_one(Scan, scan.id).status == ScanStatus.RUNNING
    assert written(database) == []


def test_a_review_and_its_withdrawal(database: Database, parts: Parts) -> None:
    listen(database, WebhookKind.REVIEW_DECIDED)
    scan = sweep(database, parts)
    for name in ("heron", "ibis"):
        reviews.add_reviewer(database, name)
    reviews.review(database, Stated(scan.id, FAKE, Statement.REAL, "heron"))
    reviews.review(database, Stated(scan.id, FAKE, Statement.FAKE, "ibis"))
    with transaction(database) as session:
        session.execute(text("INSERT INTO withdrawals (review_id, reviewer) SELECT id, reviewer FROM reviews LIMIT 1"))
    told = [row["data"] for row in written(database)]
    assert [(one["said"], one["withdrawn"], one["statement"], one["disputed"]) for one in told] == [
        ("real", False, "real", False), ("fake", False, None, True), ("real", True, "fake", False),
    ]  # fmt: skip
    assert {(one["uri"], one["verdict"]) for one in told} == {(FAKE, "fake")}
    assert not any("heron" in str(one) for one in told), "pseudonyms stay here"


def test_removing_an_endpoint_stops_nobody(database: Database, parts: Parts) -> None:
    """Until it is committed, and when it is: images get their outcome, and the other endpoint gets its messages."""
    listen(database, *WebhookKind)
    listen(database, *WebhookKind, name="stays")
    with database.connect() as removing, ThreadPoolExecutor(1) as other:
        removing.execute(text("DELETE FROM webhook_endpoints WHERE name = 'e'"))
        saved = other.submit(_sweep_and_review, database, parts)
        try:
            saved.result(timeout=60)
        finally:
            removing.commit()
    assert [row["kind"] for row in written(database)] == ["finding.flagged", "scan.done", "review.decided"]


def _sweep_and_review(database: Database, parts: Parts) -> None:
    scan = sweep(database, parts)
    reviews.add_reviewer(database, "heron")
    reviews.review(database, Stated(scan.id, FAKE, Statement.REAL, "heron"))


def test_a_drift_alarm_is_told_once(database: Database, database_url: str, parts: Parts) -> None:
    import psycopg
    from psycopg.rows import dict_row

    with psycopg.connect(database_url, row_factory=dict_row, autocommit=True) as connection:
        weeks(connection, 800)
    assert tell_of_drift(database) == 0, "nobody wants it"
    listen(database, WebhookKind.DRIFT_ALARM)
    with database.connect() as removing, ThreadPoolExecutor(1) as sender:
        removing.execute(text("DELETE FROM webhook_endpoints WHERE name = 'e'"))
        try:
            assert sender.submit(tell_of_drift, database).result(timeout=60) == 0, "the endpoint is being removed"
        finally:
            removing.rollback()
    assert [tell_of_drift(database) for _ in range(2)] == [1, 0]
    (alarm,) = written(database)
    assert alarm["data"]["bucket"] == "b"
    assert abs(alarm["data"]["z"]) > 3
    assert {"share", "share_before", "measure", "detector", "day"} <= set(alarm["data"])


def test_endpoints_are_listed_without_their_secrets(database: Database) -> None:
    secret = add_endpoint(database, "e", "https://example.org/", [WebhookKind.SCAN_DONE])
    assert secret.startswith("whsec_")
    (row,) = endpoints(database)
    assert secret not in str(row)
    for name in ("e", "", " e", "x\n"):
        with pytest.raises(UsageError):
            add_endpoint(database, name, "https://example.org/", [WebhookKind.SCAN_DONE])


def test_a_change_of_an_endpoint_is_an_event_without_its_secrets(database: Database) -> None:
    add_endpoint(database, "shop", "HTTPS://shop.example.org:8443/hooks/t0ken?key=1", [WebhookKind.SCAN_DONE])
    (endpoint_id, _) = find_endpoint(database, "shop")
    with transaction(database) as session:
        session.execute(text("UPDATE webhook_endpoints SET disabled_at = now()"))
    replay(database, endpoint_id, message=None, since=None)
    remove_endpoint(database, endpoint_id)
    with transaction(database) as session:
        found = session.execute(text("SELECT kind, subject, details FROM events ORDER BY id")).all()
    assert [kind for kind, _, _ in found] == ["webhook_added", "webhook_disabled", "webhook_enabled", "webhook_removed"]
    for _, subject, details in found:
        assert (subject, details) == ("shop", {"kinds": ["scan.done"], "host": "shop.example.org:8443"})
