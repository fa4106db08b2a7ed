"""Statements of reasons from what people decided at the desk, and the error rates of a year, on a real Postgres."""

import csv
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from producers.dsa.complaints import decisions_about
from producers.dsa.decisions import decisions, steps
from producers.dsa.fields import faults
from producers.dsa.rates import report
from producers.dsa.statements import BATCH
from tests.processes import fakesweep
from tests.reviewing import SCAN, ReviewDesk, sha256_of
from tests.roles import Home, home, with_all_logins
from tests.unit.test_dsa_templates import FILE, written
from worker.database import Database, connect, transaction

NOW = datetime.now(UTC)
ALL_TIME = (NOW - timedelta(days=1), NOW + timedelta(days=1))
_REVIEW = """
INSERT INTO reviews (scan_id, uri, sha256, statement, reviewer, kind, created_at, reason_code, note)
SELECT :scan, uri, sha256, :statement, :reviewer, :kind, :at, :reason, 'Anna Smith, see s3://b/anna.jpg'
FROM contents WHERE sha256 = :sha256
"""


@pytest.fixture
def desk(database_url: str) -> Iterator[ReviewDesk]:
    database = connect(database_url)
    yield ReviewDesk(database)
    database.dispose()


def say(desk: ReviewDesk, who: str, content: str, statement: str = "fake", **more: Any) -> None:
    """A review as the API writes it, at any time."""
    given = {"scan": SCAN, "sha256": sha256_of(content), "statement": statement, "reviewer": who}
    with transaction(desk.database) as session:
        session.execute(text(_REVIEW), given | {"kind": None, "at": datetime.now(UTC), "reason": None} | more)


def decided(database: Database) -> list[tuple[str, str, bool]]:
    """The uri, the reviewer, and whether it was an appeal, of each review that made a decision."""
    with transaction(database) as session:
        reviews = [one.review for one in decisions(session, *ALL_TIME)]
        found = session.execute(text("SELECT uri, reviewer, kind FROM reviews WHERE id = ANY(:ids)"), {"ids": reviews})
        return sorted((row.uri, row.reviewer, row.kind == "appeal") for row in found)


def run(desk: ReviewDesk, *args: str, code: int = 0) -> str:
    url = desk.database.engine.url.render_as_string(hide_password=False)
    done = fakesweep(*args, environment={"DATABASE_URL": url})
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def export(desk: ReviewDesk, *args: str, code: int = 0) -> str:
    since, until = (time.isoformat() for time in ALL_TIME)
    return run(desk, "dsa", "export", "--since", since, "--until", until, *args, code=code)


def test_a_decision_is_a_review_after_which_the_content_stands_as_fake(desk: ReviewDesk) -> None:
    for name in ("confirmed", "real", "disputed", "overturned", "upheld", "settled", "withdrawn", "open"):
        desk.flag(name)
    say(desk, "heron", "confirmed")
    say(desk, "ibis", "confirmed")  # who agrees decides nothing new
    say(desk, "heron", "real", "real")
    say(desk, "heron", "disputed", "real")
    say(desk, "ibis", "disputed")  # as many say fake as real: nothing stands
    say(desk, "heron", "overturned")
    say(desk, "lead", "overturned", "real", kind="appeal")  # was a decision until the appeal
    say(desk, "heron", "upheld")
    say(desk, "lead", "upheld", kind="appeal")
    say(desk, "heron", "settled", "real")
    say(desk, "lead", "settled", kind="appeal")
    say(desk, "heron", "withdrawn")
    (review,) = desk.rows("SELECT id FROM reviews WHERE uri = 's3://b/withdrawn'")
    with transaction(desk.database) as session:
        session.execute(text("INSERT INTO withdrawals (review_id, reviewer) VALUES (:id, 'heron')"), review)
    assert decided(desk.database) == [
        ("s3://b/confirmed", "heron", False),
        ("s3://b/overturned", "heron", False),
        ("s3://b/settled", "lead", True),
        ("s3://b/upheld", "heron", False),
    ]


def test_what_stands_is_what_the_database_says(desk: ReviewDesk) -> None:
    """The rule is written twice, in SQL and here. They agree on 300 random reviews."""
    drawn = random.Random(17)
    for content in "abcdefghij":
        desk.flag(content)
    for n in range(300):
        content, who = drawn.choice("abcdefghij"), drawn.choice(("heron", "ibis", "crane", "lead"))
        kind = "appeal" if who == "lead" and drawn.random() < 0.1 else "second"
        said = drawn.choice(("fake", "real", "cannot_tell"))
        say(desk, who, content, said, kind=kind, at=NOW + timedelta(seconds=n))
    standing = {row["sha256"]: row["statement"] for row in desk.rows("SELECT sha256, statement FROM review_status")}
    with desk.database.connect() as connection:
        for sha256, statement in standing.items():
            rows = connection.execute(
                text("SELECT * FROM reviews WHERE sha256 = :sha256 ORDER BY created_at, id"), {"sha256": sha256}
            )
            assert list(steps(rows))[-1].after == statement


