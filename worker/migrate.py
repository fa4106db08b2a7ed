"""Brings the schema up to date, and refuses a schema that does not work with this release.

A comment on the table `alembic_version` names the oldest release that works with the schema. Each revision writes it in
its own transaction (migrations/env.py). So a release that is older than the schema knows whether it may use it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.errors import DeadlockDetected, InsufficientPrivilege, LockNotAvailable
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import SQLAlchemyError

from worker.at_work import refuse_older
from worker.database import Database
from worker.errors import ConfigurationError, SchemaTooNewError
from worker.revisions import SchemaState, comment, folders, needed, newest, state_of
from worker.tls import database_explained

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATION_LOCK = 0x53574550
"""Advisory lock (ASCII "SWEP"): if ten workers start at the same time, one migrates and nine wait."""
_ASK_AGAIN_S = 0.2

__all__ = ["MIGRATION_LOCK", "alembic_config", "check_schema", "newest", "upgrade"]

_OWNER = """
SELECT relowner::regrole FROM pg_class
WHERE oid = to_regclass('alembic_version') AND pg_get_userbyid(relowner) <> current_user
  AND pg_has_role(relowner, 'MEMBER')
"""


def alembic_config() -> "Config":
    """Returns Alembic's configuration. The revisions are those of the installed package."""
    from alembic.config import Config  # noqa: PLC0415 - takes a third of a second; only a migration needs it

    config = Config()
    before, after = folders()
    config.set_main_option("script_location", str(before.parent))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", f"{before}\n{after}")
    return config


def upgrade(
    database: Database, *, finish: bool = False, force: bool = False, on_wait: Callable[[], object] = lambda: None
) -> str:
    """Brings the schema to the revision that this release needs, under an advisory lock. Returns the new revision.

    With `finish`, it brings the schema to the newest revision: the revisions that follow a roll-out run, too. In an
    empty database, they always run. A newer schema that works with this release stays as it is. `on_wait` is called
    once if another process migrates: this one waits for it.

    Each revision is a transaction of its own, so that it does not keep its locks while the next ones run. A login with
    the rights of the tables' owner migrates as the owner, so that new tables belong to the owner.

    Raises OlderAtWorkError, before it changes anything, when a release is connected that does not work with a revision;
    with `force`, this is not checked. Raises ConfigurationError when the database cannot be reached or cannot store all
    text, when its schema is newer and does not work with this release, and when a revision fails. Then the revisions
    before the failed one stay, and the error names the last of them.
    """
    from alembic.util import CommandError  # noqa: PLC0415 - the same

    before = None
    try:
        with _alone(database, on_wait), database.connect() as connection:
            _check_encoding(connection)
            before = state_of(connection)
            target = newest() if finish or not before.revision else needed()
            if before.revision >= target:
                _check(before)
                _say_again(connection, before)
                return before.revision
            connection.rollback()  # or Alembic would do everything in the transaction that is open
            event.listen(connection, "begin", _begin)
            _run(connection, before.revision, target, force=force)
            return target
    except (SQLAlchemyError, CommandError, psycopg.Error) as error:
        raise _stopped(database, before, error) from error


def _run(connection: Connection, current: str, target: str, *, force: bool) -> None:
    from alembic import command  # noqa: PLC0415 - the same
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = alembic_config()
    if not force:
        pending = ScriptDirectory.from_config(config).iterate_revisions(target, current or "base")
        refuse_older(connection, {one.revision: getattr(one.module, "works_from", None) for one in pending})
    config.attributes["connection"] = connection
    command.upgrade(config, target)
    connection.commit()


