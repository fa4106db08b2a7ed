"""TLS to Postgres, RabbitMQ, Redis and S3 with a private CA and client certificates, on real servers."""

import ast
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from producers.checking.rows import State
from tests.chaos.services import MissingError
from tests.checking import check, subject_of
from tests.conftest import IN_CI
from tests.killing import write_pngs
from tests.processes import ROOT, fakesweep, results_of, running_worker
from tests.tls_servers import (
    Certificates,
    make_certificates,
    postgres_over_tls,
    rabbitmq_over_tls,
    redis_over_tls,
    s3_over_tls,
)
from worker.broker import check_broker, create_app
from worker.database import connect
from worker.errors import ConfigurationError
from worker.migrate import check_schema
from worker.tls import BrokerTls, explained

NOT_TRUSTED = "is not signed by a CA that we trust: set FAKESWEEP_BROKER_CA_FILE to the file with the CA's certificate"
CLOSED = "closed the connection in the TLS handshake.*: check FAKESWEEP_BROKER_CERT_FILE and FAKESWEEP_BROKER_KEY_FILE"
"""What we can say when the server has closed the connection before we could read why."""
NO_CLIENT = f"asks for a client certificate: set FAKESWEEP_BROKER_CERT_FILE and FAKESWEEP_BROKER_KEY_FILE|{CLOSED}"
REFUSED = f"does not accept our client certificate: .*FAKESWEEP_BROKER_CERT_FILE|{CLOSED}"
BROKERS = {"redis": redis_over_tls, "rabbitmq": rabbitmq_over_tls}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


@contextmanager
def started(kind: str, folder: Path, certificates: Certificates, server: tuple[Path, Path]) -> Iterator[str]:
    """A broker over TLS. If it is not installed, the test is skipped and names it, but not in CI."""
    try:
        with BROKERS[kind](folder / kind, certificates, server) as url:
            yield url
    except MissingError as error:
        if IN_CI:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=BROKERS)
def broker_url(
    request: pytest.FixtureRequest, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    with started(request.param, tmp_path_factory.mktemp("broker"), certificates, certificates.server) as url:
        yield url


def use(url: str, *files: Path) -> None:
    check_broker(create_app(url, tls=BrokerTls(*files)))


def test_a_broker_that_trusts_us_and_that_we_trust(broker_url: str, certificates: Certificates) -> None:
    use(broker_url, certificates.ca, *certificates.client)
    subject = subject_of(
        broker_url=broker_url, broker_ca_file=certificates.ca, broker_cert_file=certificates.client[0],
        broker_key_file=certificates.client[1],
    )  # fmt: skip
    assert check("broker encryption", subject).found.endswith("and the broker sees our certificate")
    assert check("broker publishing", subject).state is not State.WRONG


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (lambda _: (), NOT_TRUSTED),
        (lambda c: (c.other_ca, *c.client), NOT_TRUSTED),
        (lambda c: (c.ca,), NO_CLIENT),
        (lambda c: (c.ca, *c.other_client), REFUSED),
    ],
)
def test_a_broker_that_does_not_trust_us_or_that_we_do_not_trust(
    files: Callable[[Certificates], tuple[Path, ...]], said: str, broker_url: str, certificates: Certificates
) -> None:
    with pytest.raises(ConfigurationError) as got:
        use(broker_url, *files(certificates))
    assert str(got.value).startswith("BROKER_URL: cannot use ")
    assert re.search(said, str(got.value))
    assert "\n" not in str(got.value)


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize(
    ("server", "said"), [("expired", "certificate has expired: renew it"), ("other_name", "is for another host name")]
)
def test_a_broker_with_a_wrong_certificate(
    kind: str, server: str, said: str, certificates: Certificates, tmp_path: Path
) -> None:
    with (
        started(kind, tmp_path, certificates, getattr(certificates, server)) as url,
        pytest.raises(ConfigurationError, match=said),
    ):
        use(url, certificates.ca, *certificates.client)


def test_every_process_uses_its_tls_files_for_the_broker() -> None:
    calls = [
        node
        for package in ("worker", "producers")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "broker.create_app"
    ]
    assert len(calls) == 4, "worker, web, all commands, and fakesweep check"
    assert all(any(keyword.arg == "tls" for keyword in call.keywords) for call in calls)


