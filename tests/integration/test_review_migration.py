"""Reviews of the release before become statements, except where they do not say what the content is."""

from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text

from tests.integration.test_export import FAKE, REAL, START, UNCERTAIN, Desk
from tests.integration.test_scans import Archive
from worker.database import Database
from worker.migrate import alembic_config

_REVIEW = """
INSERT INTO reviews (scan_id, uri, sha256, verdict_id, decision, reviewer, created_at)
VALUES (:scan_id, :uri, :sha256, :verdict_id, :decision, :reviewer, :created_at)
"""
BEFORE = START
AFTER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def desk(database: Database, tmp_path: Any) -> Desk:
    desk = Desk(Archive(database), tmp_path / "dataset")
    desk.put(a=FAKE, b=REAL, u=UNCERTAIN, other=REAL)
    desk.archive.images[desk.uri("text")] = b"no image"
    return desk


def migrate(database: Database, target: str) -> None:
    config = alembic_config()
    with database.connect() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if target == "0005" else command.upgrade)(config, target)
        connection.commit()


def rows(database: Database, query: str) -> list[dict[str, Any]]:
    with database.connect() as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


def test_decisions_become_statements_where_they_say_one(desk: Desk) -> None:
    scan = desk.sweep()
    database = desk.database
    migrate(database, "0005")
    found = {row["uri"]: row for row in rows(database, "SELECT uri, sha256, verdict_id FROM findings")}
    reviews: list[tuple[str, str, str, dict[str, Any]]] = [
        ("a", "confirmed", "fake", {}), ("a", "overturned", "real", {}), ("a", "cannot_tell", "cannot_tell", {}),
        ("b", "confirmed", "real", {}), ("b", "overturned", "fake", {"reviewer": "r2"}),
        ("u", "confirmed", "", {}), ("u", "overturned", "", {}), ("u", "cannot_tell", "cannot_tell", {}),
        ("a", "overturned", "real", {"sha256": None, "verdict_id": None}),
        ("a", "overturned", "", {"verdict_id": None, "created_at": BEFORE}),
        ("a", "confirmed", "", {"sha256": desk.sha256("other")}),
        ("text", "confirmed", "", {}),
        ("gone", "confirmed", "", {"sha256": None, "verdict_id": None}),
        ("a", "confirmed", "", {"scan_id": "00000000-0000-0000-0000-000000000000", "sha256": None, "verdict_id": None}),
    ]  # fmt: skip
    with database.begin() as connection:
        for name, decision, _, more in reviews:
            uri = desk.uri(name)
            seen = found.get(uri, {"sha256": None, "verdict_id": None})
            row = seen | {"scan_id": scan, "uri": uri, "decision": decision, "reviewer": "r1", "created_at": AFTER}
            connection.execute(text(_REVIEW), row | more)
    old = rows(database, "SELECT id, scan_id, uri, decision, reviewer, created_at FROM reviews ORDER BY id")
    migrate(database, "head")
    kept = rows(database, "SELECT * FROM reviews ORDER BY id")
    assert [row["statement"] or "" for row in kept] == [statement for _, _, statement, _ in reviews]
    assert [{name: row[name] for name in old[0]} for row in kept] == old
    assert [row["verdict"] for row in kept[:9]] == ["fake"] * 3 + ["real"] * 2 + ["uncertain"] * 3 + ["fake"]
    assert kept[8]["sha256"] == desk.sha256("a")
    assert kept[8]["verdict_id"] == found[desk.uri("a")]["verdict_id"]
    assert [row["kind"] for row in kept[3:5]] == ["first", "second"]
    assert {row["name"]: row["active"] for row in rows(database, "SELECT * FROM reviewers")} == {"r1": True, "r2": True}
    stands = {row["sha256"]: row["statement"] for row in rows(database, "SELECT sha256, statement FROM contents")}
    assert stands == {desk.sha256("a"): "real", desk.sha256("u"): "cannot_tell"}
    status = {row["sha256"]: row for row in rows(database, "SELECT * FROM review_status")}
    assert {sha256: status[sha256]["statement"] for sha256 in stands} == stands
    assert (status[desk.sha256("b")]["disputed"], status[desk.sha256("a")]["reviews"]) == (True, 4)
    (flagged,) = rows(database, "SELECT * FROM flagged_by_day")
    assert (flagged["detector_id"], flagged["bucket"], flagged["contents"]) == (1, "b", 1)
    (week,) = rows(database, "SELECT * FROM detector_quality")
    assert (week["contents"], week["disputed"], week["fake_overturned"], week["cannot_tell"]) == (3, 1, 1, 1)
    with pytest.raises(Exception, match="append-only"), database.begin() as connection:
        connection.execute(text("UPDATE reviews SET note = 'x'"))


def test_a_dropped_scan_says_what_its_reviewers_saw(desk: Desk) -> None:
    scan = desk.sweep()
    migrate(desk.database, "0005")
    (seen,) = rows(desk.database, f"SELECT sha256, verdict_id FROM findings WHERE uri = '{desk.uri('a')}'")
    with desk.database.begin() as connection:
        row = {"scan_id": scan, "uri": desk.uri("a"), "decision": "confirmed", "reviewer": "r1", "created_at": AFTER}
        connection.execute(text(_REVIEW), seen | {"sha256": None} | row)
    with desk.database.begin() as connection:  # as retention did it at that revision
        connection.execute(text("UPDATE scans SET dropped_at = now() WHERE id = :scan"), {"scan": scan})
        connection.execute(text("DELETE FROM findings WHERE scan_id = :scan"), {"scan": scan})
    migrate(desk.database, "head")
    (kept,) = rows(desk.database, "SELECT sha256, verdict, statement FROM reviews")
    assert kept == {"sha256": desk.sha256("a"), "verdict": "fake", "statement": "fake"}


def test_a_downgrade_turns_statements_into_decisions(desk: Desk) -> None:
    scan = desk.sweep()
    for name, statement in (("a", "real"), ("b", "real"), ("u", "cannot_tell")):
        desk.review(scan, name, statement)
    migrate(desk.database, "0005")
    decisions = [row["decision"] for row in rows(desk.database, "SELECT decision FROM reviews ORDER BY id")]
    assert decisions == ["overturned", "confirmed", "cannot_tell"]
    migrate(desk.database, "head")
    kept = [row["statement"] for row in rows(desk.database, "SELECT statement FROM reviews ORDER BY id")]
    assert kept == ["real", "real", "cannot_tell"]
