"""Counts and measures the metrics of a process. Metrics that are not declared are refused."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import prometheus_client
from prometheus_client import CollectorRegistry

from worker.errors import UndeclaredMetricError
from worker.metrics.declared import WORKER, Kind, Metric

_COLLECTORS: Mapping[Kind, Any] = {
    Kind.COUNTER: prometheus_client.Counter,
    Kind.GAUGE: prometheus_client.Gauge,
    Kind.HISTOGRAM: prometheus_client.Histogram,
}


@dataclass(frozen=True)
class Metrics:
    """The metrics of a process, in a registry of their own. Metrics that are not declared are refused.

    Each method raises UndeclaredMetricError for a metric that this process does not serve, and for labels and values
    that are not declared.
    """

    registry: CollectorRegistry
    _series: dict[tuple[str | None, ...], Any]
    _given: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def declare(cls, metrics: Sequence[Metric] = WORKER, registry: CollectorRegistry | None = None) -> Self:
        """Makes these metrics, in `registry` or in a new one."""
        registry = registry or CollectorRegistry()
        series: dict[tuple[str | None, ...], Any] = {}
        for metric in metrics:
            buckets = {"buckets": metric.buckets} if metric.buckets else {}
            collector = _COLLECTORS[metric.kind](
                metric.name, metric.meaning, metric.labels, registry=registry, **buckets
            )
            if metric.series is None:
                series[metric.name,] = collector
            for values in metric.series or ():
                series[metric.name, *values] = collector.labels(*values) if metric.labels else collector
        return cls(registry, series)

    def bound(self, **labels: str) -> Self:
        """Returns the same metrics with these labels filled in."""
        return replace(self, _given={**self._given, **labels})

    def count(self, metric: Metric, amount: int = 1, **labels: str) -> None:
        """Adds to a counter."""
        self._one(metric, labels).inc(amount)

    def observe(self, metric: Metric, seconds: float, **labels: str) -> None:
        """Adds a value to a histogram."""
        self._one(metric, labels).observe(seconds)

    @contextmanager
    def timed(self, metric: Metric) -> Iterator[None]:
        """Measures how long the body runs, also when it raises an error."""
        one, began = self._one(metric, {}), time.perf_counter()
        try:
            yield
        finally:
            one.observe(time.perf_counter() - began)

    @contextmanager
    def during(self, metric: Metric, amount: int) -> Iterator[None]:
        """Raises a gauge while the body runs."""
        one = self._one(metric, {})
        one.inc(amount)
        try:
            yield
        finally:
            one.dec(amount)

    def watch(self, metric: Metric, ask: Callable[[], float]) -> None:
        """Makes a gauge call `ask` for its value each time it is served."""
        self._one(metric, {}).set_function(ask)

    def inform(self, metric: Metric, **labels: str) -> None:
        """Sets a gauge to 1. Such a gauge only shows its labels."""
        if metric.series is not None or set(labels) != set(metric.labels):
            raise UndeclaredMetricError(f"{metric.name} does not have the labels {labels}")
        self._one(metric, {}).labels(**labels).set(1)

    def _one(self, metric: Metric, labels: Mapping[str, str]) -> Any:
        names = metric.labels if metric.series is not None else ()
        given: dict[str, str] = {**self._given, **labels}
        one = self._series.get((metric.name, *(given.get(name) for name in names)))
        if one is None or any(label not in names for label in labels):
            raise UndeclaredMetricError(f"{metric.name} with {given} is not declared in worker/metrics/declared.py")
        return one
