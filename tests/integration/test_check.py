"""`fakesweep check` on real services: each check runs once where all is well, and once where something is wrong."""

import json
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import boto3
import psycopg
import pytest
import redis
from kombu import Connection
from sqlalchemy import text

from deploy.demo import services
from producers.checking.rows import Process, Row, State, Subject
from producers.checking.running import run_checks
from producers.webhooks.endpoints import add_endpoint
from tests.checking import check, check_all, subject_of
from tests.conftest import DEMO_DETECTOR, drop_database, url_of
from tests.integration.test_pooler import PGBOUNCER, pgbouncer
from tests.object_server import error, object_server
from tests.processes import fakesweep, free_port
from tests.roles import Home, home, with_all_logins
from worker.broker import create_app, dead_letter, declare_queues
from worker.database import connect, transaction
from worker.messages import DEAD_QUEUE
from worker.tables import WebhookKind

OK, WARNING, WRONG, SKIPPED = State.OK, State.WARNING, State.WRONG, State.SKIPPED
RABBITMQCTL = shutil.which("rabbitmqctl") or shutil.which("rabbitmqctl", path="/usr/sbin")
HUB_COMMIT = "0123456789abcdef0123456789abcdef01234567"


def told(row: Row) -> tuple[State, str]:
    return row.state, row.found


def after(name: str, subject: Subject) -> State:
    """The state of a check when all checks run, also those that it depends on."""
    (row,) = (row for row in run_checks(subject) if row.name == name)
    return row.state


def test_a_database_that_can_be_used(database_url: str) -> None:
    subject = subject_of(database_url=database_url)
    assert check("database", subject).state is OK
    assert check("database version", subject).found.startswith("PostgreSQL 1")
    assert check("database encryption", subject).state is OK
    assert told(check("database encoding", subject)) == (OK, "UTF8")
    assert told(check("database pooler", subject)) == (OK, "none: Postgres answers itself")
    assert check("database clock", subject).state is OK
    assert check("database schema", subject).found.startswith("revision ")


def test_a_database_that_does_not_answer() -> None:
    subject = subject_of(Process.PRODUCER, database_url=f"postgresql://me:hunter2@127.0.0.1:{free_port()}/none")
    row = check("database", subject)
    assert (row.state, "Connection refused" in row.found) == (WRONG, True)
    assert "hunter2" not in row.found
    assert after("database schema", subject) is SKIPPED


def test_a_login_that_is_refused(postgres_server_url: str) -> None:
    name = url_of(postgres_server_url, f"no_such_{uuid.uuid4().hex}")
    row = check("database", subject_of(database_url=name))
    assert (row.state, "does not exist" in row.found) == (WRONG, True)


@pytest.fixture
def latin(postgres_server_url: str) -> Iterator[str]:
    name = f"fakesweep_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    yield url_of(postgres_server_url, name)
    drop_database(postgres_server_url, name)


def test_an_empty_database_with_another_encoding(latin: str) -> None:
    row = check("database encoding", subject_of(database_url=latin))
    assert (row.state, row.found.startswith("SQL_ASCII")) == (WRONG, True)
    row = check("database schema", subject_of(database_url=latin))
    assert (row.state, row.remedy) == (WRONG, "run `fakesweep migrate`")


@pytest.mark.skipif(not PGBOUNCER, reason="there is no pgbouncer here")
def test_a_pooler(database_url: str, postgres_server_url: str) -> None:
    from sqlalchemy.engine import make_url

    with pgbouncer(postgres_server_url, "transaction") as through:
        url = through(str(make_url(database_url).database))
        row = check("database pooler", subject_of(database_url=url))
    assert (row.state, row.found.startswith("a pooler answers")) == (OK, True)


@pytest.fixture
def roles(postgres_server_url: str, template: str) -> Iterator[Home]:
    with home(postgres_server_url, template) as made:
        with_all_logins(made)
        yield made


def test_rights(roles: Home, database_url: str) -> None:
    for process, role in (
        (Process.WORKER, "worker"),
        (Process.NIGHTLY, "producer"),
        (Process.WEB, "web"),
        (Process.WEBHOOKS, "webhooks"),
    ):
        row = check("database rights", subject_of(process, database_url=roles.url_of(role)))
        assert (row.name, *told(row)) == (f"database rights {role}", OK, "all that it needs")
    row = check("database rights", subject_of(Process.WORKER, database_url=roles.url_of("producer")))
    assert (row.state, row.found.startswith("lacks rights: ")) == (WRONG, True)
    assert "fakesweep roles --grant worker=LOGIN" in row.remedy
    assert check("database rights", subject_of(Process.WORKER, database_url=database_url)).state is WARNING, "superuser"


