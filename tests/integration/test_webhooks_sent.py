"""Senders, a real Postgres and a real HTTP receiver that is slow, wrong, away, or silent."""

import asyncio
import signal
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trustme
from sqlalchemy import text

from producers.webhooks import endpoints, outbox
from producers.webhooks.posting import Answer, Poster
from producers.webhooks.sender import Sender
from producers.webhooks.serving import _values
from tests.processes import fakesweep, free_port, running_process, wait_for
from tests.webhooks import CLOSE, DRIP, HANG, Receiver, receiver
from worker.database import Database, transaction
from worker.errors import UsageError
from worker.metrics.declared import OUTBOX_MESSAGES

LOOPBACK = [ip_network("127.0.0.0/8")]


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def put(database: Database, endpoint_id: int, *names: str, subject: str | None = None) -> None:
    """Writes a message for each name; its subject is the name, if no other is given."""
    with transaction(database) as session:
        for name in names:
            session.execute(
                text(
                    "INSERT INTO outbox (endpoint_id, kind, subject, data)"
                    " VALUES (:endpoint, 'scan.done', :subject, jsonb_build_object('name', CAST(:name AS text)))"
                ),
                {"endpoint": endpoint_id, "subject": subject or name, "name": name},
            )


def states(database: Database) -> list[tuple[str, int, str | None]]:
    with transaction(database) as session:
        return [tuple(row) for row in session.execute(text("SELECT state, attempts, answer FROM outbox ORDER BY id"))]


def sooner(database: Database) -> None:
    """Lets all waits and leases end."""
    with transaction(database) as session:
        session.execute(text("UPDATE outbox SET due_at = now() - interval '1 day' WHERE state = 'waiting'"))


def send(database: Database, endpoint_id: int, timeout_s: float = 20) -> Sender:
    """Sends what is due, as a lane of a sender does."""
    sender = Sender(database, Poster(LOOPBACK, timeout_s=timeout_s))
    asyncio.run(sender.send_due(endpoint_id))
    return sender


def test_messages_arrive_signed_once_and_in_the_order_of_their_subject(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    put(database, endpoint, "a1", "a2", "a3", subject="a")
    put(database, endpoint, "b", "c")
    sender = send(database, endpoint)
    assert Counter(there.names) == Counter(["a1", "a2", "a3", "b", "c"])
    assert [name for name in there.names if name.startswith("a")] == ["a1", "a2", "a3"]
    assert states(database) == [("delivered", 1, "204")] * 5
    counted = sender.metrics.registry.get_sample_value
    assert counted("fakesweep_webhooks_attempts_total", {"state": "delivered"}) == 5
    assert len({message_id for message_id, _ in there.got}) == 5


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (500, "500"), (404, "404"), ((302, {"Location": "/elsewhere"}), "302"), (CLOSE, "RemoteProtocolError"),
        (HANG, "no answer within 0.5 s"), (DRIP, "no answer within 0.5 s"),
    ],
)  # fmt: skip
def test_what_fails_comes_again_with_the_same_id_before_its_successors(
    database: Database, there: Receiver, answer: Any, said: str
) -> None:
    endpoint = there.endpoint(database)
    there.answers = [answer]
    put(database, endpoint, "a1", "a2", subject="a")
    began = time.monotonic()
    send(database, endpoint, timeout_s=0.5)
    assert time.monotonic() - began < 5
    first, second = states(database)
    assert (first[:2], second) == (("waiting", 1), ("waiting", 0, None))
    assert said in str(first[2])
    assert there.names == ["a1"], "a2 waits for a1, and no redirect is followed"
    send(database, endpoint)
    assert there.names == ["a1"], "not before its time"
    sooner(database)
    send(database, endpoint)
    assert there.names == ["a1", "a1", "a2"]
    assert there.got[0][0] == there.got[1][0]


def test_a_receiver_that_is_away_gets_everything_when_it_is_back(database: Database) -> None:
    with receiver() as away:
        endpoint = away.endpoint(database)
        port, secret = away.port, away.secret
    put(database, endpoint, *"abc")
    send(database, endpoint)
    assert {(state, attempts) for state, attempts, _ in states(database)} == {("waiting", 1)}
    assert "ConnectError" in str(states(database)[0][2])
    with receiver() as back:
        back.secret = secret
        with transaction(database) as session:
            session.execute(text("UPDATE webhook_endpoints SET url = replace(url, :old, :new)"),
                            {"old": f":{port}/", "new": f":{back.port}/"})  # fmt: skip
        sooner(database)
        send(database, endpoint)
        assert sorted(back.names) == ["a", "b", "c"]


