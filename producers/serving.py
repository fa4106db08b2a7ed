"""/metrics of `nightly` and `listen`."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from prometheus_client import CollectorRegistry

from producers.backlog import ReviewBacklog
from producers.counting import Count, Counts
from worker import endpoint
from worker.database import Database
from worker.database.figures import review_backlog
from worker.metrics import Metrics
from worker.metrics.declared import DEAD_LETTERS, LISTED, PRODUCER, PUBLISHED, UNCHANGED

log = structlog.get_logger(__name__)


@contextmanager
def metrics_served(
    port: int, setting: str, database: Database | None = None, registry: CollectorRegistry | None = None
) -> Iterator[Count]:
    """Answers GET /metrics while the body runs. Yields what counts; with a `database`, the review backlog is served.

    Raises ConfigurationError, which names the `setting`, when it cannot listen on the port.
    """
    metrics = Metrics.declare(PRODUCER, registry)
    if database is not None:
        metrics.registry.register(ReviewBacklog(lambda: review_backlog(database)))
    with endpoint.served(endpoint.only_metrics(metrics.registry), port, setting) as listening:
        log.info("metrics_listening", port=listening)
        yield _counting(metrics)


def _counting(metrics: Metrics) -> Count:
    def count(counts: Counts) -> None:
        metrics.count(LISTED, counts.listed)
        metrics.count(PUBLISHED, counts.published)
        metrics.count(UNCHANGED, counts.unchanged)
        metrics.count(DEAD_LETTERS, counts.dead_lettered, queue="sqs", cause="invalid")

    return count
