"""Steps of making roles: statements that are done together, and what is said when Postgres does not do them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg.errors import Diagnostic
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from worker.database import Database
from worker.errors import ConfigurationError

_LOCK = 0x524F4C45
"""Advisory lock (ASCII "ROLE"): of two that grant at once, the second waits."""

_REMEDY = "connect as a superuser, or as the owner of the database and the tables with CREATEROLE (docs/roles.md)"


@dataclass(frozen=True)
class Step:
    """Statements that are done together, and what they do, for people."""

    what: str
    statements: Sequence[str]


def do_step(database: Database, step: Step) -> None:
    """Does a step in one transaction. Raises ConfigurationError when Postgres refuses it, and when it only warns."""
    warnings: list[str] = []
    try:
        with database.connect() as connection:
            driver = connection.connection.dbapi_connection
            driver.add_notice_handler(_into(warnings))  # type: ignore[union-attr]  # it is psycopg's
            connection.detach()  # with its handler
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            for statement in step.statements:
                connection.exec_driver_sql(statement)
            if not warnings:
                connection.commit()
    except SQLAlchemyError as error:
        raise refused(step.what, str(getattr(error, "orig", None) or error)) from error
    if warnings:
        raise refused(step.what, warnings[0])


def _into(warnings: list[str]) -> Callable[[Diagnostic], None]:
    """Collects what Postgres says of a grant that this role may not make: that is a warning, and no error."""

    def handler(said: Diagnostic) -> None:
        if said.sqlstate in {"01006", "01007"}:  # privilege_not_revoked, privilege_not_granted
            warnings.append(said.message_primary or "")

    return handler


def refused(what: str, why: str) -> ConfigurationError:
    """What to raise: it was to do `what`, and Postgres says `why` not."""
    cause = " ".join(why.split())[:300]
    return ConfigurationError(f"DATABASE_URL: {what}: {cause}: {_REMEDY}")
