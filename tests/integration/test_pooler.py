"""Postgres behind PgBouncer, which gives each transaction another connection (pool_mode = transaction)."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlmodel import Session, select

from producers import scans
from producers.nightly.nightly_lock import NightlyLock
from producers.reporting import results
from tests.conftest import IN_CI, drop_database, url_of
from tests.integration.test_moderate import job, png, start
from tests.processes import free_port
from worker.database import Database, connect, transaction
from worker.database.detectors import register_detector
from worker.detector.vlm import VlmDetector
from worker.errors import ConfigurationError
from worker.migrate import MIGRATION_LOCK, check_schema, newest, upgrade
from worker.moderate import moderate
from worker.path import Parts
from worker.tables import Finding
from worker.testing import InMemoryImageStore, ScriptedEngine, scripted_description

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
SERVERS = 3
"""How many connections PgBouncer opens to Postgres: fewer than there are clients, so that clients share them."""

pytestmark = pytest.mark.skipif(not PGBOUNCER and not IN_CI, reason="there is no pgbouncer here")


@contextmanager
def pgbouncer(server_url: str, mode: str) -> Iterator[Callable[[str], str]]:
    """A PgBouncer in front of the server. Yields a function that gives the URL of a database through it."""
    server = make_url(server_url)
    host = server.host or server.query.get("host") or "/var/run/postgresql"
    place = f"host={host} port={server.port or 5432} user={server.username or getpass.getuser()}"
    if server.password:
        place += f" password={server.password}"
    # Not below tmp_path, which no other user may enter: when root starts PgBouncer, it becomes another user.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        port = free_port()
        settings = Path(folder, "pgbouncer.ini")
        settings.write_text(
            f"[databases]\n* = {place}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {mode}\ndefault_pool_size = {SERVERS}\n"
        )
        assert PGBOUNCER, "install pgbouncer"
        user = ["-u", "postgres"] if os.getuid() == 0 else []
        with subprocess.Popen([PGBOUNCER, "-q", *user, settings]) as process:
            try:
                wait_until(lambda: answers(port))
                yield lambda name: f"postgresql://anybody@127.0.0.1:{port}/{name}"
            finally:
                process.terminate()


def wait_until(fact: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def through(postgres_server_url: str) -> Iterator[Callable[[str], str]]:
    with pgbouncer(postgres_server_url, "transaction") as url:
        yield url


@pytest.fixture
def pooled_url(through: Callable[[str], str], database_url: str) -> str:
    return through(str(make_url(database_url).database))


@pytest.fixture
def pooled(pooled_url: str) -> Iterator[Database]:
    handle = connect(pooled_url)
    yield handle
    handle.dispose()


def test_messages_are_moderated(pooled: Database, database: Database) -> None:
    """With prepared statements, most messages fail: a statement is prepared in one connection and used in another."""
    store, engine, description = InMemoryImageStore({}), ScriptedEngine(), scripted_description()
    parts = Parts(store, pooled, VlmDetector(engine, description), register_detector(pooled, description.row()))
    scan = start(pooled, 40)

    def work(number: int) -> None:
        for message in range(10):
            uri = f"s3://b/{number}-{message}"
            store.objects[uri] = png(f"#{number:02}{message:02}00")
            moderate(job(scan, uri), uuid4(), parts)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(4)))
    with Session(database) as session:
        found = session.exec(select(Finding).where(Finding.scan_id == scan.id)).all()
    assert [row.outcome for row in found] == ["judged"] * 40
    assert len(list(results.rows(pooled, scan.id))) == 40
    with transaction(pooled) as session:
        assert scans.find_scan(session, scan.id).status == "done"


def test_statements_are_prepared_where_there_is_no_pooler(pooled_url: str, database_url: str) -> None:
    query = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT 4%'")

    def prepared(url: str) -> int:
        handle = connect(url, pool_size=1)
        try:
            with transaction(handle) as session:
                for _ in range(10):
                    session.execute(text("SELECT 41 + :one"), {"one": 1})
                return int(session.execute(query).scalar_one())
        finally:
            handle.dispose()

    assert (prepared(database_url), prepared(pooled_url)) == (1, 0)
    assert prepared(f"{database_url}?prepare_threshold=0") == 0
    assert prepared(f"{pooled_url}?prepare_threshold=2") == 1
    with pytest.raises(ConfigurationError, match="prepare_threshold must be a number"):
        connect(f"{database_url}?prepare_threshold=never")


def test_many_migrate_at_once_and_leave_no_lock(through: Callable[[str], str], postgres_server_url: str) -> None:
    name = f"fakesweep_pooled_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    handles = [connect(through(name)) for _ in range(5)]
    try:
        with ThreadPoolExecutor(5) as pool:
            assert set(pool.map(upgrade, handles)) == {newest()}
        check_schema(handles[0])
        with psycopg.connect(url_of(postgres_server_url, name)) as connection:
            taken = connection.execute("SELECT pg_try_advisory_lock(%s)", (MIGRATION_LOCK,)).fetchone()
        assert taken == (True,)
    finally:
        for handle in handles:
            handle.dispose()
        drop_database(postgres_server_url, name)


def test_one_nightly_works_and_the_other_waits(pooled_url: str) -> None:
    first, second = connect(pooled_url), connect(pooled_url)
    one, other = NightlyLock(first), NightlyLock(second)
    try:
        assert (one.held(), other.held()) == (True, False)
        for _ in range(5):
            with transaction(first) as session:  # shares PgBouncer's connections with the lock
                assert session.execute(text("SELECT 1")).scalar() == 1
            assert (one.held(), other.held()) == (True, False)
        one.release()
        wait_until(other.held)
        assert not one.held()
    finally:
        one.release()
        other.release()
        first.dispose()
        second.dispose()


def test_a_pooler_by_statement_is_refused_in_one_line(postgres_server_url: str, database_url: str) -> None:
    with pgbouncer(postgres_server_url, "statement") as url:
        handle = connect(url(str(make_url(database_url).database)))
        for check in (check_schema, upgrade):
            with pytest.raises(ConfigurationError, match=r"^DATABASE_URL: .*transaction") as raised:
                check(handle)
            assert "\n" not in str(raised.value)
        handle.dispose()


def test_a_database_that_cannot_hold_all_text_is_refused(postgres_server_url: str) -> None:
    name = f"fakesweep_latin_{uuid4().hex[:12]}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE \"{name}\" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    handle = connect(url_of(postgres_server_url, name))
    try:
        for check in (check_schema, upgrade):
            with pytest.raises(ConfigurationError, match=r"stores text as LATIN1, .*: create one with ENCODING 'UTF8'"):
                check(handle)
    finally:
        handle.dispose()
        drop_database(postgres_server_url, name)
