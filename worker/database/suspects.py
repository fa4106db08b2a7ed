"""Finds out what kills a worker: how often one died while it had a message, or had an image alone.

A try is counted before the work, and taken back afterwards. What is still counted when the same work comes again was
there at a death.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from worker.database.connection import Database, transaction
from worker.database.patience import patient
from worker.errors import BrokerUnavailableError, DatabaseUnavailableError, EngineDeadError, ShuttingDownError
from worker.tables import MessageTry, Suspect

log = structlog.get_logger(__name__)


@contextmanager
def message_tried(database: Database, message_id: UUID, *, came_back: bool) -> Iterator[int]:
    """Counts a try of a message while the body runs. Yields at how many deaths of a worker the message was in hand.

    The first delivery of a message is not counted, so that a message that never comes back costs no statement. If one
    `came_back`, a worker died with it, unless that worker gave it back: then the body raised ShuttingDownError or
    BrokerUnavailableError. A dead engine counts as a death, because the process ends with it.
    Raises DatabaseUnavailableError.
    """
    tries = _start(database, message_id) if came_back else 1
    try:
        yield tries - 1
    except EngineDeadError:
        raise
    except (ShuttingDownError, BrokerUnavailableError):
        _taken_back(partial(_give_back, database, message_id))
        raise
    except BaseException:
        if came_back:
            _taken_back(partial(_end, database, message_id))
        raise
    if came_back:
        _end(database, message_id)


def _taken_back(write: Callable[[], None]) -> None:
    """Tries for some seconds, in which Postgres can restart. What is not written hides no error that ended the try."""
    try:
        patient(write)()
    except DatabaseUnavailableError as error:
        log.warning("try_not_taken_back", reason=str(error))


def _start(database: Database, message_id: UUID) -> int:
    # Without a row, the delivery before was the first one, which was not counted: this is the second.
    first = insert(MessageTry).values(message_id=message_id, tries=2)
    counted = first.on_conflict_do_update(
        index_elements=["message_id"], set_={"tries": col(MessageTry.tries) + 1, "started_at": func.now()}
    ).returning(col(MessageTry.tries))
    with transaction(database) as session:
        return int(session.execute(counted).scalar_one())


def _give_back(database: Database, message_id: UUID) -> None:
    first = insert(MessageTry).values(message_id=message_id, tries=0)
    taken_back = first.on_conflict_do_update(index_elements=["message_id"], set_={"tries": col(MessageTry.tries) - 1})
    with transaction(database) as session:
        session.execute(taken_back)


def _end(database: Database, message_id: UUID) -> None:
    with transaction(database) as session:
        session.execute(delete(MessageTry).where(col(MessageTry.message_id) == message_id))


@contextmanager
def tried_alone(database: Database, scan_id: UUID, uri: str) -> Iterator[int]:
    """Counts a try of an image that is alone while the body runs. Yields how many earlier tries killed the worker.

    If the worker survives, the try is taken back, also when the body raises. A dead engine counts as a death. If the
    body ends, the image has its outcome, and nothing is kept of it. Raises DatabaseUnavailableError.
    """
    tries = _count(database, scan_id, uri)
    try:
        yield tries - 1
    except EngineDeadError:
        raise
    except BaseException:
        _taken_back(partial(_strike_out, database, scan_id, uri))
        raise
    with transaction(database) as session:
        session.execute(delete(Suspect).where(*_is(scan_id, uri)))


def deaths_alone(database: Database, scan_id: UUID, uris: Sequence[str]) -> dict[str, int]:
    """How often each image killed a worker that had it alone; images that never did are missing."""
    query = select(col(Suspect.uri), col(Suspect.tries)).where(
        col(Suspect.scan_id) == scan_id, col(Suspect.uri).in_(uris)
    )
    with transaction(database) as session:
        return {row.uri: row.tries for row in session.execute(query)}


def _count(database: Database, scan_id: UUID, uri: str) -> int:
    first = insert(Suspect).values(scan_id=scan_id, uri=uri, tries=1)
    counted = first.on_conflict_do_update(
        index_elements=["scan_id", "uri"], set_={"tries": col(Suspect.tries) + 1}
    ).returning(col(Suspect.tries))
    with transaction(database) as session:
        return int(session.execute(counted).scalar_one())


def _strike_out(database: Database, scan_id: UUID, uri: str) -> None:
    with transaction(database) as session:
        session.execute(update(Suspect).where(*_is(scan_id, uri)).values(tries=col(Suspect.tries) - 1))
        session.execute(delete(Suspect).where(*_is(scan_id, uri), col(Suspect.tries) <= 0))


def _is(scan_id: UUID, uri: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return col(Suspect.scan_id) == scan_id, col(Suspect.uri) == uri