def test_files_that_are_missing_or_do_not_fit(certificates: Certificates, tmp_path: Path) -> None:
    """They are reported before anything is connected."""
    (tmp_path / "text").write_text("no certificate")
    cert, key = certificates.client
    for files, said in (
        ((tmp_path / "none",), "FAKESWEEP_BROKER_CA_FILE: .* cannot be read: No such file"),
        ((tmp_path / "text",), "FAKESWEEP_BROKER_CA_FILE: .* holds no certificate"),
        ((certificates.ca, cert), "FAKESWEEP_BROKER_CERT_FILE is set and FAKESWEEP_BROKER_KEY_FILE is not"),
        ((certificates.ca, None, key), "FAKESWEEP_BROKER_KEY_FILE is set and FAKESWEEP_BROKER_CERT_FILE is not"),
        ((certificates.ca, cert, tmp_path / "none"), "FAKESWEEP_BROKER_KEY_FILE: .* cannot be read"),
        ((certificates.ca, cert, certificates.other_client[1]), "FAKESWEEP_BROKER_CERT_FILE: .* is not its key"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            create_app("amqps://localhost", tls=BrokerTls(*files))
    with pytest.raises(ConfigurationError, match=r"_CA_FILE is set, but BROKER_URL begins with amqp://, which is not"):
        create_app("amqp://localhost", tls=BrokerTls(certificates.ca))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(certificates: Certificates, tmp_path: Path) -> None:
    cert, key = certificates.client
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:hunter2", "-out", locked], check=True, timeout=60
    )
    with pytest.raises(ConfigurationError, match=r"^FAKESWEEP_BROKER_KEY_FILE: the key has a password: give a key"):
        create_app("amqps://localhost", tls=BrokerTls(certificates.ca, cert, locked))


def test_files_in_the_home_folder(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(certificates.ca.parent))
    app = create_app("amqps://localhost", tls=BrokerTls(Path("~") / certificates.ca.name))
    assert app.conf.broker_use_ssl["ca_certs"] == str(certificates.ca)


@pytest.fixture(scope="module")
def postgres_url(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres_over_tls(tmp_path_factory.mktemp("postgres") / "server", certificates, certificates.server) as url:
        yield url


def verified(url: str, ca: Path, client: tuple[Path, Path] | None) -> str:
    """The URL with libpq's parameters."""
    own = f"&sslcert={client[0]}&sslkey={client[1]}" if client else ""
    return f"{url}?sslmode=verify-full&sslrootcert={ca}{own}"


def test_a_database_that_trusts_us_and_that_we_trust(postgres_url: str, certificates: Certificates) -> None:
    url = verified(postgres_url, certificates.ca, certificates.client)
    assert check("database encryption", subject_of(database_url=url)).state is State.OK
    row = check("database encryption", subject_of(database_url=url.replace("verify-full", "require")))
    assert (row.state, "sslmode=require" in row.found) == (State.WARNING, True)


def test_a_file_may_hold_only_the_password(postgres_url: str, certificates: Certificates, tmp_path: Path) -> None:
    """libpq reads this file. docs/secrets.md says that it works."""
    url = verified(postgres_url.replace("postgres@", "pw@"), certificates.ca, None)
    row = check("database", subject_of(database_url=url))
    assert (row.state, "no password supplied" in row.found) == (State.WRONG, True)
    (tmp_path / "pgpass").write_text("*:*:*:pw:hunter2\n")
    (tmp_path / "pgpass").chmod(0o600)
    row = check("database", subject_of(database_url=f"{url}&passfile={tmp_path}/pgpass"))
    assert (row.state, row.found.endswith("as pw")) == (State.OK, True)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (lambda _, url: url, "the server asks for a client certificate: set sslcert and sslkey in DATABASE_URL"),
        (lambda _, url: f"{url}?sslmode=disable", "which is not encrypted: add sslmode=verify-full"),
        (lambda c, url: verified(url, c.ca, None), "the server asks for a client certificate"),
        (lambda c, url: verified(url, c.other_ca, c.client), "cannot be verified: .*: check sslrootcert"),
        (lambda c, url: verified(url, c.ca, c.other_client), "does not accept our client certificate: take one"),
        (lambda c, url: verified(url, c.folder / "none", c.client), "root certificate file .* does not exist"),
    ],
)
def test_a_database_that_does_not_trust_us_or_that_we_do_not_trust(
    parameters: Callable[[Certificates, str], str], said: str, postgres_url: str, certificates: Certificates
) -> None:
    with pytest.raises(ConfigurationError, match=said) as got:
        check_schema(connect(parameters(certificates, postgres_url)))
    assert "\n" not in str(got.value)