def test_each_statement_passes_the_rules_and_tells_nothing_of_a_person(desk: ReviewDesk, tmp_path: Path) -> None:
    for n in range(BATCH + 5):
        desk.flag(f"anna-{n}.jpg")
        say(desk, "heron", f"anna-{n}.jpg", reason="swapped_face" if n == 0 else None)
    uploads = tmp_path / "uploads.csv"
    uploads.write_text(f"picture,date\ns3://b/anna-1.jpg,2026-03-01\n{sha256_of('anna-2.jpg')},2026-03-02\n", "utf-8")
    given = ["--statement", str(written(tmp_path, FILE)), "--uploads", str(uploads), "--output"]
    export(desk, *given, str(tmp_path / "out.jsonl"))
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    batches = [json.loads(line)["statements"] for line in lines]
    assert [len(batch) for batch in batches] == [BATCH, 5]
    records = [record for batch in batches for record in batch]
    assert [fault for record in records for fault in faults(record)] == []
    assert len({record["puid"] for record in records}) == BATCH + 5
    assert {record["automated_detection"] for record in records} == {"Yes"}
    assert {record["application_date"] for record in records} == {f"{datetime.now(UTC):%Y-%m-%d}"}
    assert sorted(record["content_date"] for record in records)[:2] == ["2026-03-01", "2026-03-02"]
    assert [record["category"] for record in records].count("STATEMENT_CATEGORY_CYBER_VIOLENCE") == 1
    exported = "\n".join(lines).lower()
    assert not [word for word in ("anna", "s3:", "heron", sha256_of("anna-1.jpg")) if word in exported]
    export(desk, *given, str(tmp_path / "again.jsonl"))
    assert (tmp_path / "again.jsonl").read_text("utf-8") == (tmp_path / "out.jsonl").read_text("utf-8")
    export(desk, "--csv", *given, str(tmp_path / "out.csv"))
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["puid"] for row in rows] == [record["puid"] for record in records]
    assert json.loads(rows[0]["content_type"]) == ["CONTENT_TYPE_IMAGE", "CONTENT_TYPE_SYNTHETIC_MEDIA"]


def test_a_template_with_the_name_of_a_reviewer_writes_nothing(desk: ReviewDesk, tmp_path: Path) -> None:
    desk.flag("a")
    say(desk, "heron", "a")
    template = written(tmp_path, FILE.replace("a person decided", "heron decided"))
    said = export(desk, "--statement", str(template), "--output", str(tmp_path / "out"), code=2)
    assert "decision_facts has the name of a reviewer" in said
    assert not (tmp_path / "out").exists()


def test_a_picture_that_the_detector_called_real_was_not_detected(desk: ReviewDesk, tmp_path: Path) -> None:
    desk.flag("missed", score=0.1)
    desk.flag("unsure", score=0.5)
    for name in ("missed", "unsure"):
        say(desk, "heron", name)
    out = tmp_path / "out.jsonl"
    said = export(desk, "--statement", str(written(tmp_path, FILE)), "--output", str(out), code=2)
    assert "the detector called the picture real: add a table [not_detected]" in said
    template = written(tmp_path, FILE + '[not_detected]\ndecision_facts = "A user told us, and a person decided."\n')
    said = export(desk, "--statement", str(template), "--output", str(out))
    assert "1 of them are about pictures that the detector called real" in said
    assert "[reason.swapped_face] fits no decision" in said
    records = json.loads(out.read_text("utf-8"))["statements"]
    assert {record["automated_detection"]: record["decision_facts"][:6] for record in records} == {
        "Yes": "A dete",
        "No": "A user",
    }


def test_a_picture_was_found_no_later_than_it_was_decided_about(desk: ReviewDesk) -> None:
    """Retention drops the first verdict, and a later scan judges the picture again."""
    desk.flag("a")
    at = NOW - timedelta(hours=20)
    say(desk, "heron", "a", at=at)
    with transaction(desk.database) as session:
        (found,) = decisions(session, *ALL_TIME)
    assert found.first_at == found.decided_at == at


