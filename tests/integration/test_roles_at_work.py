"""Processes whose login has a single role can do all their work; and how tables, views and functions change owners."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command as alembic
from celery import Celery
from sqlalchemy.engine import make_url

from producers.nightly.checkins import CheckIns
from producers.nightly.children import Children
from producers.nightly.nightly import NightlyScheduler
from producers.nightly.nightly_lock import NightlyLock
from producers.nightly.schedule import NightlyScan
from tests.integration.test_nightly import FakeChild
from tests.killing import write_pngs
from tests.processes import fakesweep, running_worker, wait_for
from tests.roles import Home, home, with_all_logins
from worker.database import connect, transaction
from worker.database.partitions import ensure_partition
from worker.grants import Role
from worker.migrate import alembic_config

NOT_OURS = """
SELECT relname, relowner::regrole::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND relowner <> to_regrole('{owner}')
UNION ALL
SELECT proname, proowner::regrole::text FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proowner <> to_regrole('{owner}')
"""


@pytest.fixture
def bare(postgres_server_url: str, template: str) -> Iterator[Home]:
    """A database without roles."""
    with home(postgres_server_url, template) as made:
        yield made


@pytest.fixture
def roles(bare: Home) -> Home:
    with_all_logins(bare)
    return bare


def command(environment: dict[str, str], *arguments: str) -> str:
    done = fakesweep(*arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_worker_and_a_producer_can_do_all_their_work(roles: Home, clean_redis_url: str, tmp_path: Path) -> None:
    given = {"BROKER_URL": clean_redis_url, "FAKESWEEP_THREADS": "2"}
    producer = {**given, "DATABASE_URL": roles.url_of("producer")}
    images = tmp_path / "images"
    write_pngs(images, 20, level=250)
    (images / "broken.png").write_bytes(b"no image")
    at_work = {**given, "DATABASE_URL": roles.url_of("worker")}
    with running_worker(["tests.scripted_worker", "0", "-1"], at_work, tmp_path / "log", 60) as worker:
        scan = json.loads(command(producer, "scan", str(images), "--watch", "--json"))
        assert (scan["status"], scan["judged"], scan["failed"]) == ("done", 20, 1), worker.log.read_text()[-3000:]
        submitted = json.loads(command(producer, "submit", str(images / "000001.png"), "--wait", "--json"))
        assert submitted["results"][0]["outcome"] == "reused"
        write_pngs(images, 1, start=100)
        (images / "broken.png").unlink()
        command(producer, "repair", scan["scan"], "--watch")
        command(producer, "retry", scan["scan"], "--reason", "not_an_image")
        found = f"SELECT 1 FROM findings WHERE scan_id = '{scan['scan']}' AND reason = 'not_found'"
        wait_for(lambda: bool(roles.sql(found)), 30, worker.process, worker.log)
        changes = json.loads(command(producer, "scan", str(images), "--record", "changes", "--watch", "--json"))
        assert changes["status"] == "done"
        assert '"level": "error"' not in worker.log.read_text()
        assert worker.stop() == 0
    for reading in (("results", scan["scan"]), ("status",), ("flagged",), ("history", str(images / "000001.png"))):
        assert command(producer, *reading)
    command(producer, "report", scan["scan"], "--output", str(tmp_path / "report.html"))
    for control in ("pause", "resume", "cancel"):
        open_scan = roles.sql("UPDATE scans SET status = 'running', listed = 1000 WHERE kind = 'scan' RETURNING id")
        assert open_scan
        roles.sql(f"UPDATE scans SET status = 'paused' WHERE kind = 'scan' AND '{control}' = 'resume'")
        command(producer, control, scan["scan"], *(["--yes"] if control == "cancel" else []))
    command(producer, "drop", scan["scan"], "--yes")
    command(producer, "drop", submitted["scan"], "--yes")
    roles.sql("UPDATE scans SET status = 'done', finished_at = now() - interval '2 days' WHERE dropped_at IS NULL")
    assert "dropped" in command(producer, "retention", "--keep-days", "1", "--yes")
    assert roles.sql("SELECT count(*) FROM findings") == [(0,)]


def test_nightly_scans_start_as_a_producer(roles: Home) -> None:
    database = connect(roles.url_of("producer"))
    clock = datetime(2026, 11, 27, 1, tzinfo=UTC)
    photos = NightlyScan.model_validate({"crontab": "0 2 * * *", "source": "s3://photos/"})
    started: list[object] = []

    def spawn(scan_id: object) -> FakeChild:
        started.append(scan_id)
        return FakeChild()

    app = Celery(broker="memory://")
    app.conf.timezone = "UTC"
    scheduler = NightlyScheduler(
        app, nightly={"photos": photos}, database=database, clock=lambda: clock,
        children=Children(lambda: clock, spawn), checkins=CheckIns("UTC", lambda: clock), lock=NightlyLock(database),
    )  # fmt: skip
    scheduler.tick()
    clock = datetime(2026, 11, 27, 2, 1, tzinfo=UTC)
    scheduler.tick()
    scheduler.close()
    database.dispose()
    assert roles.sql("SELECT id FROM scans WHERE schedule = 'photos'") == [(started[0],)]


def test_a_login_with_the_owner_role_migrates_as_the_owner_and_grants_rights_on_new_objects(roles: Home) -> None:
    owner = {"DATABASE_URL": roles.url_of("owner")}
    database = connect(roles.url)
    with database.connect() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        alembic.downgrade(config, "0006")
        connection.commit()
    database.dispose()
    roles.sql("DROP VIEW failures")
    roles.sql(f"SET ROLE {roles.prefix}_owner; CREATE VIEW failures AS SELECT 1 AS findings")
    done = command(owner, "migrate")
    assert f"to {roles.prefix}_…" in done
    assert roles.sql(NOT_OURS.format(owner=f"{roles.prefix}_owner")) == []
    database = connect(roles.url_of("worker"))
    with transaction(database) as session:
        ensure_partition(session, "live_2031_01")
    database.dispose()
    roles.sql("SELECT * FROM failures", roles.url_of("dashboard"))


def test_without_roles_a_migration_grants_nothing(bare: Home) -> None:
    assert "grants" not in command({"DATABASE_URL": bare.url}, "migrate")


def test_an_admin_who_is_no_superuser_makes_the_roles(bare: Home) -> None:
    """Managed Postgres has such a login: it may make roles, and owns the database and what is in it."""
    admin = bare.make_login("admin", "CREATEROLE")
    bare.sql(f"ALTER DATABASE {make_url(bare.url).database} OWNER TO {admin}")
    give_all(bare, admin)
    bare.make_login("board", url=bare.url_of("admin"))
    bare.make_roles((Role.DASHBOARD, bare.login("board")), url=bare.url_of("admin"))
    assert bare.sql(NOT_OURS.format(owner=f"{bare.prefix}_owner")) == []
    assert bare.sql("SHOW statement_timeout", bare.url_of("board")) == [("30s",)]
    assert bare.sql("SHOW statement_timeout", bare.url_of("admin")) == [("0",)]
    bare.sql("SELECT * FROM scan_progress", bare.url_of("board"))
    command({"DATABASE_URL": bare.url_of("admin")}, "migrate")
    assert len(bare.make_roles(url=bare.url_of("admin"))) == 1


def give_all(made: Home, owner: str) -> None:
    """Gives this role all that is ours, as if it had migrated an empty database."""
    rows = made.sql(NOT_OURS.format(owner=owner))
    functions = {
        name for (name,) in made.sql("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    }
    for name, _ in rows:
        kind = "FUNCTION" if name in functions else "TABLE"
        made.sql(f'ALTER {kind} "{name}" OWNER TO "{owner}"')


def test_tables_of_another_role_stay_with_it_unless_they_are_taken_over(bare: Home) -> None:
    app, own = bare.make_login("app"), f"{bare.prefix}_owner"
    give_all(bare, app)
    bare.sql(f"GRANT CREATE ON SCHEMA public TO {app}")
    steps = [step.what for step in bare.make_roles()]
    assert f"the tables stay with {app}, and {own} has its rights; --take-over moves them" in steps
    assert bare.sql(NOT_OURS.format(owner=app)) == []
    bare.make_login("owner")
    bare.make_roles((Role.OWNER, bare.login("owner")))
    command({"DATABASE_URL": bare.url_of("owner")}, "migrate")
    bare.make_roles(take_over=True)
    assert bare.sql(NOT_OURS.format(owner=own)) == []
    # The former owner can still do everything. A worker of the release before, for example, makes partitions itself.
    bare.sql(
        "CREATE TABLE findings_live_2031_02 (LIKE findings INCLUDING DEFAULTS INCLUDING CONSTRAINTS);"
        "ALTER TABLE findings ATTACH PARTITION findings_live_2031_02 FOR VALUES IN ('live_2031_02')",
        bare.url_of("app"),
    )
    assert bare.make_roles()[0].what == f"findings_live_2031_02 belongs to {own}"
    assert bare.sql(NOT_OURS.format(owner=own)) == []


def test_if_anybody_may_create_tables_only_the_owner_may_afterwards(bare: Home) -> None:
    """A database from before Postgres 15 has this right."""
    bare.sql("GRANT CREATE ON SCHEMA public TO PUBLIC")
    bare.make_roles()
    assert bare.sql("SELECT has_schema_privilege('public', 'public', 'CREATE')") == [(False,)]


def test_an_empty_database_must_be_migrated_first(bare: Home) -> None:
    bare.sql("DROP TABLE alembic_version")
    refused = fakesweep("roles", "--prefix", f"x{uuid4().hex[:8]}", environment={"DATABASE_URL": bare.url})
    assert (refused.returncode, "run `fakesweep migrate`" in refused.stderr) == (2, True)
