"""Serves /metrics for `nightly` and `listen`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import structlog
from celery import Celery
from prometheus_client import CollectorRegistry

from producers.asked import AskedGauges, Values
from producers.counting import Count, Counts
from worker import broker, endpoint
from worker.database import Database
from worker.database.figures import cascade_alarms, drift_alarms, queues, review_backlog
from worker.messages import LIVE_QUEUE, SCAN_QUEUE
from worker.metrics import Metrics
from worker.metrics.declared import (
    BACKLOG,
    CASCADE_ALARMS,
    DEAD_LETTERS,
    DRIFTED,
    KNOWN,
    LISTED,
    OVERDUE,
    PRODUCER,
    PUBLISHED,
    QUEUE_IMAGES,
    QUEUE_MESSAGES,
    QUEUE_OLDEST,
    QUEUE_STILL,
)

_DRIFT_KEEP_S = 600.0
"""The view `drift` reads 26 weeks and has one row for each whole day, so it is rarely asked."""

log = structlog.get_logger(__name__)


@contextmanager
def metrics_served(
    port: int,
    setting: str,
    database: Database | None = None,
    registry: CollectorRegistry | None = None,
    app: Celery | None = None,
    overdue: Callable[[], Mapping[str, float]] | None = None,
) -> Iterator[Count]:
    """Answers GET /metrics while the body runs. Yields what counts.

    With a `database`, what waits there is served, and whether results have drifted. With an `app`, how many messages
    wait in the broker's queues. `overdue` returns for how many seconds each nightly scan has been due without starting.

    Raises ConfigurationError, which names the `setting`, when it cannot listen on the port.
    """
    metrics = Metrics.declare(PRODUCER, registry)
    if database is not None:
        for gauges in _asked_of(database):
            metrics.registry.register(gauges)
    if app is not None:
        metrics.registry.register(AskedGauges([QUEUE_MESSAGES], partial(_messages, app)))
    if overdue is not None:
        metrics.registry.register(
            AskedGauges([OVERDUE], lambda: {OVERDUE: {(name,): late_s for name, late_s in overdue().items()}})
        )
    with endpoint.served(endpoint.only_metrics(metrics.registry), port, setting) as listening:
        log.info("metrics_listening", port=listening)
        yield _counting(metrics)


def _asked_of(database: Database) -> tuple[AskedGauges, ...]:
    """Separate collectors, so that a slow one does not make the others absent."""

    def waiting() -> Values:
        found = dict.fromkeys((LIVE_QUEUE, SCAN_QUEUE), (0, 0.0, 0.0)) | queues(database)
        metrics = (QUEUE_IMAGES, QUEUE_OLDEST, QUEUE_STILL)
        return {metric: {(queue,): row[n] for queue, row in found.items()} for n, metric in enumerate(metrics)}

    return (
        AskedGauges([BACKLOG], lambda: {BACKLOG: {(): review_backlog(database)}}),
        AskedGauges([QUEUE_IMAGES, QUEUE_OLDEST, QUEUE_STILL], waiting),
        AskedGauges([DRIFTED], lambda: {DRIFTED: {(): drift_alarms(database)}}, keep_s=_DRIFT_KEEP_S),
        AskedGauges([CASCADE_ALARMS], lambda: {CASCADE_ALARMS: {(): cascade_alarms(database)}}, keep_s=_DRIFT_KEEP_S),
    )


def _messages(app: Celery) -> Values:
    return {QUEUE_MESSAGES: {(queue,): broker.depth(app, queue) for queue in (LIVE_QUEUE, SCAN_QUEUE)}}


def _counting(metrics: Metrics) -> Count:
    def count(counts: Counts) -> None:
        metrics.count(LISTED, counts.listed)
        metrics.count(PUBLISHED, counts.published)
        metrics.count(KNOWN, counts.known)
        metrics.count(DEAD_LETTERS, counts.dead_lettered, queue="sqs", cause="invalid")

    return count