def test_the_endpoints_of_webhooks(roles: Home) -> None:
    owner = connect(roles.url)

    def rows(**settings: Any) -> dict[str, Row]:
        subject = subject_of(Process.WEBHOOKS, database_url=roles.url_of("webhooks"), **settings)
        return {row.name: row for row in check_all("webhooks endpoint", subject)}

    assert told(rows()["webhooks endpoint"]) == (SKIPPED, "there is none: nothing is sent")
    add_endpoint(owner, "near", "https://localhost:8443/hook?key=t0ken", [WebhookKind.SCAN_DONE])
    add_endpoint(owner, "gone", "https://no-such-host.invalid/", [WebhookKind.SCAN_DONE])
    add_endpoint(owner, "odd", "https://a..b/", [WebhookKind.SCAN_DONE])
    found = rows()
    row = found["webhooks endpoint near"]
    assert (row.state, "not a public address" in row.found) == (WRONG, True)
    assert "FAKESWEEP_WEBHOOKS_NETWORKS" in row.remedy
    assert found["webhooks endpoint gone"].found.startswith("no-such-host.invalid has no address here")
    assert found["webhooks endpoint odd"].found.startswith("a..b has no address here")
    allowed = rows(webhooks_networks=("127.0.0.0/8", "::1/128"))["webhooks endpoint near"]
    assert (allowed.state, "; messages that wait: 0" in allowed.found) == (OK, True)
    assert not any("t0ken" in str(row) for row in (*found.values(), allowed))
    with transaction(owner) as session:
        session.execute(text("UPDATE webhook_endpoints SET disabled_at = now()"))
    row = rows()["webhooks endpoint gone"]
    assert (row.state, row.remedy) == (WARNING, "run `fakesweep webhooks replay gone`, or remove it")
    owner.dispose()


def test_a_sender_of_webhooks_needs_no_broker_and_no_bucket(roles: Home) -> None:
    rows = run_checks(subject_of(Process.WEBHOOKS, database_url=roles.url_of("webhooks")))
    assert [row for row in rows if row.state is WRONG or row.name.startswith(("broker", "s3", "bucket", "dead"))] == []


@pytest.mark.parametrize("clean_broker_url", ["amqp", "redis"], indirect=True)
def test_a_broker_that_can_be_used(clean_broker_url: str) -> None:
    subject = subject_of(broker_url=clean_broker_url)
    app = create_app(clean_broker_url)
    with app.connection_for_write() as connection:
        declare_queues(connection)
    assert check("broker", subject).state is OK
    assert told(check("broker publishing", subject)) == (OK, "may publish")
    states = [row.state for row in check_all("broker queue", subject)]
    assert states == ([OK] * 3 if clean_broker_url.startswith("amqp") else [SKIPPED])
    assert told(check("dead letters", subject)) == (OK, "none")
    dead_letter(app, {}, ValueError("no"), "an-id")
    row = check("dead letters", subject)
    assert told(row) == (WARNING, "1 waiting")
    assert "fakesweep dead list" in row.remedy


def test_queues_that_are_missing_or_of_another_kind(clean_amqp_url: str) -> None:
    subject = subject_of(broker_url=clean_amqp_url)
    with Connection(clean_amqp_url) as connection:
        try:
            connection.default_channel.queue_delete(DEAD_QUEUE)
            assert [row.state for row in check_all("broker queue", subject)] == [OK, OK, WARNING]
            assert check("dead letters", subject).state is OK
            connection.default_channel.queue_declare(DEAD_QUEUE, durable=True, auto_delete=False)  # a classic queue
            row = check_all("broker queue", subject)[2]
            assert (row.name, row.state) == (f"broker queue {DEAD_QUEUE}", WRONG)
            assert "x-queue-type" in row.found
        finally:
            connection.default_channel.queue_delete(DEAD_QUEUE)
            declare_queues(connection)


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (("//guest:guest@", "//guest:hunter2@"), "check the user and the password in BROKER_URL"),
        (("", "-no-such-host"), "make the virtual host and give the user rights"),
    ],
)
def test_a_broker_that_refuses(change: tuple[str, str], remedy: str, amqp_url: str) -> None:
    url = amqp_url.replace(*change) if change[0] else amqp_url + change[1]
    row = check("broker", subject_of(broker_url=url))
    assert (row.state, row.remedy.startswith(remedy)) == (WRONG, True)
    assert "hunter2" not in row.found


