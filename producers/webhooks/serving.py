"""Serves /metrics and /health of `fakesweep webhooks send`.

GET /health    200 while the sender can ask the outbox; 503 if it could not for STALE_S
GET /metrics   attempts, and what waits in the outbox (docs/metrics.md)
"""

import time
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from sqlalchemy import text

from producers.asked import AskedGauges, Values
from producers.webhooks.sender import Sender
from worker import endpoint
from worker.database import Database, transaction
from worker.metrics.declared import OUTBOX_MESSAGES, OUTBOX_OLDEST
from worker.tables import MessageState

STALE_S = 60.0

_WAITING = """
SELECT count(*), (SELECT count(*) FROM outbox WHERE state = 'dead'),
       extract(epoch FROM now() - min(o.created_at))::float
FROM outbox o JOIN webhook_endpoints e ON e.id = o.endpoint_id AND e.disabled_at IS NULL
WHERE o.state = 'waiting'
"""


def pages_of(sender: Sender) -> endpoint.Answer:
    """Returns the WSGI application. Its gauges are asked for when Prometheus scrapes, at most once a minute."""
    registry = sender.metrics.registry
    registry.register(AskedGauges([OUTBOX_MESSAGES, OUTBOX_OLDEST], lambda: _values(sender.database)))
    metrics = endpoint.metrics_page(registry)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics(environ, start_response)
            case "/health":
                fresh = time.monotonic() - sender.looked_at < STALE_S
                start_response("200 OK" if fresh else "503 Service Unavailable", [("Content-Type", "text/plain")])
                return [b"ready\n" if fresh else b"the outbox cannot be asked\n"]
        return endpoint.unknown(start_response, "/metrics or /health")

    return answer


def _values(database: Database) -> Values:
    with transaction(database) as session:
        session.execute(text("SET LOCAL statement_timeout = '5s'"))
        waiting, dead, oldest_s = session.execute(text(_WAITING)).one()
    counts: dict[tuple[str, ...], float] = {
        (MessageState.WAITING.value,): float(waiting),
        (MessageState.DEAD.value,): float(dead),
    }
    return {OUTBOX_MESSAGES: counts, OUTBOX_OLDEST: {(): oldest_s or 0.0}}
