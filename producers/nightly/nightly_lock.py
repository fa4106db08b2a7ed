"""The lock that the one `nightly` holds which works; another one waits for it."""

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from worker.database import Database
from worker.errors import DatabaseUnavailableError

KEY = 0x4E494748
"""ASCII "NIGH"."""

# Of a holder whose machine vanished, Postgres hears after the system's two hours, and nobody has the lock until then.
_NOTICE_SOON = """
SELECT set_config('tcp_keepalives_idle', '30', true), set_config('tcp_keepalives_interval', '10', true),
       set_config('tcp_keepalives_count', '3', true), set_config('idle_in_transaction_session_timeout', '0', true)
"""


class NightlyLock:
    """An advisory lock, on a connection of its own: Postgres lets go of it when that connection ends.

    It belongs to a transaction that stays open. One of the session would stay behind with PgBouncer, which gives each
    transaction another session. The open one changes nothing and holds no snapshot: it keeps no row from vacuum.
    """

    def __init__(self, database: Database, key: int = KEY) -> None:
        self._database, self._key = database, key
        self._connection: Connection | None = None

    def held(self) -> bool:
        """Whether it is ours now; taken where it is free. Raises DatabaseUnavailableError."""
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
        # Detached: back in the pool, it would keep the lock for whoever gets it next.
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
        """Ends the connection, and with it the lock."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
