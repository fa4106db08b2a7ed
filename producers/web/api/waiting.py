"""Waits for scans to end, without a thread or a connection for each waiting request."""

import asyncio
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import Header, Request
from sqlalchemy import select
from sqlmodel import col
from starlette.concurrency import run_in_threadpool

from producers.reporting.progress import WAITING_ENDS
from worker.database import Database, transaction
from worker.errors import DatabaseUnavailableError
from worker.tables import Scan

log = structlog.get_logger(__name__)

POLL_S = 0.25
MOST = 1000
"""If so many requests wait already, another one gets its answer at once."""

Prefer = Annotated[
    str | None,
    Header(
        description="`wait=30` waits up to 30 seconds for the verdicts (RFC 7240); the server may set a lower limit.",
        examples=["wait=30"],
        max_length=200,
    ),
]


def seconds_of(prefer: str | None, at_most: int) -> int:
    """Returns how long a Prefer header asks to wait, in seconds; 0 if it does not ask, or cannot be understood."""
    for part in (prefer or "").split(","):
        name, _, value = part.partition(";")[0].strip().partition("=")
        if name.strip().lower() == "wait" and value.strip().isdecimal() and value.strip().isascii():
            return min(int(value.strip()[:9]), at_most)
    return 0


def applied(waited_s: int) -> dict[str, str]:
    """Returns the header that says that a preference was applied."""
    return {"Preference-Applied": f"wait={waited_s}"} if waited_s else {}


class Waiting:
    """All waiting requests of this process. One query, four times a second, asks for all of them together."""

    def __init__(self, database: Database, *, poll_s: float = POLL_S, most: int = MOST) -> None:
        self._database, self._poll_s, self._most = database, poll_s, most
        self._waiters: dict[asyncio.Future[None], UUID] = {}
        self._asking: asyncio.Task[None] | None = None

    async def until_ended(self, scan_id: UUID, within_s: float) -> None:
        """Returns when the scan is done, paused or cancelled, or when the time is over."""
        if within_s <= 0 or len(self._waiters) >= self._most:
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        self._waiters[ended] = scan_id
        if self._asking is None or self._asking.done():
            self._asking = loop.create_task(self._ask())
        try:
            async with asyncio.timeout(within_s):
                await ended
        except TimeoutError:
            pass
        finally:
            self._waiters.pop(ended, None)

    async def _ask(self) -> None:
        while self._waiters:
            try:
                ended = await run_in_threadpool(_ended, self._database, set(self._waiters.values()))
            except DatabaseUnavailableError as error:
                log.warning("waiting_without_database", reason=str(error))
                ended = set()
            for future, scan_id in self._waiters.items():
                if scan_id in ended and not future.done():
                    future.set_result(None)
            await asyncio.sleep(self._poll_s)


def _ended(database: Database, scan_ids: set[UUID]) -> set[UUID]:
    query = select(col(Scan.id)).where(col(Scan.id).in_(scan_ids), col(Scan.status).in_(WAITING_ENDS))
    with transaction(database) as session:
        return set(session.execute(query).scalars())


def waiting_of(request: Request) -> Waiting:
    """For FastAPI's Depends."""
    waiting: Waiting = request.app.state.waiting
    return waiting
