"""Scans: a page for each, the form that starts one, and pausing, resuming and cancelling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from producers import scans
from producers.reporting.results import summary
from producers.web.access.people import ALead, Person
from producers.web.csrf import csrf_checked
from producers.web.overview import charts, figures, texts
from producers.web.overview.starting import Shares, StartForm, checked, new_form, start
from producers.web.pages import Pages, pages_of
from producers.web.parts import Parts, parts_of
from worker.errors import NoSuchScanError, ScanStateError, WrongFormError
from worker.messages import Explain, Record
from worker.tables import ScanStatus

router = APIRouter()

AParts = Annotated[Parts, Depends(parts_of)]
APages = Annotated[Pages, Depends(pages_of)]

_NO_LIMITS = {"max_flagged_share": "", "max_failed_share": ""}
UNLISTED = (ScanStatus.LISTING, ScanStatus.REPAIRING)
ACTIVE = (*UNLISTED, ScanStatus.RUNNING)


@dataclass(frozen=True)
class Act:
    """What can be done with a scan: its button, what the page asks before, and the statuses in which it makes sense."""

    name: str
    button: str
    question: str
    text: str
    allowed: Sequence[ScanStatus]


ACTS = {
    one.name: one
    for one in (
        Act(
            "pause", "Pause", "Pause this scan?",
            "Nothing more of it is published or judged until somebody resumes it. What is being judged is finished.",
            ACTIVE,
        ),
        Act(
            "resume", "Resume", "Resume this scan?",
            "It goes on from where it stopped. A limit that it is over is lifted, unless you give another one.",
            (ScanStatus.PAUSED,),
        ),
        Act(
            "publish", "Go on publishing", "Go on publishing this scan?",
            "A process starts that lists the source from where the last one stopped. If another process does so "
            "already, one of the two stops, and nothing is counted twice.",
            UNLISTED,
        ),
        Act(
            "cancel", "Cancel", "Cancel this scan for good?",
            "Its findings stay. What is not judged yet is not judged any more. This cannot be undone.",
            (*ACTIVE, ScanStatus.PAUSED),
        ),
    )
}  # fmt: skip


@router.get("/scans/new")
def form(_person: ALead, pages: APages) -> HTMLResponse:
    """Shows the empty form."""
    return _show_form(pages, new_form())


@router.post("/scans", dependencies=[Depends(csrf_checked)])
def started(_person: ALead, pages: APages, parts: AParts, given: Annotated[StartForm, Form()]) -> Response:
    """Starts the scan, or shows the form again with what is wrong in it."""
    try:
        scan = start(parts.database, given, parts.settings)
    except WrongFormError as error:
        # Another token: what is sent now may be another scan than what this one has made.
        again = given.model_copy(update={"token": new_form().token})
        return _show_form(pages, again, error)
    if scan.status in UNLISTED:
        parts.scans.start(scan.id)
    return RedirectResponse(f"/scans/{scan.id}", status_code=303)


def _show_form(pages: Pages, given: StartForm, error: WrongFormError | None = None) -> HTMLResponse:
    options = {"explain": list(Explain), "record": list(Record)}
    return pages.show(
        "overview_start.html.j2", status=422 if error else 200, given=given, options=options,
        wrong={error.field: str(error)} if error else {},
    )  # fmt: skip


@router.get("/scans/{scan_id:uuid}")
def scan_page(person: ALead, pages: APages, parts: AParts, scan_id: UUID, after: str | None = None) -> HTMLResponse:
    """Shows a scan: its counters, its failures and a page of its findings, flagged ones or (`after`) all by uri."""
    try:
        scan = figures.of_scan(parts.database, scan_id)
        found = figures.findings_of(parts.database, scan_id, after=None if after is None else after.replace("\0", ""))
    except NoSuchScanError as error:
        return _not_there(pages, error)
    return pages.show(
        "overview_scan.html.j2", person=person, texts=texts, scan=scan, rectangles=charts.bar_of(scan),
        acts=[act for act in ACTS.values() if scan["status"] in act.allowed and _sensible(act, parts, scan_id)],
        facts=summary(parts.database, scan_id), deaths=parts.scans.deaths(scan_id),
        ours=parts.scans.running(scan_id), failures=figures.failures_of(parts.database, scan_id),
        findings=found, after=after, page=figures.PAGE, unlisted=scan["status"] in UNLISTED,
    )  # fmt: skip


def _sensible(act: Act, parts: Parts, scan_id: UUID) -> bool:
    return act.name != "publish" or not parts.scans.running(scan_id)


@router.get("/scans/{scan_id:uuid}/{act}")
def asked(_person: ALead, pages: APages, parts: AParts, scan_id: UUID, act: str) -> HTMLResponse:
    """Asks before it is done."""
    return _ask(pages, parts, scan_id, act)


def _ask(
    pages: Pages, parts: Parts, scan_id: UUID, act: str, wrong: WrongFormError | None = None, given: Any = None
) -> HTMLResponse:
    wanted = ACTS.get(act)
    if wanted is None:
        return _not_there(pages, NoSuchScanError("there is no such page"))
    try:
        scan = figures.of_scan(parts.database, scan_id)
    except NoSuchScanError as error:
        return _not_there(pages, error)
    return pages.show(
        "overview_act.html.j2", status=422 if wrong else 200, scan=scan, act=wanted, given=given or _NO_LIMITS,
        wrong={wrong.field: str(wrong)} if wrong else {},
    )  # fmt: skip


@router.post("/scans/{scan_id:uuid}/{act}", dependencies=[Depends(csrf_checked)])
def done(
    person: ALead, pages: APages, parts: AParts, scan_id: UUID, act: str,
    max_flagged_share: Annotated[str, Form()] = "", max_failed_share: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """Does it, and leads back to the scan."""
    given = {"max_flagged_share": max_flagged_share, "max_failed_share": max_failed_share}
    try:
        _do(parts, person, scan_id, act, checked(Shares, **given))
    except WrongFormError as error:
        return _ask(pages, parts, scan_id, act, error, given)
    except NoSuchScanError as error:
        return _not_there(pages, error)
    except ScanStateError as error:
        return pages.show("overview_fault.html.j2", status=409, title="Not possible now", why=str(error),
                          back=f"/scans/{scan_id}")  # fmt: skip
    return RedirectResponse(f"/scans/{scan_id}", status_code=303)


def _do(parts: Parts, person: Person, scan_id: UUID, act: str, limits: Shares) -> None:
    if act == "pause":
        scans.pause(parts.database, scan_id, f"paused by {person.name}")
    elif act == "cancel":
        scans.cancel(parts.database, scan_id)
    elif act == "resume":
        scans.resume(parts.database, scan_id, **limits.model_dump())
        parts.scans.start(scan_id)
    elif act == "publish":
        if figures.of_scan(parts.database, scan_id)["status"] not in UNLISTED:
            raise ScanStateError(f"scan {scan_id} is listed already, or it is paused or over")
        parts.scans.start(scan_id)
    else:
        raise NoSuchScanError("there is no such page")


def _not_there(pages: Pages, error: Exception) -> HTMLResponse:
    return pages.show("overview_fault.html.j2", status=404, title="Not there", why=str(error), back="/overview")
