"""Producers that can be killed at any moment and started again.

`python -m tests.chaos.producer scan SOURCE TOKEN CHUNK [twice]` starts the scan with this token, or continues it.
`python -m tests.chaos.producer submit JOURNAL PREFIX COUNT [twice]` publishes COUNT live messages. It writes each to
the journal before and after it is published. With `twice`, every message is published twice.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from producers import publishing, scans
from producers.bulk import BulkPublisher
from tests.chaos.ledger import attempts, write
from worker import broker
from worker.database import connect
from worker.errors import BrokerUnavailableError
from worker.messages import LIVE_QUEUE, ImageRef, JudgeImages
from worker.settings import Settings

PACE_S = 0.25
"""Seconds between two live messages, so that they come during the whole round."""


class Twice:
    """A Publisher that publishes every message twice, with another Publisher."""

    def __init__(self, publisher: publishing.Publisher) -> None:
        self._publisher = publisher

    def publish(
        self, queue: str, messages: Sequence[dict[str, Any]], *, waiting: Callable[[], None] = lambda: None
    ) -> None:
        """See Publisher."""
        self._publisher.publish(queue, [one for one in messages for _ in range(2)], waiting=waiting)


def scan(settings: Settings, source: str, token: str, chunk: int, *, twice: bool) -> None:
    """Starts or continues a scan. Commits and publishes `chunk` images at a time."""
    database = connect(settings.database_url.get_secret_value())
    celery = broker.create_app(settings.broker_url.get_secret_value())
    with BulkPublisher(celery, max_depth=settings.max_queue_depth) as bulk:
        publisher: publishing.Publisher = Twice(bulk) if twice else bulk
        row = scans.start_scan(database, scans.Listing(sources=(source,)), token=token)
        publishing.publish_scan(publisher, database, row.id, chunk_size=chunk)


def submit(settings: Settings, journal: Path, prefix: str, count: int, *, twice: bool) -> None:
    """Publishes the live messages that an earlier process has not attempted.

    A failed attempt is not repeated, because nobody knows whether the message was published.
    """
    celery = broker.create_app(settings.broker_url.get_secret_value())
    for number in range(len(attempts(journal)), count):
        message_id, uri = str(uuid4()), f"{prefix}{number:06d}.png"
        job = JudgeImages(images=(ImageRef(uri=uri),))
        for _ in range(2 if twice else 1):
            write(journal, "attempted", message_id, uri)
            try:
                broker.publish(celery, job, LIVE_QUEUE, message_id=message_id)
            except BrokerUnavailableError:
                continue
            write(journal, "confirmed", message_id, uri)
        time.sleep(PACE_S)


def main(arguments: Sequence[str]) -> int:
    """The command line: see the module."""
    what, first, second, number, *rest = arguments
    settings = Settings.from_environment()
    if what == "scan":
        scan(settings, first, second, int(number), twice="twice" in rest)
    else:
        submit(settings, Path(first), second, int(number), twice="twice" in rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
