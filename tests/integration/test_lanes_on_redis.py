"""A message that a lane receives while it closes goes back to its queue. On Redis, the client must do this itself."""

import time
from contextlib import suppress

import pytest
import redis

from worker import broker
from worker.lanes import LaneAMQP
from worker.messages import LIVE_QUEUE, SCAN_QUEUE

BOTH = {LIVE_QUEUE: 4, SCAN_QUEUE: 8}


@pytest.mark.parametrize(("threads", "queue"), [(BOTH, LIVE_QUEUE), (BOTH, SCAN_QUEUE), ({LIVE_QUEUE: 4}, LIVE_QUEUE)])
def test_a_message_that_comes_while_a_worker_stops_is_not_lost(
    clean_redis_url: str, threads: dict[str, int], queue: str
) -> None:
    app = broker.create_app(clean_redis_url, amqp=LaneAMQP)
    app.conf.lane_threads = threads
    app.amqp.queues.select(list(threads))
    connection = app.connection_for_read()
    broker.declare_queues(connection)
    consumer = app.amqp.TaskConsumer(connection)
    got: list[object] = []
    consumer.on_message = got.append
    consumer.consume()
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.3)  # from now on each lane waits inside Redis for a message
    consumer.cancel()
    with app.connection_for_write() as other:
        app.amqp.Producer(other, auto_declare=False).publish(
            {"n": 1}, exchange=broker.EXCHANGE, routing_key=queue, serializer="json"
        )
    time.sleep(0.1)  # until Redis has handed it over
    consumer.close()
    connection.close()
    assert got == []
    with redis.Redis.from_url(clean_redis_url) as client:
        assert client.llen(queue) == 1
