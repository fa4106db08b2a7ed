"""The pages of the desk: the queue, and the way from one item to the next."""

from collections.abc import Collection
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Query
from fastapi.responses import JSONResponse, RedirectResponse, Response

from producers.near import near_counts
from producers.web.access.people import ALead, AReviewer, Person
from producers.web.csrf import csrf_checked
from producers.web.desk import claims, deciding, looking, queue
from producers.web.desk.agreement import agreement
from producers.web.desk.claims import Held
from producers.web.desk.deciding import Decided, Decision, SecondShare, Shown
from producers.web.desk.filters import Asked, AskedFor
from producers.web.desk.pace import pace
from producers.web.desk.showing import EmptyIsNone, RowId, Sha256, Showing, Typed
from producers.web.desk.undo import newest_decision, undo_last
from producers.web.pages import APages, Pages, minute, words
from producers.web.parts import AParts, Parts
from producers.web.pictures import Kind, address
from worker.errors import ClaimLostError, FakesweepError, FasterError, GoneError, NotWaitingError, UsageError

router = APIRouter(include_in_schema=False, dependencies=[Depends(csrf_checked)])

PAGE = 25

TheShowing = Annotated[Showing, Depends(Showing)]


@router.get("/")
def start() -> Response:
    """Redirects to the queue."""
    return RedirectResponse("/queue", status_code=303)


@router.get("/queue")
def show_queue(
    person: AReviewer, asked: AskedFor, parts: AParts, pages: APages, after: Annotated[str, Query()] = ""
) -> Response:
    """Shows what waits, one row per content."""
    page = queue.waiting(parts.database, person, asked.filters, after=after or None, limit=PAGE)
    return pages.show(
        "queue.html.j2",
        count=queue.how_many(parts.database, person, asked.filters),
        most_counted=queue.MOST_COUNTED,
        page=page,
        newest=newest_decision(parts.database, person),
        filters=asked.filters,
        near=asked.near,
        choices=queue.choices(parts.database),
        near_counts=near_counts(parts.database, [one.sha256 for one in page.items]),
        pictures={one.sha256: address(parts, person, one.sha256, one.uri, Kind.SMALL_BLURRED) for one in page.items},
        query=asked.query(),
        next_query=asked.query(after=page.next) if page.next else "",
    )


@router.post("/next")
def next_item(person: AReviewer, asked: AskedFor, parts: AParts, pages: APages) -> Response:
    """Gives the reviewer the next content."""
    return pages.go_on(_next(person, asked, parts, pages))


@router.get("/items/{sha256}")
def show_item(sha256: Sha256, asked: AskedFor, showing: TheShowing) -> Response:
    """Shows a content. A person who holds it also gets the form to decide about it."""
    return showing.page(sha256, asked)


@router.post("/items/{sha256}/claim")
def claim_item(
    sha256: Sha256, person: AReviewer, asked: AskedFor, parts: AParts, pages: APages, showing: TheShowing,
    typed: Annotated[Typed, Form()],
) -> Response:  # fmt: skip
    """Gives the reviewer this content. The text that they have typed stays in the form."""
    try:
        found = claims.claim(parts.database, person, sha256, parts.settings.claim_s)
    except NotWaitingError as error:
        return _not_done(pages, showing, sha256, asked, typed, error)
    if isinstance(found, Held):
        held = UsageError(f"{found.reviewer} works on this item now")
        return _not_done(pages, showing, sha256, asked, typed, held)
    if typed.anything and not pages.asked_by_script:
        return showing.page(sha256, asked, typed=typed)
    return pages.go_on(_item(sha256, asked))


@router.post("/items/{sha256}/decide")
def decide(
    sha256: Sha256, person: AReviewer, asked: AskedFor, parts: AParts, pages: APages, showing: TheShowing,
    typed: Annotated[Typed, Form()],
) -> Response:  # fmt: skip
    """Stores a decision and shows the next content. A request that is sent twice is stored once."""
    try:
        decided = _decide(parts, person, sha256, typed)
    except (ClaimLostError, GoneError, UsageError) as error:
        return _not_done(pages, showing, sha256, asked, typed, error)
    pages.say(_told(decided))
    return pages.go_on(_next(person, asked, parts, pages))


@router.post("/items/{sha256}/skip")
def skip(sha256: Sha256, person: AReviewer, asked: AskedFor, parts: AParts, pages: APages) -> Response:
    """Leaves a content to somebody else and shows the next one."""
    claims.skip(parts.database, person, sha256)
    pages.say(f"You skipped {sha256[:12]}. It still waits for somebody.")
    return pages.go_on(_next(person, asked, parts, pages))


