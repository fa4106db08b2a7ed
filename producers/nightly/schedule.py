"""Reads the file of nightly scans: what each lists, how, and when it is due (docs/nightly.md)."""

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from celery import Celery
from celery.schedules import ParseException, crontab
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from producers.limits import Limits
from producers.listing import Rules
from worker.errors import ConfigurationError
from worker.files import read_text
from worker.messages import Policy, Record
from worker.wording import worded

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
"""The name of a nightly scan. With "fakesweep-" before it, it is a Sentry monitor slug: at most 50 characters."""

_GROUPS: dict[str, type[BaseModel]] = {"policy": Policy, "rules": Rules}
_WINDOWS = tuple(timedelta(hours=hours) for hours in (1, 24, 24 * 31, 24 * 366, 24 * 366 * 8))


def _checked_crontab(expression: str) -> str:
    expression = " ".join(expression.split())
    if expression.count(" ") != 4:  # noqa: PLR2004 - five fields
        raise ValueError("must have five fields: minute, hour, day of the month, month, day of the week")
    try:
        crontab.from_string(expression)
    except (ValueError, ParseException) as error:
        raise ValueError(f"is not a crontab: {error}") from None
    return expression


def _checked_source(source: str) -> str:
    if source.strip() in {"", "-"}:
        raise ValueError("must be a source that can be listed again: not standard input, and not empty")
    if not source.startswith(("s3://", "file:///", "/")):
        raise ValueError("must be s3://bucket/prefix or an absolute path: a relative one depends on the current folder")
    return source


SourceName = Annotated[str, AfterValidator(_checked_source)]


class NightlyScan(BaseModel):
    """One table of the file. The keys of Policy and Rules are in the table itself, like the options of `scan`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crontab: Annotated[str, AfterValidator(_checked_crontab)]
    sources: Annotated[tuple[SourceName, ...], Field(min_length=1)]
    policy: Policy
    rules: Rules
    require_images: bool = False
    rejudge: bool = False
    record: Record = Record.CHANGES
    max_flagged_share: Annotated[float, Field(ge=0, le=1)] | None = Limits.max_flagged_share
    max_failed_share: Annotated[float, Field(ge=0, le=1)] | None = Limits.max_failed_share

    @model_validator(mode="before")
    @classmethod
    def _grouped(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            raise ValueError("must be a table: [name], and below it crontab and sources")  # noqa: TRY004 - for pydantic
        values = dict(table)
        if "source" in values:
            if "sources" in values:
                raise ValueError("give source or sources, not both")
            values["sources"] = [values.pop("source")]
        for group, model in _GROUPS.items():
            if group in values:
                raise ValueError(f"{group} is not a key: put its parts into the table itself")
            values[group] = {name: values.pop(name) for name in model.model_fields if name in values}
        return values

    @property
    def limits(self) -> Limits:
        """The limits at which its scans are paused (circuit breaker)."""
        return Limits(self.max_flagged_share, self.max_failed_share)

    def next_due(self, app: Celery, after: datetime) -> datetime:
        """Returns the first time after `after` at which it is due, in UTC. The crontab is in the app's timezone."""
        schedule = crontab.from_string(self.crontab)
        schedule.app, schedule.nowfun = app, lambda: after
        due: datetime = after + schedule.remaining_estimate(after)
        return due.astimezone(UTC)

    def newest_due(self, app: Celery, since: datetime, now: datetime) -> datetime | None:
        """Returns the last time at which it was due after `since` and not after `now`, or None."""
        # From near to far, so that a crontab of every minute does not walk through a year of downtime.
        for window in _WINDOWS:
            due = self.next_due(app, max(since, now - window))
            if due <= now:
                break
            if now - window <= since:
                return None
        else:
            return None
        while (later := self.next_due(app, due)) <= now:
            due = later
        return due


def load(path: Path | None) -> dict[str, NightlyScan]:
    """Returns the scans of the file by name. Raises ConfigurationError, one line with the file, table and key."""
    if path is None:
        raise ConfigurationError("FAKESWEEP_NIGHTLY is not set: give the TOML file that names the scans")
    try:
        tables = tomllib.loads(read_text(path))
    except OSError as error:
        raise ConfigurationError(f"FAKESWEEP_NIGHTLY: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"FAKESWEEP_NIGHTLY: {path} is not TOML: {error}") from None
    if not tables:
        raise ConfigurationError(f"FAKESWEEP_NIGHTLY: {path} names no scan: give a table [name] for each scan")
    return {name: _read(path, name, table) for name, table in tables.items()}


def _read(path: Path, name: str, table: Any) -> NightlyScan:
    place = f"FAKESWEEP_NIGHTLY: {path}: [{name}]"
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"{place}: a name is 1 to 40 of a-z, 0-9, - and _, and does not start with - or _")
    try:
        return NightlyScan.model_validate(table)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"] if part not in _GROUPS)
        given = "" if fault["type"] in {"missing", "value_error"} else f" (it is {fault['input']!r})"
        raise ConfigurationError(f"{place}{f' {key}' if key else ''}: {worded(fault)}{given}") from None
