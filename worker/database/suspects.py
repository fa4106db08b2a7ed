"""Which image ended a worker."""

from uuid import UUID

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from worker.database import Database, transaction
from worker.tables import Suspect


def count_try(database: Database, scan_id: UUID, uri: str) -> int:
    """Notes, before it happens, that an image of a redelivered message is tried alone; returns how often by now."""
    statement = insert(Suspect).values(scan_id=scan_id, uri=uri, tries=1)
    raised = statement.on_conflict_do_update(
        index_elements=["scan_id", "uri"], set_={"tries": col(Suspect.tries) + 1}
    ).returning(col(Suspect.tries))
    with transaction(database) as session:
        return int(session.execute(raised).scalar_one())


def strike_try(database: Database, scan_id: UUID, uri: str) -> None:
    """Strikes out a try that the worker survived."""
    with transaction(database) as session:
        mine = (col(Suspect.scan_id) == scan_id, col(Suspect.uri) == uri)
        session.execute(update(Suspect).where(*mine).values(tries=col(Suspect.tries) - 1))
