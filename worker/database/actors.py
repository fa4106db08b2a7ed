"""Names who acts, for the table `events`: the kind of the program, and who uses it or where it runs."""

import getpass
import os
import socket


def command_line() -> str:
    """Returns `cli:USER@HOST`: the person at the command line. USER is a number if the machine has no name for it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container often has a user without a name
        user = str(os.getuid())
    return f"cli:{user}@{socket.gethostname()}"


def process(kind: str) -> str:
    """Returns `KIND:HOST`: a process that nobody sits at, such as `worker` or `web`."""
    return f"{kind}:{socket.gethostname()}"


def reviewer(name: str) -> str:
    """Returns `reviewer:NAME`: a person at the review desk, by their pseudonym."""
    return f"reviewer:{name}"


def token(name: str) -> str:
    """Returns `token:NAME`: a program that uses the API."""
    return f"token:{name}"


def nightly(schedule: str) -> str:
    """Returns `nightly:NAME`: a scan that the schedule of this name starts."""
    return f"nightly:{schedule}"
