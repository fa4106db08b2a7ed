"""The rows of detectors that workers started with."""

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from worker.database import Database, transaction
from worker.tables import Detector


def register_detector(database: Database, detector: Detector) -> int:
    """The id of the detector with this fingerprint; stored when it is new, and noted as the one that started last."""
    values = detector.model_dump(exclude={"id", "created_at", "started_at"}) | {"started_at": func.now()}
    statement = insert(Detector).values(**values)
    started = statement.on_conflict_do_update(
        index_elements=["fingerprint"], set_={"started_at": func.now()}
    ).returning(col(Detector.id))
    with transaction(database) as session:
        return int(session.execute(started).scalar_one())
