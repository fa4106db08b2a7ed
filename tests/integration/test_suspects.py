"""How many workers died while they had a message, or while they judged an image alone."""

from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from threading import Timer
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url
from sqlmodel import Session, select

from producers.retention import forget_messages
from worker.database import Database
from worker.database.counters import finish_if_full
from worker.database.suspects import deaths_alone, message_tried, tried_alone
from worker.errors import BrokerUnavailableError, DatabaseUnavailableError, EngineDeadError, ShuttingDownError
from worker.tables import MessageTry, Scan, ScanStatus, Suspect


def rows(database: Database) -> tuple[int, int]:
    with Session(database) as session:
        return len(session.exec(select(MessageTry)).all()), len(session.exec(select(Suspect)).all())


def deaths_before(tried: AbstractContextManager[int], error: Exception) -> int:
    """The number of deaths that a try yields. The try then ends with the error."""
    yielded: list[int] = []
    with suppress(type(error)), tried as deaths:
        yielded.append(deaths)
        raise error
    return yielded[0]


def test_a_message_that_never_comes_back_leaves_no_row(database: Database) -> None:
    with message_tried(database, uuid4(), came_back=False) as deaths:
        assert (deaths, rows(database)) == (0, (0, 0))
    assert rows(database) == (0, 0)


def test_each_delivery_after_a_death_counts_one_more(database: Database) -> None:
    message = uuid4()
    for before in range(4):
        tried = message_tried(database, message, came_back=before > 0)
        assert deaths_before(tried, EngineDeadError("gone")) == before
    with message_tried(database, message, came_back=True) as deaths:
        assert deaths == 4
    assert rows(database) == (0, 0)


@pytest.mark.parametrize("gives_back", [ShuttingDownError, BrokerUnavailableError])
def test_a_message_that_a_worker_gives_back_counts_no_death(database: Database, gives_back: type[Exception]) -> None:
    message = uuid4()
    for came_back in (False, True, True):
        assert deaths_before(message_tried(database, message, came_back=came_back), gives_back("later")) == 0
    assert deaths_before(message_tried(database, message, came_back=True), EngineDeadError("gone")) == 0
    assert deaths_before(message_tried(database, message, came_back=True), gives_back("later")) == 1
    with message_tried(database, message, came_back=True) as deaths:
        assert deaths == 1, "giving it back later does not forget the death"
    assert rows(database) == (0, 0)


def test_a_message_that_ends_with_an_error_is_forgotten(database: Database) -> None:
    with pytest.raises(ValueError, match="a bug"), message_tried(database, uuid4(), came_back=True):
        raise ValueError("a bug")
    assert rows(database) == (0, 0)


def test_an_image_that_survives_alone_is_forgotten_and_one_that_kills_a_worker_is_not(database: Database) -> None:
    scan = uuid4()
    with tried_alone(database, scan, "s3://b/1") as deaths:
        assert deaths == 0
    assert deaths_before(tried_alone(database, scan, "s3://b/1"), ShuttingDownError("later")) == 0
    assert rows(database) == (0, 0)
    for before in range(2):
        assert deaths_before(tried_alone(database, scan, "s3://b/2"), EngineDeadError("gone")) == before
    assert deaths_alone(database, scan, ["s3://b/1", "s3://b/2"]) == {"s3://b/2": 2}
    with tried_alone(database, scan, "s3://b/2") as deaths:
        assert deaths == 2
    assert rows(database) == (0, 0), "it has its outcome now"


def test_a_restart_of_postgres_is_no_death(database: Database, database_url: str) -> None:
    """Postgres goes away while an image is judged alone, and comes back soon after."""
    scan = uuid4()
    name = make_url(database_url).database

    def allow(connections: bool) -> None:
        with psycopg.connect(
            make_url(database_url).set(database="postgres").render_as_string(False), autocommit=True
        ) as admin:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}")
            admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name])

    with suppress(DatabaseUnavailableError), tried_alone(database, scan, "s3://b/1"):
        allow(False)
        Timer(0.5, allow, [True]).start()
        deaths_alone(database, scan, ["s3://b/1"])
    assert rows(database) == (0, 0)


def test_a_scan_that_is_done_leaves_no_suspect_behind(database: Database) -> None:
    scan = Scan(name="n", source="s", policy={}, partition="p", status=ScanStatus.RUNNING)
    with Session(database, expire_on_commit=False) as session:
        session.add_all([scan, Suspect(scan_id=scan.id, uri="s3://b/1"), Suspect(scan_id=uuid4(), uri="s3://b/1")])
        session.commit()
        assert finish_if_full(session, scan.id)
        session.commit()
    assert rows(database) == (0, 1)


def test_retention_forgets_messages_that_never_came_back(database: Database) -> None:
    assert deaths_before(message_tried(database, uuid4(), came_back=True), EngineDeadError("gone")) == 1
    forget_messages(database, datetime.now(UTC) - timedelta(days=1))
    assert rows(database) == (1, 0)
    forget_messages(database, datetime.now(UTC) + timedelta(days=1))
    assert rows(database) == (0, 0)
