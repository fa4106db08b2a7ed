"""Metrics that Postgres or the broker must be asked for: how much waits, and whether results have drifted."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import prometheus_client
import structlog
from prometheus_client.core import GaugeMetricFamily

from worker.metrics.declared import Metric

log = structlog.get_logger(__name__)

KEEP_S = 60.0
PATIENCE_S = 1.0

Values = Mapping[Metric, Mapping[tuple[str, ...], float]]
"""The values of gauges, by the values of their labels."""


class AskedGauges:
    """A collector of prometheus_client that asks when Prometheus scrapes, but at most once in `keep_s` seconds.

    `ask` returns the values of these `metrics`. If it fails (because the database or the broker is away) or takes
    longer than `patience_s`, these metrics are left out of the scrape, and the others are served.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        ask: Callable[[], Values],
        *,
        keep_s: float = KEEP_S,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics, self._ask = metrics, ask
        self._keep_s, self._patience_s, self._clock = keep_s, patience_s, clock
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None
        self._known: Values | None = None
        self._asked_at: float | None = None

    def describe(self) -> list[prometheus_client.Metric]:
        """Returns the metrics without values, so that registering this collector asks nothing."""
        return [_family(metric, {}) for metric in self._metrics]

    def collect(self) -> Iterator[prometheus_client.Metric]:
        """Returns the metrics, if their values are known."""
        with self._lock:
            if self._asking is None and (self._asked_at is None or self._clock() - self._asked_at >= self._keep_s):
                self._asking = threading.Thread(target=self._refresh, name="asks-for-metrics", daemon=True)
                self._asking.start()
            asking = self._asking
        if asking is not None:
            asking.join(self._patience_s)
        known = self._known
        if known is not None:
            yield from (_family(metric, known[metric]) for metric in self._metrics)

    def _refresh(self) -> None:
        known = None
        try:
            known = self._ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, the values are not known
            names = ", ".join(metric.name for metric in self._metrics)
            log.info("metrics_unknown", metrics=names, reason=str(error).strip().partition("\n")[0])
        with self._lock:
            self._known, self._asked_at, self._asking = known, self._clock(), None


def _family(metric: Metric, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
