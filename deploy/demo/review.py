"""The review desk on this machine: sweeps a folder of images as the demo does, then serves the desk until Ctrl-C.

    .venv/bin/python -m deploy.demo.review [FOLDER]

draw images (without FOLDER) -> start Postgres, Redis, S3 -> migrate -> start a worker -> upload -> scan -> add
reviewers -> start `fakesweep web` -> print its address, and stay.
Its files are in build/review, which is made again for each run. Exit codes: 0 ended by Ctrl-C at the desk, 1 failed,
2 bad usage, 130 interrupted before that.
"""

import http.client
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path

from deploy.demo.processes import Process, running, tail
from deploy.demo.run import BUCKET, ROOT, at_work, checked, console, ended, shown, warned
from deploy.demo.services import HOST
from deploy.demo.sweep import FAKESWEEP, Sweep, SweepError

HOME = ROOT / "build" / "review"
PORT = 8400
"""The desk's port, if it is free."""
PEOPLE = {"heron": "reviewer", "wren": "reviewer", "owl": "admin"}
LOOK_EVERY_S = 0.5


def main(folder: str) -> int:
    """Runs the desk. Returns the exit code."""
    return ended("make review", lambda: run(checked(folder, HOME) if folder else None))


def run(folder: Path | None) -> None:
    """Images in S3 -> scan -> reviewers -> the desk, until Ctrl-C. Stops everything in reverse order at the end."""
    warned()
    with at_work(folder, HOME) as sweep:
        scan(sweep)
        add_people(sweep)
        with desk(sweep) as (process, address):
            console.print(f"\n[bold]The review desk is at {address}[/]", soft_wrap=True)
            console.print(f"Log in as {', '.join(f'{name} ({role})' for name, role in PEOPLE.items())}.")
            console.print("Ctrl-C stops everything.")
            stay(sweep, process)
            console.print("Stopping the desk")


def scan(sweep: Sweep) -> None:
    """Scans everything that was uploaded. No share of flagged images pauses the scan: people want to see them."""
    limits = ("--max-flagged-share", "1", "--max-failed-share", "1")
    sweep.run("scan", f"s3://{BUCKET}/", "--name", "review", "--watch", "--json", *limits)


def add_people(sweep: Sweep) -> None:
    """Adds reviewers that a user can choose at the login."""
    for name, role in PEOPLE.items():
        sweep.run("reviewer", "add", name, "--role", role)


@contextmanager
def desk(sweep: Sweep) -> Iterator[tuple[Process, str]]:
    """Runs `fakesweep web`, and yields it with its address. Raises StartError with its log if it ends early."""
    port = free_port(PORT)
    own = {
        "FAKESWEEP_WEB_LOGIN": "demo",
        "FAKESWEEP_WEB_SECRET": secrets.token_urlsafe(32),
        "FAKESWEEP_WEB_HOST": HOST,
        "FAKESWEEP_WEB_PORT": str(port),
    }
    web = running(
        "the review desk", [*FAKESWEEP, "web"], web_log(sweep), lambda _: answers(port),
        env=sweep.environment() | own, cwd=ROOT,
    )  # fmt: skip
    with ExitStack() as stack:
        with shown("Starting the review desk"):
            process = stack.enter_context(web)
        yield process, f"http://{HOST}:{port}"


def web_log(sweep: Sweep) -> Path:
    """Returns the log of the desk."""
    return sweep.home / "web.log"


def free_port(wanted: int) -> int:
    """Returns this port of the loopback interface, or another one if it is taken."""
    for port in (wanted, 0):
        with suppress(OSError), closing(socket.create_server((HOST, port))) as probe:
            return int(probe.getsockname()[1])
    raise SweepError(f"no port of {HOST} is free")


def answers(port: int) -> bool:
    """Whether the login page answers."""
    with closing(http.client.HTTPConnection(HOST, port, timeout=30)) as connection:
        try:
            connection.request("GET", "/login")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def stay(sweep: Sweep, process: Process) -> None:
    """Waits for Ctrl-C, SIGTERM or SIGHUP. Raises SweepError if the desk or the worker ends by itself."""
    try:
        while process.poll() is None:
            sweep.check()
            time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        return
    raise SweepError(f"the review desk ended with code {process.returncode}:\n{tail(web_log(sweep))}")


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # in step with the commands' stderr
    sys.exit(main(*sys.argv[1:2] or [""]))
