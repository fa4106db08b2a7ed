"""The indexes for second opinions on a real Postgres: nobody waits for them while they are built."""

from alembic import command
from sqlalchemy import text

from worker.database import Database
from worker.migrate import alembic_config, upgrade

_INDEXES = """
SELECT indexrelid::regclass::text, indisvalid FROM pg_index
WHERE indexrelid IN (to_regclass('ix_contents_differ'), to_regclass('ix_contents_missed')) ORDER BY 1
"""


def test_the_indexes_are_built_after_the_revision_that_locks_the_tables(database: Database) -> None:
    """Also where a crash has left one that is not valid."""
    config = alembic_config()
    with database.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0021")
        connection.commit()
        assert connection.execute(text(_INDEXES)).all() == []
        connection.execute(text("CREATE INDEX ix_contents_missed ON contents (sha256) WHERE missed"))
        connection.execute(text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = "
                                "'ix_contents_missed'::regclass"))  # fmt: skip
        connection.commit()
    upgrade(database)
    with database.connect() as connection:
        assert connection.execute(text(_INDEXES)).all() == [("ix_contents_differ", True), ("ix_contents_missed", True)]
