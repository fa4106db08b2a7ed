"""What the schema says about older releases, when somebody changed or lost it, and what a failed migration says."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.next_release import NextRelease, write_next_release
from tests.processes import fakesweep, running_process, wait_for
from worker.database import Database
from worker.errors import ConfigurationError
from worker.migrate import MIGRATION_LOCK, check_schema, newest

PSQL = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def release(tmp_path: Path) -> NextRelease:
    return write_next_release(tmp_path / "next")


@pytest.fixture
def connection(database_url: str) -> Iterator[PSQL]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def migrate(release: NextRelease, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return fakesweep(
        "migrate", *arguments, environment={"DATABASE_URL": url, **release.environment}, folder=release.folder
    )


@pytest.mark.parametrize("said", ["(the version)", "0", "works with releases from revision 0001, or so", None])
def test_a_comment_that_is_not_ours_says_nothing(
    connection: PSQL, database: Database, release: NextRelease, said: str | None
) -> None:
    connection.execute("UPDATE alembic_version SET version_num = %s", [release.column])
    literal = f"'{said}'" if said else "NULL"
    connection.execute(f"COMMENT ON TABLE alembic_version IS {literal}".encode())
    with pytest.raises(ConfigurationError) as refused:
        check_schema(database)
    assert str(refused.value) == (
        f"DATABASE_URL: the schema is at revision {release.column} and names no older release, this one is {newest()}: "
        "install a newer release"
    )


def test_migrate_writes_again_what_a_restore_lost(
    connection: PSQL, database: Database, database_url: str, release: NextRelease
) -> None:
    """`pg_dump --no-comments` leaves it out."""
    assert migrate(release, database_url).returncode == 0
    connection.execute("COMMENT ON TABLE alembic_version IS NULL")
    with pytest.raises(ConfigurationError, match="names no older release"):
        check_schema(database)
    assert migrate(release, database_url).returncode == 0
    assert check_schema(database) == release.index


def test_the_check_names_a_newer_schema_and_the_right_remedy(
    connection: PSQL, database_url: str, release: NextRelease
) -> None:
    def looked() -> dict[str, str]:
        environment = {"DATABASE_URL": database_url, "BROKER_URL": "redis://127.0.0.1:1/0"}
        done = fakesweep("check", "--for", "producer", "--json", environment=environment)
        (row,) = (row for row in json.loads(done.stdout)["checks"] if row["name"] == "database schema")
        return dict(row)

    assert migrate(release, database_url).returncode == 0
    between = looked()
    newer = f"revision {release.index}, newer than this release ({newest()}) and works with it"
    assert (between["state"], between["found"]) == ("ok", newer)
    assert migrate(release, database_url, "--finish").returncode == 0
    after = looked()
    assert (after["state"], after["remedy"]) == ("wrong", "install a newer release")


def test_a_release_is_seen_behind_a_pooler_that_adds_the_address(database_url: str, release: NextRelease) -> None:
    assert migrate(release, database_url).returncode == 0
    with psycopg.connect(database_url, application_name=f"fakesweep {newest()} - 10.0.0.7:41234"):
        refused = migrate(release, database_url, "--finish")
    assert refused.returncode == 1
    assert f"older ones are connected: {newest()} (1 connections)" in refused.stderr


def test_a_login_without_the_rights_of_the_owner_is_told(
    connection: PSQL, database_url: str, release: NextRelease
) -> None:
    login = f"stranger_{uuid4().hex[:8]}"
    connection.execute(f"CREATE ROLE {login} LOGIN".encode())
    try:
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {login}".encode())
        url = make_url(database_url).set(username=login).render_as_string(hide_password=False)
        refused = migrate(release, url)
    finally:
        connection.execute(f"DROP OWNED BY {login}".encode())
        connection.execute(f"DROP ROLE {login}".encode())
    assert refused.returncode == 2
    assert refused.stderr.endswith("must be owner of table scans: connect as the owner of the tables (docs/roles.md)\n")


def test_a_lock_that_another_session_keeps_is_named_and_a_limit_of_the_database_is_not_met(
    connection: PSQL, database_url: str, release: NextRelease
) -> None:
    file = next((release.folder / "migrations" / "versions").glob(f"{release.column}_*.py"))
    before = 'op.execute("SET LOCAL lock_timeout = 2000; SELECT pg_sleep(1)")\n    op.add_column'
    file.write_text(file.read_text().replace("op.add_column", before))
    connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET statement_timeout = 500'.encode())
    with psycopg.connect(database_url) as busy:
        busy.execute("LOCK TABLE scans IN ROW EXCLUSIVE MODE")
        refused = migrate(release, database_url)
    assert refused.stderr.endswith(
        "canceling statement due to lock timeout: another session keeps a lock; "
        f"the schema is at revision {newest()} now: run `fakesweep migrate` again\n"
    )
    assert migrate(release, database_url).returncode == 0


def test_the_second_migrate_says_that_it_waits(connection: PSQL, database_url: str, tmp_path: Path) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
    log = tmp_path / "log"
    with running_process(["producers", "migrate"], {"DATABASE_URL": database_url}, log) as process:
        wait_for(lambda: "this one waits for it" in log.read_text(), 60, process, log)
        connection.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
        assert process.wait(60) == 0
    assert log.read_text().splitlines() == [
        "another `fakesweep migrate` is at work: this one waits for it",
        f"schema at revision {newest()}",
    ]
