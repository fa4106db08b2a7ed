"""Runs a worker as a process on real RabbitMQ, Postgres and S3, and scans that go through it from end to end."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import psutil
from sqlalchemy import text

from benchmarks import DEMO_DETECTOR
from benchmarks.scratch import AMQP, scratch_database
from deploy.demo.processes import running
from deploy.demo.services import s3_server
from producers.bulk import BulkPublisher
from producers.limits import Limits
from producers.listing import Page
from producers.publishing import publish_scan
from producers.scans import Listing, start_scan
from worker import broker
from worker.database import Database
from worker.messages import DEAD_QUEUE, LIVE_QUEUE, SCAN_QUEUE, ImageRef, Policy

BUCKET = "benchmark"
SMALL_ENGINE = {
    "FAKESWEEP_DETECTOR": str(DEMO_DETECTOR),
    "FAKESWEEP_GPU_MEMORY_UTILIZATION": "0.2",
    "FAKESWEEP_MAX_NUM_SEQS": "64",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}
"""The environment for vLLM's CPU build with the demo detector on a small machine."""


@dataclass(frozen=True)
class InOnePage:
    """A Source of images that are given."""

    refs: Sequence[ImageRef]

    def pages(self, cursor: str | None) -> Iterator[Page]:
        """See producers.listing.Source."""
        if cursor is None:
            yield Page(tuple(self.refs), "end", {})


@dataclass(frozen=True)
class Rig:
    """The services that a worker needs, and what a producer does with them."""

    folder: Path
    database_url: str
    database: Database
    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the worker's process."""
        return {
            **os.environ,
            "DATABASE_URL": self.database_url,
            "BROKER_URL": AMQP,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_REGION": "us-east-1",
            "FAKESWEEP_LOG_LEVEL": "INFO",
        }

    @contextmanager
    def worker(
        self, module: Sequence[str], changes: Mapping[str, str], *, end: signal.Signals = signal.SIGTERM
    ) -> Iterator[psutil.Process]:
        """Runs a worker, and yields it when it is ready. Ends it and its children with the signal `end`."""
        log = self._log(module)
        log.unlink(missing_ok=True)
        command = [sys.executable, "-m", *module]
        environment = self.environment | dict(changes)
        with running(
            "the worker", command, log, lambda _: _is_ready(log), end=end, start_limit_s=900, env=environment
        ) as process:
            yield psutil.Process(process.pid)

    def log_of(self, module: Sequence[str]) -> str:
        """Returns what the last worker of this module wrote."""
        return self._log(module).read_text(errors="replace")

    def _log(self, module: Sequence[str]) -> Path:
        return self.folder / f"{module[0]}.log"

    def empty_queues(self) -> None:
        """Deletes all messages in our queues of the broker."""
        with broker.create_app(AMQP).connection_for_write() as connection:
            broker.declare_queues(connection)
            for queue in (LIVE_QUEUE, SCAN_QUEUE, DEAD_QUEUE):
                connection.default_channel.queue_purge(queue)

    def waiting(self) -> int:
        """Returns how many messages of scans wait in the queue."""
        return broker.depth(broker.create_app(AMQP), SCAN_QUEUE)

    def store(self, objects: Mapping[str, bytes]) -> list[ImageRef]:
        """Puts the objects into S3. Returns their refs with ETags, like a listing."""
        client = self.client()

        def put(key: str) -> ImageRef:
            answer = client.put_object(Bucket=BUCKET, Key=key, Body=objects[key])
            return ImageRef(uri=f"s3://{BUCKET}/{key}", etag=answer["ETag"].strip('"'), size=len(objects[key]))

        with ThreadPoolExecutor(4) as threads:
            return list(threads.map(put, objects))

    def client(self) -> Any:
        """Returns boto3's client for the S3 server."""
        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id="benchmark", aws_secret_access_key="benchmark",
        )  # fmt: skip

    def start_scan(self, refs: Sequence[ImageRef], **policy: Any) -> UUID:
        """Publishes a scan of these images. It continues after this returns."""
        scan = start_scan(
            self.database, Listing(sources=(f"s3://{BUCKET}/",)), policy=Policy(**policy),
            limits=Limits(None, None),
        )  # fmt: skip
        with BulkPublisher(broker.create_app(AMQP), max_depth=100_000) as publisher:
            publish_scan(publisher, self.database, scan.id, opened=lambda *_: InOnePage(refs))
        return scan.id

    def progress(self, scan_id: UUID) -> tuple[int, bool]:
        """Returns how many images have a verdict, and whether all have one. Raises SystemExit if one failed."""
        with self.database.connect() as connection:
            query = text("SELECT judged, failed, status FROM scans WHERE id = :id")
            judged, failed, status = connection.execute(query, {"id": scan_id}).one()
            if failed:
                why = text(
                    "SELECT DISTINCT reason || ': ' || detail FROM findings WHERE scan_id = :id AND reason <> ''"
                )
                causes = connection.execute(why, {"id": scan_id}).scalars()
                raise SystemExit(f"{failed} images of the scan failed: {'; '.join(causes)}")
        return int(judged), status == "done"

    def wait_for(self, scan_id: UUID) -> None:
        """Returns when every image of the scan has its verdict."""
        while not self.progress(scan_id)[1]:
            time.sleep(0.05)

    def sweep(self, refs: Sequence[ImageRef], **policy: Any) -> float:
        """Returns the seconds from the first published message to the last committed finding."""
        started = time.perf_counter()
        self.wait_for(self.start_scan(refs, **policy))
        return time.perf_counter() - started


@contextmanager
def rig() -> Iterator[Rig]:
    """Gives empty services. It also empties our queues on TEST_AMQP_URL: nobody else may use them until the end."""
    with tempfile.TemporaryDirectory() as name, scratch_database() as (url, database), s3_server(Path(name)) as s3:
        made = Rig(Path(name), url, database, s3)
        made.client().create_bucket(Bucket=BUCKET)
        made.empty_queues()
        yield made


def _is_ready(log: Path) -> bool:
    return log.exists() and '"event": "worker_ready"' in log.read_text(encoding="utf-8", errors="replace")
