"""How fast are a manifest's keys published with confirmations, compared with a bare kombu loop without them?"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from kombu import Connection, Exchange, Producer

from benchmarks.comparison import Comparison, Wanted, in_turns
from benchmarks.scratch import AMQP, etag_of, scratch_database, uri_of
from benchmarks.sweeps import empty_queue, sweep, write_manifest
from worker.database.detectors import register_detector
from worker.messages import JUDGE_IMAGES, MAX_IMAGES, SCAN_QUEUE, ImageRef, messages_of
from worker.testing import scripted_description

KEYS = 400_000
ROUNDS = 3
WANTED_KEYS_PER_S = 20_000.0


def compare(wanted: Wanted) -> Iterator[Comparison]:
    """Compares keys per second of `fakesweep scan`, as a process and with its start. No key is known yet."""
    with tempfile.TemporaryDirectory() as folder, scratch_database() as (url, database), empty_queue() as rabbit:
        manifest = write_manifest(Path(folder), KEYS)
        register_detector(database, scripted_description().row())  # so that the keys are looked up, as usual
        ours, bare = in_turns(
            lambda: float(sweep(manifest, url, rabbit)["keys_per_s"]),
            lambda: float(bare_kombu(KEYS // MAX_IMAGES, confirm=False)),
            ROUNDS,
        )
    if wanted("publish.keys_per_s"):
        yield Comparison("publish.keys_per_s", "keys/s", ours, bare, 0.5, higher_is_better=True)
    if wanted("publish.rate"):
        constant = (WANTED_KEYS_PER_S,) * ROUNDS
        yield Comparison("publish.rate", "keys/s", ours, constant, 1.0, higher_is_better=True)


def bare_kombu(messages: int, *, confirm: bool) -> int:
    """Returns keys per second of a loop that only publishes, until RabbitMQ has counted all of them."""
    numbers = range(messages * MAX_IMAGES)
    refs = (ImageRef(uri=uri_of(n), etag=etag_of(n), size=1000) for n in numbers)
    with Connection(AMQP, transport_options={"confirm_publish": confirm}) as connection:
        channel = connection.default_channel
        producer = Producer(channel, Exchange("moderation", type="topic", durable=True), auto_declare=False)
        scan_id, started = uuid4(), time.perf_counter()
        for job in messages_of(refs, scan_id=scan_id):
            message_id = str(uuid4())
            producer.publish(
                [[job.payload()], {}, {}], routing_key=SCAN_QUEUE, serializer="json", delivery_mode=2,
                headers={"task": JUDGE_IMAGES, "id": message_id}, correlation_id=message_id,
            )  # fmt: skip
        while channel.queue_declare(SCAN_QUEUE, passive=True).message_count < messages:
            time.sleep(0.02)
        seconds = time.perf_counter() - started
        channel.queue_purge(SCAN_QUEUE)
    return round(messages * MAX_IMAGES / seconds)
