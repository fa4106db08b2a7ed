"""The review backlog as a metric: how many contents wait for a person."""

import threading
import time
from collections.abc import Callable, Iterator

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from worker.metrics.declared import BACKLOG

log = structlog.get_logger(__name__)

KEEP_S = 60.0
PATIENCE_S = 1.0


class ReviewBacklog:
    """A collector of prometheus_client. It asks when Prometheus does, but once in `keep_s` seconds at most.

    `ask` returns the number. While that cannot be known (the database is away, or has no such view yet), the metric is
    absent, and the others are served: a scrape waits for the answer no longer than `patience_s`.
    """

    def __init__(
        self,
        ask: Callable[[], int],
        *,
        keep_s: float = KEEP_S,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._keep_s, self._patience_s, self._clock = ask, keep_s, patience_s, clock
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._known: int | None = None
        self._asked_at: float | None = None

    def describe(self) -> list[Metric]:
        """The metric without a value: to register this collector asks nothing."""
        return [self._family(None)]

    def collect(self) -> Iterator[Metric]:
        """The metric, when it is known."""
        with self._lock:
            if self._asking is None and (self._asked_at is None or self._clock() - self._asked_at >= self._keep_s):
                self._asking = threading.Thread(target=self._refresh, name="review-backlog", daemon=True)
                self._asking.start()
            asking = self._asking
        if asking is not None:
            asking.join(self._patience_s)
        if self._known is not None:
            yield self._family(self._known)

    def _refresh(self) -> None:
        known = None
        try:
            known = self._ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, the number is not known
            log.info("review_backlog_unknown", reason=str(error).strip().partition("\n")[0])
        with self._lock:
            self._known, self._asked_at, self._asking = known, self._clock(), None

    def _family(self, value: int | None) -> Metric:
        return GaugeMetricFamily(BACKLOG.name, BACKLOG.meaning, value=value)
