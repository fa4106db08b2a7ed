"""Dead letters: a lead looks at them, and an admin publishes them again or discards them.

Reading them moves them: see producers.dead_letters. So they are read when somebody presses a button, and never because
a page is loaded. The answer shows what was read, without a redirect, because there is no place to keep it that all web
processes share.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from producers import dead_letters
from producers.dead_letters import DeadLetter
from producers.web.access.people import ALead, AnAdmin
from producers.web.csrf import csrf_checked
from producers.web.pages import APages, Pages
from producers.web.parts import AParts, Parts
from worker import broker
from worker.errors import InvalidMessageError
from worker.tables import DeskRole
from worker.texts import storable

router = APIRouter()


MOST_LETTERS = 100
LONGEST = 4000
"""How many characters of a payload are shown."""

REPLAYED = "The message is published again, and the letter is gone."
DISCARDED = "The letter is deleted."
GONE = "That letter is not there any more. Somebody else may have taken it."


@dataclass(frozen=True)
class Letter:
    """A letter as the page shows it. `refused` says why its message cannot be published again."""

    id: str
    at: str
    queue: str
    reason: str
    payload: str
    cut: int
    refused: str | None


def shown(letter: DeadLetter) -> Letter:
    """Cuts the letter to a length, and to characters that a page can show."""
    payload = letter.payload if isinstance(letter.payload, str) else json.dumps(letter.payload, indent=1)
    return Letter(
        letter.id, _short(letter.at or "", 40), _short(letter.queue or "", 80), _short(letter.reason, 500),
        _short(payload, LONGEST), max(len(payload) - LONGEST, 0), _refused(letter),
    )  # fmt: skip


def _short(text: str, longest: int) -> str:
    return storable(text[:longest])


def _refused(letter: DeadLetter) -> str | None:
    try:
        letter.job()
    except InvalidMessageError as error:
        return _short(str(error), 500)
    return None


@router.get("/dead-letters")
def how_many(person: ALead, pages: APages, parts: AParts) -> HTMLResponse:
    """Says how many there are. This asks the broker for a number and moves nothing."""
    with broker.unavailable(), parts.broker.connection_for_write() as connection:
        count = broker.dead_count(connection.default_channel)
    return _show(pages, person, count=count)


@router.post("/dead-letters", dependencies=[Depends(csrf_checked)])
def read(person: ALead, pages: APages, parts: AParts) -> HTMLResponse:
    """Reads all of them, which puts a copy of each back into the queue, and shows the first hundred."""
    letters = dead_letters.look_through(parts.broker, lambda _letter: dead_letters.Act.KEEP)
    return _show(pages, person, count=len(letters), letters=[shown(one) for one in letters[:MOST_LETTERS]])


@router.post("/dead-letters/replay", dependencies=[Depends(csrf_checked)])
def replay(_admin: AnAdmin, pages: APages, parts: AParts, letter: Annotated[str, Form()]) -> Response:
    """Publishes the letter's message again."""
    return _take(pages, parts, letter, dead_letters.Act.REPLAY, REPLAYED)


@router.post("/dead-letters/discard", dependencies=[Depends(csrf_checked)])
def discard(
    _admin: AnAdmin, pages: APages, parts: AParts, letter: Annotated[str, Form()], sure: Annotated[str, Form()] = ""
) -> Response:
    """Deletes the letter, if the box that confirms it is ticked."""
    if not sure:
        return pages.show(
            "fault.html.j2", status=422, title="Nothing is discarded",
            why="Tick the box beside the button first: a letter that is discarded cannot be restored.",
        )  # fmt: skip
    return _take(pages, parts, letter, dead_letters.Act.DISCARD, DISCARDED)


def _take(pages: Pages, parts: Parts, wanted: str, what: dead_letters.Act, done: str) -> Response:
    taken: list[str] = []
    refused: list[str] = []

    def act(letter: DeadLetter) -> dead_letters.Act:
        if letter.id != wanted or taken:
            return dead_letters.Act.KEEP
        if what is dead_letters.Act.REPLAY and (why := _refused(letter)):
            refused.append(why)
            return dead_letters.Act.KEEP
        taken.append(letter.id)
        return what

    dead_letters.look_through(parts.broker, act)
    if refused:
        return pages.show("fault.html.j2", status=409, title="It cannot be published again",
                          why=f"No worker could handle this message: {refused[0]}")  # fmt: skip
    pages.say(done if taken else GONE)
    return RedirectResponse("/dead-letters", status_code=303)


def _show(pages: Pages, person: ALead, **values: Any) -> HTMLResponse:
    given = {"letters": None, "most": MOST_LETTERS, **values}
    return pages.show("overview_dead.html.j2", admin=person.may(DeskRole.ADMIN), **given)