@pytest.mark.skipif(not RABBITMQCTL, reason="there is no rabbitmqctl here")
def test_a_user_of_rabbitmq_who_may_not_write(clean_amqp_url: str) -> None:
    vhost, user = urlsplit(clean_amqp_url).path[1:] or "/", f"reader_{uuid.uuid4().hex[:12]}"
    with create_app(clean_amqp_url).connection_for_write() as connection:
        declare_queues(connection)
    rabbitmqctl("add_user", user, "x")
    try:
        rabbitmqctl("set_permissions", "-p", unquote(vhost), user, ".*", "", ".*")
        url = urlunsplit(urlsplit(clean_amqp_url)._replace(netloc=f"{user}:x@{urlsplit(clean_amqp_url).hostname}"))
        row = check("broker publishing", subject_of(broker_url=url))
        assert (row.state, "publish: " in row.found, "the right to write" in row.remedy) == (WRONG, True, True)
    finally:
        rabbitmqctl("delete_user", user)


def rabbitmqctl(*arguments: str) -> None:
    subprocess.run([str(RABBITMQCTL), "-q", *arguments], check=True, capture_output=True, timeout=120)


def test_services_that_never_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take the connection and say nothing. Each check ends, and no password is shown."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{place}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "hunter2")
        subject = subject_of(
            Process.PRODUCER,
            database_url=f"postgresql://me:hunter2@{place}/x",
            broker_url=f"amqp://me:hunter2@{place}//",
        )
        rows = {row.name: row for row in run_checks(subject)}
    for name in ("database", "broker", "s3 endpoint"):
        assert rows[name].state is WRONG, name
    assert not any("hunter2" in row.found + row.remedy for row in rows.values())


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_does_not_answer(scheme: str) -> None:
    subject = subject_of(Process.PRODUCER, broker_url=f"{scheme}://me:hunter2@127.0.0.1:{free_port()}/0")
    row = check("broker", subject)
    assert (row.state, "refused" in row.found) == (WRONG, True)
    assert after("dead letters", subject) is SKIPPED


def test_a_redis_where_we_may_not_write_or_that_evicts_keys(tmp_path: Path) -> None:
    with services.embedded_redis(tmp_path) as url, redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">x", "~*", "+@all", "-@write")
        reader = url.replace("//", "//reader:x@")
        row = check("broker publishing", subject_of(broker_url=reader))
        assert (row.state, "permission" in row.found) == (WRONG, True)
        assert check("broker publishing", subject_of(broker_url=url)).state is OK
        client.config_set("maxmemory-policy", "allkeys-lru")
        row = check("broker publishing", subject_of(broker_url=url))
        assert (row.state, row.remedy) == (WRONG, "set maxmemory-policy to noeviction")


def test_buckets(bucket: str, s3_environment: str) -> None:
    assert told(check("s3 credentials", subject_of())) == (OK, "found by boto3: env")
    assert told(check("s3 endpoint", subject_of())) == (OK, s3_environment)
    assert check("bucket", subject_of()).state is SKIPPED
    rows = check_all("bucket", subject_of(allowed_buckets=(bucket, "no-such-bucket")))
    assert [told(row)[0] for row in rows] == [OK, WRONG]
    assert rows[0].found == "may list and get; it is empty"
    boto3.client("s3", endpoint_url=s3_environment).put_object(Bucket=bucket, Key="a", Body=b"x")
    assert check("bucket", subject_of(bucket=bucket)).found == "may list and get"