def _say_again(connection: Connection, state: SchemaState) -> None:
    """Writes into the schema from which release on it works, if it does not say so: a restore may lose comments."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - the same

    if state.is_newer():
        return
    script = ScriptDirectory.from_config(alembic_config()).get_revision(state.revision)
    works_from = getattr(script.module, "works_from", None)
    if works_from and works_from != state.works_from:
        connection.rollback()
        event.listen(connection, "begin", _begin)
        connection.execute(text(comment(works_from)))
        connection.commit()


def _begin(connection: Connection) -> None:
    """Prepares the transaction that has just begun: its statements may take long, and it has the rights of the owner.

    In an empty database, or if the login may not become the owner, it keeps its own rights.
    """
    raw: Any = connection.connection.driver_connection  # SQLAlchemy's own connection would begin another transaction
    if raw.autocommit:
        return
    raw.execute("SET LOCAL statement_timeout = 0")
    found = raw.execute(_OWNER).fetchone()
    if found:
        raw.execute(f"SET LOCAL ROLE {found[0]}")


def _stopped(database: Database, before: SchemaState | None, error: Exception) -> ConfigurationError:
    """Returns the error, which says what failed and which revision the schema has now."""
    if before is None:
        return _unreachable(error)
    fault = _unreachable(error, "connect as the owner of the tables (docs/roles.md)")
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, InsufficientPrivilege):
        return fault
    try:
        with database.connect() as connection:
            reached = state_of(connection).revision
    except SQLAlchemyError:
        return fault
    again = isinstance(cause, LockNotAvailable | DeadlockDetected)
    if not reached or (reached == before.revision and not again):
        return fault
    why = ": another session keeps a lock" if again else ""
    return ConfigurationError(f"{fault}{why}; the schema is at revision {reached} now: run `fakesweep migrate` again")


@contextmanager
def _alone(database: Database, on_wait: Callable[[], object]) -> Iterator[None]:
    """Holds the lock, in a transaction on a connection of its own.

    A lock of the session would stay behind in the pool of PgBouncer, which may run each transaction in another session.
    A process that waits asks again every _ASK_AGAIN_S seconds, and does not keep a connection of such a pool.
    """
    waits = False
    with database.connect() as connection:
        while not connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK}).scalar():
            connection.rollback()
            if not waits:
                on_wait()
            waits = True
            time.sleep(_ASK_AGAIN_S)
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield


def check_schema(database: Database) -> str:
    """Returns the schema's revision. It may be newer than this release if the schema says that both work together.

    Raises ConfigurationError when the database does not answer, and when its schema does not work with this release:
    SchemaTooNewError if it is newer.
    """
    try:
        with database.connect() as connection:
            state = state_of(connection)
            _check_encoding(connection)
    except SQLAlchemyError as error:
        raise _unreachable(error) from error
    _check(state)
    return state.revision


def _check(state: SchemaState) -> None:
    if state.works_with_this_release():
        return
    if state.is_newer():
        works = f"works with releases from {state.works_from} on" if state.works_from else "names no older release"
        raise SchemaTooNewError(
            f"DATABASE_URL: the schema is at revision {state.revision} and {works}, this one is {newest()}: "
            "install a newer release"
        )
    found = f"at revision {state.revision}" if state.revision else "empty"
    raise ConfigurationError(
        f"DATABASE_URL: the schema is {found}, this release needs {needed()}: run `fakesweep migrate`"
    )


def _check_encoding(connection: Connection) -> None:
    encoding = connection.execute(text("SELECT current_setting('server_encoding')")).scalar()
    if encoding != "UTF8":
        raise ConfigurationError(
            f"DATABASE_URL: the database stores text as {encoding}, which cannot hold every name and explanation: "
            "create one with ENCODING 'UTF8' TEMPLATE template0"
        )


_GRANT = "let the owner of the schema run `fakesweep roles --grant ROLE=LOGIN` (docs/roles.md)"


def _unreachable(error: Exception, without_rights: str = _GRANT) -> ConfigurationError:
    """`without_rights` is the remedy for a login that may not do this."""
    cause = " ".join(str(getattr(error, "orig", None) or error).split())
    if isinstance(getattr(error, "orig", error), psycopg.errors.InsufficientPrivilege):
        cause += f": {without_rights}"
    return ConfigurationError(f"DATABASE_URL: the database cannot be used: {database_explained(cause) or cause[:400]}")
