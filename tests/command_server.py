"""Runs commands of `fakesweep` in forks of a process that has loaded libraries, because these take half a second.

The libraries are those of others. A fork still imports all of our own modules, as `python -m producers` does.
tests.command_forks runs this file, with the number of a listening socket.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import NoReturn

LIBRARIES = (
    "alembic.command", "boto3", "botocore.session", "jinja2", "kombu.transport.pyamqp", "kombu.transport.redis",
    "psycopg.types.json", "pydantic_settings", "rich.console", "rich.table", "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.ext.asyncio", "sqlmodel", "structlog", "typer.main",
)  # fmt: skip
"""What many commands load, and what neither starts a thread nor reads the environment when it is imported."""


def serve(listening: socket.socket) -> None:
    """Gives each connection to a fork, until the process that has started this one ends."""
    for library in LIBRARIES:
        importlib.import_module(library)
    assert threading.active_count() == 1, "a fork has no threads but its own"
    gc.collect()
    gc.freeze()
    parent = os.getppid()
    listening.settimeout(1)  # seconds
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that ended forks do not stay as zombies
    while os.getppid() == parent:
        try:
            connection, _ = listening.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listening.close()
            attend(connection)
        connection.close()
    address = Path(listening.getsockname())
    address.unlink()
    address.parent.rmdir()


def attend(connection: socket.socket) -> None:
    """Runs a command in a fork of its own. Answers with its process id, and at its end with its return code."""
    _, (asked, *streams), _, _ = socket.recv_fds(connection, 1, 4)
    with open(asked, encoding="utf-8") as file:  # noqa: PTH123 - a number
        request = json.load(file)
    command = os.fork()
    if command == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        run(**request)
    connection.sendall(f"{command}\n".encode())
    _, status = os.waitpid(command, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def run(arguments: list[str], environment: dict[str, str], folder: str) -> NoReturn:
    """Does what `python -m producers` does in this folder."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = os.getcwd()  # noqa: PTH109 - as Python does
    sys.argv = ["producers", *arguments]
    runpy.run_module("producers", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
