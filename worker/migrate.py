"""The schema: bringing it up to date, and refusing to work on another one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import SQLAlchemyError

import migrations
from worker.database import Database
from worker.errors import ConfigurationError
from worker.tls import database_explained

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATION_LOCK = 0x53574550
"""Advisory lock (ASCII "SWEP"): of ten workers that start at once, one migrates and nine wait."""
_ASK_AGAIN_S = 0.2

_OWNER = """
SELECT relowner::regrole FROM pg_class
WHERE oid = to_regclass('alembic_version') AND pg_get_userbyid(relowner) <> current_user
  AND pg_has_role(relowner, 'MEMBER')
"""


def alembic_config() -> "Config":
    """Alembic's configuration; the scripts are those of the installed package."""
    from alembic.config import Config  # noqa: PLC0415 - takes a third of a second; only a migration needs it

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def upgrade(database: Database) -> str:
    """Brings the schema to the newest revision, under an advisory lock; that revision.

    Each revision is a transaction of its own, so that none keeps its locks while the next ones work. Whoever has the
    rights of the tables' owner migrates as the owner, so that new tables belong to it.

    Raises ConfigurationError when the database cannot be reached, or cannot hold all text, and when a revision fails.
    It names the revision that the schema is at then: those before the failed one stay.
    """
    from alembic import command  # noqa: PLC0415 - likewise
    from alembic.util import CommandError  # noqa: PLC0415

    config, before = alembic_config(), None
    try:
        with _alone(database), database.connect() as connection:
            _check_encoding(connection)
            before = _current(connection)
            connection.rollback()  # or Alembic would do everything in the transaction that is open
            event.listen(connection, "begin", _become_owner)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except (SQLAlchemyError, CommandError) as error:
        raise _stopped(database, before, error) from error
    return newest()


def _become_owner(connection: Connection) -> None:
    """Until the end of the transaction that has just begun: a revision.

    Does nothing in an empty database, and for who may not become the owner.
    """
    raw: Any = connection.connection.driver_connection  # SQLAlchemy's own would begin once more
    found = raw.execute(_OWNER).fetchone()
    if found:
        raw.execute(f"SET LOCAL ROLE {found[0]}")


def _stopped(database: Database, before: list[str] | None, error: Exception) -> ConfigurationError:
    """What failed, and how far the revisions before it came."""
    fault = _unreachable(error)
    if before is None:
        return fault
    try:
        with database.connect() as connection:
            reached = _current(connection)
    except SQLAlchemyError:
        return fault
    if reached == before or not reached:
        return fault
    return ConfigurationError(f"{fault}; the schema is at revision {reached[0]} now: run `fakesweep migrate` again")


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Holds the lock, in a transaction on a connection of its own.

    A lock of the session would stay behind in the pool of PgBouncer, which gives each transaction another session. Who
    waits asks again and again, and keeps no connection of such a pool meanwhile.
    """
    with database.connect() as connection:
        while not connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}).scalar():
            connection.rollback()
            time.sleep(_ASK_AGAIN_S)
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield


def check_schema(database: Database) -> None:
    """Raises ConfigurationError unless the database answers and its schema is this release's."""
    try:
        with database.connect() as connection:
            current = _current(connection)
            _check_encoding(connection)
    except SQLAlchemyError as error:
        raise _unreachable(error) from error
    if current != [newest()]:
        state = f"at revision {', '.join(current)}" if current else "empty"
        raise ConfigurationError(
            f"DATABASE_URL: the schema is {state}, this release needs {newest()}: run `fakesweep migrate`"
        )


def _current(connection: Connection) -> list[str]:
    """The revision that Alembic has written down: one, or none in a database without our schema."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return []
    return list(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())


def _check_encoding(connection: Connection) -> None:
    encoding = connection.execute(text("SELECT current_setting('server_encoding')")).scalar()
    if encoding != "UTF8":
        raise ConfigurationError(
            f"DATABASE_URL: the database stores text as {encoding}, which cannot hold every name and explanation: "
            "create one with ENCODING 'UTF8' TEMPLATE template0"
        )


def newest() -> str:
    """The newest revision of this release: its number begins the name of its file. Raises ConfigurationError."""
    numbers = [path.name.partition("_")[0] for path in Path(migrations.__file__).parent.glob("versions/[0-9]*_*.py")]
    if not numbers:
        raise ConfigurationError("the installation has no migrations: install fakesweep again")
    return max(numbers)


def _unreachable(error: Exception) -> ConfigurationError:
    cause = str(getattr(error, "orig", None) or error).strip().replace("\n", " ")
    return ConfigurationError(f"DATABASE_URL: the database cannot be used: {database_explained(cause) or cause[:300]}")
