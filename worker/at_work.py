"""Finds out which releases are connected to the database. Connections name their release: see worker.database."""

from collections.abc import Mapping

from sqlalchemy import Connection, text

from worker.errors import OlderAtWorkError

_UNNAMED = "0013"
"""The newest revision of a release whose connections do not name one."""

# PgBouncer may add the client's address: "fakesweep 0013 - 10.0.0.7:41234" (its application_name_add_host).
_OLDER = """
SELECT release, count(*)
FROM (SELECT coalesce(substring(application_name FROM '^fakesweep ([0-9]+)'), :unnamed) AS release
      FROM pg_stat_activity
      WHERE datname = current_database() AND application_name ~ '^fakesweep( [0-9]+)?( - .*)?$') AS connected
WHERE release < :works_from
GROUP BY release ORDER BY release
"""


def refuse_older(connection: Connection, revisions: Mapping[str, str | None]) -> None:
    """Raises OlderAtWorkError when a release is connected that does not work with one of these revisions.

    `revisions` has the oldest release that works with each revision, or None if all releases do. Behind a pooler,
    Postgres sees only the clients that are in a transaction, and not those that wait for their next message.
    """
    named = {revision: works_from for revision, works_from in revisions.items() if works_from}
    if not named:
        return
    revision = max(named, key=lambda one: named[one])
    if connected := older_than(connection, named[revision]):
        raise OlderAtWorkError(
            f"revision {revision} works with releases from {named[revision]} on, and older ones are connected: "
            f"{connected}; stop their processes (docs/upgrading.md), or give --force"
        )


def older_than(connection: Connection, release: str) -> str:
    """Returns the older releases that are connected, with their connections, or an empty text."""
    found = connected_before(connection, release)
    connection.rollback()
    return found


def connected_before(connection: Connection, release: str) -> str:
    """As `older_than`, in the transaction of the caller."""
    found = connection.execute(text(_OLDER), {"unnamed": _UNNAMED, "works_from": release}).all()
    return ", ".join(f"{one} ({count} connections)" for one, count in found)
