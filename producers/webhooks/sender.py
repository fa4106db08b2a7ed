"""`fakesweep webhooks send`: sends what is in the outbox, until SIGTERM.

Each endpoint with messages that are due has a lane of its own: claim -> post -> record, until nothing is due. So a slow
receiver delays nobody else. Several senders may run: see producers/webhooks/outbox.py.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from producers.webhooks import outbox
from producers.webhooks.drift import tell_of_drift
from producers.webhooks.posting import Poster
from worker.database import Database
from worker.errors import DatabaseUnavailableError
from worker.metrics import Metrics
from worker.metrics.declared import ATTEMPTS, WEBHOOKS
from worker.tables import MessageState

log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""How often a sender looks for endpoints with messages that are due."""
AWAY_S = 5.0
"""How long it waits when the database is away."""
CHORES_S = 600.0
"""How often it looks for drift alarms, and deletes old messages."""
CONNECTIONS = 4
"""The largest number of connections to Postgres."""
_CHORES = 0  # among the lanes, whose ids begin with 1

T = TypeVar("T")


@dataclass
class Sender:
    """Sends messages. `looked_at` is when it last found out what is due, on the clock of time.monotonic."""

    database: Database
    poster: Poster
    keep_days: int = 30
    lease_s: float = outbox.LEASE_S
    metrics: Metrics = field(default_factory=lambda: Metrics.declare(WEBHOOKS))
    looked_at: float = field(default_factory=time.monotonic)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(CONNECTIONS, "outbox"))
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def run(self) -> None:
        """Sends until SIGTERM or SIGINT. Attempts that are going on then are finished."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        lanes: dict[int, asyncio.Task[None]] = {}
        chores_at = 0.0
        while not self._stop.is_set():
            lanes = {key: lane for key, lane in lanes.items() if not lane.done()}
            pause_s = await self._look(lanes)
            if _CHORES not in lanes and time.monotonic() >= chores_at:
                chores_at = time.monotonic() + CHORES_S
                lanes[_CHORES] = asyncio.create_task(self._chores())
            await self._pause(pause_s)
        await asyncio.gather(*lanes.values())
        self._threads.shutdown()

    async def _look(self, lanes: dict[int, asyncio.Task[None]]) -> float:
        """Starts a lane for each endpoint that needs one. Returns the seconds until the next look."""
        try:
            due = await self._ask(outbox.endpoints_due)
        except DatabaseUnavailableError as error:
            log.warning("outbox_away", reason=str(error))
            return AWAY_S
        self.looked_at = time.monotonic()
        for endpoint_id in due:
            if endpoint_id not in lanes:
                lanes[endpoint_id] = asyncio.create_task(self._guarded(self.send_due(endpoint_id)))
        return LOOK_S

    async def send_due(self, endpoint_id: int) -> None:
        """Sends the messages of an endpoint until none is due. Raises DatabaseUnavailableError."""
        while not self._stop.is_set():
            batch = await self._ask(outbox.claim, endpoint_id, lease_s=self.lease_s)
            if batch is None or not batch.seen:
                return
            if not batch.messages:
                continue
            answers = await self.poster.post(batch.endpoint, batch.messages)
            ends = list(zip(batch.messages, answers, strict=True))
            states = await self._ask(outbox.record, endpoint_id, ends)
            for (message, answer), state in zip(ends, states, strict=True):
                self.metrics.count(ATTEMPTS, state=state.value)
                if state != MessageState.DELIVERED:
                    log.warning(
                        "webhook_not_delivered", endpoint=batch.endpoint.name, message=str(message.message_id),
                        kind=message.kind, attempt=message.attempts, answer=answer.said, state=state.value,
                    )  # fmt: skip

    async def _chores(self) -> None:
        await self._guarded(self._ask(tell_of_drift))
        await self._guarded(self._tidy())

    async def _tidy(self) -> None:
        await self._ask(outbox.end_disabled)
        for deleted in await self._ask(lambda database: list(outbox.delete_old(database, self.keep_days))):
            log.info("webhooks_deleted", messages=deleted)

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        """Runs a lane. If it fails, its messages are sent again when their lease has ended."""
        try:
            await work
        except DatabaseUnavailableError as error:
            log.warning("outbox_away", reason=str(error))
        except Exception:
            log.exception("webhooks_lane_failed")

    async def _ask(self, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Calls a function of the outbox in a thread. The default threads resolve names, which may take long."""
        bound = partial(call, self.database, *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._threads, bound)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