@pytest.mark.parametrize(
    ("server", "said"),
    [("expired", "cannot be verified: .* it has expired"), ("other_name", "is for another host name")],
)
def test_a_database_with_a_wrong_certificate(
    server: str, said: str, certificates: Certificates, tmp_path: Path
) -> None:
    with (
        postgres_over_tls(tmp_path / "server", certificates, getattr(certificates, server)) as url,
        pytest.raises(ConfigurationError, match=said),
    ):
        check_schema(connect(verified(url, certificates.ca, certificates.client)))


@pytest.fixture(scope="module")
def s3_tls_url(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_over_tls(tmp_path_factory.mktemp("s3") / "server", certificates.server) as url:
        yield url


def s3_settings(url: str, ca: Path | None) -> dict[str, str]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    own = {"AWS_ENDPOINT_URL_S3": url, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
    return own | dict.fromkeys(names, "test") | ({"AWS_CA_BUNDLE": str(ca)} if ca else {})


def test_everything_over_tls(
    broker_url: str, postgres_url: str, s3_tls_url: str, certificates: Certificates, tmp_path: Path
) -> None:
    """Migration, scan, worker, results and check, each as a process, with a private CA and client certificates."""
    given = {
        "DATABASE_URL": verified(postgres_url, certificates.ca, certificates.client),
        "BROKER_URL": broker_url,
        "FAKESWEEP_BROKER_CA_FILE": str(certificates.ca),
        "FAKESWEEP_BROKER_CERT_FILE": str(certificates.client[0]),
        "FAKESWEEP_BROKER_KEY_FILE": str(certificates.client[1]),
        **s3_settings(s3_tls_url, certificates.ca),
    }
    bucket = broker_url.partition(":")[0] + "-photos"
    client = boto3.client(
        "s3", endpoint_url=s3_tls_url, verify=str(certificates.ca), region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    client.create_bucket(Bucket=bucket)
    write_pngs(tmp_path / "images", 20, level=250)
    for path in (tmp_path / "images").iterdir():
        client.put_object(Bucket=bucket, Key=path.name, Body=path.read_bytes())
    assert fakesweep("migrate", environment=given).returncode == 0
    log = tmp_path / "log"
    with running_worker(["tests.scripted_worker", "0", "-1"], given, log, ready_s=60):
        done = fakesweep("scan", f"s3://{bucket}/", "--watch", "--rejudge", environment=given)
        assert done.returncode == 0, done.stderr
        results = results_of(done.stdout.split()[0], given)
    assert len(results) == 20
    assert {result["outcome"] for result in results} <= {"judged", "reused"}
    assert "obstore_given_up" not in log.read_text()
    answer = json.loads(fakesweep("check", "--for", "producer", "--bucket", bucket, "--json", environment=given).stdout)
    assert answer["ok"], answer


@pytest.mark.parametrize(
    ("server", "ca", "said"),
    [
        ("server", None, "not signed by a CA that we trust: set AWS_CA_BUNDLE"),
        ("server", "other_ca", "not signed by a CA that we trust: set AWS_CA_BUNDLE"),
        ("expired", "ca", "the server's certificate has expired: renew it"),
        ("other_name", "ca", "the server's certificate is for another host name"),
    ],
)
def test_s3_with_a_wrong_certificate(
    server: str,
    ca: str | None,
    said: str,
    database_url: str,
    redis_url: str,
    certificates: Certificates,
    tmp_path: Path,
) -> None:
    with s3_over_tls(tmp_path / "server", getattr(certificates, server)) as url:
        given: dict[str, Any] = {"DATABASE_URL": database_url, "BROKER_URL": redis_url}
        given |= s3_settings(url, getattr(certificates, ca) if ca else None)
        done = fakesweep("scan", "s3://photos/", environment=given)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert done.stderr.count("\n") == 1, "one line, and no traceback"


def test_a_worker_that_does_not_trust_its_broker_ends_with_one_line(
    broker_url: str, database_url: str, tmp_path: Path
) -> None:
    done = fakesweep("worker", environment={"DATABASE_URL": database_url, "BROKER_URL": broker_url})
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert done.stderr.splitlines()[-1].endswith(NOT_TRUSTED)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "the server does not use TLS on this port"),
        ("server does not support SSL, but SSL was required", "the server does not offer TLS"),
        ("certificate verify failed: certificate is not yet valid", "the server's certificate is not valid yet"),
    ],
)
def test_other_faults_of_tls_are_explained(said: str, meaning: str) -> None:
    assert str(explained(said, ca="A", cert="B", key="C")).startswith(meaning)
    assert explained("Connection refused", ca="A", cert="B", key="C") is None
