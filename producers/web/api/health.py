"""Health: whether the API can work now."""

import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from anyio import CapacityLimiter, to_thread
from celery import Celery
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import text

from producers.web.api.guards import GuardedRoute
from producers.web.api.problems import RETRY_AFTER_S, answers, problem
from worker import broker
from worker.database import Database, transaction
from worker.errors import TransientError

router = APIRouter(route_class=GuardedRoute, tags=["health"])

KEEP_S = 2.0
"""How long an answer is used again: anybody may ask, as often as they like."""


class Health(BaseModel):
    """Everything works."""

    status: Literal["ok"]
    database: Literal["ok"] = Field(description="Postgres answers.")
    broker: Literal["ok"] = Field(description="RabbitMQ or Redis answers.")


class Checks:
    """Asks the database and the broker, once for all requests that come at the same time."""

    def __init__(self, database: Database, app: Celery, clock: Callable[[], float] = time.monotonic) -> None:
        self._asked = {"database": lambda: _ask_database(database), "broker": lambda: _ask_broker(app)}
        self._clock, self._lock = clock, threading.Lock()
        self._threads = CapacityLimiter(1)
        self._at: float | None = None
        self._found: dict[str, str] = {}

    def found(self) -> dict[str, str]:
        """Returns what answers (ok) and what does not (unavailable)."""
        with self._lock:
            if self._at is None or self._clock() - self._at > KEEP_S:
                self._found = {name: _state(ask) for name, ask in self._asked.items()}
                self._at = self._clock()
            return self._found

    async def soon(self) -> dict[str, str]:
        """The same, in separate threads, so that it does not wait for threads that answer requests."""
        return await to_thread.run_sync(self.found, limiter=self._threads)


def _state(ask: Callable[[], None]) -> str:
    try:
        ask()
    except TransientError:
        return "unavailable"
    return "ok"


def _ask_database(database: Database) -> None:
    with transaction(database) as session:
        session.execute(text("SELECT 1"))


def _ask_broker(app: Celery) -> None:
    with broker.unavailable(), app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.2, timeout=2)


@router.get("/health", response_model=Health, responses=answers(token=False))
async def get_health(request: Request) -> Any:
    """Whether the database and the broker answer. It needs no token."""
    checks: Checks = request.app.state.checks
    found = await checks.soon()
    away = [name for name, state in found.items() if state != "ok"]
    if not away:
        return {"status": "ok", **found}
    detail = f"cannot be reached: {' and '.join(away)}"
    answer: Response = problem(503, detail, {"Retry-After": str(RETRY_AFTER_S)}, **found)
    return answer
