"""Whether the database can be used: version, encryption, schema, rights, pooler, clock."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from producers.checking.hosts import is_near
from producers.checking.rows import Check, Process, Row, Subject, ok, warning, wrong
from worker.errors import ConfigurationError, SchemaTooNewError
from worker.grants import FUNCTIONS, INCLUDES, TABLES, VIEWS, Role

if TYPE_CHECKING:
    from sqlalchemy import Connection

OLDEST = 15
"""The oldest major version of Postgres."""
CLOCK_LIMIT_S = 5.0
"""How much the clocks of two machines may differ before waiting times and claims look wrong."""

ROLES = {
    Process.WORKER: Role.WORKER, Process.PRODUCER: Role.PRODUCER, Process.NIGHTLY: Role.PRODUCER, Process.WEB: Role.WEB,
    Process.WEBHOOKS: Role.WEBHOOKS,
}  # fmt: skip
"""Whose rights a process needs (worker/grants.py)."""

_PRIVILEGE = re.compile(r"(?P<name>[A-Z]+)(?: \((?P<columns>[^)]*)\))?")
_LACKING = """
SELECT object, priv, col FROM unnest(CAST(:objects AS text[]), CAST(:privs AS text[]), CAST(:cols AS text[]))
    AS wanted (object, priv, col)
WHERE NOT CASE
    WHEN to_regclass(quote_ident(object)) IS NULL THEN false
    WHEN col = '' THEN has_table_privilege(to_regclass(quote_ident(object)), priv)
    ELSE has_column_privilege(to_regclass(quote_ident(object)), col, priv) END
"""
_LACKING_FUNCTIONS = """
SELECT DISTINCT proname FROM pg_proc
WHERE pronamespace = current_schema()::regnamespace AND proname = ANY(:names)
  AND NOT has_function_privilege(oid, 'EXECUTE')
"""


@contextmanager
def connected(subject: Subject) -> Iterator["Connection"]:
    """Gives a connection. Raises ConfigurationError, which says what the server says."""
    from sqlalchemy.exc import SQLAlchemyError

    from worker.database import connect
    from worker.tls import database_explained

    database = connect(subject.settings.database_url.get_secret_value(), pool_size=1)
    try:
        with database.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error)
        raise ConfigurationError(database_explained(said) or said.strip().partition("\n")[0]) from error
    finally:
        database.dispose()


def _scalar(connection: "Connection", statement: str) -> Any:
    from sqlalchemy import text

    return connection.execute(text(statement)).scalar()


def _driver(connection: "Connection") -> Any:
    """psycopg's connection."""
    return connection.connection.driver_connection


def _reachable(subject: Subject) -> Iterator[Row]:
    with connected(subject) as connection:
        info = _driver(connection).info
        yield ok(f"{info.dbname} on {info.host}, port {info.port}, as {info.user}")


def _version(subject: Subject) -> Iterator[Row]:
    with connected(subject) as connection:
        yield supported(int(_scalar(connection, "SHOW server_version_num")))


def supported(number: int) -> Row:
    """Says whether this version of Postgres, such as 150020 for 15.20, is new enough."""
    major, minor = divmod(number, 10_000)
    if major < OLDEST:
        return wrong(f"PostgreSQL {major}.{minor}", f"use PostgreSQL {OLDEST} or later")
    return ok(f"PostgreSQL {major}.{minor}")


def _encryption(subject: Subject) -> Iterator[Row]:
    with connected(subject) as connection:
        driver = _driver(connection)
        encrypted, mode = driver.pgconn.ssl_in_use, driver.info.get_parameters().get("sslmode", "prefer")
        host = driver.info.host
    yield encrypted_as(mode if encrypted else "", host)


def encrypted_as(mode: str, host: str) -> Row:
    """Says what a connection's encryption is worth. `mode` is libpq's sslmode, or empty without encryption."""
    remedy = "end DATABASE_URL with ?sslmode=verify-full&sslrootcert=FILE (docs/tls.md)"
    if mode == "verify-full":
        return ok("TLS, and the server's certificate and name are verified")
    if mode:
        return warning(f"TLS, but nothing verifies who the server is (sslmode={mode})", remedy)
    return ok("not encrypted, on this machine") if is_near(host) else warning("not encrypted", remedy)


