"""The rows of detectors that workers started with."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, col

from worker.database.connection import Database, transaction
from worker.tables import Detector


def register_detector(database: Database, detector: Detector, *, further: bool = False) -> int:
    """Stores the detector if its fingerprint is new, and sets `started_at`. Returns its id.

    Of a known detector, it renews what does not change the fingerprint, such as thresholds and what a cascade promises:
    the description and the notice. The alarm about cascades reads them. A further detector gets `also_at`
    instead, so that it does not become the one that started last.
    """
    now = {"also_at" if further else "started_at": func.now()}
    values = detector.model_dump(exclude={"id", "created_at", "started_at", "also_at"}) | now
    renewed = now | {name: values[name] for name in ("description", "notice")}
    statement = insert(Detector).values(**values)
    started = statement.on_conflict_do_update(index_elements=["fingerprint"], set_=renewed).returning(col(Detector.id))
    with transaction(database) as session:
        return int(session.execute(started).scalar_one())


def started_last(session: Session) -> Detector | None:
    """The detector that a worker started with last; None before the first. Producers reuse its verdicts."""
    started = select(Detector).where(col(Detector.started_at).is_not(None))
    return session.execute(started.order_by(col(Detector.started_at).desc()).limit(1)).scalars().first()


def further_detectors(session: Session) -> dict[str, Detector]:
    """The further detectors that workers started with, by name: of each name, the one that started last."""
    started = select(Detector).where(col(Detector.also_at).is_not(None)).order_by(col(Detector.also_at))
    return {one.name: one for one in session.execute(started).scalars()}


def answer_limit(description: Mapping[str, Any]) -> int | None:
    """Returns the most tokens of an answer from a stored description. None: the detector gives no reasons.

    Descriptions that were stored before there were kinds are of vision-language models.
    """
    match description.get("kind"):
        case "classifier":
            return None
        case "cascade":
            return answer_limit(description["judge"])
        case _:
            return int(description["answer"]["max_tokens"])