@router.post("/items/{sha256}/keep")
def keep(sha256: Sha256, person: AReviewer, parts: AParts, claim: Annotated[UUID, Form()]) -> Response:
    """The heartbeat of an open page: extends the claim."""
    until = claims.keep(parts.database, person, claim, parts.settings.claim_s)
    others = looking.look(parts.database, person, sha256, parts.settings.heartbeat_s)
    if until is None:
        holder = claims.holder(parts.database, sha256)
        whose = f" {holder.reviewer} works on it now." if holder and holder.reviewer != person.name else ""
        why = f"You do not hold this item any more.{whose} What you typed stays here."
        return JSONResponse({"why": why, "lost": True}, 409)
    return JSONResponse({"until": minute(until), "others": looking.told(others)})


@router.post("/items/{sha256}/look")
def look(sha256: Sha256, person: AReviewer, parts: AParts) -> Response:
    """The heartbeat of an open page without a claim: says who else has the item open."""
    others = looking.look(parts.database, person, sha256, parts.settings.heartbeat_s)
    return JSONResponse({"others": looking.told(others)})


@router.post("/undo")
def undo(
    person: AReviewer, asked: AskedFor, parts: AParts, pages: APages, showing: TheShowing,
    newest: Annotated[RowId | None, EmptyIsNone, Form()] = None,
) -> Response:  # fmt: skip
    """Takes the reviewer's newest decision back, and shows its content again, with the reason and the note.

    The form names the decision. So a request that is sent twice takes back only that one.
    """
    undone = undo_last(parts.database, person, newest=newest, claim_s=parts.settings.claim_s)
    if undone is None:
        pages.say("There is no decision of yours to take back.")
        return pages.go_on(f"/queue{asked.query()}")
    pages.say(f"You took back “{words(undone.statement)}” for {undone.sha256[:12]}{_along(undone.also)}.")
    typed = Typed(note=undone.note or "", reason_code=undone.reason_code or "")
    if typed.anything and not pages.asked_by_script:
        return showing.page(undone.sha256, asked, typed=typed)
    draft = {"sha256": undone.sha256, "note": typed.note, "reason_code": typed.reason_code}
    return pages.go_on(_item(undone.sha256, asked), draft=draft)


@router.get("/me")
def me(person: AReviewer, parts: AParts, pages: APages) -> Response:
    """Shows a reviewer their own counts."""
    return pages.show("me.html.j2", pace=pace(parts.database, person))


@router.get("/agreement")
def show_agreement(_lead: ALead, parts: AParts, pages: APages) -> Response:
    """Shows how far reviewers agree."""
    return pages.show("agreement.html.j2", found=agreement(parts.database))


def _not_done(
    pages: Pages, showing: Showing, sha256: str, asked: Asked, typed: Typed, error: FakesweepError
) -> Response:
    """Says why something was not done. The text that was typed stays in the form."""
    why = f"{str(error)[:1].upper()}{str(error)[1:]}. What you typed stays here."
    if pages.asked_by_script:
        return JSONResponse({"why": why, "lost": isinstance(error, (ClaimLostError, GoneError))}, 409)
    return showing.page(sha256, asked, typed=typed, status=409, trouble=why)


def _decide(parts: Parts, person: Person, sha256: str, typed: Typed) -> Decided:
    """Stores the decision of the form. Raises ClaimLostError, GoneError, UsageError."""
    if typed.claim is None or typed.scan_id is None or typed.verdict_id is None or typed.statement is None:
        raise UsageError("say fake, real or cannot tell, on the page of an item that you hold")
    settings = parts.settings
    return deciding.decide(
        parts.database,
        person,
        typed.claim,
        sha256,
        Shown(typed.scan_id, typed.uri, typed.verdict_id),
        Decision(typed.statement, typed.reason_code or None, typed.note.strip() or None, typed.also),
        SecondShare(settings.secret.get_secret_value().encode(), settings.second_share),
        parts.reasons,
    )


def _told(decided: Decided) -> str:
    told = f"You decided “{words(decided.statement)}” for {decided.sha256[:12]}{_along(decided.also)}."
    if decided.left_out:
        left = len(decided.left_out)
        told += f" Not decided: {left} that you ticked. They look different, do not wait, or somebody works on them."
    return f"{told} Undo takes it back."


def _along(also: Collection[str]) -> str:
    return "" if not also else f" and {len(also)} near duplicate{'' if len(also) == 1 else 's'}"


def _next(person: AReviewer, asked: Asked, parts: Parts, pages: Pages) -> str:
    """Claims the next content and returns its address. If there is none, returns the address of the queue."""
    try:
        found = claims.next_content(parts.database, person, asked.filters, parts.settings.claim_s)
    except FasterError:  # what was decided before is stored
        pages.say("Other reviewers took these items first. Try again.")
        return f"/queue{asked.query()}"
    if found is None:
        pages.say("Nothing else waits for you here.")
        return f"/queue{asked.query()}"
    return _item(found.sha256, asked)


def _item(sha256: str, asked: Asked) -> str:
    return f"/items/{sha256}{asked.query()}"
