"""One suite for every publisher: the fake, and BulkPublisher on both brokers.

The tests at the end are about what only a broker can do.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from kombu import Connection

from producers.bulk import UNCONFIRMED, BulkPublisher
from producers.testing import InMemoryPublisher
from tests.processes import wait_for
from worker import broker
from worker.errors import BrokerUnavailableError
from worker.messages import JUDGE_IMAGES, LIVE_QUEUE, MAX_IMAGES, SCAN_QUEUE, ImageRef, JudgeImages

ON_BOTH = pytest.mark.parametrize("clean_broker_url", ["redis", "amqp"], indirect=True)
ENOUGH = 10_000
"""A depth that no test reaches."""

BASIC_ACK, BASIC_NACK = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"
"""Class and method of AMQP 0-9-1's confirmation and of its refusal. The rest of the two frames is the same."""

Message = dict[str, Any]


def numbered(count: int, start: int = 0) -> list[Message]:
    """Messages that all differ. The first one has as many images as a message may have."""
    sizes = [MAX_IMAGES if n == start else 1 for n in range(start, start + count)]
    return [
        JudgeImages(
            images=tuple(ImageRef(uri=f"s3://b/ü {n}/{i}.png", etag="e" * 32, external_id="ß") for i in range(size))
        ).model_dump(mode="json", exclude_none=True)
        for n, size in enumerate(sizes, start)
    ]


def take(url: str, queue: str = SCAN_QUEUE, limit: int = ENOUGH) -> list[Any]:
    """Takes messages from the queue, in order. Returns them as kombu's messages."""
    taken: list[Any] = []
    with Connection(url) as connection:
        bound = broker.work_queue(queue)(connection.default_channel)
        bound.declare()
        while len(taken) < limit and (message := bound.get(no_ack=True)):
            taken.append(message)
    return taken


def messages_in(url: str, queue: str = SCAN_QUEUE) -> list[Message]:
    return [message.payload[0][0] for message in take(url, queue)]


def once_each(messages: list[Message]) -> list[Message]:
    """The messages, each once."""
    return list({message["images"][0]["uri"]: message for message in messages}.values())


class Proxy:
    """A proxy in front of the broker. A test can cut its connections, close it and open it."""

    def __init__(self, broker_url: str) -> None:
        with Connection(broker_url) as connection:
            self._broker = connection.hostname, connection.port or connection.get_transport_cls().default_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        parts = urlsplit(broker_url)
        login = parts.netloc.rpartition("@")
        near = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = parts._replace(netloc=f"{login[0]}{login[1]}{near}").geturl()
        self.is_open = True
        self.bytes_left: int | None = None
        """How many bytes a publisher may still send before all connections are cut and the proxy is closed."""
        self.refuse_next = False
        """Whether to turn RabbitMQ's next confirmation into a refusal."""
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends every connection. New ones are refused until `is_open` is true."""
        self.is_open = False
        for one in self._sockets:
            _shut(one)

    def end(self) -> None:
        self.cut()
        _shut(self._listener)
        for one in (self._listener, *self._sockets):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_open:
                near.close()
                continue
            far = socket.create_connection(self._broker)
            self._sockets += [near, far]
            for source, target, way in ((near, far, self._there), (far, near, self._back)):
                threading.Thread(target=self._carry, args=(source, target, way), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, way: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):
            while carried := way(source.recv(65536)):
                target.sendall(carried)
                if self.bytes_left == 0:
                    self.bytes_left = None
                    self.cut()
        _shut(source)
        _shut(target)

    def _there(self, sent: bytes) -> bytes:
        if self.bytes_left is not None:
            sent = sent[: self.bytes_left]
            self.bytes_left -= len(sent)
        return sent

    def _back(self, sent: bytes) -> bytes:
        if self.refuse_next and BASIC_ACK in sent:
            self.refuse_next = False
            return sent.replace(BASIC_ACK, BASIC_NACK, 1)
        return sent


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(clean_broker_url: str) -> Iterator[Proxy]:
    """A proxy in front of the broker that the test's parameter names."""
    made = Proxy(clean_broker_url)
    yield made
    made.end()


def bulk(url: str, **options: Any) -> BulkPublisher:
    return BulkPublisher(broker.create_app(url), **({"max_depth": ENOUGH} | options))


@dataclass
class Place:
    """The publisher, and a function that returns what has arrived in a queue, in order."""

    publisher: InMemoryPublisher | BulkPublisher
    arrived: Callable[[str], list[Message]]


@pytest.fixture
def in_memory() -> Place:
    publisher = InMemoryPublisher()

    def arrived(queue: str) -> list[Message]:
        return [message for name, message in publisher.published if name == queue]

    return Place(publisher, arrived)


@pytest.fixture
def over_redis(clean_redis_url: str) -> Iterator[Place]:
    with bulk(clean_redis_url) as publisher:
        yield Place(publisher, lambda queue: messages_in(clean_redis_url, queue))


