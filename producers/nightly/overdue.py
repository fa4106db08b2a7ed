"""Computes for how long nightly scans have been due without starting."""

from collections.abc import Callable, Mapping
from datetime import datetime

from celery import Celery
from sqlalchemy import func, select
from sqlmodel import col

from producers.nightly.nightly import utc_now
from producers.nightly.schedule import NightlyScan
from worker.database import Database, transaction
from worker.tables import Scan


def overdue(
    nightly: Mapping[str, NightlyScan], app: Celery, database: Database, clock: Callable[[], datetime] = utc_now
) -> dict[str, float]:
    """Returns the seconds since each scan was first due after the last one that started. 0 if it is not due.

    If the last scan has not ended, the next one waits for it and is overdue. A name that has never started a scan
    starts at its next due time, and is left out until then. Raises DatabaseUnavailableError.
    """
    query = select(col(Scan.schedule), func.max(col(Scan.due_at))).where(col(Scan.schedule).in_(nightly))
    with transaction(database) as session:
        last = {name: due_at for name, due_at in session.execute(query.group_by(col(Scan.schedule))) if due_at}
    now = clock()
    return {name: max((now - nightly[name].next_due(app, due_at)).total_seconds(), 0) for name, due_at in last.items()}
