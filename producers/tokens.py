"""Tokens of the API. The owner of the tables makes and withdraws them, and the web process looks them up."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import exists, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from worker.database import Database, transaction
from worker.errors import NoSuchReviewerError, NoSuchTokenError, UsageError
from worker.tables import ApiToken, Reviewer, Scope

PREFIX = "fakesweep_"
"""Begins every token, so that scanners for secrets can recognise one."""

MAX_NAME = 100
LONGEST_DAYS = 3650

_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


@dataclass(frozen=True)
class Wanted:
    """A token to be made. `reviewer` is the author of the reviews that are sent with it. Without `days`, it never
    expires.
    """

    name: str
    scopes: Sequence[Scope]
    reviewer: str | None = None
    days: int | None = None


def add_token(database: Database, wanted: Wanted) -> str:
    """Makes a token and returns its text, which is stored nowhere. Raises UsageError and NoSuchReviewerError."""
    _check(wanted)
    text = PREFIX + secrets.token_urlsafe(32)
    values = {
        "name": wanted.name,
        "token_sha256": digest(text),
        "scopes": [scope.value for scope in Scope if scope in wanted.scopes],
        "reviewer": wanted.reviewer,
        "expires_at": datetime.now(UTC) + timedelta(days=wanted.days) if wanted.days else None,
    }
    new = insert(ApiToken).values(values).on_conflict_do_nothing(index_elements=["name"]).returning(col(ApiToken.id))
    with transaction(database) as session:
        active = exists().where(col(Reviewer.name) == wanted.reviewer, col(Reviewer.active))
        if wanted.reviewer is not None and not session.execute(select(active)).scalar():
            raise NoSuchReviewerError(
                f"there is no active reviewer {wanted.reviewer}; fakesweep reviewer list names them"
            )
        if session.execute(new).scalar() is None:
            raise UsageError(f"there is, or was, a token {wanted.name}: take another name")
    return text


def _check(wanted: Wanted) -> None:
    name = wanted.name
    if name != name.strip() or not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise UsageError(f"a token's name has 1 to {MAX_NAME} printable characters, and no space at its ends")
    if not wanted.scopes:
        raise UsageError(f"--scope says what the token may do: {', '.join(Scope)}; give one or more")
    if (Scope.REVIEW in wanted.scopes) != (wanted.reviewer is not None):
        raise UsageError("--scope review and --reviewer belong together: the reviewer is the author of the reviews")
    if wanted.days is not None and not 0 < wanted.days <= LONGEST_DAYS:
        raise UsageError(f"--days is a number from 1 to {LONGEST_DAYS}")


def check_token(database: Database, name: str) -> None:
    """Raises NoSuchTokenError when there is no token of that name."""
    with transaction(database) as session:
        if session.execute(select(col(ApiToken.id)).where(col(ApiToken.name) == name)).first() is None:
            raise NoSuchTokenError(f"there is no token {name}; fakesweep token list names them")


def withdraw_token(database: Database, name: str) -> None:
    """Withdraws a token at once, which cannot be undone. Raises NoSuchTokenError."""
    check_token(database, name)
    mine = col(ApiToken.name) == name
    with transaction(database) as session:
        gone = update(ApiToken).where(mine, col(ApiToken.withdrawn_at).is_(None)).values(withdrawn_at=datetime.now(UTC))
        session.execute(gone)


def tokens(database: Database) -> list[ApiToken]:
    """Returns all tokens, by name."""
    with transaction(database) as session:
        return list(session.execute(select(ApiToken).order_by(col(ApiToken.name))).scalars())


def find_token(database: Database, text: str) -> ApiToken | None:
    """Returns the token with this text, or None. It may be withdrawn or expired: see `state_of`."""
    if not _TOKEN.fullmatch(text):
        return None
    with transaction(database) as session:
        return session.execute(select(ApiToken).where(col(ApiToken.token_sha256) == digest(text))).scalar()


def state_of(token: ApiToken, now: datetime) -> str:
    """Returns `active`, `withdrawn` or `expired`."""
    if token.withdrawn_at is not None:
        return "withdrawn"
    return "expired" if token.expires_at is not None and token.expires_at <= now else "active"


def digest(text: str) -> str:
    """Returns what is stored of a token. A token has 256 random bits, so a hash that is slow to compute would add
    nothing.
    """
    return hashlib.sha256(text.encode()).hexdigest()
