"""RabbitMQ and Redis say whether a worker listens."""

from functools import partial
from pathlib import Path

from celery import Celery

from producers.listeners import Attendance, listeners
from tests.integration.test_broker import BOTH, NO_POISON, QUICK, query, settings_for, worker
from tests.killing import write_pngs
from tests.processes import fakesweep, wait_for
from worker import broker
from worker.errors import BrokerUnavailableError
from worker.messages import LIVE_QUEUE, SCAN_QUEUE


def _listened(app: Celery, queue: str) -> bool:
    return bool(listeners(app, queue))


@BOTH
def test_workers_are_counted(clean_broker_url: str, database_url: str, tmp_path: Path) -> None:
    app = broker.create_app(clean_broker_url)
    broker.check_broker(app)
    assert [listeners(app, queue) for queue in (LIVE_QUEUE, SCAN_QUEUE)] == [0, 0]
    with worker(QUICK, NO_POISON, settings_for(database_url, clean_broker_url), tmp_path) as running:
        for queue in (LIVE_QUEUE, SCAN_QUEUE):
            wait_for(partial(_listened, app, queue), 20, running.process, running.log)
    assert [listeners(app, queue) for queue in (LIVE_QUEUE, SCAN_QUEUE)] == [0, 0]


@BOTH
def test_a_worker_that_is_busy_is_not_called_absent(clean_broker_url: str, database_url: str, tmp_path: Path) -> None:
    write_pngs(tmp_path / "images", 64)
    environment = settings_for(database_url, clean_broker_url) | {"FAKESWEEP_THREADS": "1"}
    app = broker.create_app(clean_broker_url)
    assert fakesweep("scan", str(tmp_path / "images"), environment=environment).returncode == 0
    with worker("0.3", NO_POISON, environment, tmp_path) as running:
        wait_for(lambda: broker.depth(app, SCAN_QUEUE) < 4, 20, running.process, running.log)
        assert [listeners(app, SCAN_QUEUE) for _ in range(5)].count(0) == 0


@BOTH
def test_status_says_that_no_worker_listens(clean_broker_url: str, database_url: str, tmp_path: Path) -> None:
    write_pngs(tmp_path / "images", 3)
    environment = settings_for(database_url, clean_broker_url)
    scan = fakesweep("scan", str(tmp_path / "images"), "--name", "one", environment=environment).stdout.strip()
    for arguments in (("status",), ("status", "one")):
        done = fakesweep(*arguments, environment=environment)
        assert (done.returncode, scan in done.stdout) == (0, True)
        assert "no worker listens to the queue moderation.scan: start one with `fakesweep worker`" in done.stderr
    quiet = fakesweep("status", "one", environment=environment | {"BROKER_URL": ""})
    assert (quiet.returncode, quiet.stderr) == (0, ""), "status needs no broker"
    away = fakesweep("status", "one", environment=environment | {"BROKER_URL": "amqp://guest:guest@127.0.0.1:9//"})
    assert (away.returncode, "nobody knows whether a worker listens" in away.stderr) == (0, True)
    with worker(QUICK, NO_POISON, environment, tmp_path):
        query(
            database_url, "UPDATE scans SET status = 'running', listed = 9 RETURNING 1"
        )  # even if the worker was quick
        done = fakesweep("status", environment=environment)
        assert ("running" in done.stdout, done.stderr) == (True, "")


def test_a_missing_worker_is_named_once_until_a_worker_has_listened() -> None:
    answers: list[int | Exception | None] = [0, 0, None, 0, 2, BrokerUnavailableError("away"), 0]
    now = [0.0]
    said: list[str] = []

    def ask() -> int | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    attendance = Attendance(SCAN_QUEUE, ask, said.append, clock=lambda: now[0])
    counted = []
    for _ in range(7):
        attendance.look()
        attendance.look()  # too early to ask again
        counted.append(len(said))
        now[0] += 16
    assert answers == []
    assert counted == [1, 1, 1, 2, 2, 2, 3]
    assert all(SCAN_QUEUE in line for line in said)
