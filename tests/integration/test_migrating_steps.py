"""Each revision has its own transaction: it holds no lock while the next one waits, and stays if the next one fails."""

import threading
import time

import pytest
from alembic import command
from sqlalchemy import text

from worker.database import Database
from worker.errors import ConfigurationError
from worker.migrate import alembic_config, check_schema, newest, upgrade


def test_a_revision_that_fails_leaves_those_before_it_and_no_lock(database: Database) -> None:
    config = alembic_config()
    with database.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0009")
        connection.commit()
    failed: list[Exception] = []

    def migrate() -> None:
        try:
            upgrade(database)
        except ConfigurationError as error:
            failed.append(error)

    thread = threading.Thread(target=migrate)
    with database.connect() as busy:
        busy.execute(text("LOCK TABLE reviews IN ROW EXCLUSIVE MODE"))  # 0011 waits for it, 5 s at most
        thread.start()
        _wait_for_the_lock(database)
        with database.begin() as reader:
            reader.execute(text("SET LOCAL lock_timeout = '1s'"))
            assert reader.execute(text("SELECT count(role) FROM reviewers")).scalar() == 0, "0010 is committed"
        thread.join()
    (error,) = failed
    assert "lock timeout" in str(error)
    assert str(error).endswith("the schema is at revision 0010 now: run `fakesweep migrate` again")
    assert upgrade(database) == newest()
    check_schema(database)


def _wait_for_the_lock(database: Database) -> None:
    query = text(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = to_regclass('reviews') "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    end = time.monotonic() + 30
    while True:
        with database.connect() as connection:
            if connection.execute(query).scalar():
                return
        if time.monotonic() > end:
            pytest.fail("no migration waits")
        time.sleep(0.05)
