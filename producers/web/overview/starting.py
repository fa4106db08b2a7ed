"""The form that starts a scan: it is read, checked as the command line checks options, and stored as a row of
`scans`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import BaseModel, Field, ValidationError

from producers import scans, sources
from producers.limits import Limits
from producers.listing import Rules
from producers.web.places import refused
from producers.web.settings import WebSettings
from worker.database import Database
from worker.errors import (
    NoSuchDetectorError,
    OlderAtWorkError,
    ScanStateError,
    SourceError,
    UnknownSourceError,
    WrongFormError,
)
from worker.messages import Explain, Policy, Record
from worker.tables import Scan
from worker.wording import worded

MOST_SOURCES = 100
_PREFIX = "desk-"
"""The prefix of tokens, so that a form cannot name the scan of a nightly schedule."""
_TOKEN = re.compile("[0-9a-f]{32}")

Model = TypeVar("Model", bound=BaseModel)


class StartForm(BaseModel):
    """The form as it was typed. If it is not valid, nothing that was typed is lost."""

    token: str = ""
    sources: str = ""
    name: str = ""
    explain: str = Explain.FLAGGED.value
    fake_from: str = ""
    real_to: str = ""
    max_tokens: str = ""
    also: tuple[str, ...] = ()
    suffixes: str = ""
    min_bytes: str = ""
    max_bytes: str = ""
    record: str = Record.ALL.value
    rejudge: str = ""
    max_flagged_share: str = str(Limits.max_flagged_share)
    max_failed_share: str = str(Limits.max_failed_share)


def new_form() -> StartForm:
    """Returns an empty form. Its token makes one scan, however often the form is sent."""
    return StartForm(token=uuid4().hex)


class Shares(BaseModel):
    """The limits of a scan; without a value, there is none."""

    max_flagged_share: float | None = Field(default=None, ge=0, le=1)
    max_failed_share: float | None = Field(default=None, ge=0, le=1)


class _Recorded(BaseModel):
    record: Record


def checked(model: type[Model], **values: str | Sequence[str] | None) -> Model:
    """Returns the model of what was typed or ticked. An empty text is no value. Raises WrongFormError."""
    typed = {name: value.strip() or None if isinstance(value, str) else value for name, value in values.items()}
    try:
        return model(**{name: value for name, value in typed.items() if values[name] is not None})
    except ValidationError as error:
        raise _wrong(error, values) from None


def start(database: Database, form: StartForm, settings: WebSettings) -> Scan:
    """Starts the scan of this form, or returns it if the form was sent before. Raises WrongFormError.

    `settings` say which buckets may be named.
    """
    policy = checked(
        Policy, explain=form.explain, fake_from=form.fake_from, real_to=form.real_to, max_tokens=form.max_tokens,
        also=form.also,
    )  # fmt: skip
    limits = checked(Shares, max_flagged_share=form.max_flagged_share, max_failed_share=form.max_failed_share)
    record = checked(_Recorded, record=form.record).record
    names = checked(scans.Names, name=form.name, token=_token(form))
    listing = scans.Listing(sources=_sources(form.sources, settings), rules=_rules(form))
    rejudge = bool(form.rejudge)
    _look(listing)
    try:
        scan = scans.start_scan(
            database, listing, name=names.name, token=names.token, policy=policy, rejudge=rejudge, record=record,
            limits=Limits(limits.max_flagged_share, limits.max_failed_share),
        )  # fmt: skip
        scans.check_same(scan, listing, policy, rejudge=rejudge, record=record)
    except ScanStateError:
        text = (
            "This form has already started another scan. Check what it says now, and send it again to start one more."
        )
        raise WrongFormError("sources", text) from None
    except (NoSuchDetectorError, OlderAtWorkError) as error:
        raise WrongFormError("also", str(error)) from None
    return scan


def _token(form: StartForm) -> str:
    return _PREFIX + (form.token if _TOKEN.fullmatch(form.token) else uuid4().hex)


def _sources(typed: str, settings: WebSettings) -> tuple[str, ...]:
    """One source per line, in S3 only: a folder would be one on this server, and not on the reader's machine."""
    lines = [line.strip() for line in typed.splitlines() if line.strip()]
    if not lines or len(lines) > MOST_SOURCES:
        raise WrongFormError("sources", f"Give 1 to {MOST_SOURCES} sources, one per line, such as s3://bucket/prefix/")
    for line in lines:
        if not line.startswith("s3://"):
            text = f"{line}: from here only s3://bucket/prefix can be scanned. Scan folders with `fakesweep scan`."
            raise WrongFormError("sources", text)
        if why := refused(settings, line):
            raise WrongFormError("sources", f"{line}: {why}")
    try:
        return tuple(map(sources.absolute, lines))
    except UnknownSourceError as error:
        raise WrongFormError("sources", str(error)) from None


def _rules(form: StartForm) -> Rules:
    suffixes = form.suffixes.replace(",", " ").split()
    values: dict[str, Any] = {"min_bytes": form.min_bytes.strip() or None, "max_bytes": form.max_bytes.strip() or None}
    try:
        return Rules(suffixes=tuple(suffixes), **values)
    except ValidationError as error:
        raise _wrong(error, {"min_bytes": form.min_bytes}) from None


def _look(listing: scans.Listing) -> None:
    """Checks that the source exists before a scan is made."""
    try:
        sources.open_source(listing.sources, listing.rules, lambda _line: None)
    except SourceError as error:
        raise WrongFormError("sources", str(error)) from None


def _wrong(error: ValidationError, values: Mapping[str, object]) -> WrongFormError:
    """Raises the first fault. A fault about several fields names the first of them."""
    fault = error.errors()[0]
    field = next((str(part) for part in fault["loc"] if isinstance(part, str)), next(iter(values)))
    said = _SAID.get(fault["type"])
    if said is None:
        text = worded(fault)
        return WrongFormError(field, _OURS.get(text, text))
    return WrongFormError(field, said.format(**fault.get("ctx", {})).replace("'", ""))


_SAID = {
    "float_parsing": "Give a number, such as 0.5.",
    "finite_number": "Give a number, such as 0.5.",
    "int_parsing": "Give a whole number, such as 500.",
    "int_parsing_size": "Give a smaller number.",
    "int_from_float": "Give a whole number, such as 500.",
    "less_than_equal": "Give a number that is not above {le}.",
    "greater_than_equal": "Give a number that is not below {ge}.",
    "enum": "Choose one of these: {expected}.",
    "too_long": "Choose at most {max_length}.",
    "string_too_long": "Give at most {max_length} characters.",
    "string_too_short": "Give at least {min_length} characters.",
}
"""The sentence for people, by the type of pydantic's fault."""
_OURS = {
    "real_to must not be above fake_from": "The score up to which an image is real must not be above the other one.",
    "must be Unicode text without NUL characters": "This has a character that cannot be kept. Type it again.",
    "min_bytes must not be above max_bytes": "The smallest size must not be above the largest one.",
}
"""The sentence for people, by the text of our own models, which name their fields."""
