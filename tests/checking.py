"""Runs the checks of `fakesweep check` in a test, with settings that the test gives."""

from collections.abc import Mapping
from typing import Any

from producers.checking.rows import ALL, Process, Row, Subject
from producers.checking.running import CHECKS, run_checks
from producers.web.settings import WebSettings
from worker.errors import ConfigurationError
from worker.settings import Settings


def subject_of(
    *processes: Process,
    bucket: str | None = None,
    environment: Mapping[str, str] | None = None,
    web: dict[str, Any] | None = None,
    given: ConfigurationError | None = None,
    **settings: Any,
) -> Subject:
    """Returns what is checked. All processes are checked, unless some are named."""
    own = given or Settings(**settings)
    return Subject(frozenset(processes) or ALL, own, WebSettings(**(web or {})), environment or {}, bucket)


def check(name: str, subject: Subject) -> Row:
    """Runs the check of this name alone. Returns its only row."""
    (row,) = check_all(name, subject)
    return row


def check_all(name: str, subject: Subject) -> list[Row]:
    """Runs the check of this name alone. Returns its rows."""
    return list(run_checks(subject, [one for one in CHECKS if one.name == name]))
