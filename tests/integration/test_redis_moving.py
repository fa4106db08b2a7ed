"""On Redis, a message on its way to a worker is not lost when the worker or the connection ends."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from kombu import Connection, Consumer, Exchange, Queue
from redis import Redis

from deploy.demo.services import embedded_redis
from tests.chaos.proxy import proxy_to
from tests.chaos.toxics import Timeout
from tests.drawn_messages import good
from tests.drawn_messages import publish as publish_messages
from tests.processes import running_worker, wait_for
from worker.messages import SCAN_QUEUE
from worker.redis_moving import MOVING, SEEN, Transport

QUEUE = Queue("on-its-way", Exchange("on-its-way"), routing_key="on-its-way")
OPTIONS = {"visibility_timeout": 1, "unacked_restore_throttle": 1}


@pytest.fixture
def redis(clean_redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(clean_redis_url) as client:
        yield client


def connect(url: str) -> Connection:
    return Connection(url, transport=Transport, transport_options=OPTIONS)


def publish(url: str, *bodies: str, **options: Any) -> None:
    with connect(url) as connection:
        for body in bodies:
            connection.Producer().publish(
                body, exchange=QUEUE.exchange, routing_key=QUEUE.routing_key, declare=[QUEUE], **options
            )


def received(url: str, count: int, timeout_s: float = 10) -> list[str]:
    """Receives and acknowledges `count` messages, and then all that are left. Returns their bodies."""
    bodies: list[str] = []

    def take(body: str, message: Any) -> None:
        bodies.append(body)
        message.ack()

    with connect(url) as connection, Consumer(connection, [QUEUE], callbacks=[take]):
        drain(connection, lambda: len(bodies) >= count, timeout_s)
        drain(connection, lambda: False, 0.5)
    return bodies


def drain(connection: Connection, done: Callable[[], bool], timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while not done() and time.monotonic() < until:
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.2)


def test_a_message_whose_connection_breaks_on_its_way_comes_back(clean_redis_url: str, redis: Redis) -> None:
    address = urlsplit(clean_redis_url)
    with proxy_to(address.port or 6379) as proxy:
        url = address._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
        connection = connect(url)
        with suppress(OSError, *connection.connection_errors), Consumer(connection, [QUEUE]):
            drain(connection, lambda: False, 0.5)  # it waits for a message now
            broken = proxy.add(Timeout())
            publish(clean_redis_url, "first")
            taken_by_redis(redis)
            proxy.remove(broken)
        with suppress(OSError, *connection.connection_errors):
            connection.release()
    assert redis.llen(QUEUE.name) == 0
    assert received(clean_redis_url, 1) == ["first"]


def taken_by_redis(redis: Redis) -> None:
    """Returns when Redis has handed the message to the connection that waits for it."""
    for _ in range(50):
        if not redis.llen(QUEUE.name):
            return
        time.sleep(0.1)
    raise AssertionError("nobody waits for a message")


def test_messages_arrive_once_in_their_order_and_leave_nothing_behind(clean_redis_url: str, redis: Redis) -> None:
    bodies = [str(number) for number in range(30)]
    publish(clean_redis_url, *bodies)
    assert received(clean_redis_url, 30) == bodies
    time.sleep(1.1)
    assert received(clean_redis_url, 0) == []
    assert not redis.exists(QUEUE.name, QUEUE.name + MOVING, QUEUE.name + SEEN, "unacked", "unacked_index")


def test_an_empty_entry_is_handed_over_too(clean_redis_url: str, redis: Redis) -> None:
    redis.lpush(QUEUE.name, b"")
    assert len(received(clean_redis_url, 1)) == 1
    assert not redis.exists(QUEUE.name, QUEUE.name + MOVING)


def test_a_message_with_a_priority_arrives(clean_redis_url: str) -> None:
    publish(clean_redis_url, "urgent", priority=9)
    assert received(clean_redis_url, 1) == ["urgent"]


def test_a_message_that_has_arrived_is_not_put_back(clean_redis_url: str, redis: Redis) -> None:
    """Another worker saw it on its way, just before it arrived."""
    publish(clean_redis_url, "first")
    (entry,) = redis.lrange(QUEUE.name, 0, -1)
    assert isinstance(entry, bytes)
    redis.zadd(QUEUE.name + SEEN, {entry: 1})
    assert received(clean_redis_url, 1) == ["first"]
    assert received(clean_redis_url, 0) == []


def test_a_redis_that_is_full_ends_no_worker(database_url: str, tmp_path: Path) -> None:
    """Redis moves nothing then. The worker connects again until there is room."""
    with embedded_redis(tmp_path / "redis") as url, Redis.from_url(url) as client:
        environment = {"DATABASE_URL": database_url, "BROKER_URL": url, "FAKESWEEP_THREADS": "2"}
        with running_worker(["tests.scripted_worker", "0", "-1"], environment, tmp_path / "log", 60) as worker:
            client.set("large", "x" * 3_000_000)
            client.config_set("maxmemory", "2mb")
            wait_for(lambda: "when used memory" in worker.log.read_text(), 20, worker.process, worker.log)
            client.config_set("maxmemory", "0")
            publish_messages(url, SCAN_QUEUE, [good("full")])
            with psycopg.connect(database_url, autocommit=True) as postgres:
                found = "SELECT reason FROM findings"
                wait_for(lambda: bool(postgres.execute(found).fetchall()), 30, worker.process, worker.log)
            assert worker.stop() == 0