def test_no_credentials(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, value in (("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")):
        monkeypatch.setenv(name, value)
    subject = subject_of(Process.PRODUCER)
    assert told(check("s3 credentials", subject)) == (WRONG, "none")
    assert after("s3 endpoint", subject) is SKIPPED


def test_an_endpoint_that_does_not_answer(s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    row = check("s3 endpoint", subject_of())
    assert (row.state, "Could not connect" in row.found) == (WRONG, True)


@pytest.mark.parametrize("denied", ["list", "get"])
def test_rights_on_a_bucket(denied: str, s3_environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_server() as server:
        listing = b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>"
        no = error("AccessDenied", 403)
        yes = type(no)(listing)
        server.answer = lambda asked: (yes if denied == "get" else no) if "list-type" in asked.path else no
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        assert check("s3 endpoint", subject_of()).state is OK, (
            "a login that may not list all buckets may still read one"
        )
        row = check("bucket", subject_of(bucket="photos"))
    assert (row.state, row.remedy.startswith(f"allow s3:{denied.title()}")) == (WRONG, True)


def test_a_model_in_s3(bucket: str, s3_environment: str, tmp_path: Path) -> None:
    subject = subject_of(detector=str(DEMO_DETECTOR), model=f"s3://{bucket}/m", model_cache=tmp_path)
    assert check("model files", subject).state is WRONG
    client = boto3.client("s3", endpoint_url=s3_environment)
    for name in ("config.json", "model.safetensors"):
        client.put_object(Bucket=bucket, Key=f"m/{name}", Body=b"x")
    assert check("model files", subject).found.startswith("1 files of weights")
    assert check("model revision", subject).state is OK
    assert check("model cache", subject).state in {OK, WARNING}
    assert check("model files", subject_of(model="s3://no-such-bucket/m")).state is WRONG


def test_a_cascade_needs_a_threshold_and_the_models_of_both_stages(tmp_path: Path) -> None:
    (tmp_path / "detector.toml").write_text(
        f'kind = "cascade"\nname = "two"\nfirst = "{DEMO_DETECTOR}"\njudge = "{DEMO_DETECTOR}"\n'
    )
    subject = subject_of(detector=str(tmp_path))
    row = check("detector", subject)
    assert row.state is WRONG
    assert "no clear threshold yet: run fakesweep calibrate" in row.found
    with (tmp_path / "detector.toml").open("a") as file:
        file.write("[clear]\nup_to = 0.1\n")
    assert check("detector", subject).state is OK
    rows = check_all("model files", subject)
    assert [one.state for one in rows] == [OK, OK]
    assert all("files of weights" in one.found for one in rows)


def test_the_command(database_url: str, clean_redis_url: str, bucket: str, tmp_path: Path) -> None:
    given = {"DATABASE_URL": database_url, "BROKER_URL": clean_redis_url, "FAKESWEEP_DETECTOR": str(DEMO_DETECTOR)}
    done = fakesweep("check", "--for", "producer", "--bucket", bucket, environment=given)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 wrong, " in done.stdout
    done = fakesweep("check", "--for", "nightly", "--json", environment=given)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"]) == (1, False)
    (row,) = (row for row in answer["checks"] if row["name"] == "nightly file")
    assert row["state"] == "wrong"
    assert set(row) == {"name", "state", "found", "remedy"}
    assert fakesweep("check", "--for", "everybody", environment=given).returncode == 2
    wrong = fakesweep("check", "--for", "web", environment=given | {"FAKESWEEP_THREADS": "many"})
    assert wrong.returncode == 1
    assert "FAKESWEEP_THREADS" in wrong.stdout


def test_a_model_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    model = tmp_path / "hub/models--nobody--nothing"
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text(HUB_COMMIT)
    (model / "snapshots" / HUB_COMMIT).mkdir(parents=True)
    (model / "snapshots" / HUB_COMMIT / "config.json").write_text("{}")
    given = {"FAKESWEEP_MODEL": "nobody/nothing", "HF_HOME": str(tmp_path)}
    done = fakesweep("check", "--for", "worker", "--json", environment=given | {"DATABASE_URL": "", "BROKER_URL": ""})
    rows = {row["name"]: row for row in json.loads(done.stdout)["checks"]}
    assert rows["model files"]["found"] == f"in the cache of the model hub: {model}/snapshots/{HUB_COMMIT}"
    assert (rows["database"]["state"], rows["broker"]["state"]) == ("wrong", "wrong")


def test_no_secret_is_shown(tmp_path: Path) -> None:
    secret = "hunter2" * 8
    given = {
        "DATABASE_URL": f"postgresql://me:{secret}@127.0.0.1:{free_port()}/x",
        "BROKER_URL": f"amqp://me:{secret}@127.0.0.1:{free_port()}//",
        "SENTRY_DSN": f"https://{secret}@sentry.example.org/no-number",
        "FAKESWEEP_WEB_SECRET": secret, "FAKESWEEP_WEB_PROXY_SECRET": secret, "FAKESWEEP_WEB_LOGIN": "proxy",
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL_S3": f"http://me:{secret}@127.0.0.1:{free_port()}",
    }  # fmt: skip
    done = fakesweep("check", "--json", environment=given)
    assert done.returncode == 1
    assert "hunter2" not in done.stdout + done.stderr
