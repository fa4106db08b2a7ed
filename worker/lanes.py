"""A lane for each queue, with its own channel, prefetch window and threads, so that no queue waits for another.

Celery consumes all queues on one channel and runs all tasks in one pool. While 32 messages of a scan run, a live
message would wait for a thread. On Redis, where one prefetch window covers all queues, it would not even be fetched.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.app.amqp import AMQP
from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult, TaskPool
from celery.worker import state
from kombu import Consumer, Queue

from worker.messages import LIVE_QUEUE, SCAN_QUEUE


def queue_of(routing_key: str) -> str:
    """Returns the queue of a routing key. Celery's delayed delivery adds a prefix of bits to the key."""
    return LIVE_QUEUE if routing_key.endswith(LIVE_QUEUE) else SCAN_QUEUE


class LaneConsumer:
    """Celery uses this in place of a kombu Consumer. It holds one Consumer for each queue, each on its own channel."""

    def __init__(self, connection: Any, queues: Iterable[Queue], threads: dict[str, int], **options: Any) -> None:
        self._threads = threads
        # Channels are closed in the reverse order. On Redis, a lane may receive one more message while it closes, and
        # another channel that is still open puts it back; without one it would be lost.
        self._closed_last = connection.channel()
        self._lanes = [Consumer(connection.channel(), queues=[queue], **options) for queue in queues]
        self.qos()

    @property
    def queues(self) -> list[Queue]:
        """All queues that are consumed."""
        return [queue for lane in self._lanes for queue in lane.queues]

    @property
    def channel(self) -> Any:
        """One of the channels. Celery only looks at it for options that we do not set."""
        return self._lanes[0].channel

    @property
    def on_message(self) -> Callable[[Any], Any] | None:
        """The function that is called with each message."""
        callback: Callable[[Any], Any] | None = self._lanes[0].on_message
        return callback

    @on_message.setter
    def on_message(self, callback: Callable[[Any], Any]) -> None:
        for lane in self._lanes:
            lane.on_message = callback

    def consume(self) -> None:
        """Starts consuming all queues."""
        for lane in self._lanes:
            lane.consume()

    def cancel(self) -> None:
        """Stops consuming. Messages that were fetched stay unacknowledged."""
        for lane in self._lanes:
            lane.cancel()

    close = cancel

    def qos(self, **_: Any) -> None:
        """Sets the prefetch windows: a lane's threads, and its messages that wait in this worker for their ETA.

        Celery calls this when the number of such messages has changed. It has one number for all queues.
        """
        waiting = Counter(
            queue_of(str(request.delivery_info.get("routing_key"))) for request in list(state.scheduled_requests)
        )
        for lane in self._lanes:
            queue = lane.queues[0].name
            lane.qos(prefetch_count=self._threads[queue] + waiting[queue], apply_global=False)


class LaneAMQP(AMQP):  # type: ignore[misc]  # Celery is not typed
    """Celery's factory of consumers, which makes a LaneConsumer. `app.conf.lane_threads` holds the threads by queue."""

    def TaskConsumer(self, channel: Any, queues: Any = None, accept: Any = None, **options: Any) -> LaneConsumer:  # noqa: N802 - Celery's name
        """See celery.app.amqp.AMQP; `channel` is the connection."""
        return LaneConsumer(
            channel,
            queues or list(self.queues.consume_from.values()),
            self.app.conf.lane_threads,
            accept=accept or self.app.conf.accept_content,
            **options,
        )


class LanePool(TaskPool):  # type: ignore[misc]  # Celery is not typed
    """Celery's thread pool, with an executor for each lane."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lanes = {
            queue: ThreadPoolExecutor(threads, thread_name_prefix=queue)
            for queue, threads in self.app.conf.lane_threads.items()
        }

    def on_stop(self) -> None:
        """See TaskPool. Running tasks are finished. Messages that wait for a thread stay unacknowledged."""
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)
        for lane in self._lanes.values():
            lane.shutdown()
        super().on_stop()

    def on_apply(
        self, target: Any, args: Any = None, kwargs: Any = None, callback: Any = None, accept_callback: Any = None,
        **_: Any,
    ) -> ApplyResult:  # fmt: skip
        """See TaskPool. `args` are the task's name, its id, its request and its body."""
        queue = queue_of(str(args[2]["delivery_info"]["routing_key"]))
        # A worker of one queue may receive messages with another routing key: somebody may have bound more keys to it.
        lane = self._lanes.get(queue) or next(iter(self._lanes.values()))
        return ApplyResult(lane.submit(apply_target, target, args, kwargs, callback, accept_callback))
