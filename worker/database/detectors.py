"""The rows of detectors that workers started with."""

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

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


def started_last(session: Session) -> Detector | None:
    """The detector that a worker last started with: the one whose verdicts producers reuse. None before the first."""
    started = select(Detector).where(col(Detector.started_at).is_not(None), col(Detector.description).is_not(None))
    return session.execute(started.order_by(col(Detector.started_at).desc()).limit(1)).scalars().first()
