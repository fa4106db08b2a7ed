"""Reads from Postgres and writes to it. The other modules of this package hold the queries."""

from worker.database.connection import Database, Patience, acting, autocommit, connect, transaction
from worker.database.detectors import register_detector

__all__ = ["Database", "Patience", "acting", "autocommit", "connect", "register_detector", "transaction"]
