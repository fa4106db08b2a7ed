"""A figure of Postgres as Prometheus sees it: known, old, unknown or slow."""

import threading

from prometheus_client import CollectorRegistry

from producers.asked import AskedGauges, Values
from worker.metrics.declared import BACKLOG, QUEUE_IMAGES


class Asked:
    """Answers with the next of these values. An error is raised."""

    def __init__(self, *answers: int | Exception) -> None:
        self.left = list(answers)

    def __call__(self) -> Values:
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {BACKLOG: {(): answer}}


def shown(backlog: AskedGauges) -> float | None:
    registry = CollectorRegistry()
    registry.register(backlog)
    return registry.get_sample_value("fakesweep_review_backlog")


def test_the_figure_is_kept_for_a_minute_and_absent_when_unknown() -> None:
    now = [0.0]
    asked = Asked(3, 5, RuntimeError("relation review_queue does not exist"), 0)
    backlog = AskedGauges([BACKLOG], asked, keep_s=60, patience_s=10, clock=lambda: now[0])
    assert asked.left[0] == 3, "making the gauges must not ask"
    seen = []
    for now[0] in (0, 59, 60, 119, 120, 179, 180):
        seen.append(shown(backlog))
    assert seen == [3, 3, 5, 5, None, None, 0]


def test_a_slow_database_delays_no_scrape_and_is_asked_by_one_thread() -> None:
    release, asked = threading.Event(), []

    def ask() -> Values:
        asked.append(threading.current_thread())
        assert release.wait(30)
        return {BACKLOG: {(): 7}}

    backlog = AskedGauges([BACKLOG], ask, keep_s=60, patience_s=0.01, clock=lambda: 0.0)
    assert [shown(backlog), shown(backlog)] == [None, None]
    assert len(asked) == 1
    release.set()
    asked[0].join()
    assert shown(backlog) == 7


def test_each_value_has_its_labels() -> None:
    values: Values = {QUEUE_IMAGES: {("moderation.scan",): 3, ("moderation.live",): 0}}
    registry = CollectorRegistry()
    registry.register(AskedGauges([QUEUE_IMAGES], lambda: values))
    assert registry.get_sample_value("fakesweep_queue_images", {"queue": "moderation.scan"}) == 3
    assert registry.get_sample_value("fakesweep_queue_images", {"queue": "moderation.live"}) == 0
