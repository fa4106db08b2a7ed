"""Reviews: what people state that a content is, and who they are. The database checks them (migration 0006)."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from uuid import UUID

from psycopg.errors import IntegrityError as Refused
from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from worker.database import Database, transaction
from worker.errors import (
    FakesweepError,
    InactiveReviewerError,
    NoSuchContentError,
    NoSuchReviewerError,
    NoSuchScanError,
    UsageError,
)
from worker.tables import DeskRole, Login, Review, Reviewer, ReviewKind, Statement
from worker.texts import storable

MAX_NAME = 100
"""The longest name of a reviewer, in characters."""

_LOGIN = re.compile(r"oidc:[^|\s]+\|.{1,255}|proxy:.{1,255}")

_REFUSED: dict[str, type[FakesweepError]] = {
    "review_scan": NoSuchScanError,
    "review_content": NoSuchContentError,
    "review_reviewer": NoSuchReviewerError,
    "review_active_reviewer": InactiveReviewerError,
}
"""The errors, by the constraint names that the trigger review_checked uses for what is missing."""


@dataclass(frozen=True)
class Stated:
    """What a reviewer states about a content, and where they saw it.

    Without `sha256`, the review is about the content that the scan found at the uri. Without `verdict_id`, it is about
    the verdict that is shown there. Without `kind`, it is the first review of the content, or a second one if somebody
    else has reviewed the content before.
    """

    scan_id: UUID
    uri: str
    statement: Statement
    reviewer: str
    sha256: str | None = None
    verdict_id: int | None = None
    kind: ReviewKind | None = None
    reason_code: str | None = None
    note: str | None = None


def review(database: Database, stated: Stated) -> Review:
    """Stores a review and returns its row, with what its author saw. The view `review_status` says what people have
    decided by then.

    Raises NoSuchScanError, NoSuchContentError, NoSuchReviewerError and InactiveReviewerError.
    """
    values = {name: storable(one) if type(one) is str else one for name, one in asdict(stated).items()}
    with refusals_named(), transaction(database) as session:
        row: Review = session.execute(insert(Review).values(**values).returning(Review)).scalar_one()
    return row


def add_reviewer(database: Database, name: str, role: DeskRole | None = None, logins: Sequence[str] = ()) -> None:
    """Allows somebody to review, by a pseudonym. This also works for a reviewer who was disabled.

    Without a `role`, a new reviewer gets the role reviewer, and others keep theirs. `logins` let them in to the review
    desk.

    Raises UsageError for a name that is not allowed, and for a login that belongs to somebody else.
    """
    if name != name.strip() or not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise UsageError(f"a reviewer's name has 1 to {MAX_NAME} printable characters, and no space at its ends")
    for login in logins:
        if not _LOGIN.fullmatch(login) or not login.isprintable():
            raise UsageError(
                f"{login!r} is no login: give it as the review desk shows it, oidc:ISSUER|NAME or proxy:NAME"
            )
    given = {} if role is None else {"role": role}
    query = insert_or(Reviewer).values(name=name, **given)
    with transaction(database) as session:
        session.execute(query.on_conflict_do_update(index_elements=["name"], set_={"active": True, **given}))
        for login in logins:
            _add_login(session, name, login)


def _add_login(session: Session, name: str, login: str) -> None:
    session.execute(insert_or(Login).values(identity=login, reviewer=name).on_conflict_do_nothing())
    owner = session.execute(select(col(Login.reviewer)).where(col(Login.identity) == login)).scalar_one()
    if owner != name:
        raise UsageError(f"{login} is the login of {owner}: take it away first, with fakesweep reviewer unlink {owner}")


def check_reviewer(database: Database, name: str) -> None:
    """Raises NoSuchReviewerError when there is no reviewer of that name."""
    with transaction(database) as session:
        if session.get(Reviewer, name) is None:
            raise _no_such(name)


def unlink_reviewer(database: Database, name: str) -> None:
    """Removes all logins of a reviewer, so that nothing links the name with a person. Raises NoSuchReviewerError."""
    with transaction(database) as session:
        if session.get(Reviewer, name) is None:
            raise _no_such(name)
        session.execute(delete(Login).where(col(Login.reviewer) == name))


def logins(database: Database) -> dict[str, list[str]]:
    """Returns the logins of each reviewer who has any."""
    query = select(col(Login.reviewer), col(Login.identity)).order_by(col(Login.identity))
    found: dict[str, list[str]] = {}
    with transaction(database) as session:
        for name, identity in session.execute(query):
            found.setdefault(name, []).append(identity)
    return found


def disable_reviewer(database: Database, name: str) -> None:
    """Disables a reviewer. Their reviews stay and still count. Raises NoSuchReviewerError."""
    query = update(Reviewer).where(col(Reviewer.name) == name).values(active=False).returning(col(Reviewer.name))
    with transaction(database) as session:
        if session.execute(query).first() is None:
            raise _no_such(name)


def reviewers(database: Database) -> list[Reviewer]:
    """Returns all reviewers, by name."""
    with transaction(database) as session:
        return list(session.execute(select(Reviewer).order_by(col(Reviewer.name))).scalars())


def _no_such(name: str) -> NoSuchReviewerError:
    return NoSuchReviewerError(f"there is no reviewer {name}; fakesweep reviewer list names them")


@contextmanager
def refusals_named() -> Iterator[None]:
    """A context that turns the database's refusals of a review into errors of one line, with the remedy."""
    try:
        yield
    except IntegrityError as error:
        said = error.orig.diag if isinstance(error.orig, Refused) else None
        kind = _REFUSED.get(said.constraint_name or "") if said else None
        if said is None or kind is None:
            raise
        raise kind(f"{said.message_primary}; {said.message_hint}") from error
