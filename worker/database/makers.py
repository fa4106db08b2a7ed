"""The rows that say what made verdicts."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from worker.database.connection import Database, transaction
from worker.tables import Maker


def register_maker(database: Database, maker: Maker) -> int:
    """Stores what this process judges with, unless a worker of the same kind has. Returns the id of the row."""
    values = maker.model_dump(exclude={"id", "created_at"})
    new = insert(Maker).values(**values).on_conflict_do_nothing(index_elements=["fingerprint"])
    with transaction(database) as session:
        session.execute(new)
        found = select(col(Maker.id)).where(col(Maker.fingerprint) == maker.fingerprint)
        return int(session.execute(found).scalar_one())
