"""The steps in which roles are made: statements that run together, and what is said if Postgres refuses them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from psycopg.errors import Diagnostic
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from worker.database import Database
from worker.errors import ConfigurationError
from worker.tables import EventKind

_LOCK = 0x524F4C45
"""Advisory lock (ASCII "ROLE"): if two commands grant at the same time, the second one waits."""

_REMEDY = "connect as a superuser, or as the owner of the database and the tables with CREATEROLE (docs/roles.md)"


@dataclass(frozen=True)
class Step:
    """Statements that run together, and what they do, in words."""

    what: str
    statements: Sequence[str]


def do_step(database: Database, step: Step) -> None:
    """Runs a step in one transaction. Raises ConfigurationError if Postgres refuses it, or if it only warns."""
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


def recording(schema: str, subject: str, details: Mapping[str, str]) -> str:
    """Returns the statement that records the event of a step. `schema` is quoted."""
    texts = (EventKind.ROLES_GRANTED.value, subject, json.dumps(details))
    kind, about, more = ("'" + text.replace("'", "''") + "'" for text in texts)
    return f"SELECT {schema}.record_event({kind}, NULL, {about}, {more})"


def _into(warnings: list[str]) -> Callable[[Diagnostic], None]:
    """Collects Postgres' warnings about grants that this role is not allowed to make. They are not errors."""

    def handler(said: Diagnostic) -> None:
        if said.sqlstate in {"01006", "01007"}:  # privilege_not_revoked, privilege_not_granted
            warnings.append(said.message_primary or "")

    return handler


def refused(what: str, why: str) -> ConfigurationError:
    """Returns the error: the step was to do `what`, and Postgres refused it because of `why`."""
    cause = " ".join(why.split())[:300]
    return ConfigurationError(f"DATABASE_URL: {what}: {cause}: {_REMEDY}")
