"""How fast are keys of a manifest published, and known ones passed by? RabbitMQ and Postgres as the tests find them.

    python -m benchmarks.listing_rate [--keys 1000000]

Runs `fakesweep scan` as a process: a tenth of the keys, all of them, and all of them again once they are known. Beside
it, in the same run, a bare kombu loop that publishes the same messages, with kombu's confirmations and with none.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from kombu import Connection, Exchange, Producer

from benchmarks.scratch import AMQP, etag_of, know_images, scratch_database, uri_of, write_result
from worker import broker
from worker.database.detectors import register_detector
from worker.messages import JUDGE_IMAGES, MAX_IMAGES, SCAN_QUEUE, ImageRef, messages_of
from worker.testing import scripted_description

CONFIRMED_SAMPLE = 5000
"""Messages of the loop that waits for each confirmation: it needs a millisecond for each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    keys = parser.parse_args().keys
    with tempfile.TemporaryDirectory() as folder, scratch_database() as (url, database), Connection(AMQP) as rabbit:
        broker.declare_queues(rabbit)
        rabbit.default_channel.queue_purge(SCAN_QUEUE)
        tenth, whole = write_manifest(Path(folder), keys // 10), write_manifest(Path(folder), keys)
        small = sweep(tenth, url, rabbit)
        first = sweep(whole, url, rabbit)
        bare, confirmed = bare_kombu(keys // MAX_IMAGES, confirm=False), bare_kombu(CONFIRMED_SAMPLE, confirm=True)
        know_images(url, register_detector(database, scripted_description().row()), keys)
        second = sweep(whole, url, rabbit)
    write_result(
        "listing_rate",
        {
            "keys": keys,
            "first_scan": first,
            "second_scan": second,
            "bare_kombu_keys_per_s": {"without_confirmations": bare, "each_confirmed": confirmed},
            "first_scan_to_bare_without_confirmations": round(first["keys_per_s"] / bare, 2),
            "first_scan_to_bare_each_confirmed": round(first["keys_per_s"] / confirmed, 2),
            "peak_memory_to_that_of_a_tenth": round(first["peak_memory_mib"] / small["peak_memory_mib"], 2),
            "a_tenth": small,
        },
    )


def write_manifest(folder: Path, keys: int) -> Path:
    """JSON Lines as Rekognition takes them, with ETag and size."""
    path = folder / f"{keys}.jsonl"
    with path.open("w") as file:
        for number in range(keys):
            file.write(json.dumps({"source-ref": uri_of(number), "etag": etag_of(number), "size": 1000}) + "\n")
    return path


def sweep(manifest: Path, url: str, rabbit: Connection) -> dict[str, Any]:
    """Runs the command to its end and takes its messages off the queue again."""
    environment = os.environ | {
        "DATABASE_URL": url,
        "BROKER_URL": AMQP,
        "FAKESWEEP_MAX_QUEUE_DEPTH": "10000000",  # nobody takes them off
    }
    started = time.perf_counter()
    command = [sys.executable, "-m", "producers", "scan", str(manifest), "--json"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    printed = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    counts = json.loads(printed)
    messages = rabbit.default_channel.queue_purge(SCAN_QUEUE)
    if status or counts["listed"] * MAX_IMAGES < messages:
        raise SystemExit(f"the scan failed: {counts}")
    return {
        "keys_per_s": round(counts["listed"] / seconds),
        "messages": messages,
        "reused": counts["reused"],
        "status": counts["status"],
        "cpu_us_per_key": round((usage.ru_utime + usage.ru_stime) / counts["listed"] * 1e6, 1),
        "peak_memory_mib": round(usage.ru_maxrss / 1024, 1),
    }


def bare_kombu(messages: int, *, confirm: bool) -> int:
    """Keys a second of a loop that does nothing but publish, until RabbitMQ counts them all."""
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


if __name__ == "__main__":
    main()