@pytest.fixture
def over_rabbitmq(clean_amqp_url: str) -> Iterator[Place]:
    with bulk(clean_amqp_url) as publisher:
        yield Place(publisher, lambda queue: messages_in(clean_amqp_url, queue))


@pytest.fixture(params=["in_memory", "over_redis", "over_rabbitmq"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("count", [1, UNCONFIRMED, 3 * UNCONFIRMED + 7])
def test_published_messages_arrive_whole_and_in_order(place: Place, count: int) -> None:
    sent = numbered(count)
    place.publisher.publish(SCAN_QUEUE, sent)
    assert place.arrived(SCAN_QUEUE) == sent


def test_each_queue_gets_its_own_messages(place: Place) -> None:
    live, scan, more = numbered(3), numbered(2, start=3), numbered(2, start=5)
    place.publisher.publish(LIVE_QUEUE, live)
    place.publisher.publish(SCAN_QUEUE, scan)
    place.publisher.publish(LIVE_QUEUE, more)
    assert place.arrived(LIVE_QUEUE) == live + more
    assert place.arrived(SCAN_QUEUE) == scan


def test_an_empty_list_publishes_nothing(place: Place) -> None:
    place.publisher.publish(SCAN_QUEUE, [])
    assert place.arrived(SCAN_QUEUE) == []


def test_a_closed_publisher_opens_again(place: Place) -> None:
    first, second = numbered(2), numbered(2, start=2)
    place.publisher.close()
    place.publisher.publish(SCAN_QUEUE, first)
    place.publisher.close()
    place.publisher.close()
    place.publisher.publish(SCAN_QUEUE, second)
    assert place.arrived(SCAN_QUEUE) == first + second


def test_the_fake_fails_once_after_some_messages() -> None:
    sent = numbered(5)
    publisher = InMemoryPublisher(fail_after=3)
    with pytest.raises(BrokerUnavailableError):
        publisher.publish(SCAN_QUEUE, sent)
    assert [message for _, message in publisher.published] == sent[:3]
    publisher.publish(SCAN_QUEUE, sent[3:])
    assert [message for _, message in publisher.published] == sent


@ON_BOTH
def test_messages_travel_as_the_documentation_says(clean_broker_url: str) -> None:
    count, before = UNCONFIRMED + 5, datetime.now(UTC)
    with bulk(clean_broker_url) as publisher:
        publisher.publish(SCAN_QUEUE, numbered(count))
    taken = take(clean_broker_url)
    assert [message.headers["task"] for message in taken] == [JUDGE_IMAGES] * count
    assert all(
        -1 < (datetime.fromisoformat(message.headers["published_at"]) - before).total_seconds() < 60
        for message in taken
    )
    ids = [message.headers["id"] for message in taken]
    assert len({UUID(one) for one in ids}) == count
    assert [message.properties["correlation_id"] for message in taken] == ids
    assert {(message.content_type, message.properties["delivery_mode"]) for message in taken} == {
        ("application/json", 2)
    }
    assert [message.payload for message in taken] == [[[message], {}, {}] for message in numbered(count)]


@ON_BOTH
def test_no_more_messages_wait_than_the_limit(clean_broker_url: str) -> None:
    """The test takes no message before the queue is full.

    Then it takes one at a time, while the publisher refills the queue.
    """
    bound, sent = 20, numbered(70)
    warnings: list[str] = []
    with bulk(clean_broker_url, max_depth=bound, warn=warnings.append) as publisher:
        publishing = threading.Thread(target=publisher.publish, args=(SCAN_QUEUE, sent), daemon=True)
        publishing.start()
        with Connection(clean_broker_url) as connection:
            channel = connection.default_channel
            wait_for(lambda: broker.waiting(channel, SCAN_QUEUE) == bound, 20)
            queue = broker.work_queue(SCAN_QUEUE)(channel)
            depths: list[int] = []
            arrived: list[Message] = []
            until = time.monotonic() + 60
            while len(arrived) < len(sent) and time.monotonic() < until:
                depths.append(broker.waiting(channel, SCAN_QUEUE))
                if message := queue.get(no_ack=True):
                    arrived.append(message.payload[0][0])
                time.sleep(0.005)  # slower than the publisher
        publishing.join(20)
    assert not publishing.is_alive()
    assert (max(depths), arrived, warnings) == (bound, sent, [])


@ON_BOTH
def test_nothing_is_published_to_a_full_queue(clean_broker_url: str) -> None:
    """One message of another producer is enough to make the publisher wait when the limit is 1."""
    other, own = numbered(1), numbered(3, start=1)
    with bulk(clean_broker_url) as publisher:
        publisher.publish(SCAN_QUEUE, other)
    with bulk(clean_broker_url, max_depth=1) as publisher:
        publishing = threading.Thread(target=publisher.publish, args=(SCAN_QUEUE, own), daemon=True)
        publishing.start()
        arrived: list[Message] = []
        for _ in range(4):
            wait_for(lambda: broker.depth(broker.create_app(clean_broker_url), SCAN_QUEUE) == 1, 20)
            arrived += [message.payload[0][0] for message in take(clean_broker_url, limit=1)]
        publishing.join(20)
    assert arrived == other + own


@ON_BOTH
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_broker_that_comes_back_gets_all_messages(proxy: Proxy, clean_broker_url: str, share: float) -> None:
    """The connection is cut in a message, two tries are refused, and then the broker is back.

    Messages that were not confirmed may arrive twice.
    """
    sent, warnings = numbered(3 * UNCONFIRMED), []

    def warn(line: str) -> None:
        warnings.append(line)
        proxy.is_open = len(warnings) > 1

    with bulk(proxy.url, warn=warn) as publisher:
        publisher.publish(SCAN_QUEUE, numbered(1, start=len(sent)))
        proxy.bytes_left = int(share * len(sent) * 400)
        publisher.publish(SCAN_QUEUE, sent)
    assert len(warnings) > 1
    assert all("the broker is away" in line for line in warnings)
    arrived = once_each(messages_in(clean_broker_url))
    assert arrived == numbered(1, start=len(sent)) + sent


@ON_BOTH
def test_patience_starts_again_for_each_lost_connection(proxy: Proxy, clean_broker_url: str) -> None:
    """The queue is full for longer than patience_s. Then the connection is cut and comes back, twice."""
    warnings: list[str] = []
    looks: list[float] = []

    def warn(line: str) -> None:
        warnings.append(line)
        proxy.is_open = True

    def waiting() -> None:
        looks.append(time.monotonic())
        if len(looks) in {5, 8}:
            proxy.cut()
        if len(looks) == 12:
            take(clean_broker_url, limit=1)

    sent = numbered(2)
    with bulk(proxy.url, max_depth=1, patience_s=1.5, warn=warn) as publisher:
        publisher.publish(SCAN_QUEUE, sent[:1])
        publisher.publish(SCAN_QUEUE, sent[1:], waiting=waiting)
    assert looks[-1] - looks[0] > 1.5
    assert len(warnings) >= 2
    assert messages_in(clean_broker_url) == sent[1:]


@ON_BOTH
def test_a_wait_for_room_can_be_ended(clean_broker_url: str) -> None:
    def waiting() -> None:
        raise KeyboardInterrupt

    with bulk(clean_broker_url, max_depth=1) as publisher:
        publisher.publish(SCAN_QUEUE, numbered(1))
        with pytest.raises(KeyboardInterrupt):
            publisher.publish(SCAN_QUEUE, numbered(1, start=1), waiting=waiting)
    assert messages_in(clean_broker_url) == numbered(1)


@ON_BOTH
def test_a_broker_that_stays_away_is_an_error_and_keeps_its_messages(proxy: Proxy, clean_broker_url: str) -> None:
    sent = numbered(4)
    with bulk(proxy.url, patience_s=0.5) as publisher:
        publisher.publish(SCAN_QUEUE, sent[:2])
        proxy.cut()
        with pytest.raises(BrokerUnavailableError, match="BROKER_URL"):
            publisher.publish(SCAN_QUEUE, sent[2:])
        assert messages_in(clean_broker_url) == sent[:2]
        proxy.is_open = True
        publisher.publish(SCAN_QUEUE, sent[2:])
    assert messages_in(clean_broker_url) == sent[2:]


@pytest.mark.rabbitmq
@pytest.mark.parametrize("clean_broker_url", ["amqp"], indirect=True)
def test_messages_that_no_queue_takes_are_published_again(clean_broker_url: str) -> None:
    """The queue is deleted while the publisher is open.

    RabbitMQ returns the messages, and the publisher declares the queue again.
    """
    before, sent, warnings = numbered(2), numbered(5, start=2), list[str]()
    with bulk(clean_broker_url, warn=warnings.append) as publisher:
        publisher.publish(SCAN_QUEUE, before)
        with Connection(clean_broker_url) as connection:
            connection.default_channel.queue_delete(SCAN_QUEUE)
        publisher.publish(SCAN_QUEUE, sent)
    assert len(warnings) == 1
    assert "refused 5 messages" in warnings[0]
    assert messages_in(clean_broker_url) == sent


@pytest.mark.rabbitmq
@pytest.mark.parametrize("clean_broker_url", ["amqp"], indirect=True)
def test_messages_that_rabbitmq_refuses_are_published_again(proxy: Proxy, clean_broker_url: str) -> None:
    """The proxy turns a confirmation into a refusal. RabbitMQ already has the messages, so they arrive twice."""
    sent, warnings = numbered(UNCONFIRMED), list[str]()
    with bulk(proxy.url, warn=warnings.append) as publisher:
        proxy.refuse_next = True
        publisher.publish(SCAN_QUEUE, sent)
    assert len(warnings) == 1
    assert "refused" in warnings[0]
    assert messages_in(clean_broker_url) == sent + sent
