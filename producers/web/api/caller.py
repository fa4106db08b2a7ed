"""Finds out who makes a request: a token, and what it may do."""

import math
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from producers.tokens import find_token, state_of
from producers.web.api.problems import ProblemError
from producers.web.parts import AParts, Parts, parts_of
from worker.database import acting, actors
from worker.tables import Scope

_BEARER = HTTPBearer(
    scheme_name="token",
    bearerFormat="fakesweep_…",
    description="`Authorization: Bearer fakesweep_…`, from `fakesweep token add`. "
    "Scopes: submit, read, review and scan.",
    auto_error=False,
)


@dataclass(frozen=True)
class Caller:
    """The token of a request. `reviewer` is the author of its reviews, for the scope `review`."""

    token_id: int
    scopes: frozenset[str]
    reviewer: str | None
    name: str


class Rate:
    """Limits how often each token may make requests, counted in this process alone."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, token_id: int) -> None:
        """Counts a request. Raises ProblemError (429) if there were too many."""
        key = str(token_id)
        if self._limiter.hit(self._limit, key):
            return
        left_s = self._limiter.get_window_stats(self._limit, key).reset_time - time.time()
        after = {"Retry-After": str(max(1, math.ceil(left_s)))}
        raise ProblemError(429, f"more than {self._limit.amount} requests of this token in a minute", after)


def needs(scope: Scope) -> Any:
    """A dependency that says which scope an endpoint needs. GuardedRoute checks it before it reads the body."""
    return Security(_BEARER, scopes=[scope])


def admit(request: Request, scopes: list[str]) -> Caller:
    """Returns the token of the request, if it has the scope. Raises ProblemError (401, 403, 429)."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    token = find_token(parts_of(request).database, text.strip()) if kind.lower() == "bearer" else None
    if token is None or token.id is None:
        raise _unknown("a valid token is needed: Authorization: Bearer fakesweep_…", given=bool(kind))
    state = state_of(token, datetime.now(UTC))
    if state != "active":
        raise _unknown(f"this token is {state}", given=True)
    rate: Rate = request.app.state.rate
    rate.check(token.id)
    missing = [scope for scope in scopes if scope not in token.scopes]
    if missing:
        named = ", ".join(missing)
        header = {"WWW-Authenticate": f'Bearer realm="fakesweep", error="insufficient_scope", scope="{named}"'}
        raise ProblemError(403, f"this token lacks the scope {named}", header)
    return Caller(token.id, frozenset(token.scopes), token.reviewer, token.name)


def _unknown(detail: str, *, given: bool) -> ProblemError:
    error = ', error="invalid_token"' if given else ""
    return ProblemError(401, detail, {"WWW-Authenticate": f'Bearer realm="fakesweep"{error}'})


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


ACaller = Annotated[Caller, Depends(_caller)]


def _acting_parts(caller: ACaller, parts: AParts) -> Parts:
    return replace(parts, database=acting(parts.database, actors.token(caller.name)))


ActingParts = Annotated[Parts, Depends(_acting_parts)]
"""The parts for what changes something: events name the token of the request."""