def test_after_the_last_attempt_a_message_is_dead_until_it_is_replayed(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    there.answers = [503] * 10
    put(database, endpoint, "a1", "a2", subject="a")
    for _ in range(10):
        sooner(database)
        send(database, endpoint)
    assert states(database)[0] == ("dead", 10, "503")
    assert there.names == ["a1"] * 10 + ["a2"], "the next one goes on after a dead one"
    assert [row["answer"] for row in endpoints.dead_messages(database, None, 9)] == ["503"]
    assert endpoints.replay(database, endpoint, message=None, since=None) == 1
    send(database, endpoint)
    assert there.names[-1] == "a1"
    assert {state for state, *_ in states(database)} == {"delivered"}


def test_retry_after_is_respected(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    there.answers = [(429, {"Retry-After": "3600"})]
    put(database, endpoint, "a")
    send(database, endpoint)
    with transaction(database) as session:
        wait = session.execute(text("SELECT extract(epoch FROM due_at - now()) FROM outbox")).scalar_one()
    assert 3500 < wait <= 3600


def test_a_message_that_kills_each_sender_is_dead_in_the_end(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    put(database, endpoint, "a")
    for _ in range(outbox.ATTEMPTS):
        taken = outbox.claim(database, endpoint)
        assert taken is not None
        assert len(taken.messages) == 1
        sooner(database)
    last = outbox.claim(database, endpoint)
    assert last is not None
    assert last.messages == []
    assert states(database) == [("dead", 10, "no sender could record the end of the last attempt")]


def test_a_message_that_comes_after_410_waits_for_nobody(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    with transaction(database) as session:
        session.execute(text("UPDATE webhook_endpoints SET disabled_at = now()"))
    put(database, endpoint, "late")
    assert _values(database)[OUTBOX_MESSAGES][("waiting",)] == 0
    outbox.end_disabled(database)
    assert [state for state, *_ in states(database)] == ["dead"]


def test_replaying_an_unknown_message_is_refused_and_enables_nothing(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    with transaction(database) as session:
        session.execute(text("UPDATE webhook_endpoints SET disabled_at = now()"))
    with pytest.raises(UsageError, match="no such message"):
        endpoints.replay(database, endpoint, message=UUID(int=7), since=None)
    assert endpoints.endpoints(database)[0]["disabled_at"]


def test_an_endpoint_that_is_gone_gets_nothing_more_and_loses_nothing(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    there.answers = [410]
    put(database, endpoint, "a1", "a2", subject="a")
    send(database, endpoint)
    assert there.names == ["a1"]
    assert [(state, answer) for state, _, answer in states(database)] == [
        ("dead", "410"), ("dead", "the endpoint answered 410 Gone to another message"),
    ]  # fmt: skip
    assert outbox.claim(database, endpoint) is None
    assert endpoints.replay(database, endpoint, message=None, since=None) == 2
    send(database, endpoint)
    assert there.names == ["a1", "a1", "a2"]


def test_no_proxy_of_the_environment_is_used(
    database: Database, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve the name again, after its address was checked."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    endpoint = there.endpoint(database)
    put(database, endpoint, "a")
    send(database, endpoint)
    assert there.names == ["a"]


def test_an_address_that_is_not_allowed_gets_nothing(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    put(database, endpoint, "a")
    asyncio.run(Sender(database, Poster()).send_due(endpoint))
    assert there.got == []
    assert "127.0.0.1, which is not a public address" in str(states(database)[0][2])


@pytest.mark.parametrize(("name", "delivered"), [("localhost", True), ("127.0.0.1", False), ("other", False)])
def test_the_certificate_must_be_that_of_the_name_in_the_url(database: Database, name: str, delivered: bool) -> None:
    """The connection goes to an address that was checked, and yet TLS asks for the name."""
    ca, trust = trustme.CA(), ssl.create_default_context()
    ca.configure_trust(trust)
    with receiver(certificate=ca.issue_cert(name)) as there:
        endpoint = there.endpoint(database)
        put(database, endpoint, "a")
        asyncio.run(Sender(database, Poster([*LOOPBACK, ip_network("::1")], trust)).send_due(endpoint))
        assert (there.names == ["a"]) == delivered
    assert delivered or "certificate verify failed" in str(states(database)[0][2])


def test_two_senders_share_the_work(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    put(database, endpoint, "a1", "a2", subject="a")
    put(database, endpoint, "b")
    one, other = outbox.claim(database, endpoint), outbox.claim(database, endpoint)
    assert one is not None
    assert other is not None
    assert ([m.data["name"] for m in one.messages], other.messages) == (["a1", "b"], [])
    sooner(database)  # the first sender stands still for longer than its lease
    again = outbox.claim(database, endpoint)
    assert again is not None
    assert [m.attempts for m in again.messages] == [2, 2]
    outbox.record(database, endpoint, [(again.messages[0], Answer("204", delivered=True))])
    outbox.record(database, endpoint, [(m, Answer("500")) for m in one.messages])
    assert [state for state, *_ in states(database)] == ["delivered", "waiting", "waiting"]
    assert states(database)[2][1:] == (2, None), "the late answer of the first sender changes nothing"


def test_a_message_that_another_sender_is_just_taking_is_left_to_it(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    put(database, endpoint, "a", "b")
    with database.connect() as other, ThreadPoolExecutor(1) as sender:
        other.execute(text("UPDATE outbox SET attempts = 1 WHERE subject = 'a'"))
        try:
            taken = sender.submit(outbox.claim, database, endpoint).result(timeout=30)
        finally:
            other.commit()
    assert taken is not None
    assert [one.data["name"] for one in taken.messages] == ["b"]


def test_many_messages_of_a_blocked_subject_do_not_hold_back_others(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    there.answers = [500]
    put(database, endpoint, *(f"a{n}" for n in range(3 * outbox.BATCH)), subject="a")
    put(database, endpoint, "b")
    send(database, endpoint)
    assert there.names == ["a0", "b"]
    assert outbox.endpoints_due(database) == [], "nobody looks at the others before a0 is due"


def test_a_long_subject_is_sent_without_looking_at_all_of_it_each_time(database: Database, there: Receiver) -> None:
    endpoint, number, batch, claims = there.endpoint(database), 400, 8, 0
    put(database, endpoint, *(f"a{n}" for n in range(number)), subject="a")
    names = []
    while (taken := outbox.claim(database, endpoint, lease_s=600, batch=batch)) and taken.seen:
        claims += 1
        names += [one.data["name"] for one in taken.messages]
        outbox.record(database, endpoint, [(one, Answer("204", delivered=True)) for one in taken.messages])
    assert names == [f"a{n}" for n in range(number)]
    assert claims <= number + 2 * number / batch


def test_old_messages_are_deleted_and_waiting_ones_stay(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    put(database, endpoint, "a")
    send(database, endpoint)
    put(database, endpoint, "b")
    with transaction(database) as session:
        session.execute(text("UPDATE outbox SET ended_at = now() - interval '8 days' WHERE state <> 'waiting'"))
    assert list(outbox.delete_old(database, 9)) == []
    assert list(outbox.delete_old(database, 7)) == [1]
    assert [state for state, *_ in states(database)] == ["waiting"]


def test_old_messages_are_deleted_also_if_alarms_cannot_be_read(database: Database, there: Receiver) -> None:
    endpoint = there.endpoint(database)
    put(database, endpoint, "a")
    with transaction(database) as session:
        session.execute(text("UPDATE outbox SET state = 'dead', ended_at = now() - interval '31 days'"))
        session.execute(text("ALTER VIEW drift RENAME TO away"))
    asyncio.run(Sender(database, Poster())._chores())
    assert states(database) == []


def test_a_sender_that_is_killed_loses_nothing(database: Database, database_url: str, tmp_path: Path) -> None:
    """Each message arrives, in the order of its subject. Those that were on their way come twice."""
    module, log = ["producers", "webhooks", "send"], tmp_path / "log"
    environment = {"DATABASE_URL": database_url, "FAKESWEEP_WEBHOOKS_NETWORKS": "127.0.0.0/8"}
    with receiver(delay_s=0.1) as there:
        endpoint = there.endpoint(database)
        for subject in "abcd":
            put(database, endpoint, *(f"{subject}{n:02}" for n in range(15)), subject=subject)
        with running_process(module, environment, log) as process:
            wait_for(lambda: len(there.got) >= 12, 60, process, log)
            process.send_signal(signal.SIGKILL)
        assert "waiting" in {state for state, *_ in states(database)}
        sooner(database)
        with running_process(module, environment, log) as process:
            wait_for(lambda: {state for state, *_ in states(database)} == {"delivered"}, 60, process, log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        for subject in "abcd":
            names = list(dict.fromkeys(name for name in there.names if name.startswith(subject)))
            assert names == [f"{subject}{n:02}" for n in range(15)]
        assert len(there.got) - len(set(there.names)) <= 4, "one of each subject at most"


def test_the_command(database: Database, database_url: str, there: Receiver) -> None:
    environment = {"DATABASE_URL": database_url}
    refused = fakesweep("webhooks", "add", "e", there.url, "--kind", "scan.done", environment=environment)
    assert (refused.returncode, "not a public address" in refused.stderr, refused.stderr.count("\n")) == (1, True, 1)
    environment["FAKESWEEP_WEBHOOKS_NETWORKS"] = "127.0.0.1"
    added = fakesweep("webhooks", "add", "e", there.url, "--kind", "scan.done", environment=environment)
    assert added.returncode == 0, added.stderr
    there.secret = added.stdout.strip()
    tested = fakesweep("webhooks", "test", "e", environment=environment)
    assert (tested.returncode, tested.stdout, len(there.got)) == (0, "204\n", 1)
    listed = fakesweep("webhooks", "list", environment=environment)
    assert f"e  enabled  0 waiting  0 dead  scan.done  {there.url}" in listed.stdout
    assert there.secret not in listed.stdout
    removed = fakesweep("webhooks", "remove", "e", "--yes", environment=environment)
    assert removed.returncode == 0, removed.stderr
    assert fakesweep("webhooks", "test", "e", environment=environment).returncode == 1