def test_error_rates_count_what_people_and_appeals_overturned(desk: ReviewDesk) -> None:
    for n in range(12):
        desk.flag(f"c{n}", detector=1 if n < 8 else 2)
        say(desk, "heron", f"c{n}", "real" if n in (0, 1) else "fake")
    say(desk, "lead", "c0", "fake", kind="appeal")
    say(desk, "lead", "c2", "fake", kind="appeal")
    say(desk, "lead", "c3", "real", kind="appeal")
    desk.flag("unsure", score=0.5)
    say(desk, "heron", "unsure", "fake")
    found = report(desk.database, NOW.year)
    first, second = found["detectors"]
    # c1 and c3 stand as real.
    assert (first["fake_confirmed"], first["fake_overturned"], first["uncertain_fake"]) == (6, 2, 1)
    assert first["fake_overturn_rate"] == {"rate": 0.25, "low": 0.0715, "high": 0.5907, "of": 8}  # Wilson, by hand
    assert (second["fake_confirmed"], second["fake_overturned"]) == (4, 0)
    assert (first["appeals"]["decisions_upheld"], first["appeals"]["decisions_reversed"]) == (1, 2)
    assert second["appeals"] == {
        "decisions_upheld": 0,
        "decisions_reversed": 0,
        "disputes_settled": 0,
        "reversal_rate": None,
    }
    assert found["appeals"]["reversal_rate"]["of"] == 3
    assert found["reviews"] == {"fake": 13, "real": 3, "cannot_tell": 0}
    assert found["statements_of_reasons"] == 12
    assert report(desk.database, NOW.year - 1)["detectors"] == []
    assert "appeals: decision upheld 1, decision reversed 2, dispute settled 0" in run(
        desk, "dsa", "report", "--year", str(NOW.year)
    )


def test_an_appeal_counts_in_its_year_under_its_detector(desk: ReviewDesk) -> None:
    """People reviewed the content first a year before."""
    desk.flag("a")
    say(desk, "heron", "a", at=NOW - timedelta(days=366))
    say(desk, "lead", "a", "real", kind="appeal")
    with transaction(desk.database) as session:
        before = {"before": NOW - timedelta(days=366)}
        session.execute(text("UPDATE reviewed_verdicts SET first_reviewed_at = :before"), before)
    (found,) = report(desk.database, NOW.year)["detectors"]
    assert (found["detector"], found["contents"], found["disputed"]) == ("d1", 0, 0)
    assert found["fake_overturn_rate"] is None
    assert found["appeals"]["decisions_reversed"] == 1


def test_a_complaint_finds_its_decision_after_the_findings_were_dropped(desk: ReviewDesk) -> None:
    """The scans of this desk were dropped: it has reviews and verdicts, and no findings."""
    desk.flag("a")
    say(desk, "heron", "a", at=NOW - timedelta(days=180))
    say(desk, "lead", "a", "fake", kind="appeal", at=NOW)
    assert desk.one("SELECT count(*) FROM findings") == 0
    appeal, first = decisions_about(desk.database, "s3://b/a")
    assert (first["reviewer"], first["statement"], first["kind"]) == ("heron", "fake", "first")
    assert first["decided_at"] == (NOW - timedelta(days=180)).isoformat()
    assert (appeal["reviewer"], appeal["kind"], appeal["puid"]) == ("lead", "appeal", None)
    for named in (first["puid"], sha256_of("a")):
        assert decisions_about(desk.database, named) == [appeal, first]
    said = run(desk, "history", first["puid"])
    assert first["puid"] in said
    assert "by heron" in said
    assert decisions_about(desk.database, first["puid"][:-1] + "x") == []
    run(desk, "history", "s3://b/unknown", code=1)
    said = run(desk, "history", sha256_of("unknown"), code=1)
    assert "no decision is about" in said
    assert "findings are found by their uri" in said


def test_a_complaint_names_another_place_of_the_picture(desk: ReviewDesk) -> None:
    desk.flag("a")
    desk.flag("open")
    say(desk, "heron", "a")
    with transaction(desk.database) as session:
        place = text("INSERT INTO content_places (sha256, detector_id, uri) VALUES (:sha256, 1, 's3://b/copy')")
        session.execute(place, [{"sha256": sha256_of("a")}, {"sha256": sha256_of("open")}])
    assert [row["sha256"] for row in decisions_about(desk.database, "s3://b/copy")] == [sha256_of("a")]


def test_a_producer_may_export_report_and_look_up(postgres_server_url: str, template: str, tmp_path: Path) -> None:
    with home(postgres_server_url, template) as made:
        with_all_logins(made)
        owner = connect(made.url)
        desk = ReviewDesk(owner)
        desk.flag("a")
        say(desk, "heron", "a")
        owner.dispose()
        _at_work(made, tmp_path)


def _at_work(made: Home, folder: Path) -> None:
    database = connect(made.url_of("producer"))
    try:
        assert len(decisions_about(database, "s3://b/a")) == 1
        assert report(database, NOW.year)["statements_of_reasons"] == 1
        assert decided(database) == [("s3://b/a", "heron", False)]
    finally:
        database.dispose()
