"""Reason codes: why a person decides as they do. They come from a file, which each installation can replace."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.errors import ConfigurationError
from worker.tables import Statement
from worker.wording import worded


@dataclass(frozen=True)
class Reason:
    """A reason code, its text for people, and the statements for which it can be given."""

    code: str
    text: str
    statements: frozenset[Statement]


@dataclass(frozen=True)
class Reasons:
    """The reason codes, in the order of the file."""

    all: Sequence[Reason]

    def for_statement(self, statement: Statement) -> list[Reason]:
        """Returns the reasons that can be given for this statement."""
        return [reason for reason in self.all if statement in reason.statements]

    def text_of(self, code: str) -> str:
        """Returns the text of a code. For a code that is no longer in the file, it returns the code itself."""
        return next((reason.text for reason in self.all if reason.code == code), code)


class _Entry(BaseModel):
    """One [[reason]] of the file."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    text: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
    statements: Annotated[frozenset[Statement], Field(min_length=1)]


def read_reasons(path: Path | None = None) -> Reasons:
    """Reads the reason codes of a TOML file. Without a file, it reads those that come with Fakesweep.

    Raises ConfigurationError, with the line, for a file that cannot be read or is not valid.
    """
    name = str(path) if path else "reasons.toml"
    try:
        text = path.read_text("utf-8") if path else (files("producers.web") / "reasons.toml").read_text("utf-8")
        content = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"FAKESWEEP_WEB_REASONS: {name} cannot be read: {error}") from None
    entries = content.get("reason")
    if set(content) != {"reason"} or not isinstance(entries, list):
        raise ConfigurationError(
            f"FAKESWEEP_WEB_REASONS: {name}, line 1: must hold [[reason]] tables, and nothing else"
        )
    lines = [number for number, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*reason\s*\]\]", line)]
    found: dict[str, Reason] = {}
    for number, entry in enumerate(entries):
        line = lines[number] if number < len(lines) else 1
        reason = _read(entry, f"FAKESWEEP_WEB_REASONS: {name}, line {line}")
        if found.setdefault(reason.code, reason) is not reason:
            raise ConfigurationError(f"FAKESWEEP_WEB_REASONS: {name}, line {line}: the code {reason.code} comes twice")
    return Reasons(tuple(found.values()))


def _read(entry: Any, where: str) -> Reason:
    try:
        read = _Entry.model_validate(entry)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"])) or "reason"
        raise ConfigurationError(f"{where}: {field}: {worded(fault)} (it is {fault['input']!r})") from None
    return Reason(read.code, read.text, read.statements)
