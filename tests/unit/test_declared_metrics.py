"""The declarations of our metrics: the document says the same, and no other metric can be counted."""

import re
from collections import Counter
from itertools import pairwise

import pytest

from tests.documents import ROOT
from worker.errors import Reason, UndeclaredMetricError
from worker.messages import LIVE_QUEUE, SCAN_QUEUE
from worker.metrics import Metrics
from worker.metrics.declared import (
    ASKED,
    DECLARED,
    FETCH,
    IMAGES,
    IN_FLIGHT,
    PRODUCER,
    READY,
    REUSED,
    TOKENS,
    WORKER,
    WORKER_INFO,
    Kind,
    Metric,
)

MET = {"outcome": "failed", "verdict": "", "reason": "corrupt"}
BY_NAME = {metric.name: metric for metric in DECLARED}


def test_the_document_has_exactly_our_metrics_with_kind_and_labels() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(fakesweep_\w+)` \| (\w+) \| ([^|]*)\| \S", text, re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == {metric.name: (metric.kind, metric.labels) for metric in DECLARED}
    assert Counter(name for name, *_ in rows).most_common(1)[0][1] == 1


def test_the_document_has_the_values_of_all_labels() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    values = {
        value
        for metric in DECLARED
        for one in metric.series or ()
        for label, value in zip(metric.labels, one, strict=True)
        if label in {"queue", "found", "kind", "cause"}
    }
    assert {value for value in values if f"`{value}`" not in text} == set()
    mentioned = set(re.findall(r"\b(fakesweep_\w+?)(?:_bucket)?\b(?![\w.])", text))
    assert mentioned == set(BY_NAME)


@pytest.mark.parametrize("metric", DECLARED, ids=lambda metric: metric.name)
def test_names_follow_the_rules_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"fakesweep_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == Kind.COUNTER)
    assert metric.kind != Kind.HISTOGRAM or metric.name.endswith("_seconds")
    assert metric.meaning.endswith(".")
    assert bool(metric.buckets) == (metric.kind == Kind.HISTOGRAM)
    assert all(low < high for low, high in pairwise(metric.buckets))
    assert not {"uri", "scan", "scan_id", "message_id"} & set(metric.labels)
    assert metric.series is None or all(len(one) == len(metric.labels) for one in metric.series)


def test_every_series_exists_before_its_first_event() -> None:
    metrics = Metrics.declare()
    reasons = {
        sample.labels["reason"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "fakesweep_images_total" and sample.labels["queue"] == SCAN_QUEUE
    }
    assert reasons == {*Reason, ""}
    assert metrics.registry.get_sample_value("fakesweep_images_total", {"queue": LIVE_QUEUE, **MET}) == 0


def test_a_count_has_its_queue_and_its_registry() -> None:
    metrics, other = Metrics.declare(), Metrics.declare()
    metrics.bound(queue=SCAN_QUEUE).count(IMAGES, amount=1, **MET)
    metrics.bound(queue=LIVE_QUEUE).count(IMAGES, amount=2, **MET)
    for registry, scan, live in ((metrics.registry, 1, 2), (other.registry, 0, 0)):
        assert registry.get_sample_value("fakesweep_images_total", {"queue": SCAN_QUEUE, **MET}) == scan
        assert registry.get_sample_value("fakesweep_images_total", {"queue": LIVE_QUEUE, **MET}) == live


def test_a_body_that_fails_is_measured() -> None:
    metrics = Metrics.declare().bound(queue=SCAN_QUEUE)
    labels = {"queue": SCAN_QUEUE}

    def fail() -> None:
        with metrics.timed(FETCH), metrics.during(IN_FLIGHT, 3):
            assert metrics.registry.get_sample_value("fakesweep_images_in_flight", labels) == 3
            raise OSError

    with pytest.raises(OSError):
        fail()
    assert metrics.registry.get_sample_value("fakesweep_images_in_flight", labels) == 0
    assert metrics.registry.get_sample_value("fakesweep_image_fetch_seconds_count", labels) == 1


def test_a_watched_gauge_gets_its_value_when_it_is_served() -> None:
    metrics, ready = Metrics.declare(), [0.0]
    metrics.watch(READY, lambda: ready[0])
    assert metrics.registry.get_sample_value("fakesweep_worker_ready") == 0
    ready[0] = 1
    assert metrics.registry.get_sample_value("fakesweep_worker_ready") == 1


def test_a_metric_that_is_not_declared_is_refused() -> None:
    metrics = Metrics.declare(WORKER)
    scans = metrics.bound(queue=SCAN_QUEUE)
    undeclared = Metric(Kind.COUNTER, "fakesweep_surprises_total", "Surprises.")
    with pytest.raises(UndeclaredMetricError, match="fakesweep_surprises_total"):
        metrics.count(undeclared)
    with pytest.raises(UndeclaredMetricError, match="colour"):
        scans.count(TOKENS, kind="prompt", colour="red")
    with pytest.raises(UndeclaredMetricError, match="guess"):
        scans.count(REUSED, found="guess")
    with pytest.raises(UndeclaredMetricError):
        metrics.count(REUSED, found="seen")  # without a queue
    with pytest.raises(UndeclaredMetricError, match="host"):
        metrics.inform(WORKER_INFO, replica="", detector="x", host="a")
    with pytest.raises(UndeclaredMetricError):
        Metrics.declare(PRODUCER).bound(queue=SCAN_QUEUE).count(TOKENS, kind="prompt")
    assert not {*ASKED} & {*WORKER, *PRODUCER}, "their own collectors serve them"
