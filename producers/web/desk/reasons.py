"""Reason codes: why a person decides as they do, from a file that each place can replace."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.tables import Statement


@dataclass(frozen=True)
class Reason:
    """A reason code, its text for people, and for which statements it can be given."""

    code: str
    text: str
    statements: frozenset[Statement]


@dataclass(frozen=True)
class Reasons:
    """The reason codes, in the order of the file."""

    all: Sequence[Reason]

    def for_statement(self, statement: Statement) -> list[Reason]:
        """Those that can be given for this statement."""
        return [reason for reason in self.all if statement in reason.statements]

    def text_of(self, code: str) -> str:
        """Its text for people; a code that the file has no more is its own text."""
        return next((reason.text for reason in self.all if reason.code == code), code)


def read_reasons(path: Path | None = None) -> Reasons:
    """The reason codes of a TOML file; without one, those that come with Fakesweep. Raises ConfigurationError."""
    raise NotImplementedError
