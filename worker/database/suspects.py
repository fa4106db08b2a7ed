"""Finds out which image kills a worker. A try is counted before the image is judged alone, and removed afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from worker.database import Database, transaction
from worker.errors import EngineDeadError
from worker.tables import Suspect


@contextmanager
def tried_alone(database: Database, scan_id: UUID, uri: str) -> Iterator[int]:
    """Counts a try while the body runs. Yields how many earlier tries killed the worker.

    If the worker survives, the try is removed again, also when the body raises. A dead engine counts as a death,
    because the process ends with it. Raises DatabaseUnavailableError.
    """
    tries = _count(database, scan_id, uri)
    try:
        yield tries - 1
    except EngineDeadError:
        raise
    except BaseException:
        _strike_out(database, scan_id, uri)
        raise
    _strike_out(database, scan_id, uri)


def _count(database: Database, scan_id: UUID, uri: str) -> int:
    first = insert(Suspect).values(scan_id=scan_id, uri=uri, tries=1)
    counted = first.on_conflict_do_update(
        index_elements=["scan_id", "uri"], set_={"tries": col(Suspect.tries) + 1}
    ).returning(col(Suspect.tries))
    with transaction(database) as session:
        return int(session.execute(counted).scalar_one())


def _strike_out(database: Database, scan_id: UUID, uri: str) -> None:
    with transaction(database) as session:
        mine = (col(Suspect.scan_id) == scan_id, col(Suspect.uri) == uri)
        session.execute(update(Suspect).where(*mine).values(tries=col(Suspect.tries) - 1))
