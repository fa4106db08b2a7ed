"""Nothing that is published can end a worker or get lost: what is no message becomes a dead letter with a reason."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kombu import Connection

from tests.drawn_messages import Sent, drawn, good, known_bad, publish, uri
from tests.processes import RunningWorker, fakesweep, running_worker, wait_for
from worker import broker
from worker.database import connect, transaction
from worker.database.partitions import ensure_partition
from worker.envelope import open_envelope
from worker.errors import InvalidMessageError
from worker.messages import LIVE_QUEUE, SCAN_QUEUE
from worker.tables import Scan, ScanStatus

BOTH = pytest.mark.parametrize("clean_broker_url", ["amqp", "redis"], indirect=True)


def environment_of(database_url: str, broker_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "FAKESWEEP_THREADS": "2"}


def counted(broker_url: str, database_url: str) -> tuple[int, int]:
    """How many dead letters there are, and how many findings."""
    with Connection(broker_url) as connection, psycopg.connect(database_url) as postgres:
        dead = broker.dead_count(connection.default_channel)
        (findings,) = postgres.execute("SELECT count(*) FROM findings").fetchone() or (0,)
        return dead, findings


def ended(broker_url: str, database_url: str) -> int:
    """How many messages have ended. Each has a finding or a dead letter, or both if it is valid and was given up."""
    with psycopg.connect(database_url) as postgres:
        given_up = "SELECT count(*) FROM findings WHERE reason = 'engine_failed'"
        (both,) = postgres.execute(given_up).fetchone() or (0,)
    return sum(counted(broker_url, database_url)) - int(both)


def letters(broker_url: str) -> list[dict[str, Any]]:
    taken = []
    with Connection(broker_url) as connection:
        queue = broker.dead_queue()(connection.default_channel)
        queue.declare()
        while message := queue.get(no_ack=True):
            taken.append(json.loads(message.body))
    return taken


@BOTH
def test_each_kind_of_bad_message_becomes_a_dead_letter_with_its_reason(
    clean_broker_url: str, database_url: str, tmp_path: Path
) -> None:
    """Half of them are in the queue before the worker starts, so that it reads them first of all."""
    mark = uuid.uuid4().hex
    bad = list(known_bad(mark).values())
    if clean_broker_url.startswith("redis"):
        bad += [Sent(None, None, raw=entry) for entry in (b"no envelope", b"\xff\xfe", b"null", b"[]", b'{"body": 5}')]
    publish(clean_broker_url, SCAN_QUEUE, bad[::2])
    environment = environment_of(database_url, clean_broker_url)
    with running_worker(["tests.scripted_worker", "0", "-1"], environment, tmp_path / "log", ready_s=60) as worker:
        publish(clean_broker_url, LIVE_QUEUE, [*bad[1::2], good(mark)])
        # Two are valid but refused. Both name one image, which fails. The image of the good message does not exist.
        wait_for(lambda: counted(clean_broker_url, database_url) == (len(bad), 2), 30, worker.process, worker.log)
        assert worker.stop() == 0
    dead = letters(clean_broker_url)
    assert {letter["reason"].partition(":")[0] for letter in dead} == {"InvalidMessageError", "MessageGivenUpError"}
    assert {letter["queue"] for letter in dead} == {SCAN_QUEUE, LIVE_QUEUE}


@pytest.mark.parametrize(
    "properties",
    [
        b"\x80\x00\x02\xff\xfe",
        b"\x20\x00\x00\x00\x00\x0b\x01aT" + b"\xff" * 8,
        b"\x20\x00\x00\x00\x00\x04\x01a?x",
    ],
)
def test_properties_that_cannot_be_read_do_not_stop_the_reading(properties: bytes) -> None:
    """A content type that is no UTF-8, a time beyond the year 9999, a field of an unknown type."""
    from amqp.connection import Connection as Amqp

    from worker.amqp_frames import tolerant_frames

    got: list[Any] = []
    connection = Amqp()
    read = tolerant_frames(connection, lambda *given: got.append(given[-1]))
    read((1, 1, b"\x00\x3c\x00\x3c" + b"the method's arguments"))
    read((2, 1, b"\x00\x3c\x00\x00" + (5).to_bytes(8, "big") + properties))
    read((3, 1, b"hello"))
    (message,) = got
    assert bytes(message.body) == b"hello"
    with pytest.raises(InvalidMessageError, match=r"^the properties of the message cannot be read: "):
        open_envelope(message.headers, message.body, "application/json")
    read((1, 1, b"\x00\x3c\x00\x3c" + b"the method's arguments"))
    read((2, 1, b"\x00\x3c\x00\x00" + (5).to_bytes(8, "big") + b"\0\0"))
    read((3, 1, b"hello"))
    assert got[1].headers == {}, "the next message is read as usual"


@BOTH
def test_dead_letters_are_listed_shown_replayed_and_discarded(
    clean_broker_url: str, database_url: str, tmp_path: Path
) -> None:
    environment = environment_of(database_url, clean_broker_url)
    image = tmp_path / "grey.png"
    scan = str(uuid.uuid4())
    job = {"version": 1, "scan_id": scan, "images": [{"uri": image.as_uri()}]}
    publish(clean_broker_url, LIVE_QUEUE, [Sent([[job], {}, {}], good("x").headers), Sent("no job", good("x").headers)])
    with running_worker(["tests.scripted_worker", "0", "-1"], environment, tmp_path / "log", ready_s=60) as worker:
        wait_for(lambda: counted(clean_broker_url, database_url)[0] == 2, 30, worker.process, worker.log)

        def dead(*arguments: str) -> Any:
            return fakesweep("dead", *arguments, environment=environment)

        for _ in range(3):  # looking changes nothing
            rows = json.loads(dead("list", "--json").stdout)["letters"]
            assert sorted(row["queue"] for row in rows) == [LIVE_QUEUE, LIVE_QUEUE]
        (valid,) = (row for row in rows if "no scan" in row["reason"])
        (broken,) = (row for row in rows if row is not valid)
        assert json.loads(dead("show", valid["id"]).stdout)["payload"] == [job]
        assert dead("replay", broken["id"]).returncode == 1
        for wrong in ("", "f", "ffffffff"):
            refused = dead("discard", broken["id"], wrong, "--yes")
            assert (refused.returncode, refused.stdout) == (2, "")
        assert counted(clean_broker_url, database_url)[0] == 2, "with a wrong id, nothing is discarded"
        assert dead("discard", broken["id"], "--json").returncode == 2
        assert dead("discard", broken["id"][:8], "--yes").stdout == "dead letters discarded: 1\n"
        add_scan(database_url, scan)
        assert dead("replay", "--all").stdout == "dead letters replayed: 1\n"
        wait_for(lambda: counted(clean_broker_url, database_url) == (0, 1), 30, worker.process, worker.log)


def add_scan(database_url: str, scan: str) -> None:
    """A scan of one image, whose listing is complete."""
    database = connect(database_url)
    with transaction(database) as session:
        ensure_partition(session, "live_2026_01")
        fields: dict[str, Any] = {"name": "late", "source": "test", "policy": {}, "listed": 1}
        session.add(Scan(id=uuid.UUID(scan), partition="live_2026_01", status=ScanStatus.RUNNING, **fields))
    database.dispose()


@BOTH
def test_a_message_that_is_given_up_leaves_no_scan_running(
    clean_broker_url: str, database_url: str, tmp_path: Path
) -> None:
    """The message came back as often as RabbitMQ allows. Its image gets an outcome before RabbitMQ drops it."""
    scan = str(uuid.uuid4())
    add_scan(database_url, scan)
    job = {"version": 1, "scan_id": scan, "images": [{"uri": uri("given-up")}]}
    headers = good("x").headers | {"x-delivery-count": broker.DELIVERY_LIMIT}
    publish(clean_broker_url, SCAN_QUEUE, [Sent([[job], {}, {}], headers)])
    environment = environment_of(database_url, clean_broker_url)
    with running_worker(["tests.scripted_worker", "0", "-1"], environment, tmp_path / "log", ready_s=60) as worker:
        wait_for(lambda: counted(clean_broker_url, database_url) == (1, 1), 30, worker.process, worker.log)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT status FROM scans").fetchall() == [("done",)]
        ((reason, detail),) = connection.execute("SELECT reason, detail FROM findings").fetchall()
    assert (reason, "moderation.dead" in detail) == ("engine_failed", True)


@pytest.fixture(scope="module")
def long_worker(
    request: pytest.FixtureRequest, postgres_server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningWorker, str, str]]:
    """One worker for all random messages of a broker, with the URLs of the broker and the database.

    It runs until the end of the module, so no test may follow: it would share the queues with this worker.
    """
    from tests.conftest import drop_database, empty_queues, url_of

    broker_url = str(request.getfixturevalue(f"{request.param}_url"))
    empty_queues(broker_url)
    name = f"fakesweep_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    database_url, log = url_of(postgres_server_url, name), tmp_path_factory.mktemp("door") / "log"
    environment = environment_of(database_url, broker_url)
    with running_worker(["tests.scripted_worker", "0", "-1"], environment, log, ready_s=60) as worker:
        yield worker, broker_url, database_url
        assert worker.stop() == 0
    drop_database(postgres_server_url, name)


@pytest.mark.parametrize("long_worker", ["amqp", "redis"], indirect=True)
@settings(
    max_examples=50, deadline=None, phases=[Phase.generate], database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(messages=st.lists(drawn(), min_size=10, max_size=10))
def test_each_random_message_ends_as_a_finding_or_as_a_dead_letter(
    long_worker: tuple[RunningWorker, str, str], messages: list[Sent]
) -> None:
    worker, broker_url, database_url = long_worker
    before = ended(broker_url, database_url)
    publish(broker_url, SCAN_QUEUE, messages)
    wait_for(lambda: ended(broker_url, database_url) >= before + 10, 20, worker.process, worker.log)
    assert ended(broker_url, database_url) == before + 10
