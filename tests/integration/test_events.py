"""Who did what: each event with its actor, nobody changes one, and what made a verdict is stored with it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.errors import AdminShutdown, InsufficientPrivilege, RaiseException
from sqlalchemy import text

from producers import retention, reviews, scans, submissions, tokens
from producers.limits import Limits
from producers.reporting import results
from producers.scans import find_scan
from producers.testing import InMemoryPublisher
from producers.web.access.people import Person
from producers.web.overview import acts
from producers.web.overview.starting import Shares
from tests.api import mounted, program, token_for
from tests.desk import parts as web_parts
from tests.integration.test_scans import Archive
from tests.integration.test_scans import archive as archive  # noqa: PLC0414 - a fixture
from tests.processes import fakesweep
from tests.roles import Home, home, with_all_logins
from worker.database import Database, acting, connect, transaction
from worker.database.actors import command_line
from worker.database.events import events, record
from worker.database.makers import register_maker
from worker.detector.maker import maker_of
from worker.detector.vlm import VlmDetector
from worker.errors import NoSuchScanError, Reason
from worker.grants import Role
from worker.tables import RECORDED, DeskRole, EventKind, Maker, Scope
from worker.testing import ScriptedEngine, scripted_description

ME = "cli:it's me \\ 100 %@host"
TABLES = ("events", "makers", "replaced_failures")


def told(database: Database, *, scan_id: UUID | None = None) -> list[tuple[str, str, str | None]]:
    """The kind, the actor and the subject of each event."""
    with transaction(database) as session:
        return [(one.kind, one.actor, one.subject) for one in events(session, scan_id=scan_id)]


def kinds(database: Database, scan_id: UUID | None = None) -> list[str]:
    return [kind for kind, _, _ in told(database, scan_id=scan_id)]


def details(database: Database, kind: EventKind) -> Any:
    with transaction(database) as session:
        return events(session, kinds=(kind,))[-1].details


@pytest.fixture
def mine(database: Database) -> Database:
    """The database, as a person at the command line has it."""
    return acting(database, ME)


def test_what_people_do_with_a_scan_is_recorded(archive: Archive, mine: Database) -> None:
    archive.fill(3)
    before = datetime.now(UTC)
    scan_id = scans.start_scan(mine, scans.Listing(sources=("s3://b/",)), name="nightly", limits=Limits(0.5, 0.5)).id
    scans.pause(mine, scan_id, "the storage is slow")
    scans.resume(mine, scan_id, max_flagged_share=0.9)
    archive.judge(archive.publish(scan_id))
    scans.repair(mine, scan_id)
    archive.publish(scan_id)
    retention.drop_scan(mine, scan_id)
    assert told(mine, scan_id=scan_id) == [
        ("scan_started", ME, "nightly"),
        ("scan_paused", ME, "nightly"),
        ("limits_changed", ME, "nightly"),
        ("scan_resumed", ME, "nightly"),
        ("scan_done", "postgres", "nightly"),
        ("scan_repaired", ME, "nightly"),
        ("scan_done", "postgres", "nightly"),
        ("scan_dropped", ME, "nightly"),
    ]
    assert details(mine, EventKind.SCAN_PAUSED) == {"note": "the storage is slow", "was": "listing"}
    changed = details(mine, EventKind.LIMITS_CHANGED)
    assert (changed["max_flagged_share"], changed["before"]["max_flagged_share"]) == (0.9, 0.5)
    with transaction(mine) as session:
        assert all(before <= one.at <= datetime.now(UTC) and one.login == "postgres" for one in events(session))
        assert len(events(session, since=datetime.now(UTC))) == 0


def test_an_event_never_has_the_source_of_a_scan(archive: Archive, mine: Database) -> None:
    """A source may be the uri of one picture, and nobody could remove it from an event."""
    archive.images["s3://b/text.png"] = b"text"
    scan_id = UUID(archive.sweep()["scan"])
    submissions.retry(InMemoryPublisher(), mine, scan_id, list(Reason))
    scans.repair(mine, scan_id)
    scans.pause(mine, scan_id)
    scans.resume(mine, scan_id, max_flagged_share=0.9)
    scans.cancel(mine, scan_id)
    retention.drop_scan(mine, scan_id)
    assert {subject for _, _, subject in told(mine, scan_id=scan_id)} == {None}
    with transaction(mine) as session:
        assert not [one for one in events(session, scan_id=scan_id) if "s3://" in str(one.details)]


def test_a_cancelled_scan_is_recorded_once(archive: Archive, mine: Database) -> None:
    scan_id = archive.start()
    scans.cancel(mine, scan_id)
    scans.cancel(mine, scan_id, again=True)
    assert kinds(mine, scan_id) == ["scan_started", "scan_cancelled"]


def test_a_limit_that_pauses_a_scan_is_recorded_with_the_worker(archive: Archive) -> None:
    scan_id = archive.start()
    with transaction(acting(archive.database, "worker:gpu1")) as session:
        session.execute(text("UPDATE scans SET status = 'paused', paused_from = 'listing', note = 'too many'"))
    assert told(archive.database, scan_id=scan_id)[-1][:2] == ("scan_paused", "worker:gpu1")


def test_a_resumed_repair_is_no_second_repair(archive: Archive, mine: Database) -> None:
    archive.fill(2)
    scan_id = UUID(archive.sweep(limits=Limits(None, None))["scan"])
    scans.repair(mine, scan_id)
    scans.pause(mine, scan_id)
    scans.resume(mine, scan_id)
    with transaction(mine) as session:
        session.execute(text("UPDATE scans SET cursor = '1'"))  # the listing has begun
    scans.repair(mine, scan_id)
    assert kinds(mine, scan_id)[-4:] == ["scan_repaired", "scan_paused", "scan_resumed", "scan_repaired"]


def test_a_scan_that_is_not_done_after_all_is_not_recorded_as_done(archive: Archive) -> None:
    """When a repair still waits for an image, `settle` makes the scan done and running again in one transaction."""
    scan_id = archive.start()
    with transaction(archive.database) as session:
        session.execute(text("UPDATE scans SET status = 'done'"))
        session.execute(text("UPDATE scans SET status = 'running'"))
    assert kinds(archive.database, scan_id) == ["scan_started"]


def test_a_transaction_that_is_rolled_back_leaves_no_event(archive: Archive, mine: Database) -> None:
    scan_id = archive.start()
    with pytest.raises(NoSuchScanError):
        _fail(mine, scan_id)
    url = mine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    killed = psycopg.connect(url)
    killed.execute("UPDATE scans SET status = 'cancelled'")
    with transaction(mine) as session:
        session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": killed.info.backend_pid})
    with pytest.raises(AdminShutdown):
        killed.commit()
    assert kinds(mine) == ["scan_started"]


def _fail(database: Database, scan_id: UUID) -> None:
    with transaction(database) as session:
        session.execute(text("UPDATE scans SET status = 'cancelled'"))
        record(session, EventKind.RETRIED, scan_id=scan_id)
        find_scan(session, uuid4())


def test_who_may_do_what_is_recorded_without_the_persons_identity(mine: Database) -> None:
    reviews.add_reviewer(mine, "heron", logins=["oidc:https://login.example|ada@example.org"])
    reviews.add_reviewer(mine, "heron")  # changes nothing
    reviews.add_reviewer(mine, "heron", DeskRole.LEAD)
    reviews.disable_reviewer(mine, "heron")
    reviews.unlink_reviewer(mine, "heron")
    tokens.add_token(mine, tokens.Wanted("uploads", [Scope.SUBMIT], days=3))
    tokens.withdraw_token(mine, "uploads")
    tokens.withdraw_token(mine, "uploads")
    assert told(mine) == [
        ("reviewer_added", ME, "heron"),
        ("login_added", ME, "heron"),
        ("reviewer_changed", ME, "heron"),
        ("reviewer_changed", ME, "heron"),
        ("login_removed", ME, "heron"),
        ("token_added", ME, "uploads"),
        ("token_withdrawn", ME, "uploads"),
    ]
    assert details(mine, EventKind.REVIEWER_CHANGED) == {"role": "lead", "active": False}
    assert details(mine, EventKind.TOKEN_ADDED)["scopes"] == ["submit"]
    with transaction(mine) as session:
        assert "ada@" not in str([one.model_dump() for one in events(session)])


def test_a_detector_that_takes_over_is_recorded(archive: Archive) -> None:
    for name in ("first", "first", "second", "first"):
        archive.parts(name=name)
    assert [(kind, subject) for kind, _, subject in told(archive.database)] == [
        ("detector_added", "first"),
        ("detector_added", "second"),
        ("detector_changed", "first"),
    ]


def test_a_retry_is_recorded_and_the_failure_is_kept(archive: Archive, mine: Database) -> None:
    archive.fill(2)
    archive.images["s3://b/text.png"] = b"text"
    scan_id = UUID(archive.sweep()["scan"])
    archive.images["s3://b/text.png"] = archive.images["s3://b/00000.png"]
    publisher = InMemoryPublisher()
    assert submissions.retry(publisher, mine, scan_id, [Reason.NOT_AN_IMAGE]) == 1
    assert told(mine, scan_id=scan_id)[-1][:2] == ("retried", ME)
    assert details(mine, EventKind.RETRIED) == {"reasons": ["not_an_image"]}
    archive.judge(publisher, replace(archive.parts(), database=acting(mine, "worker:gpu1")))
    with transaction(mine) as session:
        (kept,) = session.execute(text("SELECT uri, reason, attempts, actor, scan_id FROM replaced_failures"))
    assert tuple(kept) == ("s3://b/text.png", "not_an_image", 1, "worker:gpu1", scan_id)
    assert archive.rows(scan_id)["s3://b/text.png"]["outcome"] != "failed"


def test_retention_is_recorded_and_keeps_no_copies_of_failures(archive: Archive, mine: Database) -> None:
    archive.images["s3://b/text.png"] = b"text"
    scan_id = UUID(archive.sweep()["scan"])
    later = datetime.now(UTC) + timedelta(days=1)
    (found,) = retention.droppable(mine, later)
    retention.drop_partition(mine, found.partition, later)
    assert kinds(mine)[-2:] in (["retention", "scan_dropped"], ["scan_dropped", "retention"])
    assert kinds(mine, scan_id)[-1] == "scan_dropped"
    with transaction(mine) as session:
        assert session.execute(text("SELECT count(*) FROM replaced_failures")).scalar() == 0


def test_counting_does_not_fire_the_trigger(archive: Archive) -> None:
    """Workers count in `scans` with each message. The trigger looks at other columns."""
    archive.start()
    counting = "judged = judged + 1, real = real + 1, rate = 1, counted_at = now()"
    assert [_fires(archive.database, one) for one in (counting, "cursor = '7'")] == [False, False]
    assert _fires(archive.database, "status = 'cancelled'")


def _fires(database: Database, change: str) -> bool:
    """Whether Postgres calls the trigger for this change of a scan. EXPLAIN does not show deferred triggers."""
    with transaction(database) as session:
        session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        plan = session.execute(text(f"EXPLAIN (ANALYZE) UPDATE scans SET {change}")).scalars()
        return any("scan_changed" in line for line in plan)


def test_programs_of_the_api_and_reviewers_are_named(archive: Archive) -> None:
    scan_id = archive.start()
    token = token_for(archive.database, Scope.SCAN, Scope.READ, name="uploader")
    client = program(mounted(archive.database), token)
    assert client.post(f"/scans/{scan_id}/pause").status_code == 200
    assert told(archive.database, scan_id=scan_id)[-1][:2] == ("scan_paused", "token:uploader")
    acts.do(web_parts(archive.database), Person("heron", DeskRole.LEAD), scan_id, "cancel", Shares())
    assert told(archive.database, scan_id=scan_id)[-1][:2] == ("scan_cancelled", "reviewer:heron")


def test_a_verdict_names_what_made_it(archive: Archive) -> None:
    archive.fill(2)
    made = maker_of(VlmDetector(ScriptedEngine(), scripted_description()))
    assert (made.engine, made.vllm, made.torch, made.driver, made.card) == ("scripted", None, None, None, None)
    maker_id = register_maker(archive.database, made)
    assert register_maker(archive.database, maker_of(VlmDetector(ScriptedEngine(), scripted_description()))) == maker_id
    other = Maker(**made.model_dump(exclude={"id", "created_at", "fingerprint"}) | {"card": "NVIDIA H100"},
                  fingerprint="f" * 64)  # fmt: skip
    assert register_maker(archive.database, other) != maker_id
    scan_id = UUID(archive.sweep(replace(archive.parts(), maker_id=maker_id))["scan"])
    rows = archive.rows(scan_id).values()
    assert {row["maker"]["engine"] for row in rows} == {"scripted"}
    assert {row["maker"]["release"] for row in rows} == {made.release}


def test_a_verdict_of_the_release_before_has_no_maker(archive: Archive) -> None:
    archive.fill(1)
    scan_id = UUID(archive.sweep()["scan"])
    assert [row["maker"] for row in archive.rows(scan_id).values()] == [None]


def test_the_command_lists_events(archive: Archive, mine: Database, database_url: str) -> None:
    scan_id, environment = archive.start(name="July audit"), {"DATABASE_URL": database_url}
    scans.start_scan(mine, scans.Listing(sources=("s3://other/",)))
    paused = fakesweep("pause", str(scan_id), environment=environment)
    assert paused.returncode == 0, paused.stderr
    shown = fakesweep("events", "July audit", "--kind", "scan_paused", "--since", "2026-01-01", environment=environment)
    (line,) = shown.stdout.splitlines()
    assert line.split("\t")[1:] == ["scan_paused", command_line(), "July audit", "paused by hand"]
    newest = fakesweep("events", "--json", "--limit", "1", environment=environment)
    assert [one["kind"] for one in json.loads(newest.stdout)["events"]] == ["scan_paused"]
    assert "the newest 1 events" in newest.stderr
    wrong = fakesweep("events", "--kind", "paused", environment=environment)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("fakesweep: --kind paused: give one of scan_started")


def test_history_shows_a_replaced_failure_beside_the_outcome(archive: Archive) -> None:
    archive.images["s3://b/text.png"] = b"text"
    scan_id = UUID(archive.sweep()["scan"])
    publisher = InMemoryPublisher()
    submissions.retry(publisher, archive.database, scan_id, list(Reason))
    archive.judge(publisher)
    (kept,) = results.replaced_failures(archive.database, "s3://b/text.png")
    assert (kept["scan"], kept["reason"]) == (str(scan_id), "not_an_image")


@pytest.fixture(scope="module")
def roles(postgres_server_url: str, template: str) -> Iterator[Home]:
    """A database with an event, a maker, a replaced failure, and a login for each role."""
    with home(postgres_server_url, template) as made:
        with_all_logins(made)
        database = connect(made.url)
        archive = Archive(database)
        archive.images["s3://b/text.png"] = b"text"
        scan_id = UUID(archive.sweep()["scan"])
        register_maker(database, maker_of(VlmDetector(ScriptedEngine(), scripted_description())))
        publisher = InMemoryPublisher()
        submissions.retry(publisher, database, scan_id, list(Reason))
        archive.judge(publisher)
        database.dispose()
        yield made


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET id = id", "TRUNCATE {}"])
def test_nobody_changes_what_was_recorded(roles: Home, role: Role, table: str, statement: str) -> None:
    assert roles.sql(f"SELECT count(*) > 0 FROM {table}") == [(True,)]
    refused = RaiseException if role is Role.OWNER else InsufficientPrivilege
    with pytest.raises(refused), psycopg.connect(roles.url_of(role)) as connection:
        connection.execute(statement.format(table).encode())


@pytest.mark.parametrize("kind", list(EventKind))
def test_programs_may_record_only_what_no_trigger_sees(roles: Home, kind: EventKind) -> None:
    database = connect(roles.url_of("producer"), actor="cli:ann@desk")
    try:
        if kind in {EventKind.FORGOTTEN, EventKind.ROLES_GRANTED}:
            with pytest.raises(Exception, match="only the owner records"), transaction(database) as session:
                record(session, kind)
        elif kind in RECORDED:
            with transaction(database) as session:
                event_id = record(session, kind, subject="x", details={"n": 1})
            (row,) = roles.sql(f"SELECT actor, login, details FROM events WHERE id = {event_id}")
            assert row == ("cli:ann@desk", roles.login("producer"), {"n": 1})
        else:
            with pytest.raises(Exception, match="only triggers write"), transaction(database) as session:
                record(session, kind)
    finally:
        database.dispose()


def test_memberships_are_recorded(roles: Home) -> None:
    login = roles.make_login("late")
    roles.make_roles((Role.WORKER, login))
    rows = roles.sql("SELECT subject, details FROM events WHERE kind = 'roles_granted' ORDER BY id")
    assert (login, {"role": f"{roles.prefix}_worker"}) in rows
    assert rows[0][0] == roles.prefix
