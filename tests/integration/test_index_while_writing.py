"""An index on `findings` is built while others write, also when the migration is killed in the middle."""

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.next_release import INDEX, write_next_release
from tests.processes import fakesweep, running_process, wait_for

PATIENCE_S = 2
"""A writer that waits longer for a lock fails. Each statement of the migration waits for half a second at most."""

_FINDING = """
INSERT INTO {table} (partition, scan_id, uri, outcome, reason, attempts)
VALUES (%s, %s, %s, 'failed', 'corrupt', 1)
"""
_BUILDING = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'
      AND query ~ '^(CREATE|DROP) INDEX CONC'
"""
_INDEXES = """
SELECT count(*), count(*) FILTER (WHERE indisvalid) FROM pg_index
WHERE indexrelid = to_regclass(%s) OR indexrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%s))
"""
_PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'findings'::regclass"


class Writer:
    """Adds findings to old and new partitions, until it is stopped. If it fails, `fault` says why."""

    def __init__(self, url: str, partitions: list[str]) -> None:
        self.url, self.partitions = url, partitions
        self.written, self.fault = 0, ""
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        try:
            with psycopg.connect(self.url, options=f"-c lock_timeout={PATIENCE_S}s", autocommit=True) as connection:
                while not self.over.wait(0.01):
                    if self.written % 50 == 0:
                        self.partitions.append(_partition(connection))
                    partition = self.partitions[self.written % len(self.partitions)]
                    _write(connection, "findings", partition)
                    self.written += 1
        except psycopg.Error as error:
            self.fault = str(error)


def _partition(connection: "psycopg.Connection[tuple[object, ...]]") -> str:
    name = f"scan_{uuid4().hex}"
    connection.execute("SELECT ensure_findings_partition(%s)", [name])
    return name


def _write(connection: "psycopg.Connection[tuple[object, ...]]", table: str, partition: str) -> None:
    statement = _FINDING.format(table=table)
    connection.execute(statement.encode(), [partition, uuid4(), f"s3://b/{uuid4()}"])


@pytest.mark.parametrize("ended", [True, False], ids=["server_ends_it", "server_continues_it"])
def test_no_writer_waits_and_a_killed_migration_can_be_repeated(database_url: str, tmp_path: Path, ended: bool) -> None:
    """The server may end what the killed process began, which leaves an invalid index, or may continue it."""
    url = make_url(database_url).render_as_string(hide_password=False)
    release = write_next_release(tmp_path / "next")
    environment = {"DATABASE_URL": url, **release.environment}
    with psycopg.connect(url, autocommit=True) as connection, psycopg.connect(url) as busy:
        partitions = [_partition(connection) for _ in range(6)]
        # A statement on the partition itself: only the index of this partition waits for it.
        _write(busy, f"findings_{partitions[3]}", partitions[3])
        writers = [Writer(url, partitions[:3]) for _ in range(2)]
        for writer in writers:
            writer.thread.start()
        try:
            log = tmp_path / "migrate.log"
            with psycopg.connect(url) as longer:
                longer.execute("LOCK TABLE findings IN ROW EXCLUSIVE MODE")  # as a writer does
                with running_process(["producers", "migrate"], environment, log, release.folder) as process:
                    wait_for(lambda: _waits_for_the_table(connection), 60, process, log)
                    time.sleep(PATIENCE_S + 1)  # a writer that waited behind it would fail
                    longer.commit()
                    wait_for(lambda: _waits(connection), 60, process, log)
                    process.send_signal(signal.SIGKILL)
            if ended:
                connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({_BUILDING}) AS b".encode())
                wait_for(lambda: not connection.execute(_BUILDING.encode()).fetchall(), 30)
                assert _indexes(connection)[0] > _indexes(connection)[1]
            with running_process(["producers", "migrate"], environment, log, release.folder) as process:
                wait_for(lambda: _looks(connection) if not ended else _waits(connection), 60, process, log)
                busy.commit()
                assert process.wait(60) == 0, log.read_text()
        finally:
            for writer in writers:
                writer.over.set()
                writer.thread.join()
        assert [writer.fault for writer in writers] == ["", ""]
        (found,) = connection.execute(_PARTITIONS).fetchone() or (0,)
        assert found > 8, "the writers made more partitions"
        assert _indexes(connection) == (found + 1, found + 1)
        (kept,) = connection.execute("SELECT count(*) FROM findings").fetchone() or (0,)
        assert kept == sum(writer.written for writer in writers) + 1


def test_the_index_becomes_valid_even_if_a_partition_is_dropped(database_url: str, tmp_path: Path) -> None:
    """Postgres checks if a table's index is complete when a partition's index is attached, not when one is dropped."""
    release = write_next_release(tmp_path / "next")
    with psycopg.connect(database_url, autocommit=True) as connection:
        first, last = _partition(connection), _partition(connection)
        connection.execute(f"CREATE INDEX {INDEX} ON ONLY findings (reason, decided_at)".encode())
        connection.execute(f"CREATE INDEX of_first ON findings_{first} (reason, decided_at)".encode())
        built = _oid(connection, "of_first")
        connection.execute(f"ALTER INDEX {INDEX} ATTACH PARTITION of_first".encode())
        connection.execute(f"DROP TABLE findings_{last}".encode())
        assert _indexes(connection) == (2, 1)
        done = fakesweep(
            "migrate", environment={"DATABASE_URL": database_url, **release.environment}, folder=release.folder
        )
        assert done.returncode == 0, done.stderr
        assert _indexes(connection) == (2, 2)
        # Where Postgres looks again, what was built before is kept: it may have taken hours.
        assert (_oid(connection, "of_first") == built) == _looks_when_attached_again(connection)


@pytest.mark.parametrize("deed", ["drops", "detaches"])
def test_a_partition_that_goes_while_its_index_is_built_does_not_end_the_migration(
    database_url: str, tmp_path: Path, deed: str
) -> None:
    """Who drops waits for the index, and the index for who drops: Postgres ends the statement of one of them."""
    release = write_next_release(tmp_path / "next")
    environment = {"DATABASE_URL": database_url, **release.environment}
    log = tmp_path / "migrate.log"
    with psycopg.connect(database_url, autocommit=True) as connection, psycopg.connect(database_url) as busy:
        first, last = _partition(connection), _partition(connection)
        busy.execute(f"LOCK TABLE findings_{first} IN ROW EXCLUSIVE MODE".encode())  # as who writes does
        with running_process(["producers", "migrate"], environment, log, release.folder) as process:
            wait_for(lambda: _waits(connection), 60, process, log)
            if deed == "drops":
                dropping = threading.Thread(target=_drop, args=[database_url, first])
                dropping.start()
                wait_for(lambda: _waits(connection, "ALTER TABLE findings DETACH"), 60, process, log)
                time.sleep(1.5)  # longer than deadlock_timeout: then Postgres ends the statement that waits later
            else:
                connection.execute(f"ALTER TABLE findings DETACH PARTITION findings_{last}".encode())
            busy.commit()
            assert process.wait(60) == 0, log.read_text()
        if deed == "drops":
            dropping.join()
        assert connection.execute(_PARTITIONS).fetchone() == (1,)
        assert _indexes(connection) == (2, 2)


@pytest.mark.parametrize("limit", ["statement_timeout", "lock_timeout"])
def test_a_limit_of_the_database_does_not_end_a_step_that_waits(database_url: str, tmp_path: Path, limit: str) -> None:
    release = write_next_release(tmp_path / "next")
    log = tmp_path / "migrate.log"
    with psycopg.connect(database_url, autocommit=True) as connection, psycopg.connect(database_url) as busy:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET {limit} = 1000'.encode())
        partition = _partition(connection)
        _write(busy, f"findings_{partition}", partition)
        environment = {"DATABASE_URL": database_url, **release.environment}
        with running_process(["producers", "migrate"], environment, log, release.folder) as process:
            wait_for(lambda: _waits(connection), 60, process, log)
            time.sleep(2)
            busy.commit()
            assert process.wait(60) == 0, log.read_text()
        assert _indexes(connection) == (2, 2)


def _drop(url: str, partition: str) -> None:
    """Drops a partition in one transaction, as `fakesweep retention` does. Postgres may refuse it."""
    with suppress(psycopg.errors.DeadlockDetected), psycopg.connect(url) as connection:
        connection.execute("SELECT count(*) FROM scans")
        table = f"findings_{partition}"
        statements = f"ALTER TABLE findings DETACH PARTITION {table}; DROP TABLE {table}"
        connection.execute(statements.encode())


def _oid(connection: "psycopg.Connection[tuple[object, ...]]", index: str) -> object:
    (oid,) = connection.execute("SELECT to_regclass(%s)::oid", [index]).fetchone() or (None,)
    return oid


def _looks_when_attached_again(connection: "psycopg.Connection[tuple[object, ...]]") -> bool:
    """Whether this release of Postgres looks if an index is complete when a part of it is attached a second time."""
    connection.execute("CREATE TEMP TABLE looks (a int) PARTITION BY LIST (a)")
    for number in (1, 2):
        connection.execute(f"CREATE TEMP TABLE looks{number} PARTITION OF looks FOR VALUES IN ({number})".encode())
    connection.execute("CREATE INDEX of_all ON ONLY looks (a)")
    connection.execute("CREATE INDEX of_one ON looks1 (a)")
    connection.execute("ALTER INDEX of_all ATTACH PARTITION of_one")
    connection.execute("DROP TABLE looks2")
    connection.execute("ALTER INDEX of_all ATTACH PARTITION of_one")
    return connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'of_all'::regclass").fetchone() == (
        True,
    )


def _waits(connection: "psycopg.Connection[tuple[object, ...]]", begins: str = "(CREATE|DROP) INDEX CONC") -> bool:
    """Whether a statement waits for a lock: by default, the index of a partition for who writes into it."""
    query = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ~ %s"
    )
    return connection.execute(query, [f"^{begins}"]).fetchone() is not None


def _waits_for_the_table(connection: "psycopg.Connection[tuple[object, ...]]") -> bool:
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%ON ONLY findings%'"
    return connection.execute(query + " AND wait_event_type = 'Lock'").fetchone() is not None


def _looks(connection: "psycopg.Connection[tuple[object, ...]]") -> bool:
    """Whether a migration checks what an earlier one left behind."""
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%SELECT pid AS building%'"
    return connection.execute(query + " AND pid <> pg_backend_pid()").fetchone() is not None


def _indexes(connection: "psycopg.Connection[tuple[object, ...]]") -> tuple[int, int]:
    """How many indexes the table and its partitions have, and how many of them are valid."""
    found, valid = connection.execute(_INDEXES, [INDEX, INDEX]).fetchone() or (0, 0)
    assert isinstance(found, int)
    assert isinstance(valid, int)
    return found, valid