def _encoding(subject: Subject) -> Iterator[Row]:
    with connected(subject) as connection:
        encoding = _scalar(connection, "SHOW server_encoding")
    if encoding == "UTF8":
        yield ok("UTF8")
    else:
        yield wrong(
            f"{encoding}, which cannot hold every name", "create a database with ENCODING 'UTF8' TEMPLATE template0"
        )


def _schema(subject: Subject) -> Iterator[Row]:
    from worker.database import connect
    from worker.migrate import check_schema, newest

    database = connect(subject.settings.database_url.get_secret_value(), pool_size=1)
    try:
        revision = check_schema(database)
    except SchemaTooNewError as error:
        yield wrong(str(error), "install a newer release")
        return
    finally:
        database.dispose()
    newer = f", newer than this release ({newest()}) and works with it" if revision > newest() else ""
    yield ok(f"revision {revision}{newer}")


def _rights(subject: Subject) -> Iterator[Row]:
    from sqlalchemy import text

    with connected(subject) as connection:
        superuser = _scalar(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        for role in sorted({ROLES[process] for process in subject.processes}):
            wanted = needed(role)
            given = dict(zip(("objects", "privs", "cols"), map(list, zip(*wanted, strict=True)), strict=True))
            lacking = [(row.object, row.priv) for row in connection.execute(text(_LACKING), given)]
            names = {"names": _functions(role)}
            lacking += [(f"{row.proname}()", "EXECUTE") for row in connection.execute(text(_LACKING_FUNCTIONS), names)]
            yield _told(role, sorted(set(lacking)), superuser=bool(superuser))


def _told(role: Role, lacking: list[tuple[str, str]], *, superuser: bool) -> Row:
    if lacking:
        first = ", ".join(f"{privilege} on {name}" for name, privilege in lacking[:3])
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""  # noqa: PLR2004
        return wrong(f"lacks rights: {first}{more}", f"run `fakesweep roles --grant {role}=LOGIN` as the owner", role)
    if superuser:
        return warning(
            "a superuser, who may do more than it needs",
            f"run `fakesweep roles --grant {role}=LOGIN` (docs/roles.md)",
            role,
        )
    return ok("all that it needs", role)


def needed(role: Role) -> list[tuple[str, str, str]]:
    """Returns what a role needs: a table or view, a privilege, and a column or '' for the whole table."""
    found = []
    for one in (role, *INCLUDES.get(role, ())):
        for name, grants in (*TABLES.items(), *VIEWS.items()):
            for privilege in _PRIVILEGE.finditer(grants.get(one, "")):
                columns = (privilege["columns"] or "").split(", ")
                found += [(name, privilege["name"], column) for column in columns]
    return found


def _functions(role: Role) -> list[str]:
    roles = {role, *INCLUDES.get(role, ())}
    return [name for name, may in FUNCTIONS.items() if may is None or roles & set(may)]


def _pooler(subject: Subject) -> Iterator[Row]:
    with connected(subject) as connection:
        direct = _scalar(connection, "SELECT pg_backend_pid()") == _driver(connection).info.backend_pid
    if direct:
        yield ok("none: Postgres answers itself")
    else:
        yield ok("a pooler answers; its mode must be session or transaction")


def _clock(subject: Subject) -> Iterator[Row]:
    with connected(subject) as connection:
        before = time.time()
        theirs = float(_scalar(connection, "SELECT extract(epoch FROM clock_timestamp())"))
        ours = (before + time.time()) / 2
    yield clock(theirs - ours)


def clock(difference_s: float) -> Row:
    """Says whether the database's clock is near enough to this machine's. A positive difference: it is ahead."""
    if abs(difference_s) <= CLOCK_LIMIT_S:
        return ok(f"{difference_s:+.1f} s to this machine's")
    where = "ahead of" if difference_s > 0 else "behind"
    return warning(
        f"the database's clock is {abs(difference_s):.0f} s {where} this machine's", "let NTP set the clocks of both"
    )


_MEND = "check DATABASE_URL, and that the server can be reached from here"
CHECKS = (
    Check("database", _reachable, _MEND),
    Check("database version", _version, _MEND, after="database"),
    Check("database encryption", _encryption, _MEND, after="database"),
    Check("database encoding", _encoding, _MEND, after="database"),
    Check("database pooler", _pooler, _MEND, after="database"),
    Check("database clock", _clock, _MEND, after="database"),
    Check("database schema", _schema, "run `fakesweep migrate`", after="database"),
    Check("database rights", _rights, "run `fakesweep roles` (docs/roles.md)", after="database schema"),
)
