"""A check, and the rows that it gives."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from producers.web.settings import WebSettings
from worker.errors import ConfigurationError
from worker.settings import Settings


class State(StrEnum):
    """What a row says."""

    OK = "ok"
    WARNING = "warning"  # it works, and somebody should know this
    WRONG = "wrong"
    SKIPPED = "skipped"  # there is nothing to check, or something before it is wrong


class Process(StrEnum):
    """The processes of a deployment."""

    WORKER = "worker"
    PRODUCER = "producer"
    WEB = "web"
    NIGHTLY = "nightly"
    WEBHOOKS = "webhooks"


ALL = frozenset(Process)
HANDLES_IMAGES = ALL - {Process.WEBHOOKS}
"""The processes that need the broker and the buckets."""


@dataclass(frozen=True)
class Row:
    """What was found, and what to do about it. `name` is what exactly the row is about, such as a bucket's name."""

    state: State
    found: str
    remedy: str = ""
    name: str = ""

    def as_json(self) -> dict[str, str]:
        """Returns the row as `--json` prints it."""
        return {"name": self.name, "state": self.state, "found": self.found, "remedy": self.remedy}


def ok(found: str, name: str = "") -> Row:
    """A row that says that all is well."""
    return Row(State.OK, found, name=name)


def warning(found: str, remedy: str, name: str = "") -> Row:
    """A row that says what somebody should know."""
    return Row(State.WARNING, found, remedy, name)


def wrong(found: str, remedy: str, name: str = "") -> Row:
    """A row that says what does not work."""
    return Row(State.WRONG, found, remedy, name)


def skipped(found: str, name: str = "") -> Row:
    """A row that says why nothing was checked."""
    return Row(State.SKIPPED, found, name=name)


@dataclass(frozen=True)
class Subject:
    """What is checked. If the settings are wrong, their field holds the error. `bucket` is from the command line."""

    processes: frozenset[Process]
    given: Settings | ConfigurationError
    web_given: WebSettings | ConfigurationError
    environment: Mapping[str, str]
    bucket: str | None = None

    @property
    def settings(self) -> Settings:
        """The settings. Raises ConfigurationError if they are wrong."""
        if isinstance(self.given, ConfigurationError):
            raise self.given
        return self.given

    @property
    def web(self) -> WebSettings:
        """The settings of the web process. Raises ConfigurationError if they are wrong."""
        if isinstance(self.web_given, ConfigurationError):
            raise self.web_given
        return self.web_given


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    `run` gives one or more rows. If it raises an error, this is a row with the check's own `remedy`. The check runs for
    the processes in `needed_by`, and only if the check named `after` is not wrong.
    """

    name: str
    run: Callable[[Subject], Iterable[Row]]
    remedy: str
    after: str | None = "settings"
    needed_by: frozenset[Process] = ALL
