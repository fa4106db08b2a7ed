"""Finds out who makes a request, and what they may do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import select
from sqlmodel import col

from producers.web.access import sessions
from producers.web.access.identities import DEMO
from producers.web.parts import AParts
from worker.database import Database, transaction
from worker.errors import ForbiddenError, NotLoggedInError
from worker.tables import DeskRole, Login, Reviewer

_RANK = {role: rank for rank, role in enumerate(DeskRole)}


@dataclass(frozen=True)
class Person:
    """The person who makes a request: a reviewer, by their pseudonym."""

    name: str
    role: DeskRole

    def may(self, role: DeskRole) -> bool:
        """Returns whether the person has this role or a higher one."""
        return _RANK[self.role] >= _RANK[role]


def reviewer_with(database: Database, identity: str) -> Person | None:
    """Returns the active reviewer with this identity, or None."""
    query = select(col(Reviewer.name), col(Reviewer.role)).where(col(Reviewer.active))
    if identity.startswith(DEMO):
        query = query.where(col(Reviewer.name) == identity.removeprefix(DEMO))
    else:
        query = query.join(Login, col(Login.reviewer) == col(Reviewer.name)).where(col(Login.identity) == identity)
    with transaction(database) as session:
        found = session.execute(query).first()
    return Person(found.name, DeskRole(found.role)) if found else None


def person_of(request: Request, parts: AParts) -> Person:
    """A dependency: the person who makes the request. Raises NotLoggedInError.

    Each request looks the person up, so that a disabled reviewer is out at once.
    """
    identity = sessions.identity_of(request, parts.settings)
    person = reviewer_with(parts.database, identity) if identity else None
    if person is None:
        raise NotLoggedInError
    request.state.person = person  # for the line at the top of each page
    return person


def at_least(role: DeskRole) -> Callable[[Person], Person]:
    """Returns a dependency: the person who makes the request, if they have this role or a higher one. It raises
    ForbiddenError.
    """

    def checked(person: Annotated[Person, Depends(person_of)]) -> Person:
        if not person.may(role):
            raise ForbiddenError(f"only a {role} may do this")
        return person

    return checked


AReviewer = Annotated[Person, Depends(person_of)]
ALead = Annotated[Person, Depends(at_least(DeskRole.LEAD))]
AnAdmin = Annotated[Person, Depends(at_least(DeskRole.ADMIN))]
