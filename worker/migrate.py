"""The schema: bringing it up to date, and refusing to work on another one."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

import migrations
from worker.database import Database
from worker.errors import ConfigurationError

MIGRATION_LOCK = 0x53574550
"""Advisory lock (ASCII "SWEP"): of ten workers that start at once, one migrates and nine wait."""


def alembic_config() -> Config:
    """Alembic's configuration; the scripts are those of the installed package."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def upgrade(database: Database) -> str:
    """Brings the schema to the newest revision, under an advisory lock; that revision.

    Raises ConfigurationError when the database cannot be reached.
    """
    config = alembic_config()
    try:
        with database.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            try:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
                connection.commit()
    except (SQLAlchemyError, CommandError) as error:
        raise _unreachable(error) from error
    return _newest()


def check_schema(database: Database) -> None:
    """Raises ConfigurationError unless the database answers and its schema is this release's."""
    try:
        with database.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    except (SQLAlchemyError, CommandError) as error:
        raise _unreachable(error) from error
    if current != _newest():
        state = f"at revision {current}" if current else "empty"
        raise ConfigurationError(
            f"DATABASE_URL: the schema is {state}, this release needs {_newest()}: run `fakesweep migrate`"
        )


def _newest() -> str:
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise ConfigurationError("the installation has no migrations: install fakesweep again")
    return head


def _unreachable(error: SQLAlchemyError | CommandError) -> ConfigurationError:
    cause = str(getattr(error, "orig", None) or error).strip().replace("\n", " ")
    return ConfigurationError(f"DATABASE_URL: the database cannot be used: {cause[:300]}")
