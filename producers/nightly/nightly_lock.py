"""The lock of the `nightly` that works. Others wait for it."""

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from worker.database import Database
from worker.errors import DatabaseUnavailableError

KEY = 0x4E494748
"""The ASCII codes of "NIGH"."""

# If the holder's machine vanished, Postgres would notice after the system's two hours, and keep the lock until then.
_NOTICE_SOON = """
SELECT set_config('tcp_keepalives_idle', '30', true), set_config('tcp_keepalives_interval', '10', true),
       set_config('tcp_keepalives_count', '3', true), set_config('idle_in_transaction_session_timeout', '0', true)
"""


class NightlyLock:
    """An advisory lock on a connection of its own. Postgres releases it when that connection ends.

    It belongs to a transaction that stays open. A session's lock would be left behind with PgBouncer, which gives each
    transaction another session. The open transaction changes nothing and holds no snapshot, so vacuum can remove rows.
    """

    def __init__(self, database: Database, key: int = KEY) -> None:
        self._database, self._key = database, key
        self._connection: Connection | None = None

    def held(self) -> bool:
        """Whether this process holds the lock. Takes it if it is free. Raises DatabaseUnavailableError."""
        if self._connection is not None:
            try:
                self._connection.execute(text("SELECT 1"))
            except DBAPIError:
                self.release()
            else:
                return True
        try:
            return self._take(self._database.connect())
        except (DBAPIError, PoolTimeoutError) as error:
            raise DatabaseUnavailableError(
                str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            ) from error

    def _take(self, connection: Connection) -> bool:
        # Detached: back in the pool, the connection would keep the lock for its next user.
        connection.detach()
        try:
            connection.execute(text(_NOTICE_SOON))
            if connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": self._key}).scalar():
                self._connection = connection
        finally:
            if self._connection is None:
                connection.close()
        return self._connection is not None

    def release(self) -> None:
        """Ends the connection, and so releases the lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
