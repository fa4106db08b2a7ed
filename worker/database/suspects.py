"""Finds out what kills workers: counts how many died while they worked on a message, or judged an image alone.

A try is counted before the work begins, and the count is taken back when the work has ended. If the worker dies, the
count stays. So if the same work comes again, the count says how many workers died during it.
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
    """Counts a try of a message while the body runs. Yields how many workers died while they worked on this message.

    The first delivery of a message is not counted, so a message that is never redelivered costs no statement.
    `came_back`: the message is redelivered. Then a worker died with it, unless that worker gave it back. A worker gives
    a message back when the body raises ShuttingDownError or BrokerUnavailableError. A dead engine counts as a death,
    because the process ends with it.
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
    """Calls `write`, and retries for some seconds, so that Postgres can restart.

    A failure is only logged, so that the caller can raise the error that ended the try.
    """
    try:
        patient(write)()
    except DatabaseUnavailableError as error:
        log.warning("try_not_taken_back", reason=str(error))


def _start(database: Database, message_id: UUID) -> int:
    # If there is no row, the previous delivery was the first one, which is not counted. So this is the second try.
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
    """Counts a try of an image alone while the body runs. Yields in how many earlier tries the worker died.

    If the body raises an error and the worker survives, the count of this try is taken back. A dead engine counts as a
    death. If the body ends without an error, the image has its outcome, and its count is deleted.
    Raises DatabaseUnavailableError.
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
    """Returns how many workers died while they judged each image alone. Images without such a death are left out."""
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
