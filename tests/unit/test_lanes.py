"""Each queue has a lane: its own prefetch window, and its own threads. The broker is in memory."""

import threading
from typing import Any

import pytest
from celery import Celery
from celery.worker import state
from kombu import Connection

from worker import broker
from worker.lanes import LaneAMQP, LaneConsumer, LanePool, queue_of
from worker.messages import LIVE_QUEUE, SCAN_QUEUE

THREADS = {LIVE_QUEUE: 2, SCAN_QUEUE: 4}


@pytest.fixture
def app() -> Celery:
    made = broker.create_app("memory://", amqp=LaneAMQP)
    made.conf.lane_threads = THREADS
    return made


class Waiting:
    """A request of Celery that must wait for its time."""

    def __init__(self, routing_key: str) -> None:
        self.delivery_info = {"routing_key": routing_key}


def windows(consumer: LaneConsumer) -> dict[str, int]:
    return {lane.queues[0].name: lane.channel.qos.prefetch_count for lane in consumer._lanes}


def test_each_lane_fetches_as_many_messages_as_it_has_threads(app: Celery) -> None:
    with Connection("memory://") as connection:
        consumer = app.amqp.TaskConsumer(connection)
        assert windows(consumer) == THREADS
        assert len({lane.channel for lane in consumer._lanes}) == 2


def test_messages_with_an_eta_widen_only_the_window_of_their_lane(app: Celery) -> None:
    waiting = [Waiting(SCAN_QUEUE) for _ in range(10)] + [Waiting(f"0.1.{LIVE_QUEUE}")]
    with Connection("memory://") as connection:
        consumer = app.amqp.TaskConsumer(connection)
        state.scheduled_requests.update(waiting)
        consumer.qos(prefetch_count=6 + 11)
        assert windows(consumer) == {LIVE_QUEUE: 3, SCAN_QUEUE: 14}
        for one in waiting:
            state.scheduled_requests.discard(one)
        consumer.qos(prefetch_count=6)
        assert windows(consumer) == THREADS


def test_a_full_lane_does_not_block_the_other_one(app: Celery) -> None:
    got: list[tuple[str, Any]] = []
    with Connection("memory://") as connection:
        consumer = app.amqp.TaskConsumer(connection)
        consumer.on_message = lambda message: got.append((message.delivery_info["routing_key"], message))
        consumer.consume()
        producer = connection.Producer()
        for queue in (SCAN_QUEUE, LIVE_QUEUE):
            for number in range(6):
                producer.publish({"n": number}, exchange=broker.EXCHANGE, routing_key=queue)
        for _ in range(20):
            try:
                connection.drain_events(timeout=0.1)
            except TimeoutError:
                break
        assert sorted(queue for queue, _ in got) == [LIVE_QUEUE] * 2 + [SCAN_QUEUE] * 4
        consumer.cancel()


@pytest.mark.parametrize(
    ("routing_key", "queue"),
    [
        (LIVE_QUEUE, LIVE_QUEUE),
        (f"0.0.1.1.{LIVE_QUEUE}", LIVE_QUEUE),
        (SCAN_QUEUE, SCAN_QUEUE),
        ("another", SCAN_QUEUE),
    ],
)
def test_a_routing_key_belongs_to_a_queue(routing_key: str, queue: str) -> None:
    assert queue_of(routing_key) == queue


def work(_name: str, _id: str, _request: dict[str, Any], started: threading.Event, go_on: threading.Event) -> None:
    started.set()
    go_on.wait(10)


def apply(pool: LanePool, queue: str, go_on: threading.Event) -> threading.Event:
    started = threading.Event()
    request = {"delivery_info": {"routing_key": queue}}
    pool.on_apply(work, ("judge", "1", request, started, go_on), {}, lambda _: None, lambda *_: None)
    return started


def test_busy_threads_of_a_lane_do_not_block_the_other_lane(app: Celery) -> None:
    pool, go_on = LanePool(6, app=app), threading.Event()
    scans = [apply(pool, SCAN_QUEUE, go_on) for _ in range(5)]
    assert all(started.wait(5) for started in scans[:4])
    assert not scans[4].wait(0.05)
    assert apply(pool, LIVE_QUEUE, go_on).wait(5)
    go_on.set()
    pool.on_stop()


def test_a_worker_of_one_queue_takes_messages_with_any_routing_key(app: Celery) -> None:
    app.conf.lane_threads = {LIVE_QUEUE: 1}
    pool, go_on = LanePool(1, app=app), threading.Event()
    assert apply(pool, "another.key", go_on).wait(5)
    go_on.set()
    pool.on_stop()
