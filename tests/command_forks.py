"""Runs commands of `fakesweep` quickly: as forks of a process that has loaded libraries. See tests.command_server."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

_READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "OMP_")
"""How variables begin that Python or a library reads when it starts, which is too early for a fork."""


def can_fork(environment: Mapping[str, str]) -> bool:
    """Tells whether a fork of our server would do the same as a process that starts with this environment."""
    started = server()[1]
    return all(
        environment.get(name) == started.get(name)
        for name in environment.keys() | started.keys()
        if name.startswith(_READ_AT_START)
    )


@cache
def server() -> tuple[str, Mapping[str, str]]:
    """Starts the server of this test process. Returns its address, and the environment that it started with.

    It ends by itself when this process ends.
    """
    environment = dict(os.environ)
    address = str(Path(tempfile.mkdtemp()) / "commands")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(64)
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("command_server.py")), str(listening.fileno())],
            pass_fds=[listening.fileno()], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return address, environment


def run_fork(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, timeout_s: float
) -> "subprocess.CompletedProcess[str]":
    """Runs `python -m producers` with these arguments. Raises TimeoutExpired after `timeout_s`, and kills it then."""
    with (
        tempfile.TemporaryFile("w+") as request,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
        open(os.devnull) as nothing,  # noqa: PTH123 - no path
        socket.socket(socket.AF_UNIX) as connection,
    ):
        json.dump({"arguments": arguments, "environment": dict(environment), "folder": str(folder)}, request)
        request.flush()
        request.seek(0)
        connection.connect(server()[0])
        socket.send_fds(connection, [b"r"], [file.fileno() for file in (request, nothing, output, errors)])
        code = _ended(connection, ["fakesweep", *arguments], timeout_s)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, code, output.read(), errors.read())


def _ended(connection: socket.socket, command: Sequence[str], timeout_s: float) -> int:
    """Waits for the command. Returns its return code, or minus the number of the signal that has ended it."""
    with connection.makefile("r") as answers:
        number = int(answers.readline())
        connection.settimeout(timeout_s)
        try:
            return int(answers.readline())
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, timeout_s) from None
