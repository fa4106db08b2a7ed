"""A ground: the services, the proxies in front of them, the workers and the producers of one broker."""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.chaos.bucket import Bucket, serving_bucket
from tests.chaos.clock import Clock
from tests.chaos.disk import Disk, small_disk
from tests.chaos.keeper import Kept, wait_until
from tests.chaos.proxy import HOST, LoopThread, Proxy
from tests.chaos.services import MissingError, Service, postgres, rabbitmq, redis_server
from worker.broker import check_broker, create_app
from worker.database import connect
from worker.migrate import upgrade

BROKERS = {"redis": redis_server, "amqp": rabbitmq}
WORKERS = 2


@dataclass
class Ground:
    """All parts that belong to one broker. `links`: the proxies by the services behind them: broker, postgres, s3.

    `missing`: the kinds of faults that this machine cannot cause, and why.
    """

    folder: Path
    broker: Service
    postgres: Service
    disk: Disk
    bucket: Bucket
    links: Mapping[str, Proxy]
    clock: Clock
    image_s: float
    missing: dict[str, str] = field(default_factory=dict)
    workers: list[Kept] = field(default_factory=list)
    producers: list[Kept] = field(default_factory=list)
    source: str = ""
    """The prefix of the round's scan."""

    @property
    def engine(self) -> Path:
        """The folder of orders to the engines: a file in it makes an engine fail. See tests.chaos.worker."""
        return self.folder / "engine"

    @property
    def deliveries(self) -> Path:
        """The file in which workers write each delivery of a message."""
        return self.folder / "deliveries"

    @property
    def malformed(self) -> Path:
        """The journal of the messages that no worker can understand."""
        return self.folder / "malformed"

    def environment(self) -> dict[str, str]:
        """Returns the settings of workers and producers, which reach all services through the proxies."""
        return {
            "DATABASE_URL": _through(self.postgres.url, self.links["postgres"]),
            "BROKER_URL": _through(self.broker.url, self.links["broker"]),
            "AWS_ENDPOINT_URL_S3": _through(self.bucket.url, self.links["s3"]),
            "AWS_ACCESS_KEY_ID": "chaos",
            "AWS_SECRET_ACCESS_KEY": "chaos",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "FAKESWEEP_FETCH_TIMEOUT_S": "1",
            "FAKESWEEP_RETRY_DELAY_S": "1",
            "FAKESWEEP_RETRY_LIMIT": "3",
            "FAKESWEEP_ENGINE_STALL_S": "2",
            "FAKESWEEP_MAX_BYTES": str(2**18),
            "FAKESWEEP_MAX_QUEUE_DEPTH": "12",
            "FAKESWEEP_THREADS": "3",
            "FAKESWEEP_LIVE_THREADS": "2",
            "FAKESWEEP_DATABASE_CONNECTIONS": "4",
        }

    def ready(self, worker: Kept) -> bool:
        """Whether the worker's current process takes messages."""
        return worker.pid is not None and (self.folder / "ready" / str(worker.pid)).exists()

    def start_workers(self) -> None:
        """Starts the workers. The first one has a clock that can jump, if this machine can do that."""
        command = [sys.executable, "-m", "tests.chaos.worker", str(self.folder), str(self.image_s)]
        for number in range(WORKERS):
            clock = self.clock.environment if number == 0 and "clock_jump" not in self.missing else {}
            self.workers.append(Kept(command, self.environment() | clock, self.folder / f"worker-{number}.log"))

    def start_producer(self, name: str, *arguments: str) -> Kept:
        """Starts a tests.chaos.producer, which is started again until it is done."""
        command = [sys.executable, "-m", "tests.chaos.producer", *arguments]
        kept = Kept(command, self.environment(), self.folder / f"{name}.log", until_done=True)
        self.producers.append(kept)
        return kept

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Waits until all workers take messages."""
        if not wait_until(lambda: all(map(self.ready, self.workers)), timeout_s):
            logs = [path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("worker-*.log"))]
            raise AssertionError("the workers do not start:\n" + "\n".join(logs))

    def end(self) -> None:
        """Ends workers and producers."""
        for kept in (*self.producers, *self.workers):
            kept.end()


def _through(url: str, proxy: Proxy) -> str:
    port = urlsplit(url).port
    return url.replace(f"{HOST}:{port}", f"{HOST}:{proxy.port}")


@contextmanager
def ground(broker: str, *, image_s: float, keep_logs: Path) -> Iterator[Ground]:
    """Starts the ground of one broker, `redis` or `amqp`. When it is given, its workers take messages.

    The engine takes `image_s` seconds for an image. At the end, the logs are copied to the folder `keep_logs`.
    Raises MissingError.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        for name in ("engine", "ready"):
            (folder / name).mkdir()
        broker_service = stack.enter_context(BROKERS[broker](folder / "broker"))
        disk = stack.enter_context(small_disk(folder / "disk"))
        database = stack.enter_context(postgres(disk.folder, folder))
        bucket = stack.enter_context(serving_bucket())
        loop = stack.enter_context(LoopThread())
        ports = {"broker": broker_service.port, "postgres": database.port, "s3": urlsplit(bucket.url).port or 0}
        links = {name: Proxy(loop, port) for name, port in ports.items()}
        clock = Clock(folder / "clock")
        made = Ground(folder, broker_service, database, disk, bucket, links, clock, image_s)
        _look_for_what_is_missing(made)
        _prepare(made)
        stack.callback(_keep_logs, folder, keep_logs)
        stack.callback(made.end)
        made.start_workers()
        made.wait_ready()
        yield made


def _look_for_what_is_missing(made: Ground) -> None:
    if made.disk.why_not:
        made.missing["full_disk"] = made.disk.why_not
    try:
        made.clock.check()
    except MissingError as error:
        made.missing["clock_jump"] = str(error)


def _prepare(made: Ground) -> None:
    database = connect(made.postgres.url)
    upgrade(database)
    database.dispose()
    check_broker(create_app(made.broker.url))


def _keep_logs(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    # Redis' append-only file holds everything that happened to a message.
    kept = (*folder.glob("*.log"), folder / "deliveries", folder / "malformed", folder / "broker" / "appendonlydir")
    for one in kept:
        subprocess.run(["cp", "-r", str(one), str(target)], check=False, capture_output=True)


def pause(chance: random.Random, least_s: float, most_s: float) -> None:
    """Waits for a random time between the two."""
    time.sleep(chance.uniform(least_s, most_s))
